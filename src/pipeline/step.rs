//! Steps as a pipeline's file has them: the fields of `RunInput`, with slots for what expressions may stand for.
//!
//! Each field is named once, in the method that takes it: the same walk checks a file and fills a run.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};
use serde_saphyr::Spanned;

use super::slot::{Filler, Fixed, Line, Slot};
use super::{Problem, Run, Step};
use crate::domain::{self, Command, EnvValue, EnvVar, Metadata, PlanFault, StepName, Strategy, Tag, links};

/// Steps with their lines.
pub(super) type Steps = Spanned<Vec<Spanned<StepFile>>>;

/// A step of a plan.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct StepFile {
    key: Option<Fixed>,
    depends_on: Option<Vec<Fixed>>,
    run: Box<RunFile>,
}

/// In which order the steps run.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum StrategyFile {
    Serial(SerialFile),
    Parallel(ParallelFile),
    DependencyGraph(DependencyGraphFile),
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct SerialFile {
    stop_on_error: Option<bool>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ParallelFile {
    max_concurrency: Option<Most>,
}

/// How many steps run at once.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "i64")]
struct Most(u32);

impl TryFrom<i64> for Most {
    type Error = &'static str;

    fn try_from(most: i64) -> Result<Self, Self::Error> {
        let most = u32::try_from(most).ok().filter(|&most| most > 0);
        most.map(Self)
            .ok_or("takes a whole number from 1; left out, there is no limit")
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct DependencyGraphFile {
    continue_on_error: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RunFile {
    command: CommandFile,
    queue: Option<Slot<String>>,
    priority: Option<Slot<i32>>,
    timeout_ms: Option<Slot<Duration>>,
    max_attempts: Option<Slot<i32>>,
    backoff_ms: Option<Slot<Duration>>,
    #[serde(default)]
    env: Vec<EnvFile>,
    working_dir: Option<Slot<String>>,
    metadata: Option<MetadataFile>,
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "EnvText")]
struct EnvFile(EnvText);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct EnvText {
    name: Fixed,
    value: Option<Slot<String>>,
    /// The name of a secret instead of a value; it takes no expression, so a file names all the secrets that it uses.
    secret: Option<Fixed>,
}

impl TryFrom<EnvText> for EnvFile {
    type Error = &'static str;

    fn try_from(text: EnvText) -> Result<Self, Self::Error> {
        match (&text.value, &text.secret) {
            (Some(_), None) | (None, Some(_)) => Ok(Self(text)),
            _ => Err("a variable has either a `value` or a `secret`"),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct MetadataFile {
    source: Option<Slot<String>>,
    conversation_id: Option<Slot<String>>,
    #[serde(default)]
    tags: Vec<TagFile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct TagFile {
    key: Slot<String>,
    value: Slot<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum CommandFile {
    Script(ScriptFile),
    Exec(ExecFile),
    Shell(ShellFile),
    AwsCli(AwsCliFile),
    Task(TaskFile),
    Agent(TargetFile),
    Pipeline(TargetFile),
    Plan(PlanFile),
}

type Object = Map<String, Value>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ScriptFile {
    name: Slot<String>,
    interpreter: Option<Slot<String>>,
    args: Option<Slot<Vec<String>>>,
    parameters: Option<Slot<Object>>,
    context: Option<Slot<Object>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ExecFile {
    program: Slot<String>,
    args: Option<Slot<Vec<String>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ShellFile {
    command: Line,
    shell: Option<Slot<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct AwsCliFile {
    service: Slot<String>,
    operation: Slot<String>,
    args: Option<Slot<Vec<String>>>,
    profile: Option<Slot<String>>,
    region: Option<Slot<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct TaskFile {
    problem_id: Slot<String>,
    parameters: Option<Slot<Object>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct TargetFile {
    target: Slot<String>,
    inputs: Option<Slot<Object>>,
    config: Option<Slot<Object>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PlanFile {
    description: Option<Slot<String>>,
    strategy: Option<StrategyFile>,
    steps: Steps,
}

/// The strategy that the file names. Where it names none, a step that waits for another makes it a graph.
pub(super) fn strategy(written: Option<StrategyFile>, steps: &Steps) -> Strategy {
    match written {
        Some(StrategyFile::Serial(serial)) => Strategy::Serial {
            stop_on_error: serial.stop_on_error.unwrap_or(true),
        },
        Some(StrategyFile::Parallel(parallel)) => Strategy::Parallel {
            max_concurrency: parallel.max_concurrency.map(|most| most.0),
        },
        Some(StrategyFile::DependencyGraph(graph)) => Strategy::DependencyGraph {
            continue_on_error: graph.continue_on_error.unwrap_or(true),
        },
        None if steps.value.iter().any(|step| step.value.depends_on.is_some()) => Strategy::DependencyGraph {
            continue_on_error: true,
        },
        None => Strategy::Serial { stop_on_error: true },
    }
}

/// Whether the steps of a plan, and of the plans within it, can wait for each other as they say.
pub(super) fn check(written: Option<StrategyFile>, steps: &Steps) -> Result<(), Problem> {
    if steps.value.is_empty() {
        return Err(Problem::at(
            steps.referenced.line(),
            "there must be one step at least",
        ));
    }
    let files = || steps.value.iter().map(|step| &step.value);
    let keys: Vec<String> = files()
        .enumerate()
        .map(|(index, step)| {
            step.key
                .as_ref()
                .map_or_else(|| index.to_string(), |key| key.0.clone())
        })
        .collect();
    let awaited: Vec<Vec<String>> = files()
        .map(|step| {
            step.depends_on
                .iter()
                .flatten()
                .map(|key| key.0.clone())
                .collect()
        })
        .collect();
    let names: Vec<StepName<'_>> = keys
        .iter()
        .zip(&awaited)
        .map(|(key, depends_on)| StepName { key, depends_on })
        .collect();
    if let Err(faults) = links(&strategy(written, steps), &names)
        && let Some(fault) = faults.first()
    {
        let (PlanFault::DoubledKey { index, .. }
        | PlanFault::UnknownKey { index, .. }
        | PlanFault::NoGraph { index }
        | PlanFault::Cycle { index, .. }) = fault;
        let line = steps.value.get(*index).map_or(0, |step| step.referenced.line());
        return Err(Problem::at(line, fault.to_string()));
    }
    for step in files() {
        if let CommandFile::Plan(plan) = &step.run.command {
            check(plan.strategy, &plan.steps)?;
        }
    }
    Ok(())
}

/// The steps with their slots gone through.
pub(super) fn take_steps(steps: &Steps, filler: &mut Filler<'_>) -> Vec<Step> {
    let take = |(index, step): (usize, &Spanned<StepFile>)| {
        let step = &step.value;
        let run = filler.below(&["steps", &index.to_string(), "run"], |filler| {
            step.run.take(filler)
        });
        Step {
            key: step.key.as_ref().map(|key| key.0.clone()),
            depends_on: step
                .depends_on
                .iter()
                .flatten()
                .map(|key| key.0.clone())
                .collect(),
            run,
        }
    };
    steps.value.iter().enumerate().map(take).collect()
}

impl RunFile {
    fn take(&self, filler: &mut Filler<'_>) -> Run {
        let mut steps = Vec::new();
        let command = self.command.take(filler, &mut steps);
        let variable = |(index, EnvFile(variable)): (usize, &EnvFile), filler: &mut Filler<'_>| {
            filler.below(&["env", &index.to_string()], |filler| EnvVar {
                name: variable.name.0.clone(),
                value: match &variable.secret {
                    Some(secret) => EnvValue::Secret(secret.0.clone()),
                    None => {
                        EnvValue::Value(filler.maybe("value", variable.value.as_ref()).unwrap_or_default())
                    }
                },
            })
        };
        Run {
            command,
            queue: filler.maybe("queue", self.queue.as_ref()),
            priority: filler.maybe("priority", self.priority.as_ref()),
            timeout: filler.maybe("timeoutMs", self.timeout_ms.as_ref()),
            max_attempts: filler.maybe("maxAttempts", self.max_attempts.as_ref()),
            backoff: filler.maybe("backoffMs", self.backoff_ms.as_ref()),
            env: self
                .env
                .iter()
                .enumerate()
                .map(|one| variable(one, filler))
                .collect(),
            working_dir: filler.maybe("workingDir", self.working_dir.as_ref()),
            metadata: self
                .metadata
                .as_ref()
                .map(|metadata| filler.below(&["metadata"], |filler| metadata.take(filler)))
                .unwrap_or_default(),
            steps,
        }
    }
}

impl MetadataFile {
    fn take(&self, filler: &mut Filler<'_>) -> Metadata {
        let tag = |(index, tag): (usize, &TagFile), filler: &mut Filler<'_>| {
            filler.below(&["tags", &index.to_string()], |filler| Tag {
                key: filler.take("key", &tag.key),
                value: filler.take("value", &tag.value),
            })
        };
        Metadata {
            source: filler.maybe("source", self.source.as_ref()),
            conversation_id: filler.maybe("conversationId", self.conversation_id.as_ref()),
            tags: self.tags.iter().enumerate().map(|one| tag(one, filler)).collect(),
        }
    }
}

impl CommandFile {
    const fn name(&self) -> &'static str {
        match self {
            Self::Script(_) => "script",
            Self::Exec(_) => "exec",
            Self::Shell(_) => "shell",
            Self::AwsCli(_) => "awsCli",
            Self::Task(_) => "task",
            Self::Agent(_) => "agent",
            Self::Pipeline(_) => "pipeline",
            Self::Plan(_) => "plan",
        }
    }

    fn take(&self, filler: &mut Filler<'_>, steps: &mut Vec<Step>) -> Command {
        filler.below(&["command", self.name()], |filler| {
            self.take_fields(filler, steps)
        })
    }

    fn take_fields(&self, filler: &mut Filler<'_>, steps: &mut Vec<Step>) -> Command {
        match self {
            Self::Script(script) => Command::Script(domain::Script {
                script: filler.take("name", &script.name),
                interpreter: filler.maybe("interpreter", script.interpreter.as_ref()),
                args: filler.maybe("args", script.args.as_ref()).unwrap_or_default(),
                parameters: filler
                    .maybe("parameters", script.parameters.as_ref())
                    .unwrap_or_default(),
                context: filler
                    .maybe("context", script.context.as_ref())
                    .unwrap_or_default(),
            }),
            Self::Exec(exec) => Command::Exec(domain::Exec {
                program: filler.take("program", &exec.program),
                args: filler.maybe("args", exec.args.as_ref()).unwrap_or_default(),
            }),
            Self::Shell(shell) => Command::Shell(domain::Shell {
                command: shell.command.0.clone(),
                shell: filler
                    .maybe("shell", shell.shell.as_ref())
                    .unwrap_or_else(|| "bash".to_owned()),
            }),
            Self::AwsCli(aws) => Command::AwsCli(domain::AwsCli {
                service: filler.take("service", &aws.service),
                operation: filler.take("operation", &aws.operation),
                args: filler.maybe("args", aws.args.as_ref()).unwrap_or_default(),
                profile: filler.maybe("profile", aws.profile.as_ref()),
                region: filler.maybe("region", aws.region.as_ref()),
            }),
            Self::Task(task) => Command::Task(domain::Task {
                problem_id: filler.take("problemId", &task.problem_id),
                parameters: filler
                    .maybe("parameters", task.parameters.as_ref())
                    .unwrap_or_default(),
            }),
            Self::Agent(target) => Command::Agent(target.take(filler)),
            Self::Pipeline(target) => Command::Pipeline(target.take(filler)),
            Self::Plan(plan) => {
                steps.extend(take_steps(&plan.steps, filler));
                Command::Plan(domain::Plan {
                    description: filler
                        .maybe("description", plan.description.as_ref())
                        .unwrap_or_default(),
                    strategy: strategy(plan.strategy, &plan.steps),
                })
            }
        }
    }
}

impl TargetFile {
    fn take(&self, filler: &mut Filler<'_>) -> domain::Target {
        domain::Target {
            target: filler.take("target", &self.target),
            inputs: filler.maybe("inputs", self.inputs.as_ref()).unwrap_or_default(),
            config: filler.maybe("config", self.config.as_ref()).unwrap_or_default(),
        }
    }
}
