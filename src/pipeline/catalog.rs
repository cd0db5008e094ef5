//! The pipelines below one folder.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::definition::Definition;
use super::text::Form;
use super::{Fault, Filled, Problem, StepSketch};
use crate::domain::{Strategy, Timestamp};
use crate::script::{
    Folder, Found, NoFile, Parameters, Stamp, check_name, hash, is_absence, modified_at, open, read_up_to,
    similar, suggestion, unreadable,
};

/// The extensions of pipelines, and what files with them hold.
const EXTENSIONS: [(&str, Form); 3] = [("yaml", Form::Yaml), ("yml", Form::Yaml), ("json", Form::Json)];

/// The largest file that is read, in bytes.
const LARGEST: usize = 1 << 20;

/// One pipeline, as it was when it was looked at.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// Its id: the file's path below the pipelines folder, with `/` and without the extension.
    pub target: String,
    /// What is wrong with its file, and what to do; none where it can run.
    pub problem: Option<String>,
    /// The file's size.
    pub size_bytes: u64,
    /// When the file was last written.
    pub modified_at: Timestamp,
    /// The hash of the file in hexadecimal; empty where it cannot be read.
    pub sha256: String,
    file: String,
    content: Option<Arc<Content>>,
}

impl Pipeline {
    /// What its file says; none where that has a problem.
    fn definition(&self) -> Option<&Definition> {
        self.content.as_ref()?.definition.as_ref().ok()
    }

    /// What it is for.
    #[must_use]
    pub fn description(&self) -> Option<&str> {
        self.definition()?.description.as_deref()
    }

    /// What it takes; none where its file has a problem.
    #[must_use]
    pub fn inputs(&self) -> Option<&Parameters> {
        Some(&self.definition()?.inputs)
    }

    /// In which order its steps run; none where its file has a problem.
    #[must_use]
    pub fn strategy(&self) -> Option<&Strategy> {
        Some(&self.definition()?.strategy)
    }

    /// Its steps as the file has them; none where that has a problem.
    #[must_use]
    pub fn steps(&self) -> &[StepSketch] {
        self.definition().map_or(&[], |definition| &definition.sketch)
    }

    /// The steps of a run with these inputs and this configuration.
    ///
    /// # Errors
    ///
    /// All that does not fit; none of them where the file has a problem.
    pub fn fill(
        &self,
        inputs: Map<String, Value>,
        config: &Map<String, Value>,
    ) -> Result<Filled, Vec<Fault>> {
        self.definition()
            .ok_or_else(Vec::new)
            .and_then(|definition| definition.fill(inputs, config))
    }
}

/// The pipelines of a folder.
#[derive(Debug)]
pub struct Listing {
    /// By target.
    pub pipelines: Vec<Pipeline>,
    /// True where there is more than is listed: too many files, or folders too deep.
    pub truncated: bool,
}

/// Why there is no such pipeline.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// It is no target.
    #[error("{0}")]
    Invalid(String),
    /// A link leads out of the pipelines folder.
    #[error("the pipeline is a link that leads out of the pipelines folder")]
    Outside,
    /// Nothing of that name.
    #[error("there is no such pipeline{}", suggestion(similar))]
    NotFound {
        /// Targets that may have been meant, the likeliest first.
        similar: Vec<String>,
    },
    /// The folder cannot be read.
    #[error("the pipelines folder cannot be read")]
    Unreadable(#[source] io::Error),
}

/// What a file holds.
#[derive(Debug)]
struct Content {
    /// As which it was read: a link can give one file two extensions.
    form: Form,
    sha256: String,
    definition: Result<Definition, Problem>,
}

/// Finds pipelines below a folder.
#[derive(Debug)]
pub struct Catalog {
    folder: Folder<Content>,
}

impl Catalog {
    /// The pipelines below `root`, which need not exist yet.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self {
            folder: Folder::new(root, "pipeline"),
        }
    }

    /// All pipelines, as they are now; none where there is no folder. Hidden files, links that lead out of the folder
    /// and names that are not UTF-8 are passed over. A file that cannot be read is listed with its problem.
    pub fn list(&self) -> io::Result<Listing> {
        let mut pipelines = BTreeMap::new();
        let truncated = self.folder.walk(|found| {
            let Some((target, form)) = target_of(&found.name) else {
                return false;
            };
            let target = target.to_owned();
            let Some(pipeline) = self.pipeline(target.clone(), form, found) else {
                return false;
            };
            match pipelines.entry(target) {
                Entry::Vacant(place) => {
                    place.insert(pipeline);
                }
                Entry::Occupied(mut first) => first.get_mut().shares_with(&pipeline),
            }
            true
        })?;
        Ok(Listing {
            pipelines: pipelines.into_values().collect(),
            truncated,
        })
    }

    /// The pipeline of that target, as it is now.
    pub fn find(&self, target: &str) -> Result<Pipeline, LookupError> {
        check_name("pipeline", target).map_err(LookupError::Invalid)?;
        let mut first: Option<Pipeline> = None;
        let mut leads_out = false;
        // In the order in which a walk comes by them.
        let mut extensions = EXTENSIONS;
        extensions.sort_unstable_by_key(|(extension, _)| *extension);
        for (extension, form) in extensions {
            let found = match self.folder.find(&format!("{target}.{extension}")) {
                Ok(found) => found,
                Err(NoFile::Absent | NoFile::NotAFile) => continue,
                Err(NoFile::Outside) => {
                    leads_out = true;
                    continue;
                }
                Err(NoFile::Invalid(message)) => return Err(LookupError::Invalid(message)),
                Err(NoFile::Unreadable(error)) => return Err(LookupError::Unreadable(error)),
            };
            let Some(pipeline) = self.pipeline(target.to_owned(), form, found) else {
                continue;
            };
            match &mut first {
                None => first = Some(pipeline),
                Some(first) => first.shares_with(&pipeline),
            }
        }
        first.ok_or_else(|| match leads_out {
            true => LookupError::Outside,
            false => LookupError::NotFound {
                similar: self.similar(target),
            },
        })
    }

    /// What a file is; none where it is gone again.
    fn pipeline(&self, target: String, form: Form, found: Found) -> Option<Pipeline> {
        let content = self.folder.content(
            &found.path,
            &found.metadata,
            |content| content.form == form,
            |path| read(path, form),
        );
        let (content, problem) = match content {
            Ok(content) => {
                let problem = content.definition.as_ref().err().map(Problem::to_string);
                (Some(content), problem)
            }
            Err(error) if is_absence(&error) || error.kind() == io::ErrorKind::InvalidInput => return None,
            Err(error) => (None, Some(unreadable(&error))),
        };
        Some(Pipeline {
            target,
            problem,
            size_bytes: found.metadata.len(),
            modified_at: modified_at(&found.metadata),
            sha256: content.as_ref().map(|it| it.sha256.clone()).unwrap_or_default(),
            file: found.name,
            content,
        })
    }

    /// The targets of pipelines that may have been meant.
    fn similar(&self, target: &str) -> Vec<String> {
        let Ok(listing) = self.list() else {
            return Vec::new();
        };
        let targets = listing.pipelines.into_iter().map(|pipeline| pipeline.target);
        similar(target, targets.collect())
    }
}

impl Pipeline {
    /// Another file has the same target: none of them runs, as either would be a guess.
    fn shares_with(&mut self, other: &Self) {
        let target = &self.target;
        let message = format!(
            "`{}` and `{}` would both be `{target}`: remove or rename one",
            self.file, other.file
        );
        self.problem = Some(message);
        self.content = None;
    }
}

/// The target of a file, and what it holds; none for a file that is no pipeline.
fn target_of(name: &str) -> Option<(&str, Form)> {
    let (target, extension) = name.rsplit_once('.')?;
    let (_, form) = EXTENSIONS.iter().find(|(known, _)| *known == extension)?;
    let file = target.rsplit('/').next().unwrap_or_default();
    (!file.is_empty()).then_some((target, *form))
}

/// Reads the file at `path`. Memory stays below a few times [`LARGEST`] whatever the file's size.
fn read(path: &Path, form: Form) -> io::Result<(Stamp, Content)> {
    let (mut file, stamp) = open(path)?;
    let mut text = Vec::new();
    read_up_to(&mut file, LARGEST, &mut text)?;
    let (sha256, cut) = hash(&text, &mut file)?;
    let definition = if cut {
        let message = format!(
            "the file has more than {} MiB: split it into pipelines that run each other",
            LARGEST >> 20
        );
        Err(Problem::at(0, message))
    } else {
        match std::str::from_utf8(&text) {
            Ok(text) => Definition::read(text, form),
            Err(error) => {
                let before = text.get(..error.valid_up_to()).unwrap_or_default();
                let line = memchr::memchr_iter(b'\n', before).count() + 1;
                Err(Problem::at(
                    u64::try_from(line).unwrap_or(0),
                    "the file is not UTF-8",
                ))
            }
        }
    };
    Ok((
        stamp,
        Content {
            form,
            sha256,
            definition,
        },
    ))
}

#[cfg(test)]
mod tests;
