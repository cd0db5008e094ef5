//! What the server says last in the log of an attempt.

use super::moves::AttemptEnd;
use crate::domain::{FaultCode, JobStatus, LogLevel};

impl AttemptEnd {
    /// What the log says last.
    #[must_use]
    pub fn last_line(&self) -> (LogLevel, String) {
        let how = match (&self.end.exit_code, &self.end.signal) {
            (Some(code), _) => Some(format!("exit code {code}")),
            (None, Some(signal)) => Some(signal.clone()),
            (None, None) => None,
        };
        let text = match (&self.fault, how) {
            (None, _) => return (LogLevel::Info, "completed".to_owned()),
            (Some(fault), None) => fault.message.clone(),
            // The exit code or the signal is the message already.
            (Some(fault), Some(_)) if matches!(fault.code, FaultCode::ExitCode | FaultCode::Signalled) => {
                fault.message.clone()
            }
            (Some(fault), Some(how)) => format!("{} ({how})", fault.message),
        };
        let level = if self.status == JobStatus::Cancelled {
            LogLevel::Warning
        } else {
            LogLevel::Error
        };
        (level, text)
    }
}
