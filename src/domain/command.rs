//! What a job runs.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::word::words;

words!(
    /// The kind of command a job runs.
    JobKind, "kind of job" {
        /// A file below the scripts folder.
        Script = "SCRIPT",
        /// A program with arguments, no shell between.
        Exec = "EXEC",
        /// A line for a shell.
        Shell = "SHELL",
        /// An operation of the AWS command line.
        AwsCli = "AWS_CLI",
        /// Work that a worker takes by its problem id.
        Task = "TASK",
        /// An agent, by its target id.
        Agent = "AGENT",
        /// A plan kept in a file, by its target id.
        Pipeline = "PIPELINE",
        /// Steps that are jobs themselves.
        Plan = "PLAN",
    }
);

impl JobKind {
    /// Whether its jobs run nothing themselves: their steps do.
    #[must_use]
    pub const fn has_steps(self) -> bool {
        matches!(self, Self::Pipeline | Self::Plan)
    }
}

/// What a job runs, as it was asked for and as the store keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Command {
    /// A file below the scripts folder.
    Script(Script),
    /// A program with arguments.
    Exec(Exec),
    /// A line for a shell.
    Shell(Shell),
    /// An operation of the AWS command line.
    AwsCli(AwsCli),
    /// Work that a worker takes.
    Task(Task),
    /// An agent.
    Agent(Target),
    /// A plan kept in a file.
    Pipeline(Target),
    /// Steps that are jobs themselves.
    Plan(Plan),
}

/// A script and what is handed to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Script {
    /// Its path below the scripts folder, with `/`.
    pub script: String,
    /// The interpreter that was asked for; none where the extension or the shebang decides.
    pub interpreter: Option<String>,
    /// Arguments after the script's path.
    pub args: Vec<String>,
    /// Named values, with the defaults that the script declares filled in.
    pub parameters: Map<String, Value>,
    /// What else the script may want to know.
    pub context: Map<String, Value>,
}

/// A program and its arguments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exec {
    /// A name to be found in PATH, or a path.
    pub program: String,
    /// Arguments after the program's name.
    pub args: Vec<String>,
}

/// A line for a shell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shell {
    /// The line, handed over after `-c`.
    pub command: String,
    /// The shell's program.
    pub shell: String,
}

/// An operation of the AWS command line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AwsCli {
    /// The service: `s3api`, `sts`, …
    pub service: String,
    /// The operation: `list-buckets`, …
    pub operation: String,
    /// Arguments after the operation.
    pub args: Vec<String>,
    /// The profile of the AWS configuration.
    pub profile: Option<String>,
    /// The region.
    pub region: Option<String>,
}

/// Work that a worker takes by its problem id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// What a worker's patterns are compared with.
    pub problem_id: String,
    /// Handed to the worker.
    pub parameters: Map<String, Value>,
}

/// An agent or a pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// Its id.
    pub target: String,
    /// What it works on.
    pub inputs: Map<String, Value>,
    /// How it works.
    pub config: Map<String, Value>,
}

/// Steps that are jobs themselves; the steps are the job's children.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// What people read.
    pub description: String,
    /// In which order the steps run.
    pub strategy: Strategy,
}

/// In which order the steps of a plan run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "strategy", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Strategy {
    /// One after the other.
    Serial {
        /// Whether the first failure ends the plan.
        stop_on_error: bool,
    },
    /// All at once.
    Parallel {
        /// The most that run at once; none is no limit beyond the workers.
        max_concurrency: Option<u32>,
    },
    /// Each step when those it names have completed. Which those are is kept with the steps.
    DependencyGraph {
        /// Whether a failure leaves the rest of the graph running.
        continue_on_error: bool,
    },
}

impl Command {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> JobKind {
        match self {
            Self::Script(_) => JobKind::Script,
            Self::Exec(_) => JobKind::Exec,
            Self::Shell(_) => JobKind::Shell,
            Self::AwsCli(_) => JobKind::AwsCli,
            Self::Task(_) => JobKind::Task,
            Self::Agent(_) => JobKind::Agent,
            Self::Pipeline(_) => JobKind::Pipeline,
            Self::Plan(_) => JobKind::Plan,
        }
    }

    /// What people call it: the script's name, the program, the problem id, the target. A shell's line is no name:
    /// it may hold anything, and statistics by name would never repeat.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Script(script) => script.script.clone(),
            Self::Exec(exec) => exec.program.clone(),
            Self::Shell(shell) => shell.shell.clone(),
            Self::AwsCli(aws) => format!("aws {} {}", aws.service, aws.operation),
            Self::Task(task) => task.problem_id.clone(),
            Self::Agent(target) | Self::Pipeline(target) => target.target.clone(),
            Self::Plan(plan) if plan.description.is_empty() => "plan".to_owned(),
            Self::Plan(plan) => plan.description.clone(),
        }
    }
}
