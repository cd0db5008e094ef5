//! Commands as clients read them.

use async_graphql::{Context, Object, SimpleObject, Union};
use serde_json::{Map, Value};

use crate::domain;
use crate::graphql::context::ContextExt as _;
use crate::graphql::error::ApiResult;
use crate::graphql::scalar::Json;

/// What a job runs, as it was asked for.
#[derive(Union)]
pub(in crate::graphql) enum Command {
    Script(ScriptCommand),
    Exec(ExecCommand),
    Shell(ShellCommand),
    AwsCli(AwsCliCommand),
    Task(TaskCommand),
    Agent(AgentCommand),
    Pipeline(PipelineCommand),
    Plan(PlanCommand),
}

/// A file below the scripts folder, and what it is handed.
#[derive(SimpleObject)]
pub(in crate::graphql) struct ScriptCommand {
    /// The script's name: its path below the scripts folder.
    script: String,
    /// The interpreter that was asked for; null where the extension or the first line decides.
    interpreter: Option<String>,
    /// Arguments after the script's path.
    args: Vec<String>,
    /// Named values, with the defaults that the script declares filled in.
    parameters: Json,
    /// What else the script was told.
    context: Json,
}

/// A program with its arguments, without a shell.
#[derive(SimpleObject)]
pub(in crate::graphql) struct ExecCommand {
    /// The program's name or path.
    program: String,
    /// Its arguments.
    args: Vec<String>,
}

/// A line for a shell.
#[derive(SimpleObject)]
pub(in crate::graphql) struct ShellCommand {
    /// The line.
    command: String,
    /// The shell that reads it.
    shell: String,
}

/// An operation of the AWS command line.
#[derive(SimpleObject)]
pub(in crate::graphql) struct AwsCliCommand {
    /// The service: `s3api`, `sts`, …
    service: String,
    /// The operation: `list-buckets`, …
    operation: String,
    /// Arguments after the operation.
    args: Vec<String>,
    /// The profile of the AWS configuration; null for the default one.
    profile: Option<String>,
    /// The region; null for the profile's own.
    region: Option<String>,
}

/// Work for whichever worker supports its problem id.
#[derive(SimpleObject)]
pub(in crate::graphql) struct TaskCommand {
    /// What workers' patterns are compared with.
    problem_id: String,
    /// What the worker is handed.
    parameters: Json,
}

/// An agent at work.
#[derive(SimpleObject)]
pub(in crate::graphql) struct AgentCommand {
    /// The agent's id.
    target: String,
    /// What it works on.
    inputs: Json,
    /// How it works.
    config: Json,
}

/// A plan kept in a file.
#[derive(SimpleObject)]
pub(in crate::graphql) struct PipelineCommand {
    /// The pipeline's id.
    target: String,
    /// What it works on.
    inputs: Json,
    /// How it works.
    config: Json,
}

/// Many jobs under one: its steps are the job's `children`.
#[derive(SimpleObject)]
pub(in crate::graphql) struct PlanCommand {
    /// What the plan is for.
    description: String,
    /// In which order the steps run.
    strategy: Strategy,
}

/// In which order the steps of a plan run.
#[derive(Union)]
pub(in crate::graphql) enum Strategy {
    Serial(SerialStrategy),
    Parallel(ParallelStrategy),
    DependencyGraph(DependencyGraphStrategy),
}

/// One step after the other.
#[derive(SimpleObject)]
pub(in crate::graphql) struct SerialStrategy {
    /// Whether the first step that fails ends the plan.
    stop_on_error: bool,
}

/// All steps at once.
#[derive(SimpleObject)]
pub(in crate::graphql) struct ParallelStrategy {
    /// The most that run at once; null for no limit beyond the workers.
    max_concurrency: Option<u32>,
}

/// A strategy that is told by the steps themselves.
pub(in crate::graphql) struct DependencyGraphStrategy {
    plan: domain::JobId,
    continue_on_error: bool,
}

/// Each step as soon as those that it waits for have completed.
#[Object]
impl DependencyGraphStrategy {
    /// For each step the keys of those that it waits for.
    async fn dependencies(&self, ctx: &Context<'_>) -> ApiResult<Vec<StepDependencies>> {
        let found = ctx.reader().step_dependencies(self.plan).await?;
        let dependencies = found
            .into_iter()
            .map(|(key, depends_on)| StepDependencies { key, depends_on });
        Ok(dependencies.collect())
    }

    /// Whether steps that do not depend on a failed one go on.
    async fn continue_on_error(&self) -> bool {
        self.continue_on_error
    }
}

/// What one step of a plan waits for.
#[derive(SimpleObject)]
pub(in crate::graphql) struct StepDependencies {
    /// The step's key.
    key: String,
    /// The keys of the steps that must complete before it.
    depends_on: Vec<String>,
}

fn object(members: &Map<String, Value>) -> Json {
    Json(Value::Object(members.clone()))
}

impl Command {
    /// What this job runs.
    pub(in crate::graphql) fn of(job: &domain::Job) -> Self {
        match &job.command {
            domain::Command::Script(script) => Self::Script(ScriptCommand {
                script: script.script.clone(),
                interpreter: script.interpreter.clone(),
                args: script.args.clone(),
                parameters: object(&script.parameters),
                context: object(&script.context),
            }),
            domain::Command::Exec(exec) => Self::Exec(ExecCommand {
                program: exec.program.clone(),
                args: exec.args.clone(),
            }),
            domain::Command::Shell(shell) => Self::Shell(ShellCommand {
                command: shell.command.clone(),
                shell: shell.shell.clone(),
            }),
            domain::Command::AwsCli(aws) => Self::AwsCli(AwsCliCommand {
                service: aws.service.clone(),
                operation: aws.operation.clone(),
                args: aws.args.clone(),
                profile: aws.profile.clone(),
                region: aws.region.clone(),
            }),
            domain::Command::Task(task) => Self::Task(TaskCommand {
                problem_id: task.problem_id.clone(),
                parameters: object(&task.parameters),
            }),
            domain::Command::Agent(target) => Self::Agent(AgentCommand {
                target: target.target.clone(),
                inputs: object(&target.inputs),
                config: object(&target.config),
            }),
            domain::Command::Pipeline(target) => Self::Pipeline(PipelineCommand {
                target: target.target.clone(),
                inputs: object(&target.inputs),
                config: object(&target.config),
            }),
            domain::Command::Plan(plan) => Self::Plan(PlanCommand {
                description: plan.description.clone(),
                strategy: Strategy::of(job.id, &plan.strategy),
            }),
        }
    }
}

impl Strategy {
    fn of(plan: domain::JobId, strategy: &domain::Strategy) -> Self {
        match *strategy {
            domain::Strategy::Serial { stop_on_error } => Self::Serial(SerialStrategy { stop_on_error }),
            domain::Strategy::Parallel { max_concurrency } => {
                Self::Parallel(ParallelStrategy { max_concurrency })
            }
            domain::Strategy::DependencyGraph { continue_on_error } => {
                Self::DependencyGraph(DependencyGraphStrategy {
                    plan,
                    continue_on_error,
                })
            }
        }
    }
}
