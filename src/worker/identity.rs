//! Who this worker is: its folder, which no other process may use meanwhile, and the name that is kept there.
//!
//! A name stands for one process at a time. The lock on the folder sees to that for names that are made here; one that
//! is given by hand is for its giver to keep apart.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::WorkerError;
use super::client::CallError;
use super::{api, client::Client};
use crate::clock::chance;
use crate::program::{left_behind, remove_tree};

const LOCK: &str = ".lock";
const NAME: &str = ".name";

/// The folder, held as long as this lives.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes the folder this process's own, and clears away what an earlier one left.
    pub(super) fn take(path: &Path) -> Result<Self, WorkerError> {
        let unusable = |error| WorkerError::Folder {
            path: path.to_owned(),
            error,
        };
        std::fs::create_dir_all(path).map_err(unusable)?;
        let path = path.canonicalize().map_err(unusable)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join(LOCK))
            .map_err(unusable)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(WorkerError::FolderInUse(path)),
            Err(error) => return Err(unusable(error.into())),
        }
        for (_, left) in left_behind(&path) {
            if let Err(error) = remove_tree(&left) {
                tracing::warn!(path = %left.display(), error = %error, "an earlier job's folder could not be removed");
            }
        }
        Ok(Self { path, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The name that a worker in this folder had before.
    pub(super) fn name(&self, kind: &str) -> Option<String> {
        let name = std::fs::read_to_string(self.path.join(NAME)).ok()?;
        let name = name.trim();
        let fits = crate::domain::is_worker_name(name) && name.splitn(3, '-').nth(2) == Some(kind);
        fits.then(|| name.to_owned())
    }

    /// Keeps the name for the next start.
    pub(super) fn keep_name(&self, name: &str) {
        if let Err(error) = std::fs::write(self.path.join(NAME), format!("{name}\n")) {
            tracing::warn!(error = %error, "the worker's name could not be kept: the next start makes another");
        }
    }
}

/// A name that no worker of the server has. Two workers that start in the same moment must not choose the same, so the
/// number is left to chance, and is large.
pub(super) async fn free_name(client: &Client, kind: &str) -> Result<String, CallError> {
    let known = api::known_names(client).await?;
    loop {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "below a million, and not negative"
        )]
        let number = (chance() * 1_000_000.0) as u32;
        let name = format!("worker-{number:06}-{kind}");
        if !known.contains(&name) {
            return Ok(name);
        }
    }
}
