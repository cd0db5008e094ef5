//! RunQL.
