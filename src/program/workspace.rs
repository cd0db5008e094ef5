//! The folders that jobs work in, all below one root.
//!
//! A job without `workingDir` gets a folder of its own below `.jobs`, removed when the attempt has ended. A
//! `workingDir` is made where it is not there, and kept: it is how jobs hand files to each other.

use std::io;
use std::path::{Component, Path, PathBuf};

use crate::domain::JobId;

/// Holds what belongs to single jobs; no `workingDir` may begin with a dot, so none can reach it.
const JOBS: &str = ".jobs";

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

/// The folders of one attempt. Dropping it leaves them: [`Workspace::remove`] is called once no process is left.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// Belongs to this attempt alone.
    own: PathBuf,
    /// Where the process starts.
    pub(crate) current_dir: PathBuf,
    /// The file that the job may write its output to.
    pub(crate) output: PathBuf,
}

impl Workspace {
    /// Makes the folders; without `working_dir`, the program starts in one of its own.
    pub(crate) fn make(root: &Path, job: JobId, attempt: u32, working_dir: Option<&str>) -> io::Result<Self> {
        std::fs::create_dir_all(root)?;
        let root = root.canonicalize()?;
        let own = root.join(JOBS).join(format!("{job}-{attempt}"));
        std::fs::create_dir_all(&own)?;
        let current_dir = match working_dir {
            None => {
                let dir = own.join("work");
                std::fs::create_dir_all(&dir)?;
                dir
            }
            Some(name) => {
                check_name(&root, name)
                    .map_err(|message| io::Error::new(io::ErrorKind::PermissionDenied, message))?;
                let dir = root.join(name);
                std::fs::create_dir_all(&dir)?;
                inside(&root, &dir)?
            }
        };
        Ok(Self {
            output: own.join("output.json"),
            current_dir,
            own,
        })
    }

    /// What the job handed back: the JSON in its output file, or none where it wrote nothing.
    ///
    /// # Errors
    ///
    /// One sentence that says why the file is no output.
    pub(crate) fn read_output(&self) -> Result<Option<serde_json::Value>, String> {
        use std::io::Read;
        // The job may have put anything there, even a pipe that blocks whoever opens it.
        let Ok(found) = std::fs::symlink_metadata(&self.output) else {
            return Ok(None);
        };
        if !found.is_file() {
            return Err("the output is no plain file".to_owned());
        }
        let mut text = Vec::new();
        let file = std::fs::File::open(&self.output)
            .map_err(|error| format!("the output cannot be read: {error}"))?;
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

    /// Removes what belongs to the attempt alone.
    pub(crate) fn remove(&self) {
        if let Err(error) = std::fs::remove_dir_all(&self.own)
            && error.kind() != io::ErrorKind::NotFound
        {
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
