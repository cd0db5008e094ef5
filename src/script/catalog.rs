//! The scripts below one folder.

use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::content::{Content, read};
use super::folder::{Folder, NoFile, is_absence, modified_at, similar, suggestion, unreadable};
use super::interpreter::{CommandLine, InterpreterError, Interpreters};
use super::parameters::Parameters;
use super::shebang::Shebang;
use super::walk::Found;
use crate::domain::Timestamp;

/// One script, as it was when it was looked at.
#[derive(Debug, Clone)]
pub struct Script {
    /// Its path below the scripts folder, with `/`.
    pub name: String,
    /// Where the file is, all links followed.
    pub path: PathBuf,
    /// What its header says that it is for.
    pub description: Option<String>,
    /// What runs it; none where nothing says so.
    pub interpreter: Option<String>,
    /// False where it cannot be run as it is: `problem` says why. A script whose header is invalid is not run, since
    /// what its author wants checked cannot be checked.
    pub runnable: bool,
    /// What is wrong, and what to do.
    pub problem: Option<String>,
    /// What it takes; none where it declares nothing.
    pub parameters: Option<Arc<Parameters>>,
    /// How long it may run where the request says nothing.
    pub timeout: Option<Duration>,
    /// The file's size.
    pub size_bytes: u64,
    /// When the file was last written.
    pub modified_at: Timestamp,
    /// The hash of the file in hexadecimal; empty where it cannot be read.
    pub sha256: String,
    valid_header: bool,
    extension: Option<String>,
    shebang: Option<Shebang>,
    interpreters: Arc<Interpreters>,
}

impl Script {
    /// Whether its header could be read, or it has none. One that names another interpreter may run a script that
    /// is not `runnable` for want of its own, but never one whose header is invalid.
    #[must_use]
    pub const fn has_valid_header(&self) -> bool {
        self.valid_header
    }

    /// How to run it, with `args` after its own path. `interpreter` is what the request asks for, by name; without
    /// it the settings, the shebang or the extension decide.
    pub fn command_line(
        &self,
        interpreter: Option<&str>,
        args: &[String],
    ) -> Result<CommandLine, InterpreterError> {
        let (extension, shebang) = (self.extension.as_deref(), self.shebang.as_ref());
        let choice = self.interpreters.choose(extension, shebang, interpreter)?;
        self.interpreters.command_line(&choice, &self.path, args)
    }
}

/// The scripts of a folder.
#[derive(Debug)]
pub struct Listing {
    /// By name.
    pub scripts: Vec<Script>,
    /// True where there is more than is listed: too many files, or folders too deep.
    pub truncated: bool,
}

/// Why there is no such script.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// It is no name for a script.
    #[error("{0}")]
    Invalid(String),
    /// A link leads out of the scripts folder.
    #[error("the script is a link that leads out of the scripts folder")]
    Outside,
    /// Nothing of that name.
    #[error("there is no such script{}", suggestion(similar))]
    NotFound {
        /// Names that may have been meant, the likeliest first.
        similar: Vec<String>,
    },
    /// A folder, a pipe, or a file without a known extension and without a shebang.
    #[error(
        "not a script: a script is a file with a known extension or with a first line such as `#!/usr/bin/env bash`"
    )]
    NotAScript,
    /// The file is there, but not for us.
    #[error("the script cannot be read")]
    Unreadable(#[source] io::Error),
}

/// Finds scripts below a folder.
#[derive(Debug)]
pub struct Catalog {
    folder: Folder<Content>,
    interpreters: Arc<Interpreters>,
}

impl Catalog {
    /// The scripts below `root`, which need not exist yet.
    #[must_use]
    pub fn new(root: PathBuf, interpreters: Interpreters) -> Self {
        Self {
            folder: Folder::new(root, "script"),
            interpreters: Arc::new(interpreters),
        }
    }

    /// All scripts, as they are now; none where there is no folder. Hidden files, links that lead out of the folder
    /// and names that are not UTF-8 are passed over. A script that cannot be read is listed with its problem.
    pub fn list(&self) -> io::Result<Listing> {
        let mut scripts = Vec::new();
        let truncated = self.folder.walk(|found| {
            let kind = self.kind(&found.name, &found.path);
            let script = match self.content(&found.path, kind.known, &found.metadata) {
                Ok(content) => self.script(found, kind, &content),
                Err(error) if kind.known && !is_absence(&error) => Some(self.unreadable(found, kind, &error)),
                Err(_) => None,
            };
            let is_script = script.is_some();
            scripts.extend(script);
            is_script
        })?;
        scripts.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Listing { scripts, truncated })
    }

    /// The script of that name, as it is now.
    pub fn find(&self, name: &str) -> Result<Script, LookupError> {
        let failed = |fault: NoFile| match fault {
            NoFile::Invalid(message) => LookupError::Invalid(message),
            NoFile::Outside => LookupError::Outside,
            NoFile::Absent => LookupError::NotFound {
                similar: self.similar(name),
            },
            NoFile::NotAFile => LookupError::NotAScript,
            NoFile::Unreadable(error) => LookupError::Unreadable(error),
        };
        let found = self.folder.find(name).map_err(failed)?;
        let kind = self.kind(name, &found.path);
        let content = self
            .content(&found.path, kind.known, &found.metadata)
            .map_err(|error| failed(error.into()))?;
        self.script(found, kind, &content).ok_or(LookupError::NotAScript)
    }

    /// What the file holds. One that was passed over under a name without a known extension may be a script under
    /// another, and is read again then.
    fn content(&self, path: &Path, known_extension: bool, metadata: &Metadata) -> io::Result<Arc<Content>> {
        let serves = |content: &Content| matches!(content, Content::Script(_)) || !known_extension;
        self.folder
            .content(path, metadata, serves, |path| read(path, known_extension))
    }

    /// By the name's extension or else, for a link, by that of the file it leads to.
    fn kind(&self, name: &str, path: &Path) -> Kind {
        let own = extension(Path::new(name));
        let candidates = [own.clone(), extension(path)];
        let known = candidates
            .into_iter()
            .flatten()
            .find(|it| self.interpreters.knows_extension(it));
        Kind {
            known: known.is_some(),
            extension: known.or(own),
        }
    }

    fn script(&self, found: Found, kind: Kind, content: &Content) -> Option<Script> {
        let Content::Script(content) = content else {
            return None;
        };
        if !kind.known && content.shebang.is_none() {
            return None;
        }
        let choice = self
            .interpreters
            .choose(kind.extension.as_deref(), content.shebang.as_ref(), None);
        let installed = choice
            .as_ref()
            .map_err(Clone::clone)
            .and_then(|choice| self.interpreters.locate(choice));
        let problems = [
            content
                .header
                .as_ref()
                .err()
                .map(|it| format!("the header is invalid: {it}")),
            installed.err().map(|it| it.to_string()),
        ];
        let problems: Vec<String> = problems.into_iter().flatten().collect();
        let header = content.header.as_ref().ok();
        Some(Script {
            description: header.and_then(|it| it.description.clone()),
            interpreter: choice.ok().map(|it| it.to_string()),
            runnable: problems.is_empty(),
            problem: (!problems.is_empty()).then(|| problems.join("; ")),
            parameters: header.and_then(|it| it.parameters.clone()),
            timeout: header.and_then(|it| it.timeout),
            sha256: content.sha256.clone(),
            valid_header: header.is_some(),
            shebang: content.shebang.clone(),
            ..self.bare(found, kind)
        })
    }

    fn unreadable(&self, found: Found, kind: Kind, error: &io::Error) -> Script {
        Script {
            problem: Some(unreadable(error)),
            ..self.bare(found, kind)
        }
    }

    /// What the file system alone says of a script.
    fn bare(&self, found: Found, kind: Kind) -> Script {
        Script {
            size_bytes: found.metadata.len(),
            modified_at: modified_at(&found.metadata),
            name: found.name,
            path: found.path,
            description: None,
            interpreter: None,
            runnable: false,
            problem: None,
            parameters: None,
            timeout: None,
            sha256: String::new(),
            valid_header: false,
            extension: kind.extension,
            shebang: None,
            interpreters: Arc::clone(&self.interpreters),
        }
    }

    /// The names of scripts that may have been meant.
    fn similar(&self, name: &str) -> Vec<String> {
        let Ok(listing) = self.list() else {
            return Vec::new();
        };
        let names = listing.scripts.into_iter().map(|script| script.name);
        similar(name, names.collect())
    }
}

/// What a file's name says of it.
#[derive(Debug)]
struct Kind {
    extension: Option<String>,
    /// Whether the extension alone makes it a script.
    known: bool,
}

fn extension(path: &Path) -> Option<String> {
    path.extension()?.to_str().map(str::to_ascii_lowercase)
}

#[cfg(test)]
mod tests;
