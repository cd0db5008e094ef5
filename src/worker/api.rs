//! What a worker says to the server, and what it gets back.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::client::{CallError, Client};
use super::operations;
use crate::domain::{JobId, Pattern, WorkerId};
use crate::telemetry::millis;

/// How long the answer to a request that waits for nothing may take.
pub(super) const ANSWER: Duration = Duration::from_secs(30);

/// A job that this worker has taken.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Task {
    pub(super) id: JobId,
    pub(super) attempt: u32,
    pub(super) name: String,
    pub(super) timeout_ms: u64,
    pub(super) command: TaskCommand,
    logs: Lines,
}

/// What there is to do.
#[derive(Debug, Deserialize)]
#[serde(tag = "__typename")]
pub(super) enum TaskCommand {
    #[serde(rename = "TaskCommand", rename_all = "camelCase")]
    Task {
        problem_id: String,
        parameters: Map<String, Value>,
    },
    #[serde(rename = "AgentCommand")]
    Agent {
        target: String,
        inputs: Map<String, Value>,
        config: Map<String, Value>,
    },
    /// What this version knows nothing of.
    #[serde(other)]
    Other,
}

impl Task {
    /// How many lines its log had when it was taken.
    pub(super) fn log_lines(&self) -> i64 {
        self.logs.last().map_or(0, |line| line.number)
    }
}

/// The end of a log.
#[derive(Debug, Deserialize)]
struct Lines {
    nodes: Vec<LastLine>,
}

impl Lines {
    fn last(&self) -> Option<&LastLine> {
        self.nodes.last()
    }
}

/// The last line of a log, as readers get it.
#[derive(Debug, Deserialize)]
pub(super) struct LastLine {
    pub(super) number: i64,
    #[serde(default)]
    pub(super) message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Registered {
    worker: WithId,
    lease_ms: u64,
}

#[derive(Deserialize)]
struct WithId {
    id: WorkerId,
}

/// Names of the workers that the server knows.
pub(super) async fn known_names(client: &Client) -> Result<Vec<String>, CallError> {
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    let workers: Vec<Named> = client.call(operations::KNOWN_NAMES, &json!({}), ANSWER).await?;
    Ok(workers.into_iter().map(|worker| worker.name).collect())
}

/// Makes the worker known; by a name that is known already it is the same worker again. Gives its id, and how long it
/// holds a job after each sign of life.
pub(super) async fn register(
    client: &Client,
    name: &str,
    kind: &str,
    parallel: u32,
    supports: &[Pattern],
) -> Result<(WorkerId, Duration), CallError> {
    let input = json!({
        "name": name,
        "backendType": kind,
        "capabilities": { "maxParallelTasks": parallel, "supportedProblems": supports.iter().map(Pattern::as_str).collect::<Vec<_>>() },
    });
    let answer: Registered = client
        .call(operations::REGISTER, &json!({ "input": input }), ANSWER)
        .await?;
    Ok((answer.worker.id, Duration::from_millis(answer.lease_ms)))
}

/// The answer to a heartbeat.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Signed {
    /// Jobs that were named and are to be stopped; their leases were not renewed.
    #[serde(rename = "stopJobIds")]
    pub(super) stop: Vec<JobId>,
    pub(super) lease_ms: u64,
}

/// Tells that these jobs still run, and gives those to be stopped: at once where there are any, else after `wait`.
pub(super) async fn heartbeat(
    client: &Client,
    worker: WorkerId,
    jobs: &[JobId],
    wait: Duration,
    timeout: Duration,
) -> Result<Signed, CallError> {
    let input = json!({ "workerId": worker, "jobIds": jobs, "waitMs": millis(wait) });
    client
        .call(operations::HEARTBEAT, &json!({ "input": input }), timeout)
        .await
}

/// Tells the server that this worker goes.
pub(super) async fn sign_off(client: &Client, worker: WorkerId, timeout: Duration) -> Result<(), CallError> {
    let input = json!({ "workerId": worker, "status": "OFFLINE" });
    let _: Registered = client
        .call(operations::SIGN_OFF, &json!({ "input": input }), timeout)
        .await?;
    Ok(())
}

/// Takes jobs, waiting for the first of them.
pub(super) async fn claim(
    client: &Client,
    worker: WorkerId,
    max: usize,
    wait: Duration,
) -> Result<Vec<Task>, CallError> {
    #[derive(Deserialize)]
    struct Answer {
        jobs: Vec<Task>,
    }
    let input = json!({ "workerId": worker, "max": max, "waitMs": millis(wait) });
    let answer: Answer = client
        .call(operations::CLAIM, &json!({ "input": input }), wait + ANSWER)
        .await?;
    Ok(answer.jobs)
}

/// The jobs that the server takes this worker to run.
pub(super) async fn current_jobs(client: &Client, worker: WorkerId) -> Result<Vec<Task>, CallError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        current_jobs: Vec<Task>,
    }
    #[derive(Deserialize)]
    struct Beat {
        worker: Option<Answer>,
    }
    let input = json!({ "workerId": worker });
    let beat: Beat = client
        .call(operations::CURRENT_JOBS, &json!({ "input": input }), ANSWER)
        .await?;
    Ok(beat.worker.map_or_else(Vec::new, |answer| answer.current_jobs))
}

/// The last line of an attempt's log that a program printed. Refused where the job is not the worker's any more.
pub(super) async fn last_line(
    client: &Client,
    worker: WorkerId,
    job: JobId,
    attempt: u32,
) -> Result<Option<LastLine>, CallError> {
    #[derive(Deserialize)]
    struct Answer {
        job: Option<Logs>,
    }
    #[derive(Deserialize)]
    struct Logs {
        logs: Lines,
    }
    let input = json!({ "workerId": worker, "jobId": job, "attempt": attempt });
    let variables = json!({ "input": input, "attempt": attempt });
    let answer: Answer = client.call(operations::LAST_LINE, &variables, ANSWER).await?;
    Ok(answer.job.and_then(|mut job| job.logs.nodes.pop()))
}

/// What is told of a job in one request.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report<'a> {
    pub(super) worker_id: WorkerId,
    pub(super) job_id: JobId,
    pub(super) attempt: u32,
    pub(super) logs: &'a [Box<RawValue>],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) progress: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) result: Option<&'a JobResult>,
}

/// How a job ended.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JobResult {
    pub(super) success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) output: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

impl JobResult {
    /// A failure without a process's end.
    pub(super) fn failed(error: impl Into<String>) -> Self {
        Self {
            success: false,
            exit_code: None,
            output: None,
            error: Some(error.into()),
        }
    }
}

/// Reports on a job, and gives the moment from which the server's lease on it counts anew.
pub(super) async fn report(client: &Client, report: &Report<'_>) -> Result<Instant, CallError> {
    #[derive(Deserialize)]
    struct Answer {}
    #[derive(Serialize)]
    struct Variables<'a> {
        input: &'a Report<'a>,
    }
    let before = Instant::now();
    let Answer {} = client
        .call(operations::REPORT, &Variables { input: report }, ANSWER)
        .await?;
    Ok(before)
}
