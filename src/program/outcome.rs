//! From how a process ended to how the attempt did.

use std::time::Duration;

use crate::domain::{Fault, FaultCode, JobStatus, LogLevel, ProcessEnd};
use crate::process::{Ended, Exit, Limits, Outcome, StopCause, signal_name};

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
                None => by_itself(ended, runner),
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

/// What else the log of a job should say about how its processes ended.
pub(crate) fn remarks(ended: &Ended) -> Vec<(LogLevel, String)> {
    let mut remarks = Vec::new();
    if ended.ended_by_memory > 0 {
        let text = format!(
            "the system ended {} of the job's processes, since its memory was used up{}",
            ended.ended_by_memory,
            ended
                .limits
                .memory
                .map_or_else(String::new, |limit| format!(": {limit} bytes (--job-memory)"))
        );
        remarks.push((LogLevel::Warning, text));
    }
    if ended.refused_processes > 0 {
        let text = format!(
            "the system refused the job {} more processes{}",
            ended.refused_processes,
            (ended.limits.processes).map_or_else(String::new, |limit| format!(
                ": it may have {limit} (--job-processes)"
            ))
        );
        remarks.push((LogLevel::Warning, text));
    }
    if ended.leaked > 0 {
        let text = format!("{} processes that the job left behind were killed", ended.leaked);
        remarks.push((LogLevel::Warning, text));
    }
    if ended.unkillable > 0 {
        let text = format!(
            "{} processes that the job left behind cannot be killed",
            ended.unkillable
        );
        remarks.push((LogLevel::Error, text));
    }
    remarks
}

fn by_itself(ended: &Ended, runner: Runner) -> (JobStatus, Option<Fault>) {
    let limit = limit_that_ended(ended);
    let (code, message) = match (ended.exit, limit) {
        (Exit::Code(0), _) => return (JobStatus::Completed, None),
        (Exit::Code(code), None) => (FaultCode::ExitCode, format!("exited with code {code}")),
        (Exit::Code(code), Some(limit)) => {
            // A shell says by its code which signal ended what it ran.
            let message = format!("exited with code {code}, which says that a program of it {limit}");
            (FaultCode::ExitCode, message)
        }
        (Exit::Signal(signal), Some(limit)) => (
            FaultCode::Signalled,
            format!("{limit}, and was ended by {}", signal_name(signal)),
        ),
        (Exit::Signal(signal), None) => {
            let (name, runner) = (signal_name(signal), runner.word());
            let memory = if signal == SIGKILL {
                "; the system does so where memory runs out"
            } else {
                ""
            };
            let message = format!("ended by {name}, which the {runner} did not send{memory}");
            (FaultCode::Signalled, message)
        }
    };
    (JobStatus::Failed, Some(Fault::new(code, message)))
}

const SIGKILL: i32 = 9;
const SIGXCPU: i32 = 24;
const SIGXFSZ: i32 = 25;

/// What a shell adds to the number of the signal that ended what it ran.
const BY_SIGNAL: i32 = 128;

/// Which limit of the settings ended a program, where one did.
fn limit_that_ended(ended: &Ended) -> Option<String> {
    let signal = match ended.exit {
        Exit::Signal(signal) => signal,
        Exit::Code(code) => code - BY_SIGNAL,
    };
    let Limits {
        cpu_seconds,
        file_size,
        memory,
        ..
    } = ended.limits;
    if signal == SIGKILL
        && ended.ended_by_memory > 0
        && let Some(limit) = memory
    {
        return Some(format!("used up its memory of {limit} bytes (--job-memory)"));
    }
    let used = (ended.usage.user + ended.usage.system).as_secs();
    match (signal, cpu_seconds, file_size) {
        (SIGXCPU, Some(limit), _) => Some(used_up(limit)),
        // One that does not end at the first signal is killed at the second limit.
        (SIGKILL, Some(limit), _) if used >= limit => Some(used_up(limit)),
        (SIGXFSZ, _, Some(limit)) => Some(format!(
            "wrote more than the {limit} bytes that a file may have (--job-file-size)"
        )),
        _ => None,
    }
}

fn used_up(limit: u64) -> String {
    format!("used up its processor time of {limit} seconds (--job-cpu-seconds)")
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
