//! One job from its claim to its result: folders, variables, the program, and what it printed.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::api::{JobResult, Task, TaskCommand};
use super::held::Place;
use super::reporter::Reporter;
use crate::domain::{JobStatus, LogLevel};
use crate::process::{Controls, OUTPUT_BOUND, Outcome, Slot, Spec, controls};
use crate::program::{Runner, Variables, Workspace, drain, ending, remarks};
use crate::telemetry::{chain, millis};

/// A job that was taken, with the room for it.
#[derive(Debug)]
pub(super) struct Claimed {
    pub(super) task: Task,
    pub(super) room: OwnedSemaphorePermit,
    /// From when the server's lease counts.
    pub(super) since: Instant,
}

/// Runs a job to its end and reports on it. Does nothing where it was begun before.
pub(super) async fn run(shared: Arc<Shared>, claimed: Claimed) {
    let Claimed { task, room, since } = claimed;
    let (stop, controls) = controls();
    let lost = CancellationToken::new();
    let Some(place) = shared
        .held
        .enter(task.id, task.attempt, stop, lost.clone(), since)
    else {
        return;
    };
    let name = task.name.as_str();
    tracing::info!(job.id = %task.id, job.name = name, job.attempt = task.attempt, "started");
    let started = Instant::now();
    let mut reporter = Reporter::new(Arc::clone(&shared), &task, lost.clone());
    let result = process(&shared, &task, controls, &mut reporter, &place).await;
    let duration_ms = millis(started.elapsed());
    if lost.is_cancelled() {
        tracing::warn!(job.id = %task.id, job.attempt = task.attempt, duration_ms, "stopped: it is no longer this worker's");
    } else {
        let (success, exit_code) = (result.success, result.exit_code);
        if reporter.finish(result).await {
            tracing::info!(job.id = %task.id, success, exit_code, duration_ms, "ended");
        } else {
            tracing::warn!(job.id = %task.id, success, exit_code, duration_ms, "ended, and the server could not be told");
        }
    }
    drop((place, room));
}

async fn process(
    shared: &Shared,
    task: &Task,
    controls: Controls,
    reporter: &mut Reporter,
    _held: &Place,
) -> JobResult {
    let made = {
        let (root, job, attempt) = (shared.work_dir.clone(), task.id, task.attempt);
        let owner = shared.sandbox.run_as.clone();
        tokio::task::spawn_blocking(move || Workspace::make(&root, job, attempt, None, owner.as_ref(), None))
            .await
    };
    let workspace = match made {
        Ok(Ok(workspace)) => workspace,
        Ok(Err(error)) => {
            return JobResult::failed(format!("the worker could not make a working directory: {error}"));
        }
        Err(error) => {
            tracing::error!(job.id = %task.id, error = %chain(&error), "a job could not be prepared");
            return JobResult::failed("the worker failed to prepare the job");
        }
    };
    let result = match spec(shared, task, &workspace) {
        Some(spec) => supervise(shared, task, spec, controls, reporter).await,
        None => JobResult::failed("this worker runs tasks and agents, and the job is neither"),
    };
    let success = result.success;
    let read = tokio::task::spawn_blocking(move || {
        let output = if success {
            workspace.read_output()
        } else {
            Ok(None)
        };
        workspace.remove();
        output
    });
    match read.await {
        Ok(Ok(output)) => JobResult { output, ..result },
        Ok(Err(message)) => {
            reporter.say(LogLevel::Error, &message);
            result
        }
        Err(error) => {
            tracing::error!(job.id = %task.id, error = %chain(&error), "an output could not be read");
            result
        }
    }
}

/// Runs the program to its end, and tells how that was.
async fn supervise(
    shared: &Shared,
    task: &Task,
    spec: Spec,
    controls: Controls,
    reporter: &mut Reporter,
) -> JobResult {
    let mut slot = match shared.slot().await {
        Ok(slot) => slot,
        Err(error) => {
            tracing::error!(error = %chain(&error), "no spawner could be started");
            return JobResult::failed(format!("the worker could not start a process: {error}"));
        }
    };
    let timeout = spec.timeout.unwrap_or(Duration::MAX);
    let (output, mut printed) = mpsc::channel(OUTPUT_BOUND);
    let (outcome, ()) = tokio::join!(slot.run(spec, controls, output), drain(reporter, &mut printed));
    shared.give_back(slot);
    if let Outcome::Ended(ended) = &outcome {
        for (level, text) in remarks(ended) {
            reporter.say(level, &text);
        }
        if ended.unkillable > 0 {
            tracing::error!(job.id = %task.id, processes = ended.unkillable, "processes of a job cannot be killed");
        }
    }
    match ending(&outcome, timeout, Runner::Worker) {
        Some(ending) => JobResult {
            success: ending.status == JobStatus::Completed,
            exit_code: ending.end.exit_code,
            output: None,
            error: ending.fault.map(|fault| fault.message),
        },
        None => JobResult::failed("the worker was shut down before the job started"),
    }
}

/// The command with the job: on standard input, and in variables. None where it is no job for a worker.
fn spec(shared: &Shared, task: &Task, workspace: &Workspace) -> Option<Spec> {
    let mut env = Variables::new(&shared.programs);
    for (name, value) in &shared.passed_on {
        env.set(name, value);
    }
    let document = match &task.command {
        TaskCommand::Task {
            problem_id,
            parameters,
        } => {
            for (name, value) in crate::script::parameter_variables(parameters) {
                env.set(name, value);
            }
            env.set("RUNQL_PROBLEM_ID", problem_id);
            env.set("RUNQL_PARAMETERS", text(parameters));
            json!({
                "jobId": task.id, "attempt": task.attempt, "kind": "TASK", "timeoutMs": task.timeout_ms,
                "problemId": problem_id, "parameters": parameters,
            })
        }
        TaskCommand::Agent {
            target,
            inputs,
            config,
        } => {
            env.set("RUNQL_TARGET", target);
            env.set("RUNQL_INPUTS", text(inputs));
            env.set("RUNQL_CONFIG", text(config));
            json!({
                "jobId": task.id, "attempt": task.attempt, "kind": "AGENT", "timeoutMs": task.timeout_ms,
                "target": target, "inputs": inputs, "config": config,
            })
        }
        TaskCommand::Other => return None,
    };
    let mut spec = Spec::new(&shared.program, &workspace.current_dir);
    spec.writable = workspace.writable();
    spec.args.clone_from(&shared.args);
    spec.env = env.of_job(task.id, task.attempt, workspace);
    spec.stdin = Some(document.to_string().into_bytes());
    spec.timeout = Some(Duration::from_millis(task.timeout_ms));
    spec.timeout_grace = shared.cancel_grace;
    spec.marker = Some(format!("RUNQL_JOB_ID={}", task.id).into());
    Some(spec)
}

fn text(object: &serde_json::Map<String, Value>) -> String {
    serde_json::to_string(object).unwrap_or_default()
}

impl Shared {
    /// A spawner that lives: one that is free, or a new one.
    async fn slot(&self) -> std::io::Result<Slot> {
        loop {
            let free = self.slots().pop();
            match free {
                Some(slot) if slot.is_alive() => return Ok(slot),
                Some(_) => {}
                None => return Slot::start(Path::new(&self.spawner), &self.sandbox).await,
            }
        }
    }

    fn give_back(&self, slot: Slot) {
        self.slots().push(slot);
    }
}

/// The file of the command's program: a name in PATH, or a path from where the worker was started.
pub(super) fn program(shared: &crate::program::Programs, command: &OsString) -> Result<OsString, String> {
    let Some(name) = command.to_str() else {
        return Err("the command's name is not UTF-8".to_owned());
    };
    let path = Path::new(name);
    if name.contains('/') && !path.is_absolute() {
        let absolute = std::path::absolute(path).map_err(|error| format!("`{name}`: {error}"))?;
        return shared.find(&absolute.to_string_lossy()).map(Into::into);
    }
    shared.find(name).map(Into::into)
}
