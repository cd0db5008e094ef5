//! The checks of each kind of command.

use std::time::Duration;

use serde_json::{Map, Value};

use super::request::{Refusal, RefusalCode};
use super::validate::{Checker, LONGEST_TEXT, check_args, kind_setting};
use crate::domain::{AwsCli, Command, Exec, Script, Shell};
use crate::program::SHELLS;
use crate::script::{InterpreterError, LookupError};

/// A command that can run.
pub(super) struct CommandCheck {
    /// With the defaults that the script declares filled in.
    pub(super) command: Command,
    /// The timeout that the script declares.
    pub(super) timeout: Option<Duration>,
    /// What a registered worker must support to take it; none is for this server's own workers.
    pub(super) route: Option<String>,
}

type Checked = Result<Result<CommandCheck, Vec<Refusal>>, std::io::Error>;

pub(super) fn check_command(checker: &Checker<'_>, command: Command) -> Checked {
    if let Some(setting) = kind_setting(&command)
        && !checker.allows(command.kind())
    {
        let field = match command {
            Command::Exec(_) => "exec",
            Command::Shell(_) => "shell",
            _ => "awsCli",
        };
        let message =
            format!("this server runs no such commands: start it with --allow {setting} to allow them");
        return Ok(Err(vec![Refusal::new(
            RefusalCode::NotAllowed,
            &["command", field],
            message,
        )]));
    }
    let mut refusals = Vec::new();
    let mut timeout = None;
    let mut route = None;
    let command = match command {
        Command::Script(script) => {
            let (script, declared) = check_script(checker, script, &mut refusals)?;
            timeout = declared;
            Command::Script(script)
        }
        Command::Exec(exec) => {
            check_exec(checker, &exec, &mut refusals);
            Command::Exec(exec)
        }
        Command::Shell(shell) => {
            check_shell(checker, &shell, &mut refusals);
            Command::Shell(shell)
        }
        Command::AwsCli(aws) => {
            check_aws(checker, &aws, &mut refusals);
            Command::AwsCli(aws)
        }
        Command::Task(mut task) => {
            check_id(&task.problem_id, &["command", "task", "problemId"], &mut refusals);
            let steps = task.parameters.entry("max_steps");
            let steps = steps.or_insert_with(|| checker.options.default_max_steps.into());
            if steps.as_u64().is_none_or(|steps| steps == 0) {
                let path = ["command", "task", "parameters", "max_steps"];
                let message = format!("max_steps is a whole number from 1, and {steps} is none");
                refusals.push(Refusal::new(RefusalCode::Invalid, &path, message));
            }
            check_object(
                &task.parameters,
                &["command", "task", "parameters"],
                &mut refusals,
            );
            route = Some(task.problem_id.clone());
            Command::Task(task)
        }
        Command::Agent(agent) => {
            check_id(&agent.target, &["command", "agent", "target"], &mut refusals);
            for (field, object) in [("inputs", &agent.inputs), ("config", &agent.config)] {
                check_object(object, &["command", "agent", field], &mut refusals);
            }
            match checker.options.agent(&agent.target) {
                None => route = Some(agent.target.clone()),
                Some((program, _)) => {
                    if let Err(message) = checker.programs.find(program) {
                        let message = format!(
                            "the command that the settings name for this agent cannot run: {message}"
                        );
                        let path = ["command", "agent", "target"];
                        refusals.push(Refusal::new(RefusalCode::NotFound, &path, message));
                    }
                }
            }
            Command::Agent(agent)
        }
        Command::Pipeline(pipeline) => {
            check_id(
                &pipeline.target,
                &["command", "pipeline", "target"],
                &mut refusals,
            );
            for (field, object) in [("inputs", &pipeline.inputs), ("config", &pipeline.config)] {
                check_object(object, &["command", "pipeline", field], &mut refusals);
            }
            Command::Pipeline(pipeline)
        }
        Command::Plan(plan) => {
            if plan.description.len() > LONGEST_TEXT || plan.description.contains('\0') {
                let message = format!("takes at most {LONGEST_TEXT} bytes, without the NUL character");
                let path = ["command", "plan", "description"];
                refusals.push(Refusal::new(RefusalCode::Invalid, &path, message));
            }
            Command::Plan(plan)
        }
    };
    Ok(if refusals.is_empty() {
        Ok(CommandCheck {
            command,
            timeout,
            route,
        })
    } else {
        Err(refusals)
    })
}

fn check_script(
    checker: &Checker<'_>,
    mut asked: Script,
    refusals: &mut Vec<Refusal>,
) -> Result<(Script, Option<Duration>), std::io::Error> {
    const NAME: &[&str] = &["command", "script", "name"];
    let mut refuse = |path: &[&str], code, message: String| refusals.push(Refusal::new(code, path, message));
    let script = match checker.catalog.find(&asked.script) {
        Ok(script) => script,
        Err(LookupError::Unreadable(error)) => return Err(error),
        Err(error) => {
            let code = match error {
                LookupError::NotFound { .. } => RefusalCode::NotFound,
                LookupError::Outside => RefusalCode::NotAllowed,
                _ => RefusalCode::Invalid,
            };
            refuse(NAME, code, error.to_string());
            return Ok((asked, None));
        }
    };
    if !script.has_valid_header() {
        refuse(
            NAME,
            RefusalCode::Invalid,
            script.problem.clone().unwrap_or_default(),
        );
    }
    match script.command_line(asked.interpreter.as_deref(), &asked.args) {
        Ok(_) => {}
        Err(error @ InterpreterError::Refused { .. }) => {
            refuse(
                &["command", "script", "interpreter"],
                RefusalCode::NotAllowed,
                error.to_string(),
            );
        }
        Err(error) => {
            let at_fault = if asked.interpreter.is_some() {
                "interpreter"
            } else {
                "name"
            };
            refuse(
                &["command", "script", at_fault],
                RefusalCode::Invalid,
                error.to_string(),
            );
        }
    }
    if let Some(parameters) = &script.parameters {
        match parameters.validate(std::mem::take(&mut asked.parameters)) {
            Ok(complete) => asked.parameters = complete,
            Err(faults) => {
                for fault in faults {
                    let mut refusal = Refusal::new(
                        RefusalCode::Invalid,
                        &["command", "script", "parameters"],
                        fault.message,
                    );
                    refusal.path.extend(fault.path);
                    refusals.push(refusal);
                }
            }
        }
    }
    check_args(&asked.args, &["command", "script", "args"], refusals);
    for (field, object) in [("parameters", &asked.parameters), ("context", &asked.context)] {
        check_object(object, &["command", "script", field], refusals);
    }
    Ok((
        Script {
            script: script.name,
            ..asked
        },
        script.timeout,
    ))
}

/// The id of a task, an agent or a pipeline: what patterns are compared with.
fn check_id(id: &str, path: &[&str], refusals: &mut Vec<Refusal>) {
    const LONGEST_ID: usize = 255;
    let fits = (1..=LONGEST_ID).contains(&id.len()) && !id.chars().any(|c| c.is_control() || c == '*');
    if !fits {
        let message = format!("takes 1 to {LONGEST_ID} bytes, without * and control characters");
        refusals.push(Refusal::new(RefusalCode::Invalid, path, message));
    }
}

/// Programs find these objects in a variable each, which the system bounds.
fn check_object(object: &Map<String, Value>, path: &[&str], refusals: &mut Vec<Refusal>) {
    let bytes = serde_json::to_string(object).map_or(0, |text| text.len());
    if bytes > LONGEST_TEXT {
        let message =
            format!("takes at most {LONGEST_TEXT} bytes as JSON, and has {bytes}: hand more over in a file");
        refusals.push(Refusal::new(RefusalCode::LimitExceeded, path, message));
    }
}

fn check_exec(checker: &Checker<'_>, exec: &Exec, refusals: &mut Vec<Refusal>) {
    let allowed = checker.options.programs.as_ref();
    if allowed.is_some_and(|allowed| !allowed.contains(&exec.program)) {
        let message = format!(
            "this server does not run `{}`: the setting allow-programs lists what it runs",
            exec.program
        );
        let path = ["command", "exec", "program"];
        refusals.push(Refusal::new(RefusalCode::NotAllowed, &path, message));
    } else if let Err(message) = checker.programs.find(&exec.program) {
        refusals.push(Refusal::new(
            RefusalCode::NotFound,
            &["command", "exec", "program"],
            message,
        ));
    }
    check_args(&exec.args, &["command", "exec", "args"], refusals);
}

fn check_shell(checker: &Checker<'_>, shell: &Shell, refusals: &mut Vec<Refusal>) {
    let mut refuse = |field: &str, code, message: String| {
        refusals.push(Refusal::new(code, &["command", "shell", field], message));
    };
    if !SHELLS.contains(&shell.shell.as_str()) {
        let message = format!(
            "`{}` is no shell that this server knows: {}",
            shell.shell,
            SHELLS.join(", ")
        );
        refuse("shell", RefusalCode::Invalid, message);
    } else if let Err(message) = checker.programs.find(&shell.shell) {
        refuse("shell", RefusalCode::NotFound, message);
    }
    if shell.command.trim().is_empty() {
        refuse(
            "command",
            RefusalCode::Invalid,
            "a command cannot be empty".to_owned(),
        );
    } else if shell.command.contains('\0') {
        refuse(
            "command",
            RefusalCode::Invalid,
            "a command cannot hold the NUL character".to_owned(),
        );
    } else if shell.command.len() > LONGEST_TEXT {
        let message = format!("a command takes at most {LONGEST_TEXT} bytes: put it into a script");
        refuse("command", RefusalCode::LimitExceeded, message);
    }
}

fn check_aws(checker: &Checker<'_>, aws: &AwsCli, refusals: &mut Vec<Refusal>) {
    let mut refuse = |field: &str, code, message: String| {
        refusals.push(Refusal::new(code, &["command", "awsCli", field], message));
    };
    // What begins with a dash would be read as an option.
    let is_word = |text: &str| {
        !text.is_empty()
            && !text.starts_with('-')
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    for (field, text) in [("service", &aws.service), ("operation", &aws.operation)] {
        if !is_word(text) {
            refuse(
                field,
                RefusalCode::Invalid,
                "takes lower-case words joined by dashes, as in list-buckets".to_owned(),
            );
        }
    }
    for (field, text) in [("profile", &aws.profile), ("region", &aws.region)] {
        if text
            .as_ref()
            .is_some_and(|text| text.is_empty() || text.starts_with('-') || text.contains('\0'))
        {
            refuse(
                field,
                RefusalCode::Invalid,
                "is empty, begins with a dash or holds the NUL character".to_owned(),
            );
        }
    }
    if let Err(message) = checker.programs.find("aws") {
        refusals.push(Refusal::new(
            RefusalCode::NotFound,
            &["command", "awsCli"],
            message,
        ));
    }
    check_args(&aws.args, &["command", "awsCli", "args"], refusals);
}
