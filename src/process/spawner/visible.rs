//! All of the file system but what is hidden.
//!
//! Landlock knows no "but": it takes what is allowed. So what leads to a hidden file is spelled out: each folder on its
//! way with all that lies in it, except the next step. What appears in such a folder later is allowed from the next
//! program on, because the folder's time tells that there is something new.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FileType, Mode, OFlags, open, stat};
use rustix::process::{Resource, getrlimit};

/// Devices are files too, of which a disk holds all others; programs get those that hold nothing.
const DEVICES: &str = "/dev";

/// At most so much is kept open from one program to the next. What there is beyond is opened for each.
const KEPT_OPEN: u64 = 256;

/// Descriptors that are left to everything else, where few are allowed.
const SPARED: u64 = 48;

/// A time that is younger says nothing: the clock of a file system may stand still for as long.
const SETTLED: Duration = Duration::from_millis(50);

/// What is visible, as it was when the folders on the way to what is hidden had these times.
pub(super) struct Visible {
    hidden: Vec<PathBuf>,
    keep_open: usize,
    open: Vec<OwnedFd>,
    more: Vec<PathBuf>,
    seen: Vec<(PathBuf, Option<Stamp>)>,
}

/// When a folder was last changed, and which one it is.
type Stamp = (i64, u64, u64);

impl Visible {
    pub(super) fn all_but(hidden: &[PathBuf]) -> Self {
        let mut hidden: Vec<PathBuf> = hidden.iter().map(|path| real(path)).collect();
        hidden.push(PathBuf::from(DEVICES));
        let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let keep_open = allowed.saturating_sub(SPARED).min(KEPT_OPEN);
        Self {
            hidden,
            keep_open: usize::try_from(keep_open).unwrap_or(0),
            open: Vec::new(),
            more: Vec::new(),
            seen: Vec::new(),
        }
    }

    /// What is hidden that lies at or below this place, by its real path.
    pub(super) fn hides_below(&self, place: &Path) -> Option<&Path> {
        let mut hidden = self.hidden.iter().filter(|hidden| *hidden != Path::new(DEVICES));
        hidden
            .find(|hidden| hidden.starts_with(place))
            .map(PathBuf::as_path)
    }

    /// Looks again where something has changed. Tells whether it did.
    pub(super) fn refresh(&mut self) -> bool {
        let same = |(path, then): &(PathBuf, Option<Stamp>)| then.is_some() && *then == stamp(path);
        if !self.seen.is_empty() && self.seen.iter().all(same) {
            return false;
        }
        self.open.clear();
        self.more.clear();
        self.seen.clear();
        self.look(Path::new("/"));
        true
    }

    fn look(&mut self, folder: &Path) {
        // The time comes first: what is made in between is then seen twice, not never.
        let time = stamp(folder).filter(settled);
        self.seen.push((folder.to_owned(), time));
        let Ok(entries) = std::fs::read_dir(folder) else {
            return;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            // A link is allowed as far as what it leads to.
            if self.hidden.contains(&path) || entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
                continue;
            }
            if self.hidden.iter().any(|hidden| hidden.starts_with(&path)) {
                self.look(&path);
            } else if self.open.len() < self.keep_open {
                self.open.extend(place(&path));
            } else {
                self.more.push(path);
            }
        }
    }

    /// Hands over each place that is visible with all that lies below it.
    pub(super) fn each<E>(&self, mut take: impl FnMut(BorrowedFd<'_>) -> Result<(), E>) -> Result<(), E> {
        for fd in &self.open {
            take(fd.as_fd())?;
        }
        for path in &self.more {
            if let Ok(fd) = place(path) {
                take(fd.as_fd())?;
            }
        }
        Ok(())
    }
}

/// A place in the file system, itself neither read nor written.
fn place(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(open(path, flags, Mode::empty())?)
}

/// The path without links, though its last part need not exist.
pub(super) fn real(path: &Path) -> PathBuf {
    if let Ok(real) = path.canonicalize() {
        return real;
    }
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => real(parent).join(name),
        _ => path.to_owned(),
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let found = stat(path).ok()?;
    let is_folder = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
    is_folder.then_some((found.st_mtime, found.st_mtime_nsec, found.st_ino))
}

fn settled(stamp: &Stamp) -> bool {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let changed = Duration::new(
        u64::try_from(stamp.0).unwrap_or(0),
        u32::try_from(stamp.1).unwrap_or(0),
    );
    now.saturating_sub(changed) > SETTLED
}
