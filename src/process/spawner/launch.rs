//! Starting the program, and saying in plain words why it could not be started.
//!
//! Only what keeps the standard library on `posix_spawn` is used: a group of its own, a directory, an environment,
//! redirections. The program is looked up here, in the `PATH` that it will itself see, because a changed `PATH`
//! alone would push the standard library to fork.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{Access, access};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

use crate::process::outcome::{SpawnError, SpawnErrorKind};
use crate::process::protocol::Start;

use super::confine::Confinement;

/// Where a program is looked for if its environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The program's own ends of its pipes.
pub(super) struct Pipes {
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// Starts the program and gives its process id, which is its group's too.
pub(super) fn launch(start: &Start, pipes: Pipes, confinement: &mut Confinement) -> Result<u32, SpawnError> {
    let program = find(start)?;
    let own = own_folders(start, confinement)?;
    let mut command = Command::new(&program);
    command
        .arg0(&start.program)
        .args(&start.args)
        .env_clear()
        .envs(start.env.iter().map(|(name, value)| (name, value)))
        .current_dir(directory(start, &own))
        .process_group(0)
        .stdin(pipes.stdin.map_or_else(Stdio::null, Stdio::from))
        .stdout(pipes.stdout)
        .stderr(pipes.stderr);
    let cpu_seconds = confinement.limits.cpu_seconds;
    let spawn = move || -> io::Result<u32> {
        // The handle is let go: children are waited for all together, orphans included.
        with_cpu_limit(cpu_seconds, || Ok(command.spawn()?.id()))
    };
    let spawned = if confinement.is_open() {
        confinement.expendable.born(spawn)
    } else {
        let walled = confinement.start(&own, spawn);
        walled.map_err(|error| no_walls(&error))?
    };
    spawned.map_err(|error| explain(start, &program, &error))
}

/// The program's own folders, held so that nobody can put others in their place; none where nothing is kept from it.
fn own_folders(start: &Start, confinement: &Confinement) -> Result<Vec<OwnedFd>, SpawnError> {
    if confinement.landlock == 0 {
        return Ok(Vec::new());
    }
    let open = |path: &PathBuf| {
        confinement.open_own(path).map_err(|error| {
            let message = format!("the folder {} cannot be used: {error}", path.display());
            SpawnError::new(SpawnErrorKind::DirectoryNotFound, error.raw_os_error(), message)
        })
    };
    start.writable.iter().map(open).collect()
}

/// The way to the working directory: by the descriptor where it is one of the program's own folders.
fn directory(start: &Start, own: &[OwnedFd]) -> PathBuf {
    let mut both = start.writable.iter().zip(own);
    match both.find(|(path, _)| **path == start.current_dir) {
        Some((_, fd)) => PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd())),
        None => start.current_dir.clone(),
    }
}

/// How long a program that used up its processor time has to end by itself, in seconds of that time.
const CPU_GRACE: u64 = 1;

/// Does something that starts a program, which is born with this limit on its processor time.
///
/// The limit that ends a program by a signal is this process's own for that moment, so nothing that a program starts can
/// come before it. A lower bound for the one that kills cannot be taken back, so each program gets it right after.
fn with_cpu_limit(seconds: Option<u64>, spawn: impl FnOnce() -> io::Result<u32>) -> io::Result<u32> {
    let Some(seconds) = seconds else {
        return spawn();
    };
    let own = getrlimit(Resource::Cpu);
    let current = Some(own.maximum.map_or(seconds, |maximum| maximum.min(seconds)));
    setrlimit(Resource::Cpu, Rlimit { current, ..own })?;
    let spawned = spawn();
    let restored = setrlimit(Resource::Cpu, own);
    let pid = spawned?;
    let last = seconds.saturating_add(CPU_GRACE);
    let maximum = Some(own.maximum.map_or(last, |maximum| maximum.min(last)));
    if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
        // It can have ended already.
        let _ = prlimit(Some(pid), Resource::Cpu, Rlimit { current, maximum });
    }
    restored?;
    Ok(pid)
}

fn no_walls(error: &io::Error) -> SpawnError {
    let message = format!("the sandbox could not be put around the program: {error}");
    SpawnError::new(SpawnErrorKind::Resources, error.raw_os_error(), message)
}

fn find(start: &Start) -> Result<PathBuf, SpawnError> {
    if start.program.as_bytes().contains(&b'/') {
        return Ok(PathBuf::from(&start.program));
    }
    let path = start
        .env
        .iter()
        .rfind(|(name, _)| name == "PATH")
        .map_or(OsStr::new(DEFAULT_PATH), |(_, path)| path.as_os_str());
    let mut refused = None;
    for folder in std::env::split_paths(path) {
        // An empty or relative entry counts from the working directory, as it does for a shell; the slash keeps
        // the standard library from a search of its own.
        let candidate = Path::new(".").join(folder).join(&start.program);
        let seen_from_here = start.current_dir.join(&candidate);
        if !seen_from_here.is_file() {
            continue;
        }
        if access(&seen_from_here, Access::EXEC_OK).is_ok() {
            return Ok(candidate);
        }
        refused.get_or_insert(candidate);
    }
    if let Some(error) = directory_error(&start.current_dir, None) {
        return Err(error);
    }
    let name = start.program.display();
    Err(match refused {
        Some(candidate) => SpawnError::new(
            SpawnErrorKind::NotExecutable,
            Some(libc::EACCES),
            format!(
                "the program `{name}` was found as {}, but that is not executable",
                candidate.display()
            ),
        ),
        None => SpawnError::new(
            SpawnErrorKind::ProgramNotFound,
            Some(libc::ENOENT),
            format!(
                "the program `{name}` was not found in PATH ({})",
                Path::new(path).display()
            ),
        ),
    })
}

fn explain(start: &Start, program: &Path, error: &io::Error) -> SpawnError {
    let errno = error.raw_os_error();
    let shown = start.program.display();
    let (kind, message) = match errno {
        Some(libc::ENOENT | libc::ENOTDIR | libc::EACCES | libc::ELOOP | libc::ENAMETOOLONG) => {
            return directory_error(&start.current_dir, errno)
                .unwrap_or_else(|| program_error(start, program, errno));
        }
        Some(libc::E2BIG) => return too_long(errno),
        Some(libc::ENOEXEC) => (
            SpawnErrorKind::NotExecutable,
            format!(
                "the file `{shown}` is no program: it has neither a known format nor a first line with `#!`"
            ),
        ),
        Some(libc::EISDIR | libc::EPERM) => (
            SpawnErrorKind::NotExecutable,
            format!("the file `{shown}` must not be executed"),
        ),
        Some(libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE) => (
            SpawnErrorKind::Resources,
            format!("the system is out of resources to start `{shown}`: {error}"),
        ),
        None if error.kind() == io::ErrorKind::InvalidInput => (
            SpawnErrorKind::InvalidInput,
            format!("`{shown}` cannot be started with this input: {error}"),
        ),
        _ => (
            SpawnErrorKind::Other,
            format!("the program `{shown}` could not be started: {error}"),
        ),
    };
    SpawnError::new(kind, errno, message)
}

/// Arguments and environment are more than the system takes.
pub(in crate::process) fn too_long(errno: Option<i32>) -> SpawnError {
    SpawnError::new(
        SpawnErrorKind::ArgumentsTooLong,
        errno,
        "the arguments and the environment are longer than the system takes; \
         pass long input as a document on standard input",
    )
}

/// A missing directory and a missing program are the same number, so the directory is asked about first.
fn directory_error(directory: &Path, errno: Option<i32>) -> Option<SpawnError> {
    let shown = directory.display();
    let message = match std::fs::metadata(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            format!("the working directory {shown} does not exist")
        }
        Err(error) => format!("the working directory {shown} cannot be reached: {error}"),
        Ok(found) if !found.is_dir() => format!("the working directory {shown} is not a directory"),
        Ok(_) if access(directory, Access::EXEC_OK).is_err() => {
            format!("the working directory {shown} may not be entered")
        }
        Ok(_) => return None,
    };
    let errno = errno.or(Some(libc::ENOENT));
    Some(SpawnError::new(SpawnErrorKind::DirectoryNotFound, errno, message))
}

fn program_error(start: &Start, program: &Path, errno: Option<i32>) -> SpawnError {
    let shown = start.program.display();
    let path = start.current_dir.join(program);
    let (kind, message) = match std::fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => (
            SpawnErrorKind::NotExecutable,
            format!("the program `{shown}` cannot be reached: permission denied"),
        ),
        Err(_) => (
            SpawnErrorKind::ProgramNotFound,
            format!("the program `{shown}` does not exist"),
        ),
        Ok(found) if found.is_dir() => (
            SpawnErrorKind::NotExecutable,
            format!("`{shown}` is a directory, not a program"),
        ),
        Ok(_) if access(&path, Access::EXEC_OK).is_err() => (
            SpawnErrorKind::NotExecutable,
            format!("the file `{shown}` is not executable"),
        ),
        Ok(_) if errno == Some(libc::EACCES) => (
            SpawnErrorKind::NotExecutable,
            format!("jobs may not execute the file `{shown}`, or may not enter their working directory"),
        ),
        Ok(_) => (
            SpawnErrorKind::NotExecutable,
            format!("the file `{shown}` exists, but the interpreter that it names does not"),
        ),
    };
    SpawnError::new(kind, errno, message)
}
