//! What came of a run: how the program ended, or why there was none.

use std::time::{Duration, Instant, SystemTime};

use super::control::StopCause;
use super::sandbox::Limits;

/// What came of one run.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The program ran and is gone, with all that descended from it.
    Ended(Ended),
    /// The program could not be started.
    SpawnFailed(SpawnError),
    /// A stop was asked for before the program was started.
    NotStarted(StopCause),
    /// The spawner died under the program; what could be found of it was killed. The slot needs a successor.
    Lost,
}

/// How a program ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// The exit code or the signal.
    pub exit: Exit,
    /// The first cause for which the program was told to stop while it still ran.
    pub stopped: Option<StopCause>,
    /// The program's process id, which was that of its process group too.
    pub pid: u32,
    /// When it was started.
    pub started: Instant,
    /// The same by the calendar.
    pub started_wall: SystemTime,
    /// From the start to the program's own end; the sweep after it does not count.
    pub duration: Duration,
    /// How many processes the program left behind that had to be killed after its end.
    pub leaked: usize,
    /// How many of them could not be killed: they run as another user, or hang in the kernel.
    pub unkillable: usize,
    /// What the program and the children that it waited for consumed.
    pub usage: Usage,
    /// The limits that it was under.
    pub limits: Limits,
    /// How many of its processes the kernel ended because the memory of its control group was used up.
    pub ended_by_memory: u64,
    /// How many processes and threads its control group refused it, since it had as many as it may.
    pub refused_processes: u64,
}

/// How a process ended by the kernel's account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

/// Processor time and memory that a program used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Time in the program itself.
    pub user: Duration,
    /// Time in the kernel on its behalf.
    pub system: Duration,
    /// The largest resident set, in bytes.
    pub max_rss: u64,
}

/// Why a program could not be started, in words for the person who asked for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SpawnError {
    /// The sort of failure.
    pub kind: SpawnErrorKind,
    /// The system's number for it, where there was one.
    pub errno: Option<i32>,
    /// One sentence without a full stop; it names the program or directory, never arguments or values.
    pub message: String,
}

impl SpawnError {
    pub(super) fn new(kind: SpawnErrorKind, errno: Option<i32>, message: impl Into<String>) -> Self {
        Self {
            kind,
            errno,
            message: message.into(),
        }
    }
}

/// The sorts of failure to start a program. Only [`Resources`](Self::Resources) may pass by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum SpawnErrorKind {
    /// There is no such program.
    ProgramNotFound = 1,
    /// There is such a file, but it cannot be executed.
    NotExecutable = 2,
    /// The working directory is missing or cannot be entered.
    DirectoryNotFound = 3,
    /// Arguments and environment are more than the system takes.
    ArgumentsTooLong = 4,
    /// A name or value that no program can be given.
    InvalidInput = 5,
    /// The system is out of processes, memory or files.
    Resources = 6,
    /// Anything else.
    Other = 7,
    /// The moment until which it might have run was over before it started.
    TooLate = 8,
}

impl SpawnErrorKind {
    pub(super) fn from_code(code: u64) -> Self {
        match code {
            1 => Self::ProgramNotFound,
            2 => Self::NotExecutable,
            3 => Self::DirectoryNotFound,
            4 => Self::ArgumentsTooLong,
            5 => Self::InvalidInput,
            6 => Self::Resources,
            8 => Self::TooLate,
            _ => Self::Other,
        }
    }
}

/// The usual name of a signal, such as `SIGKILL`.
#[must_use]
pub fn signal_name(signal: i32) -> String {
    const NAMES: [(i32, &str); 30] = [
        (libc::SIGHUP, "SIGHUP"),
        (libc::SIGINT, "SIGINT"),
        (libc::SIGQUIT, "SIGQUIT"),
        (libc::SIGILL, "SIGILL"),
        (libc::SIGTRAP, "SIGTRAP"),
        (libc::SIGABRT, "SIGABRT"),
        (libc::SIGBUS, "SIGBUS"),
        (libc::SIGFPE, "SIGFPE"),
        (libc::SIGKILL, "SIGKILL"),
        (libc::SIGUSR1, "SIGUSR1"),
        (libc::SIGSEGV, "SIGSEGV"),
        (libc::SIGUSR2, "SIGUSR2"),
        (libc::SIGPIPE, "SIGPIPE"),
        (libc::SIGALRM, "SIGALRM"),
        (libc::SIGTERM, "SIGTERM"),
        (libc::SIGSTKFLT, "SIGSTKFLT"),
        (libc::SIGCHLD, "SIGCHLD"),
        (libc::SIGCONT, "SIGCONT"),
        (libc::SIGSTOP, "SIGSTOP"),
        (libc::SIGTSTP, "SIGTSTP"),
        (libc::SIGTTIN, "SIGTTIN"),
        (libc::SIGTTOU, "SIGTTOU"),
        (libc::SIGURG, "SIGURG"),
        (libc::SIGXCPU, "SIGXCPU"),
        (libc::SIGXFSZ, "SIGXFSZ"),
        (libc::SIGVTALRM, "SIGVTALRM"),
        (libc::SIGPROF, "SIGPROF"),
        (libc::SIGWINCH, "SIGWINCH"),
        (libc::SIGIO, "SIGIO"),
        (libc::SIGSYS, "SIGSYS"),
    ];
    match NAMES.iter().find(|(number, _)| *number == signal) {
        Some((_, name)) => (*name).to_owned(),
        None => format!("signal {signal}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_their_usual_names_and_strangers_their_number() {
        assert_eq!(signal_name(9), "SIGKILL");
        assert_eq!(signal_name(15), "SIGTERM");
        assert_eq!(signal_name(64), "signal 64");
    }
}
