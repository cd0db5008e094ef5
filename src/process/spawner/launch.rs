//! Starting the program, and saying in plain words why it could not be started.
//!
//! Only what keeps the standard library on `posix_spawn` is used: a group of its own, a directory, an environment,
//! redirections. The program is looked up here, in the `PATH` that it will itself see, because a changed `PATH`
//! alone would push the standard library to fork.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{Access, access};

use crate::process::outcome::{SpawnError, SpawnErrorKind};
use crate::process::protocol::Start;

/// Where a program is looked for if its environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The program's own ends of its pipes.
pub(super) struct Pipes {
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// Starts the program and gives its process id, which is its group's too.
pub(super) fn launch(start: &Start, pipes: Pipes) -> Result<u32, SpawnError> {
    let program = find(start)?;
    let mut command = Command::new(&program);
    command
        .arg0(&start.program)
        .args(&start.args)
        .env_clear()
        .envs(start.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&start.current_dir)
        .process_group(0)
        .stdin(pipes.stdin.map_or_else(Stdio::null, Stdio::from))
        .stdout(pipes.stdout)
        .stderr(pipes.stderr);
    match command.spawn() {
        // The handle is let go: children are waited for all together, orphans included.
        Ok(child) => Ok(child.id()),
        Err(error) => Err(explain(start, &program, &error)),
    }
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
        Ok(_) => (
            SpawnErrorKind::NotExecutable,
            format!("the file `{shown}` exists, but the interpreter that it names does not"),
        ),
    };
    SpawnError::new(kind, errno, message)
}
