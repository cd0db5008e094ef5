//! What is to be run, and under which times. Nothing here touches the system.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use super::outcome::{SpawnError, SpawnErrorKind};

/// One program to run: what, where, with what, and how long.
///
/// `Debug` shows the program and the sizes of the rest, because arguments, environment and input may be secret.
#[derive(Clone)]
pub struct Spec {
    /// A name that is searched for in the `PATH` of `env`, or a path if it has a slash; a relative path counts from
    /// `current_dir`.
    pub program: OsString,
    /// The arguments after the program's name.
    pub args: Vec<OsString>,
    /// The whole environment; nothing is added and nothing is inherited.
    pub env: Vec<(OsString, OsString)>,
    /// The working directory.
    pub current_dir: PathBuf,
    /// Folders that the program may write, by their real paths, where the slot's [`Sandbox`](super::Sandbox) keeps it from
    /// all others.
    pub writable: Vec<PathBuf>,
    /// What the program reads on standard input; `None` is `/dev/null`.
    pub stdin: Option<Vec<u8>>,
    /// How long the program may run, counted from its start.
    pub timeout: Option<Duration>,
    /// How long a program that timed out has between SIGTERM and SIGKILL.
    pub timeout_grace: Duration,
    /// How long what the program left behind may go on after the program's own end.
    pub leak_grace: Duration,
    /// An entry `NAME=VALUE` of `env` that no other process has: whatever carries it is known to belong here.
    pub marker: Option<OsString>,
}

impl Spec {
    /// A program without arguments, environment, input and timeout.
    pub fn new(program: impl Into<OsString>, current_dir: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            current_dir: current_dir.into(),
            writable: Vec::new(),
            stdin: None,
            timeout: None,
            timeout_grace: Duration::from_secs(5),
            leak_grace: Duration::from_millis(200),
            marker: None,
        }
    }

    /// Refuses what no system call could carry, with words that name the culprit but not its value.
    pub(super) fn check(&self) -> Result<(), SpawnError> {
        let invalid = |message: &str| Err(SpawnError::new(SpawnErrorKind::InvalidInput, None, message));
        if self.program.is_empty() {
            return invalid("the program's name is empty");
        }
        if has_nul(&self.program) {
            return invalid("the program's name contains a NUL byte");
        }
        let mut folders = std::iter::once(&self.current_dir).chain(&self.writable);
        if folders.any(|folder| has_nul(folder.as_os_str())) {
            return invalid("the working directory contains a NUL byte");
        }
        if let Some(at) = self.args.iter().position(|arg| has_nul(arg)) {
            return invalid(&format!("argument {} contains a NUL byte", at + 1));
        }
        for (name, value) in &self.env {
            if name.is_empty() || has_nul(name) || name.as_bytes().contains(&b'=') {
                return invalid(&format!(
                    "{name:?} is no name for an environment variable: it is empty or contains `=` or NUL"
                ));
            }
            if has_nul(value) {
                return invalid(&format!(
                    "the value of the environment variable {name:?} contains a NUL byte"
                ));
            }
        }
        if self.marker.as_ref().is_some_and(|marker| has_nul(marker)) {
            return invalid("the marker contains a NUL byte");
        }
        Ok(())
    }
}

impl std::fmt::Debug for Spec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spec")
            .field("program", &self.program)
            .field("args", &self.args.len())
            .field("env", &self.env.len())
            .field("stdin", &self.stdin.as_ref().map(Vec::len))
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

fn has_nul(text: &OsStr) -> bool {
    memchr::memchr(0, text.as_bytes()).is_some()
}
