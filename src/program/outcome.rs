//! From how a process ended to how the attempt did.

use std::time::Duration;

use crate::domain::{Fault, FaultCode, JobStatus, ProcessEnd};
use crate::process::{Exit, Outcome, StopCause, signal_name};

/// Who ran it, for the sentences that people read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runner {
    /// A server's own worker.
    Server,
    /// A worker on another machine.
    Worker,
}

impl Runner {
    const fn word(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Worker => "worker",
        }
    }
}

/// How an attempt ended.
#[derive(Debug)]
pub(crate) struct Ending {
    /// The status that follows.
    pub(crate) status: JobStatus,
    /// The exit code or the signal, where there was a process.
    pub(crate) end: ProcessEnd,
    /// Why it did not complete.
    pub(crate) fault: Option<Fault>,
}

/// What the outcome means; none where the runner went down before a process was started.
pub(crate) fn ending(outcome: &Outcome, timeout: Duration, runner: Runner) -> Option<Ending> {
    let (status, end, fault) = match outcome {
        Outcome::Ended(ended) => {
            let end = match ended.exit {
                Exit::Code(code) => ProcessEnd {
                    exit_code: Some(code),
                    signal: None,
                },
                Exit::Signal(signal) => ProcessEnd {
                    exit_code: None,
                    signal: Some(signal_name(signal)),
                },
            };
            let (status, fault) = match ended.stopped {
                Some(cause) => stopped(cause, timeout, runner),
                None => by_itself(ended.exit, runner),
            };
            (status, end, fault)
        }
        Outcome::SpawnFailed(error) => {
            let fault = Fault::new(FaultCode::SpawnFailed, error.to_string());
            (JobStatus::Failed, ProcessEnd::default(), Some(fault))
        }
        Outcome::NotStarted(StopCause::Shutdown) => return None,
        Outcome::NotStarted(cause) => {
            let (status, fault) = stopped(*cause, timeout, runner);
            (status, ProcessEnd::default(), fault)
        }
        Outcome::Lost => {
            let fault = Fault::new(FaultCode::WorkerLost, "the process that supervised it was killed");
            (JobStatus::Failed, ProcessEnd::default(), Some(fault))
        }
    };
    Some(Ending { status, end, fault })
}

fn by_itself(exit: Exit, runner: Runner) -> (JobStatus, Option<Fault>) {
    match exit {
        Exit::Code(0) => (JobStatus::Completed, None),
        Exit::Code(code) => (
            JobStatus::Failed,
            Some(Fault::new(
                FaultCode::ExitCode,
                format!("exited with code {code}"),
            )),
        ),
        Exit::Signal(signal) => {
            let message = format!(
                "ended by {}, which the {} did not send",
                signal_name(signal),
                runner.word()
            );
            (JobStatus::Failed, Some(Fault::new(FaultCode::Signalled, message)))
        }
    }
}

fn stopped(cause: StopCause, timeout: Duration, runner: Runner) -> (JobStatus, Option<Fault>) {
    let (status, code, message) = match cause {
        StopCause::Timeout => {
            let message = format!("ran longer than its timeout of {} ms", timeout.as_millis());
            (JobStatus::Timeout, FaultCode::Timeout, message)
        }
        StopCause::Cancelled => (JobStatus::Cancelled, FaultCode::Cancelled, "cancelled".to_owned()),
        StopCause::Shutdown => (
            JobStatus::Failed,
            FaultCode::WorkerLost,
            format!("the {} that ran it was shut down", runner.word()),
        ),
    };
    (status, Some(Fault::new(code, message)))
}
