//! The files of one folder, by name, with what they hold remembered.
//!
//! The folder is looked at afresh each time, so a file that was added a moment ago is there. What its files hold is
//! remembered by the stamp of each file, so that unchanged files are neither read nor hashed nor parsed again.
//!
//! A name is checked twice: as text, so that it has no part that leads upwards, and as the path to which the links
//! of the file system resolve it, which must be below the folder. Whoever can write to the folder decides what the
//! server runs, so a race with such a writer is not defended against; hard links are files like any other.

use std::collections::{HashMap, HashSet};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use std::{fs, io};

use super::name::relative_path;
use super::nearest;
use super::stamp::Stamp;
use super::walk::{Bounds, Found, walk};
use crate::domain::Timestamp;

/// The most names that an error offers instead of one that is not there.
const MOST_SIMILAR: usize = 3;

/// The most files whose content is remembered. Each listing forgets what is gone; this is the bound between listings.
const MOST_REMEMBERED: usize = 100_000;

/// Why a folder has no such file.
#[derive(Debug)]
pub(crate) enum NoFile {
    /// It is no name.
    Invalid(String),
    /// A link leads out of the folder.
    Outside,
    /// Nothing of that name.
    Absent,
    /// A folder, a pipe or the like.
    NotAFile,
    /// It is there, but not for us.
    Unreadable(io::Error),
}

impl From<io::Error> for NoFile {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            _ if is_absence(&error) => Self::Absent,
            io::ErrorKind::InvalidInput => Self::NotAFile,
            _ => Self::Unreadable(error),
        }
    }
}

/// A folder, and what its files hold.
#[derive(Debug)]
pub(crate) struct Folder<C> {
    pub(super) root: PathBuf,
    /// What its files are called in a sentence.
    thing: &'static str,
    pub(super) bounds: Bounds,
    pub(super) clock: fn() -> SystemTime,
    /// What files held, by path. Locked for a look only, never while a file is read.
    remembered: Mutex<HashMap<PathBuf, (Stamp, Arc<C>)>>,
}

impl<C> Folder<C> {
    /// The files below `root`, which need not exist yet; each is a `thing`, such as a script.
    pub(crate) fn new(root: PathBuf, thing: &'static str) -> Self {
        Self {
            root,
            thing,
            bounds: Bounds::default(),
            clock: SystemTime::now,
            remembered: Mutex::default(),
        }
    }

    /// Calls `visit` with each visible file, as it is now; with none where there is no folder. `visit` answers
    /// whether the file is listed, and this, whether a bound cut the walk short. See [`walk`].
    pub(crate) fn walk(&self, mut visit: impl FnMut(Found) -> bool) -> io::Result<bool> {
        let root = match fs::canonicalize(&self.root) {
            Ok(root) => root,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let mut seen = HashSet::new();
        let truncated = walk(&root, self.bounds, |found| {
            seen.insert(found.path.clone());
            visit(found)
        })?;
        self.remembered().retain(|path, _| seen.contains(path));
        Ok(truncated)
    }

    /// The file of that name, as it is now.
    pub(crate) fn find(&self, name: &str) -> Result<Found, NoFile> {
        let relative = relative_path(self.thing, name).map_err(NoFile::Invalid)?;
        let root = fs::canonicalize(&self.root)?;
        let path = fs::canonicalize(root.join(relative))?;
        if !path.starts_with(&root) {
            return Err(NoFile::Outside);
        }
        let metadata = fs::metadata(&path)?;
        if !metadata.is_file() {
            return Err(NoFile::NotAFile);
        }
        Ok(Found {
            name: name.to_owned(),
            path,
            metadata,
        })
    }

    /// What the file holds: from memory where its stamp is the one under which it was read and `serves` accepts what
    /// is remembered, else as `read` reads it.
    pub(crate) fn content(
        &self,
        path: &Path,
        metadata: &Metadata,
        serves: impl Fn(&C) -> bool,
        read: impl FnOnce(&Path) -> io::Result<(Stamp, C)>,
    ) -> io::Result<Arc<C>> {
        let stamp = Stamp::of(metadata);
        if let Some((read_as, content)) = self.remembered().get(path)
            && *read_as == stamp
            && serves(content)
        {
            return Ok(Arc::clone(content));
        }
        let now = (self.clock)();
        let (stamp, content) = read(path)?;
        let content = Arc::new(content);
        let mut remembered = self.remembered();
        if stamp.is_fresh(now) {
            remembered.remove(path);
        } else {
            if remembered.len() >= MOST_REMEMBERED {
                remembered.clear();
            }
            remembered.insert(path.to_owned(), (stamp, Arc::clone(&content)));
        }
        Ok(content)
    }

    pub(super) fn remembered(&self) -> MutexGuard<'_, HashMap<PathBuf, (Stamp, Arc<C>)>> {
        // The map is whole after every statement, so a panic elsewhere leaves nothing half done.
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Those of `names` that may have been meant by `name`, the likeliest first.
pub(crate) fn similar(name: &str, mut names: Vec<String>) -> Vec<String> {
    let mut similar = Vec::new();
    while similar.len() < MOST_SIMILAR
        && let Some(near) = nearest(name, names.iter().map(String::as_str)).map(str::to_owned)
    {
        names.retain(|other| *other != near);
        similar.push(near);
    }
    similar
}

/// The end of a sentence that says that there is no such name.
pub(crate) fn suggestion(similar: &[String]) -> String {
    if similar.is_empty() {
        return String::new();
    }
    let names: Vec<String> = similar.iter().map(|name| format!("`{name}`")).collect();
    format!(": did you mean {}?", names.join(" or "))
}

/// When a file was last written.
pub(crate) fn modified_at(metadata: &Metadata) -> Timestamp {
    let micros = metadata
        .mtime()
        .saturating_mul(1_000_000)
        .saturating_add(metadata.mtime_nsec() / 1_000);
    Timestamp::from_micros(micros)
}

/// What is wrong with a file that cannot be read.
pub(crate) fn unreadable(error: &io::Error) -> String {
    format!("the file cannot be read: {}", error.kind())
}

/// Whether an error only says that there is nothing of that name: a link that leads in a circle is nothing, too.
pub(crate) fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename
    ) || error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}
