//! Lines of a job's log.

use serde_json::Value;

use super::Timestamp;
use super::word::words;

words!(
    /// Where a line came from.
    LogStream, "stream" {
        /// Standard output.
        Stdout = "STDOUT",
        /// Standard error.
        Stderr = "STDERR",
        /// The server itself.
        System = "SYSTEM",
    }
);

words!(
    /// How grave a line is; they compare in this order.
    LogLevel, "level" {
        /// For those who look for a fault.
        Debug = "DEBUG",
        /// What happens.
        Info = "INFO",
        /// What may need a look.
        Warning = "WARNING",
        /// What went wrong.
        Error = "ERROR",
        /// What went wrong and ends the work.
        Critical = "CRITICAL",
    }
);

/// One line as a reader gets it.
#[derive(Debug, Clone, PartialEq)]
pub struct LogLine {
    /// 1 for the first line of the attempt.
    pub number: i64,
    /// When the server read it.
    pub at: Timestamp,
    /// Where it came from.
    pub stream: LogStream,
    /// How grave it is.
    pub level: LogLevel,
    /// Its text, without the line's end.
    pub message: String,
    /// The other fields of a structured line.
    pub context: Option<Value>,
}

/// What a log says in the place of what does not fit any more.
#[must_use]
pub fn log_limit_notice(limit: u64) -> String {
    format!("the log has reached its limit of {limit} bytes; what follows is not kept")
}
