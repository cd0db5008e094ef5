//! Workers that are no part of a server: they register, tell that they live, claim jobs and report on them.
//!
//! ```text
//!   register ─▶ id          claim ─▶ jobs, at once or as soon as there are some
//!   heartbeat ─▶ what to stop, at once or as soon as there is something     report ─▶ log, progress, result
//! ```
//!
//! A worker holds a job by a lease, and the attempt's number fences off what comes late: this is the same for a worker
//! of a server and for one elsewhere.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::SemaphorePermit;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Executor;
use super::remote_check as check;
use super::request::{Refusal, RefusalCode};
use super::time::{chance, now};
use crate::domain::{Job, JobId, LogLevel, LogStream, Progress, Timestamp, Worker, WorkerId, WorkerStatus};
use crate::failpoint::failpoint;
use crate::store::{
    ClaimTasks, EndResult, Heartbeat, Operation, RegisterWorker, RemoteFault, Report, ReportedResult,
    StoreError,
};
use crate::telemetry::metrics;

/// The longest that an answer waits for something to tell. Proxies cut off what is silent for longer.
pub const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How often a waiting call looks without a hint: another node's hint may be lost, and nobody hints that a job's time is
/// up.
const LOOK: Duration = Duration::from_secs(1);

/// The least time between two looks for work of one caller, so that a flood of hints costs little. It doubles with each
/// look in vain that a hint asked for, up to the longest, and is the least again after a quiet time.
const FIRST_REST: Duration = Duration::from_millis(4);
const LONGEST_REST: Duration = Duration::from_millis(128);

/// A look in vain is followed by a rest of so many times what it took: where the line is full of what nobody supports,
/// it takes long.
const LOOK_SHARE: u32 = 20;

/// Signs of life within one lease; the server gives them itself for a worker that it hears waiting.
const SIGNS: u32 = 3;

/// A worker that joins.
#[derive(Debug, Clone)]
pub struct WorkerRegistration {
    /// `worker-007-gpu`: a number of three digits or more, then the kind. It is what the worker is known by.
    pub name: String,
    /// The kind of machine or service that it runs on: 1 to 64 bytes.
    pub backend_type: String,
    /// The most that it runs at once: 1 to 1,000.
    pub max_parallel_tasks: i32,
    /// Which problem ids and targets it takes: 1 to 100 patterns in which `*` stands for any characters.
    pub supported_problems: Vec<String>,
}

/// A worker's sign of life.
#[derive(Debug, Clone)]
pub struct WorkerHeartbeat {
    /// The worker.
    pub worker: WorkerId,
    /// OFFLINE signs it off; anything else is what its jobs say.
    pub status: Option<WorkerStatus>,
    /// The jobs that it runs, whose leases are renewed; at most 1,000.
    pub jobs: Vec<JobId>,
    /// How long the answer may take while there is nothing to stop: at most [`LONGEST_WAIT`], and never longer than a
    /// third of a lease, so that the next heartbeat comes in time.
    pub wait: Duration,
}

/// A worker that asks for jobs.
#[derive(Debug, Clone)]
pub struct TaskClaim {
    /// The worker.
    pub worker: WorkerId,
    /// The most that it takes, from 1.
    pub max: i32,
    /// How long the answer may take while there is no job: at most [`LONGEST_WAIT`].
    pub wait: Duration,
}

/// What a worker tells of a job.
#[derive(Debug, Clone)]
pub struct TaskReport {
    /// The worker.
    pub worker: WorkerId,
    /// The job that it claimed.
    pub job: JobId,
    /// The attempt that it claimed.
    pub attempt: i32,
    /// Lines for the log, in order; at most 10,000.
    pub lines: Vec<TaskLine>,
    /// How far it is.
    pub progress: Option<TaskProgress>,
    /// How it ended, where it has.
    pub result: Option<ReportedResult>,
}

/// A line for a job's log.
#[derive(Debug, Clone)]
pub struct TaskLine {
    /// When it was printed; now where left out.
    pub at: Option<Timestamp>,
    /// Standard output or standard error.
    pub stream: LogStream,
    /// How grave it is.
    pub level: LogLevel,
    /// Its text; one with line feeds is several lines.
    pub message: String,
    /// A JSON object with the other fields of a structured line.
    pub context: Option<Value>,
}

/// How far a job is.
#[derive(Debug, Clone)]
pub struct TaskProgress {
    /// Steps done.
    pub current: i32,
    /// Steps in all.
    pub total: Option<i32>,
    /// The step under way, in at most 1,024 bytes.
    pub step: Option<String>,
}

/// Why a worker's call changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The inputs at fault; never empty.
    #[error("{}", refusals.first().map_or("refused", |refusal| refusal.message.as_str()))]
    Refused {
        /// All that was found wrong.
        refusals: Vec<Refusal>,
    },
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

impl From<Vec<Refusal>> for RemoteError {
    fn from(refusals: Vec<Refusal>) -> Self {
        Self::Refused { refusals }
    }
}

impl From<RemoteFault> for RemoteError {
    fn from(fault: RemoteFault) -> Self {
        check::refusal(&fault).into()
    }
}

impl Executor {
    async fn call<T, O>(&self, operation: O) -> Result<T, RemoteError>
    where
        T: Send + 'static,
        O: Operation<Output = Result<T, RemoteFault>>,
    {
        Ok(self.0.store.writer().write(operation).await??)
    }

    /// A place among the calls that wait; none is needed by one that does not.
    fn place(&self, wait: Duration) -> Result<Option<SemaphorePermit<'_>>, RemoteError> {
        if wait.is_zero() {
            return Ok(None);
        }
        self.0.waiting.try_acquire().map(Some).map_err(|_| {
            let most = self.0.options.max_waiting;
            let message =
                format!("{most} calls wait already, which is the limit: ask later, or without waitMs");
            vec![Refusal::new(RefusalCode::LimitExceeded, &["waitMs"], message)].into()
        })
    }

    /// The worker as it is now.
    async fn remote_worker(&self, id: WorkerId) -> Result<Worker, RemoteError> {
        let silent_since = self.silent_since();
        let mut found = self.reader().workers_by_id(&[id], silent_since).await?;
        found
            .remove(&id)
            .ok_or_else(|| RemoteFault::UnknownWorker(id).into())
    }

    /// Makes a worker known. One that was known by this name is the same worker, with what it can take now; jobs that
    /// it held are left to their leases.
    ///
    /// # Errors
    ///
    /// [`RemoteError`]; nothing was changed then.
    pub async fn register_worker(&self, asked: WorkerRegistration) -> Result<Worker, RemoteError> {
        let checked = check::registration(&asked)?;
        let id = self
            .call(RegisterWorker {
                id: WorkerId::from_uuid(uuid::Uuid::now_v7()),
                name: asked.name,
                backend_type: asked.backend_type,
                max_parallel_tasks: checked.max_parallel_tasks,
                supported_problems: checked.supported_problems,
                now: now(),
            })
            .await?;
        let worker = self.remote_worker(id).await?;
        tracing::info!(worker = %worker.name, worker.backend_type = %worker.backend_type, "registered");
        Ok(worker)
    }

    /// Renews the leases of a worker's jobs, and gives those that it should stop: at once where there are some,
    /// otherwise as soon as there are or when the wait is over.
    ///
    /// # Errors
    ///
    /// [`RemoteError`]; nothing was changed then.
    pub async fn heartbeat(&self, sign: WorkerHeartbeat) -> Result<(Worker, Vec<JobId>), RemoteError> {
        check::heartbeat_jobs(sign.jobs.len())?;
        let lease = self.0.options.lease;
        let wait = check::wait(sign.wait)?.min(lease / SIGNS);
        let _place = self.place(wait)?;
        let until = Instant::now() + wait;
        // Registered before the first look, so that no cancel falls in between.
        let mut cancels = self.0.hints.cancels();
        let online = sign.status != Some(WorkerStatus::Offline);
        let signed = self
            .call(Heartbeat {
                worker: sign.worker,
                online,
                jobs: sign.jobs.clone(),
                lease,
                now: now(),
            })
            .await?;
        let mut stop = signed.stop;
        while stop.is_empty() && online && Instant::now() < until {
            let look = until.min(Instant::now() + LOOK);
            tokio::select! {
                () = self.0.closing.cancelled() => break,
                () = tokio::time::sleep_until(look) => {}
                asked = cancels.recv() => match asked {
                    Ok(Some(job)) if !sign.jobs.contains(&job) => continue,
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => break,
                },
            }
            stop = self.lost(&sign).await?;
        }
        Ok((self.remote_worker(sign.worker).await?, stop))
    }

    /// Those of the jobs that a worker named that it should stop by now.
    async fn lost(&self, sign: &WorkerHeartbeat) -> Result<Vec<JobId>, StoreError> {
        if sign.jobs.is_empty() {
            return Ok(Vec::new());
        }
        let held = self.reader().held_by(sign.worker, &sign.jobs, now()).await?;
        let mut lost: Vec<JobId> = sign
            .jobs
            .iter()
            .copied()
            .filter(|job| !held.contains(job))
            .collect();
        lost.sort_unstable();
        lost.dedup();
        Ok(lost)
    }

    /// Hands the next jobs that it supports to a worker, no more than it has room for: at once where there are some,
    /// otherwise as soon as there are or when the wait is over. Nothing is handed to a caller that was dropped.
    ///
    /// # Errors
    ///
    /// [`RemoteError`]; no job was taken then.
    pub async fn claim(&self, claim: TaskClaim) -> Result<Vec<Job>, RemoteError> {
        let max = check::max(claim.max)?;
        let wait = check::wait(claim.wait)?;
        let _place = self.place(wait)?;
        let until = Instant::now() + wait;
        let lease = self.0.options.lease;
        let gone = CancellationToken::new();
        let _here = gone.clone().drop_guard();
        // Registered before the first look, so that no job falls in between.
        let mut queued = self.0.hints.queued();
        let mut rest = FIRST_REST;
        let mut found = self.reader().has_task_for(claim.worker).await?;
        loop {
            let signed = Instant::now();
            let jobs = self
                .call(ClaimTasks {
                    worker: claim.worker,
                    max: if found { max } else { 0 },
                    lease,
                    gone: gone.clone(),
                    now: now(),
                })
                .await?;
            if !jobs.is_empty() {
                failpoint!("remote.claimed");
                started(&jobs, claim.worker);
                return Ok(jobs);
            }
            found = false;
            while !found && signed.elapsed() < lease / SIGNS {
                let next = (Instant::now() + LOOK).min(until).min(signed + lease / SIGNS);
                let hinted = tokio::select! {
                    () = self.0.closing.cancelled() => return Ok(Vec::new()),
                    () = tokio::time::sleep_until(next) => false,
                    _ = queued.changed() => true,
                };
                if Instant::now() >= until && !hinted {
                    return Ok(Vec::new());
                }
                let look = Instant::now();
                found = self.reader().has_task_for(claim.worker).await?;
                if !found {
                    rest = if hinted {
                        (rest * 2).min(LONGEST_REST)
                    } else {
                        FIRST_REST
                    };
                    tokio::time::sleep(rest.max(look.elapsed() * LOOK_SHARE)).await;
                }
            }
        }
    }

    /// Takes what a worker tells of a job that it holds: all of it, or where it is refused nothing.
    ///
    /// # Errors
    ///
    /// [`RemoteError`]; nothing of the report was stored then.
    pub async fn report(&self, report: TaskReport) -> Result<Job, RemoteError> {
        let (attempt, lines) = check::report(&report)?;
        let at = now();
        let bytes: usize = lines.iter().map(|line| line.bytes.len()).sum();
        let (job, ended) = self
            .call(Report {
                worker: report.worker,
                job: report.job,
                attempt,
                lines,
                progress: report.progress.map(|progress| Progress {
                    current: progress.current,
                    total: progress.total,
                    step: progress.step,
                    updated_at: at,
                }),
                result: report.result,
                log_limit: self.0.options.log_bytes_per_job,
                lease: self.0.options.lease,
                now: at,
                jitter: chance(),
            })
            .await?;
        failpoint!("remote.reported");
        metrics::log_bytes(bytes);
        match ended {
            Some(EndResult::Ended(status)) => {
                let ran = job.duration(at);
                metrics::job_ended(status, job.command.kind(), ran);
                tracing::info!(job.id = %job.id, job.status = %status, duration_ms = ran.map(crate::telemetry::millis), "ended");
            }
            Some(EndResult::Retried(run_at)) => {
                let pause_ms = crate::telemetry::millis(run_at.since(at));
                tracing::info!(job.id = %job.id, job.attempt = job.attempt, pause_ms, "failed and will be tried again");
            }
            Some(EndResult::Stale) | None => {}
        }
        Ok(job)
    }

    /// Makes calls that wait answer at once, now and from now on: the server goes down.
    pub fn stop_waiting(&self) {
        self.0.closing.cancel();
    }
}

fn started(jobs: &[Job], worker: WorkerId) {
    for job in jobs {
        metrics::job_started(job.started_at.unwrap_or(job.run_at).since(job.run_at));
        tracing::info!(job.id = %job.id, job.name = %job.name, job.attempt = job.attempt, worker.id = %worker, "claimed");
    }
}
