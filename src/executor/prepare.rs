//! From a job to a program with its arguments, environment, input and folders. Blocking: it looks at files.

use std::ffi::OsString;

use serde_json::{Map, Value, json};

use super::Context;
use crate::domain::{Command, EnvValue, Fault, FaultCode, Job};
use crate::process::Spec;
use crate::program::{Spare, Variables, Workspace};

/// All that one attempt needs to start.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) spec: Spec,
    pub(super) workspace: Workspace,
    /// What must not be seen of it.
    pub(super) secrets: Vec<String>,
}

/// Readies an attempt, in spare folders where there are some.
///
/// # Errors
///
/// The fault with which the attempt ends: something is no longer as it was when the job was stored.
pub(super) fn prepare(context: &Context, job: &Job, spare: Option<Spare>) -> Result<Prepared, Fault> {
    let spawn_failed = |message: String| Fault::new(FaultCode::SpawnFailed, message);
    let workspace = Workspace::make(
        &context.options.work_dir,
        job.id,
        job.attempt,
        job.working_dir.as_deref(),
        context.options.sandbox.run_as.as_ref(),
        spare,
    )
    .map_err(|error| spawn_failed(format!("the working directory cannot be made: {error}")))?;
    match spec(context, job, &workspace) {
        Ok((spec, secrets)) => Ok(Prepared {
            spec,
            workspace,
            secrets,
        }),
        Err(message) => {
            workspace.remove();
            Err(spawn_failed(message))
        }
    }
}

/// The program, and the secrets that it is given.
fn spec(context: &Context, job: &Job, workspace: &Workspace) -> Result<(Spec, Vec<String>), String> {
    let (program, args): (OsString, Vec<OsString>) = match &job.command {
        Command::Script(script) => {
            let found = context
                .catalog
                .find(&script.script)
                .map_err(|error| error.to_string())?;
            let line = found
                .command_line(script.interpreter.as_deref(), &script.args)
                .map_err(|error| error.to_string())?;
            (line.program.into(), line.args)
        }
        Command::Exec(exec) => (
            context.programs.find(&exec.program)?.into(),
            exec.args.iter().map(OsString::from).collect(),
        ),
        Command::Shell(shell) => (
            context.programs.find(&shell.shell)?.into(),
            vec!["-c".into(), shell.command.clone().into()],
        ),
        Command::AwsCli(aws) => {
            let mut args: Vec<OsString> = vec![aws.service.clone().into(), aws.operation.clone().into()];
            args.extend(aws.args.iter().map(OsString::from));
            for (flag, value) in [("--profile", &aws.profile), ("--region", &aws.region)] {
                if let Some(value) = value {
                    args.extend([OsString::from(flag), value.into()]);
                }
            }
            (context.programs.find("aws")?.into(), args)
        }
        Command::Agent(agent) => {
            let (program, args) = context.options.agent(&agent.target).ok_or_else(|| {
                format!(
                    "no command is configured any more for agents such as `{}`",
                    agent.target
                )
            })?;
            (
                context.programs.find(program)?.into(),
                args.iter().map(OsString::from).collect(),
            )
        }
        Command::Task(_) | Command::Pipeline(_) | Command::Plan(_) => {
            return Err("this server does not run jobs of this kind itself".to_owned());
        }
    };
    let mut spec = Spec::new(program, &workspace.current_dir);
    spec.args = args;
    spec.writable = workspace.writable();
    let mut secrets = Vec::new();
    spec.env = environment(context, job, workspace, &mut secrets)?;
    spec.stdin = Some(document(job).to_string().into_bytes());
    spec.timeout = Some(job.timeout);
    spec.timeout_grace = context.options.cancel_grace;
    spec.marker = Some(format!("RUNQL_JOB_ID={}", job.id).into());
    Ok((spec, secrets))
}

/// What the process reads on standard input.
fn document(job: &Job) -> Value {
    let mut document = json!({ "jobId": job.id });
    if let Value::Object(members) = &mut document {
        members.extend(handed_over(job).map(|(name, value)| (name.to_owned(), value)));
    }
    document
}

/// What a process is told about its job, by name: on standard input as it is, in variables as text.
fn handed_over(job: &Job) -> impl Iterator<Item = (&'static str, Value)> {
    let object = |members: &Map<String, Value>| Value::Object(members.clone());
    let told = match &job.command {
        Command::Script(script) => vec![
            ("parameters", object(&script.parameters)),
            ("context", object(&script.context)),
        ],
        Command::Agent(agent) => vec![
            ("target", Value::String(agent.target.clone())),
            ("inputs", object(&agent.inputs)),
            ("config", object(&agent.config)),
        ],
        _ => vec![("parameters", json!({})), ("context", json!({}))],
    };
    told.into_iter()
}

/// The whole environment: the server's allow-list, then what the job asks for, then what the server says.
fn environment(
    context: &Context,
    job: &Job,
    workspace: &Workspace,
    secrets: &mut Vec<String>,
) -> Result<Vec<(OsString, OsString)>, String> {
    let mut env = Variables::new(&context.programs);
    if matches!(job.command, Command::AwsCli(_)) {
        for (name, value) in context.programs.aws() {
            env.set(name, value);
        }
        // The command line would open a pager and wait for a key.
        env.set("AWS_PAGER", "");
    }
    for variable in &job.env {
        match &variable.value {
            EnvValue::Value(text) => env.set(&variable.name, text),
            EnvValue::Secret(name) => {
                let text = context.options.secrets.read(name)?;
                env.set(&variable.name, &text);
                secrets.push(text);
            }
        }
    }
    if let Command::Script(script) = &job.command {
        for (name, value) in crate::script::parameter_variables(&script.parameters) {
            env.set(name, value);
        }
    }
    for (name, value) in handed_over(job) {
        let text = match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        env.set(format!("RUNQL_{}", name.to_ascii_uppercase()), text);
    }
    Ok(env.of_job(job.id, job.attempt, workspace))
}
