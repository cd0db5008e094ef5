//! Pipelines: plans kept as files below one folder, by the path of the file without its extension.
//!
//! ```text
//!   folder ──▶ catalog ──▶ definition (YAML or JSON) ──▶ inputs: the JSON Schema of what a run hands over
//!                 │             │
//!                 ▼             └──▶ steps with templates ──▶ fill(inputs, config) ──▶ steps of one run
//!             Pipeline
//! ```
//!
//! A [`Catalog`] finds pipelines and lets no target leave the folder. A file that cannot be read is a [`Pipeline`] with
//! a problem, never an error. [`Pipeline::fill`] checks the inputs of a run and puts them into the steps; whether such
//! steps may run is for others to say.
//!
//! Everything here is synchronous file work: callers on a runtime use a blocking thread.

mod catalog;
mod definition;
#[cfg(any(test, fuzzing))]
pub(crate) mod invariants;
mod slot;
mod step;
mod template;
mod text;

use std::time::Duration;

use serde_json::{Map, Value};

pub use catalog::{Catalog, Listing, LookupError, Pipeline};

use crate::domain::{Command, EnvVar, JobKind, Metadata, Strategy};
use crate::script::ParameterFault;

/// The steps of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Filled {
    /// The inputs, with the defaults that the file declares.
    pub inputs: Map<String, Value>,
    /// In which order the steps run.
    pub strategy: Strategy,
    /// The steps, in the file's order.
    pub steps: Vec<Step>,
}

/// A step of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Its key; its index, from 0, where the file has none.
    pub key: Option<String>,
    /// The keys of the steps that it waits for.
    pub depends_on: Vec<String>,
    /// The job itself.
    pub run: Run,
}

/// The job of a step. What is none here is for the server to choose.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// What to run.
    pub command: Command,
    /// The queue to wait in.
    pub queue: Option<String>,
    /// Higher runs first.
    pub priority: Option<i32>,
    /// How long one attempt may take.
    pub timeout: Option<Duration>,
    /// How often it may be tried.
    pub max_attempts: Option<i32>,
    /// The pause after the first failure.
    pub backoff: Option<Duration>,
    /// Its environment beyond the server's allow-list.
    pub env: Vec<EnvVar>,
    /// Its working directory below the work root.
    pub working_dir: Option<String>,
    /// Who asks, and what for.
    pub metadata: Metadata,
    /// The steps of a plan; none for any other command.
    pub steps: Vec<Step>,
}

/// A step as the file has it, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepSketch {
    /// Its key, or its index.
    pub key: String,
    /// What its job will be called, with expressions as they are written.
    pub name: String,
    /// What its job will run.
    pub kind: JobKind,
    /// The keys of the steps that it waits for.
    pub depends_on: Vec<String>,
}

impl StepSketch {
    fn of((index, step): (usize, Step)) -> Self {
        Self {
            key: step.key.unwrap_or_else(|| index.to_string()),
            name: step.run.command.name(),
            kind: step.run.command.kind(),
            depends_on: step.depends_on,
        }
    }
}

/// Why a run of a pipeline is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Its kind.
    pub kind: FaultKind,
    /// Where, below the pipeline: `inputs` and a name, `config` and a name, or `steps`, an index and a field.
    pub path: Vec<String>,
    /// What to do about it.
    pub message: String,
}

/// The kinds of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// It does not fit.
    Invalid,
    /// It is too much.
    TooLarge,
}

impl Fault {
    fn of_input(fault: ParameterFault) -> Self {
        Self {
            kind: FaultKind::Invalid,
            path: ["inputs".to_owned()].into_iter().chain(fault.path).collect(),
            message: fault.message,
        }
    }

    fn too_large() -> Self {
        let most = template::MOST_FILLED >> 20;
        Self {
            kind: FaultKind::TooLarge,
            path: Vec::new(),
            message: format!(
                "inputs and config would bring more than {most} MiB into the steps: hand over less"
            ),
        }
    }
}

/// Why a file is no pipeline.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", line.map(|line| format!("line {line}: ")).unwrap_or_default())]
struct Problem {
    line: Option<u64>,
    message: String,
}

impl Problem {
    /// At this line, from 1; 0 where it is not known.
    fn at(line: u64, message: impl Into<String>) -> Self {
        Self {
            line: (line > 0).then_some(line),
            message: message.into(),
        }
    }
}

#[cfg(test)]
mod tests;
