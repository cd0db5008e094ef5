//! The folders that jobs work in, all below one root.
//!
//! A job without `workingDir` gets a folder of its own below `.jobs`, gone when the attempt has ended. A `workingDir` is
//! made where it is not there, and kept: it is how jobs hand files to each other.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Component, Path, PathBuf};

use super::folder::{make_below, open_plain, remove_tree};
use super::spare::{Made, Spare};
use crate::domain::JobId;
use crate::process::RunAs;

/// Holds what belongs to single jobs; no `workingDir` may begin with a dot, so none can reach it.
const JOBS: &str = ".jobs";

/// Within what belongs to one attempt: where it starts, and for what nobody needs afterwards.
const WORK: &str = "work";
const SCRATCH: &str = "tmp";

/// The longest JSON document that a job may hand back, in bytes.
const LONGEST_OUTPUT: u64 = 1 << 20;

/// Whether a `workingDir` stays below the root, as far as can be told without making it.
///
/// # Errors
///
/// One sentence that says what is wrong with it.
pub(crate) fn check_name(root: &Path, name: &str) -> Result<(), String> {
    if name.is_empty() || name.contains('\0') || name.len() > 1_024 {
        return Err(
            "a working directory has a name of 1 to 1,024 bytes without the NUL character".to_owned(),
        );
    }
    for part in Path::new(name).components() {
        match part {
            Component::Normal(part) if part.to_string_lossy().starts_with('.') => {
                return Err("no part of a working directory may begin with a dot".to_owned());
            }
            Component::Normal(_) => {}
            _ => {
                return Err("a working directory lies below the server's work folder: give a relative path without `..`"
                    .to_owned());
            }
        }
    }
    // What is there already may be a link that leads out.
    let mut place = root.join(name);
    while !place.starts_with(root) || place.symlink_metadata().is_err() {
        if !place.pop() || place == root {
            return Ok(());
        }
    }
    inside(root, &place)
        .map(|_| ())
        .map_err(|_| "the working directory leads out of the server's work folder".to_owned())
}

/// The real path of a place below the root.
fn inside(root: &Path, place: &Path) -> io::Result<PathBuf> {
    let real = place.canonicalize()?;
    if real.starts_with(root.canonicalize()?) {
        Ok(real)
    } else {
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "the working directory leads out of the server's work folder",
        ))
    }
}

/// The folders of one attempt. Dropping it leaves them: [`Workspace::remove`] or [`Workspace::hand_on`] is called once no
/// process is left.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// Below which all of them lie.
    root: PathBuf,
    /// How those of its own were made; none where that says too little for them to be handed on.
    made: Option<Made>,
    /// Belongs to this attempt alone.
    own: PathBuf,
    /// Where the process starts.
    pub(crate) current_dir: PathBuf,
    /// For what nobody needs once the attempt has ended.
    pub(crate) scratch: PathBuf,
    /// The file that the job may write its output to.
    pub(crate) output: PathBuf,
}

impl Workspace {
    /// Makes the folders, for `owner` where jobs run as another user, or takes spare ones that were made for the same;
    /// without `working_dir`, the program starts in one of its own.
    pub(crate) fn make(
        root: &Path,
        job: JobId,
        attempt: u32,
        working_dir: Option<&str>,
        owner: Option<&RunAs>,
        spare: Option<Spare>,
    ) -> io::Result<Self> {
        if !root.join(JOBS).is_dir() {
            std::fs::create_dir_all(root.join(JOBS))?;
        }
        let root = root.canonicalize()?;
        let own = root.join(JOBS).join(format!("{job}-{attempt}"));
        // No job can write to what holds these, so none can put anything else in their place.
        let (work, scratch) = (own.join(WORK), own.join(SCRATCH));
        let made = match spare.and_then(|spare| spare.take(&own)) {
            Some(made) => Some(made),
            None => {
                DirBuilder::new().recursive(true).mode(0o700).create(&own)?;
                for folder in [&work, &scratch] {
                    DirBuilder::new().recursive(true).create(folder)?;
                }
                if let Some(user) = owner {
                    for folder in [&own, &work, &scratch] {
                        chown(folder, Some(user.uid), Some(user.gid))?;
                    }
                }
                Made::look(&own, &[WORK, SCRATCH], None)?
            }
        };
        let current_dir = match working_dir {
            None => work,
            Some(name) => {
                check_name(&root, name)
                    .map_err(|message| io::Error::new(io::ErrorKind::PermissionDenied, message))?;
                make_below(&root, Path::new(name), owner)?
            }
        };
        Ok(Self {
            output: own.join("output.json"),
            current_dir,
            scratch,
            own,
            root,
            made,
        })
    }

    /// The folders that the job may write.
    pub(crate) fn writable(&self) -> Vec<PathBuf> {
        if self.current_dir.starts_with(&self.own) {
            vec![self.own.clone()]
        } else {
            vec![self.current_dir.clone(), self.own.clone()]
        }
    }

    /// What the job handed back: the JSON in its output file, or none where it wrote nothing.
    ///
    /// # Errors
    ///
    /// One sentence that says why the file is no output.
    pub(crate) fn read_output(&self) -> Result<Option<serde_json::Value>, String> {
        use std::io::Read;
        // The job may have put anything there: a link to what the server alone may read, or a pipe that blocks.
        let file = match open_plain(&self.output) {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(None),
            Err(error) => return Err(format!("the output cannot be read: {error}")),
        };
        let mut text = Vec::new();
        file.take(LONGEST_OUTPUT + 1)
            .read_to_end(&mut text)
            .map_err(|error| format!("the output cannot be read: {error}"))?;
        if text.len() as u64 > LONGEST_OUTPUT {
            return Err(format!("the output has more than {LONGEST_OUTPUT} bytes"));
        }
        if text.trim_ascii().is_empty() {
            return Ok(None);
        }
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|error| format!("the output is not JSON: {error}"))
    }

    /// Hands its own folders on where they are as they were made, with nothing in them but an output, which is removed. Else
    /// they are to be [removed](Self::remove), which may take long.
    pub(crate) fn hand_on(&self) -> Option<Spare> {
        let left = Made::look(&self.own, &[WORK, SCRATCH], Some(&self.output)).ok()??;
        if self.made.as_ref() != Some(&left) {
            return None;
        }
        Spare::put_aside(&self.root, &self.own, left).ok()
    }

    /// Removes what belongs to the attempt alone.
    pub(crate) fn remove(&self) {
        if let Err(error) = remove_tree(&self.own) {
            tracing::warn!(path = %self.own.display(), error = %error, "a job's folder was left behind");
        }
    }
}

/// The jobs whose folders a dead server left behind.
pub(crate) fn left_behind(root: &Path) -> Vec<(JobId, PathBuf)> {
    let Ok(entries) = std::fs::read_dir(root.join(JOBS)) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let (job, _) = name.to_str()?.rsplit_once('-')?;
            Some((job.parse().ok()?, entry.path()))
        })
        .collect()
}
