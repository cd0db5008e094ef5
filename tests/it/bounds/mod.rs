//! Bounds: whatever clients and jobs do, memory stays below what the README states, and who asks for too much is told
//! so. `RUNQL_TEST_LONG=1` runs the full sizes.

mod cleanup;
mod frames;
mod garbage;
mod load;

/// The usual size, or that of the long form.
fn size(usual: usize, long: usize) -> usize {
    if std::env::var_os("RUNQL_TEST_LONG").is_some() {
        long
    } else {
        usual
    }
}
