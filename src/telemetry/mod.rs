//! What the server tells about itself: log lines, metrics, and errors as one line of text.
//!
//! Responsible for where log lines go and in which form ([`init_logging`]), for the names, the help and the buckets
//! of every metric ([`metrics`]), and for the form in which an error is written down ([`chain()`]). Not responsible for
//! deciding what is worth a line: an error is logged once, with its chain, where it is handled.

mod chain;
mod logging;
pub mod metrics;
mod process;

pub use chain::{chain, millis};
pub use logging::{BadLogFilter, LogFilter, LogFormat, LoggingInUse, init_logging, log_panics};
pub use metrics::Metrics;
