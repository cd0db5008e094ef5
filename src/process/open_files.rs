//! How many files may be open: many for a server, and for its programs as many as it was itself started with.
//!
//! Programs that use `select` break where a file has a number above 1023, which is why systems give out a low limit that a
//! program may raise for itself (the soft one) below another that it may not (the hard one).

use std::io;
use std::sync::OnceLock;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

/// The limit that this process was started with, where it was raised since.
static INHERITED: OnceLock<Rlimit> = OnceLock::new();

/// Raises this process's limit on open files as far as it may, and gives what it is then; none is no limit. Programs that
/// it runs go on with the limit of before.
///
/// # Errors
///
/// Where the system refuses.
pub fn raise_open_files() -> io::Result<Option<u64>> {
    let now = getrlimit(Resource::Nofile);
    let current = now.maximum;
    if now.current != current {
        INHERITED.get_or_init(|| now);
        setrlimit(Resource::Nofile, Rlimit { current, ..now })?;
    }
    Ok(current)
}

/// Gives a spawner, before it starts anything, the limit that this process was started with.
pub(super) fn restore_open_files(spawner: Pid) -> io::Result<()> {
    match INHERITED.get() {
        Some(inherited) => Ok(prlimit(Some(spawner), Resource::Nofile, *inherited).map(|_| ())?),
        None => Ok(()),
    }
}
