//! The inputs of the mutations on workers.

use async_graphql::{ID, InputObject};

use super::{job_id, millis, worker_id};
use crate::executor::{
    Refusal, RefusalCode, TaskClaim, TaskLine, TaskProgress, TaskReport, WorkerHeartbeat, WorkerRegistration,
};
use crate::graphql::scalar::{DateTime, Json, SafeInt};
use crate::graphql::words::{LogLevel, LogStream, WorkerStatus};
use crate::store::ReportedResult;

/// How many workers this server is to run itself.
#[derive(Debug, Clone, InputObject)]
pub(in crate::graphql) struct ScaleWorkersInput {
    /// Jobs that run at once. Workers beyond it end when their job has ended.
    size: i32,
}

impl ScaleWorkersInput {
    pub(in crate::graphql) fn size(&self) -> Result<usize, Refusal> {
        usize::try_from(self.size).map_err(|_| {
            let message = format!("{} workers cannot be: give 0 or more", self.size);
            Refusal::new(RefusalCode::Invalid, &["size"], message)
        })
    }
}

/// How to stop the worker pool.
#[derive(Debug, Clone, Default, InputObject)]
pub(in crate::graphql) struct StopWorkersInput {
    /// Whether jobs under way are cancelled, or run on to their end.
    #[graphql(default_with = "Some(false)")]
    cancel_running: Option<bool>,
}

impl StopWorkersInput {
    pub(in crate::graphql) fn cancels_running(&self) -> bool {
        self.cancel_running.unwrap_or(false)
    }
}

/// A worker that joins.
#[derive(Debug, Clone, InputObject)]
pub(in crate::graphql) struct RegisterWorkerInput {
    /// What it is known by: `worker-`, a number of three digits or more, and its kind, as in `worker-001-gpu`. Who
    /// registers under a name that is known is the same worker, started anew.
    name: String,
    /// The kind of machine or service that it runs on.
    backend_type: String,
    /// What it can take; where left out, one task of any kind at a time.
    capabilities: Option<WorkerCapabilitiesInput>,
}

impl From<RegisterWorkerInput> for WorkerRegistration {
    fn from(input: RegisterWorkerInput) -> Self {
        let (most, supported) = input.capabilities.map_or((None, None), |capabilities| {
            (capabilities.max_parallel_tasks, capabilities.supported_problems)
        });
        Self {
            name: input.name,
            backend_type: input.backend_type,
            max_parallel_tasks: most.unwrap_or(1),
            supported_problems: supported.unwrap_or_else(|| vec!["*".to_owned()]),
        }
    }
}

/// What a worker that joins can take.
#[derive(Debug, Clone, InputObject)]
pub(in crate::graphql) struct WorkerCapabilitiesInput {
    /// The most that it runs at once, 1 to 1000.
    #[graphql(default_with = "Some(1)")]
    max_parallel_tasks: Option<i32>,
    /// Which problem ids and targets it takes, as 1 to 100 patterns in which * stands for any characters.
    #[graphql(default_with = "Some(vec![\"*\".to_owned()])")]
    supported_problems: Option<Vec<String>>,
}

/// A worker's sign of life.
#[derive(Debug, Clone, InputObject)]
pub(in crate::graphql) struct HeartbeatInput {
    /// The worker.
    worker_id: ID,
    /// OFFLINE signs it off until it is heard of again; IDLE and BUSY are what its jobs say, given or not.
    status: Option<WorkerStatus>,
    /// The jobs that it still runs, whose leases are to be extended.
    #[graphql(default_with = "Some(Vec::new())")]
    job_ids: Option<Vec<ID>>,
    /// How long the answer may take, 0 to 60000: it comes as soon as one of the jobs is to be stopped, and never later
    /// than after a third of `leaseMs`. The leases are extended at the beginning.
    #[graphql(default_with = "Some(SafeInt(0))")]
    wait_ms: Option<SafeInt>,
}

impl HeartbeatInput {
    pub(in crate::graphql) fn into_sign(self) -> Result<WorkerHeartbeat, Refusal> {
        let mut jobs = Vec::new();
        for (index, id) in self.job_ids.into_iter().flatten().enumerate() {
            jobs.push(job_id(&id, &["jobIds", &index.to_string()])?);
        }
        Ok(WorkerHeartbeat {
            worker: worker_id(&self.worker_id)?,
            status: self.status.map(Into::into),
            jobs,
            wait: millis(self.wait_ms.unwrap_or(SafeInt(0)), &["waitMs"])?,
        })
    }
}

/// A worker that asks for jobs.
#[derive(Debug, Clone, InputObject)]
pub(in crate::graphql) struct ClaimInput {
    /// The worker.
    worker_id: ID,
    /// The most that it takes.
    #[graphql(default_with = "Some(1)")]
    max: Option<i32>,
    /// How long the answer may take while there is no job, 0 to 60000: it comes as soon as there is one.
    #[graphql(default_with = "Some(SafeInt(0))")]
    wait_ms: Option<SafeInt>,
}

impl ClaimInput {
    pub(in crate::graphql) fn into_claim(self) -> Result<TaskClaim, Refusal> {
        Ok(TaskClaim {
            worker: worker_id(&self.worker_id)?,
            max: self.max.unwrap_or(1),
            wait: millis(self.wait_ms.unwrap_or(SafeInt(0)), &["waitMs"])?,
        })
    }
}

/// What a worker tells of a job.
#[derive(Debug, Clone, InputObject)]
pub(in crate::graphql) struct ReportInput {
    /// The worker.
    worker_id: ID,
    /// The job that it claimed.
    job_id: ID,
    /// The attempt that it claimed. A report on an attempt that is over is refused.
    attempt: i32,
    /// Lines for the job's log, in order.
    #[graphql(default_with = "Some(Vec::new())")]
    logs: Option<Vec<LogLineInput>>,
    /// How far it is.
    progress: Option<ProgressInput>,
    /// How the job ended, where it has.
    result: Option<ResultInput>,
}

impl ReportInput {
    pub(in crate::graphql) fn into_report(self) -> Result<TaskReport, Refusal> {
        Ok(TaskReport {
            worker: worker_id(&self.worker_id)?,
            job: job_id(&self.job_id, &["jobId"])?,
            attempt: self.attempt,
            lines: self.logs.into_iter().flatten().map(Into::into).collect(),
            progress: self.progress.map(Into::into),
            result: self.result.map(Into::into),
        })
    }
}

/// A line for a job's log.
#[derive(Debug, Clone, InputObject)]
pub(in crate::graphql) struct LogLineInput {
    /// When it was printed; where left out, now. A moment before the attempt or in the future becomes the nearest that
    /// can be.
    timestamp: Option<DateTime>,
    /// Where it came from: STDOUT or STDERR.
    #[graphql(default_with = "Some(LogStream::Stdout)")]
    stream: Option<LogStream>,
    /// How grave it is.
    #[graphql(default_with = "Some(LogLevel::Info)")]
    level: Option<LogLevel>,
    /// Its text, without the line's end. One with line feeds is several lines.
    message: String,
    /// The other fields of a structured line, as an object.
    context: Option<Json>,
}

impl From<LogLineInput> for TaskLine {
    fn from(line: LogLineInput) -> Self {
        Self {
            at: line.timestamp.map(|moment| moment.0),
            stream: line.stream.unwrap_or(LogStream::Stdout).into(),
            level: line.level.unwrap_or(LogLevel::Info).into(),
            message: line.message,
            context: line.context.map(|context| context.0),
        }
    }
}

/// How far a job is.
#[derive(Debug, Clone, InputObject)]
pub(in crate::graphql) struct ProgressInput {
    /// Steps done.
    current: i32,
    /// Steps in all, where that is known.
    total: Option<i32>,
    /// The name of the step under way.
    step: Option<String>,
}

impl From<ProgressInput> for TaskProgress {
    fn from(progress: ProgressInput) -> Self {
        Self {
            current: progress.current,
            total: progress.total,
            step: progress.step,
        }
    }
}

/// How a job ended.
#[derive(Debug, Clone, InputObject)]
pub(in crate::graphql) struct ResultInput {
    /// True for COMPLETED, false for FAILED.
    success: bool,
    /// The exit code, where there was a process.
    exit_code: Option<i32>,
    /// What the job hands back; kept where it completed.
    output: Option<Json>,
    /// What went wrong, for people; only where it failed.
    error: Option<String>,
}

impl From<ResultInput> for ReportedResult {
    fn from(result: ResultInput) -> Self {
        Self {
            success: result.success,
            exit_code: result.exit_code,
            output: result.output.map(|output| output.0),
            error: result.error,
        }
    }
}
