//! Commands as clients write them.

use async_graphql::{InputObject, OneofObject};
use serde_json::{Map, Value};

use super::run::RunInput;
use crate::domain::{self, Command};
use crate::executor::{Refusal, RefusalCode, StepRequest};
use crate::graphql::scalar::Json;

/// What to run: exactly one of these.
#[derive(Debug, Clone, OneofObject)]
pub(in crate::graphql) enum CommandInput {
    /// A file below the scripts folder.
    Script(ScriptInput),
    /// A program with its arguments, without a shell. Off unless the server allows it.
    Exec(ExecInput),
    /// A line for a shell. Off unless the server allows it.
    Shell(ShellInput),
    /// An operation of the AWS command line. Off unless the server allows it.
    AwsCli(AwsCliInput),
    /// Work that a worker takes by its problem id.
    Task(TaskInput),
    /// An agent.
    Agent(TargetInput),
    /// A plan kept in a file.
    Pipeline(TargetInput),
    /// Steps that are jobs themselves.
    Plan(PlanInput),
}

/// A script and what is handed to it. `scripts` lists the names, and `parametersSchema` says what each takes.
#[derive(Debug, Clone, InputObject)]
pub(in crate::graphql) struct ScriptInput {
    /// Its path below the scripts folder, with `/`: `reports/daily.py`.
    name: String,
    /// The interpreter, by name; where left out, the extension or the first line decides.
    interpreter: Option<String>,
    /// Arguments after the script's path.
    #[graphql(default_with = "Some(Vec::new())")]
    args: Option<Vec<String>>,
    /// Named values: an object that fits the script's `parametersSchema`. What has a default may be left out.
    #[graphql(default_with = "Some(Json::empty_object())")]
    parameters: Option<Json>,
    /// What else the script may want to know: an object of any form.
    #[graphql(default_with = "Some(Json::empty_object())")]
    context: Option<Json>,
}

/// A program and its arguments.
#[derive(Debug, Clone, InputObject)]
pub(in crate::graphql) struct ExecInput {
    /// A name to be found in the server's PATH, or an absolute path.
    program: String,
    /// Arguments, handed over as they are: no shell reads them.
    #[graphql(default_with = "Some(Vec::new())")]
    args: Option<Vec<String>>,
}

/// A line to be run by a shell.
#[derive(Debug, Clone, InputObject)]
pub(in crate::graphql) struct ShellInput {
    /// The line, handed over after `-c`.
    command: String,
    /// The shell: `bash`, `sh`, …
    #[graphql(default_with = "Some(\"bash\".to_owned())")]
    shell: Option<String>,
}

/// An operation of the AWS command line to run.
#[derive(Debug, Clone, InputObject)]
pub(in crate::graphql) struct AwsCliInput {
    /// The service: `s3api`, `sts`, …
    service: String,
    /// The operation: `list-buckets`, …
    operation: String,
    /// Arguments after the operation.
    #[graphql(default_with = "Some(Vec::new())")]
    args: Option<Vec<String>>,
    /// The profile of the AWS configuration.
    profile: Option<String>,
    /// The region: `eu-central-1`, …
    region: Option<String>,
}

/// Work that a worker takes.
#[derive(Debug, Clone, InputObject)]
pub(in crate::graphql) struct TaskInput {
    /// What workers' patterns are compared with.
    problem_id: String,
    /// Handed to the worker: an object.
    #[graphql(default_with = "Some(Json::empty_object())")]
    parameters: Option<Json>,
}

/// An agent or a pipeline.
#[derive(Debug, Clone, InputObject)]
pub(in crate::graphql) struct TargetInput {
    /// Its id.
    target: String,
    /// What it works on: an object.
    #[graphql(default_with = "Some(Json::empty_object())")]
    inputs: Option<Json>,
    /// How it works: an object.
    #[graphql(default_with = "Some(Json::empty_object())")]
    config: Option<Json>,
}

/// Many jobs under one, in an order.
#[derive(Debug, Clone, InputObject)]
pub(in crate::graphql) struct PlanInput {
    /// What people read; it becomes the job's name.
    #[graphql(default_with = "Some(String::new())")]
    description: Option<String>,
    /// In which order the steps run.
    strategy: StrategyInput,
    /// The steps, each of which becomes a job.
    steps: Vec<StepInput>,
}

/// In which order the steps of a plan run: exactly one of these.
#[derive(Debug, Clone, OneofObject)]
pub(in crate::graphql) enum StrategyInput {
    /// One after the other.
    Serial(SerialInput),
    /// All at once.
    Parallel(ParallelInput),
    /// Each step when those in its `dependsOn` have completed.
    DependencyGraph(DependencyGraphInput),
}

/// The steps of the plan one after the other.
#[derive(Debug, Clone, InputObject)]
pub(in crate::graphql) struct SerialInput {
    /// Whether the first step that fails ends the plan.
    #[graphql(default_with = "Some(true)")]
    stop_on_error: Option<bool>,
}

/// All steps of the plan at once.
#[derive(Debug, Clone, InputObject)]
pub(in crate::graphql) struct ParallelInput {
    /// The most that run at once; where left out, as many as there are workers.
    max_concurrency: Option<i32>,
}

/// Steps that wait for others.
#[derive(Debug, Clone, InputObject)]
pub(in crate::graphql) struct DependencyGraphInput {
    /// Whether steps that do not depend on a failed one go on. Those that do are cancelled either way.
    #[graphql(default_with = "Some(true)")]
    continue_on_error: Option<bool>,
}

/// A step of a plan.
#[derive(Debug, Clone, InputObject)]
pub(in crate::graphql) struct StepInput {
    /// Unique within the plan; its index, from 0, where left out.
    key: Option<String>,
    /// The keys of the steps that it waits for.
    #[graphql(default_with = "Some(Vec::new())")]
    depends_on: Option<Vec<String>>,
    /// The job itself.
    run: Box<RunInput>,
}

impl CommandInput {
    /// The command in the domain's words, and the steps of a plan.
    pub(super) fn into_domain(self, steps: &mut Vec<StepRequest>, refusals: &mut Vec<Refusal>) -> Command {
        let mut object = |value: Option<Json>, path: [&str; 3]| object(value, &path, refusals);
        match self {
            Self::Script(script) => Command::Script(domain::Script {
                script: script.name,
                interpreter: script.interpreter,
                args: script.args.unwrap_or_default(),
                parameters: object(script.parameters, ["command", "script", "parameters"]),
                context: object(script.context, ["command", "script", "context"]),
            }),
            Self::Exec(exec) => Command::Exec(domain::Exec {
                program: exec.program,
                args: exec.args.unwrap_or_default(),
            }),
            Self::Shell(shell) => Command::Shell(domain::Shell {
                command: shell.command,
                shell: shell.shell.unwrap_or_else(|| "bash".to_owned()),
            }),
            Self::AwsCli(aws) => Command::AwsCli(domain::AwsCli {
                service: aws.service,
                operation: aws.operation,
                args: aws.args.unwrap_or_default(),
                profile: aws.profile,
                region: aws.region,
            }),
            Self::Task(task) => Command::Task(domain::Task {
                problem_id: task.problem_id,
                parameters: object(task.parameters, ["command", "task", "parameters"]),
            }),
            Self::Agent(target) => Command::Agent(domain::Target {
                target: target.target,
                inputs: object(target.inputs, ["command", "agent", "inputs"]),
                config: object(target.config, ["command", "agent", "config"]),
            }),
            Self::Pipeline(target) => Command::Pipeline(domain::Target {
                target: target.target,
                inputs: object(target.inputs, ["command", "pipeline", "inputs"]),
                config: object(target.config, ["command", "pipeline", "config"]),
            }),
            Self::Plan(plan) => Command::Plan(plan.into_domain(steps, refusals)),
        }
    }
}

impl PlanInput {
    fn into_domain(self, steps: &mut Vec<StepRequest>, refusals: &mut Vec<Refusal>) -> domain::Plan {
        for (index, step) in self.steps.into_iter().enumerate() {
            match step.run.into_request() {
                Ok(run) => steps.push(StepRequest {
                    key: step.key,
                    depends_on: step.depends_on.unwrap_or_default(),
                    run,
                }),
                Err(of_step) => {
                    let index = index.to_string();
                    let place = ["command", "plan", "steps", &index, "run"];
                    refusals.extend(of_step.into_iter().map(|refusal| refusal.below(&place)));
                }
            }
        }
        let strategy = match self.strategy {
            StrategyInput::Serial(serial) => domain::Strategy::Serial {
                stop_on_error: serial.stop_on_error.unwrap_or(true),
            },
            StrategyInput::Parallel(parallel) => domain::Strategy::Parallel {
                max_concurrency: parallel
                    .max_concurrency
                    .and_then(|most| at_least_one(most, refusals)),
            },
            StrategyInput::DependencyGraph(graph) => domain::Strategy::DependencyGraph {
                continue_on_error: graph.continue_on_error.unwrap_or(true),
            },
        };
        domain::Plan {
            description: self.description.unwrap_or_default(),
            strategy,
        }
    }
}

fn at_least_one(most: i32, refusals: &mut Vec<Refusal>) -> Option<u32> {
    let path = ["command", "plan", "strategy", "parallel", "maxConcurrency"];
    let checked = u32::try_from(most).ok().filter(|&most| most > 0);
    if checked.is_none() {
        let message = format!("{most} steps at once are none: leave it out for no limit");
        refusals.push(Refusal::new(RefusalCode::Invalid, &path, message));
    }
    checked
}

/// The members of an object; none where it was left out.
fn object(value: Option<Json>, path: &[&str], refusals: &mut Vec<Refusal>) -> Map<String, Value> {
    let kind = match value {
        Some(Json(Value::Object(members))) => return members,
        None | Some(Json(Value::Null)) => return Map::new(),
        Some(Json(Value::Array(_))) => "a list",
        Some(Json(Value::String(_))) => "a string",
        Some(Json(Value::Number(_))) => "a number",
        Some(Json(Value::Bool(_))) => "a boolean",
    };
    let message = format!("takes an object, and was given {kind}");
    refusals.push(Refusal::new(RefusalCode::Invalid, path, message));
    Map::new()
}
