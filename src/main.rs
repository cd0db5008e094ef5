//! RunQL.
fn main() {}
