//! The job as the store keeps it, and as it is asked for.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::word::words;
use super::{Command, JobId, JobStatus, RetryPolicy, Timestamp, WorkerId};

words!(
    /// Why a PENDING job has not started.
    WaitReason, "reason to wait" {
        /// Next in line.
        Queued = "QUEUED",
        /// Its moment has not come.
        Scheduled = "SCHEDULED",
        /// A dependency has not completed.
        Blocked = "BLOCKED",
        /// Waiting out the pause before the next attempt.
        Backoff = "BACKOFF",
        /// No registered worker supports it.
        NoWorker = "NO_WORKER",
        /// The worker pool is stopped.
        Paused = "PAUSED",
    }
);

words!(
    /// The kinds of fault with which a job ends.
    FaultCode, "code of a job's error" {
        /// The process ended with a code other than 0.
        ExitCode = "EXIT_CODE",
        /// A signal that the server did not send.
        Signalled = "SIGNALLED",
        /// The process could not be started.
        SpawnFailed = "SPAWN_FAILED",
        /// The time limit.
        Timeout = "TIMEOUT",
        /// Somebody asked.
        Cancelled = "CANCELLED",
        /// The worker or its machine went away.
        WorkerLost = "WORKER_LOST",
        /// A job that this one depends on did not complete.
        DependencyFailed = "DEPENDENCY_FAILED",
        /// A step of the plan failed.
        StepFailed = "STEP_FAILED",
        /// The worker that ran it said so.
        Reported = "REPORTED",
        /// A fault of the server.
        Internal = "INTERNAL",
    }
);

/// Why a job did not complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Its kind.
    pub code: FaultCode,
    /// One sentence for people.
    pub message: String,
}

impl Fault {
    /// A fault of this kind.
    #[must_use]
    pub fn new(code: FaultCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

/// A name and a value for the process's environment.
///
/// `Debug` hides the value: environments carry secrets, and a log must never show one.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvVar {
    /// The variable's name.
    pub name: String,
    /// What it is set to.
    #[serde(flatten)]
    pub value: EnvValue,
}

/// What a variable is set to. `Debug` hides a value.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EnvValue {
    /// This text.
    Value(String),
    /// The secret of this name, whose text is read when an attempt starts and stored nowhere.
    Secret(String),
}

impl std::fmt::Debug for EnvValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Value(_) => f.write_str("…"),
            Self::Secret(name) => write!(f, "secret {name}"),
        }
    }
}

impl std::fmt::Debug for EnvVar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}=…", self.name)
    }
}

/// The most labels that a job takes, so that a row stays small; nobody was seen to need more.
pub const MOST_TAGS: usize = 64;

/// A label of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    /// The label's name.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// Who asked, and what for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Who asked: `server`, `ui`, `test`, …
    pub source: Option<String>,
    /// The conversation it belongs to.
    pub conversation_id: Option<String>,
    /// Labels.
    pub tags: Vec<Tag>,
}

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Steps done.
    pub current: i32,
    /// Steps in all.
    pub total: Option<i32>,
    /// The name of the step under way.
    pub step: Option<String>,
    /// When it said so.
    pub updated_at: Timestamp,
}

impl Progress {
    /// 0 to 100; none where the total is unknown.
    #[must_use]
    pub fn percentage(&self) -> Option<f64> {
        let total = self.total.filter(|&total| total > 0)?;
        Some((f64::from(self.current) / f64::from(total) * 100.0).clamp(0.0, 100.0))
    }
}

/// How a process ended: by a code or by a signal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessEnd {
    /// The exit code.
    pub exit_code: Option<i32>,
    /// The signal's name: `SIGKILL`, …
    pub signal: Option<String>,
}

/// Somebody asked for a running job to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CancelRequest {
    /// When.
    pub at: Timestamp,
    /// Why, in the words of who asked.
    pub reason: Option<String>,
    /// The time between SIGTERM and SIGKILL; none is the server's own.
    pub grace: Option<Duration>,
}

/// A job as it is asked for, checked and ready to be stored.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// Made by who asks, so that a job is known before it is stored.
    pub id: JobId,
    /// What it runs.
    pub command: Command,
    /// The queue it waits in.
    pub queue: String,
    /// Higher runs first; −100 to 100.
    pub priority: i32,
    /// How often it may be tried, and how long to pause between.
    pub retry: RetryPolicy,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// The earliest moment at which it may start; none is at once.
    pub run_at: Option<Timestamp>,
    /// Its environment beyond the server's allow-list.
    pub env: Vec<EnvVar>,
    /// Its working directory below the work root; none is one of its own, removed when it has ended.
    pub working_dir: Option<String>,
    /// A second job with the same key is the first one.
    pub idempotency_key: Option<String>,
    /// Who asked, and what for.
    pub metadata: Metadata,
    /// The plan that it is a step of, which comes before it among the jobs that are stored together.
    pub step: Option<StepPlace>,
    /// What has to end before it starts.
    pub depends_on: Vec<Dependency>,
    /// What a registered worker must support to take it; none is for a server's own workers.
    pub route: Option<String>,
    /// How its steps run; only for a plan.
    pub plan: Option<PlanRules>,
}

/// A step's place in its plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepPlace {
    /// The plan.
    pub plan: JobId,
    /// Unique within it.
    pub key: String,
    /// From 0, in the order in which the plan lists its steps.
    pub index: u32,
}

/// Something that has to end before a job starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dependency {
    /// What is waited for.
    pub job: JobId,
    /// Whether any end will do; otherwise it must be COMPLETED, and the job is cancelled where it is not.
    pub on_end: bool,
}

/// How the steps of a plan run, as far as the dependencies between them do not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanRules {
    /// How many there are.
    pub steps: u32,
    /// Whether the first that does not complete ends the plan.
    pub stop_on_error: bool,
    /// The most that are under way at once; none is no limit.
    pub max_concurrency: Option<u32>,
}

/// A job as the store keeps it.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// What people call it.
    pub name: String,
    /// What it runs.
    pub command: Command,
    /// Where it stands.
    pub status: JobStatus,
    /// Why it waits, as of its last change; only for a job that is PENDING.
    pub wait: Option<WaitReason>,
    /// The queue it waits in.
    pub queue: String,
    /// Higher runs first.
    pub priority: i32,
    /// Which attempt this is, from 1; 0 before the first start.
    pub attempt: u32,
    /// How often it may be tried, and how long to pause between.
    pub retry: RetryPolicy,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// The earliest moment at which it may start.
    pub run_at: Timestamp,
    /// When its latest attempt started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// How its process ended.
    pub end: ProcessEnd,
    /// What it handed back.
    pub output: Option<Value>,
    /// Why it did not complete; while it waits to be tried again, why its latest attempt did not; while a plan runs,
    /// why it will not complete.
    pub fault: Option<Fault>,
    /// How far it is.
    pub progress: Option<Progress>,
    /// Who runs it or ran it last.
    pub worker: Option<WorkerId>,
    /// Until when that worker holds it; only while RUNNING.
    pub lease_until: Option<Timestamp>,
    /// Its environment beyond the server's allow-list.
    pub env: Vec<EnvVar>,
    /// Its working directory below the work root.
    pub working_dir: Option<String>,
    /// The key that it was asked for with.
    pub idempotency_key: Option<String>,
    /// Who asked, and what for.
    pub metadata: Metadata,
    /// The plan that it is a step of.
    pub parent: Option<JobId>,
    /// Its key within the plan.
    pub step_key: Option<String>,
    /// Whether its plan has let it in; always so for a job that is no step.
    pub admitted: bool,
    /// What a registered worker must support to take it; none is for a server's own workers.
    pub route: Option<String>,
    /// Whether somebody asked for it to stop while it runs.
    pub cancel: Option<CancelRequest>,
}

impl Job {
    /// From start to finish, or to `now` while it runs.
    #[must_use]
    pub fn duration(&self, now: Timestamp) -> Option<Duration> {
        match (self.started_at, self.finished_at) {
            (Some(started), Some(finished)) => Some(finished.since(started)),
            (Some(started), None) if self.status == JobStatus::Running => Some(now.since(started)),
            _ => None,
        }
    }

    /// The attempt that the row itself tells of; the earlier ones have rows of their own. None before the first
    /// start, and while the job waits for its next attempt.
    #[must_use]
    pub fn latest_attempt(&self) -> Option<Attempt> {
        Some(Attempt {
            number: self.attempt,
            status: self.status,
            worker: self.worker,
            started_at: self.started_at?,
            finished_at: self.finished_at,
            end: self.end.clone(),
            fault: self.fault.clone().filter(|_| self.status != JobStatus::Running),
        })
    }
}

/// One try at a job.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// From 1.
    pub number: u32,
    /// How it ended, or RUNNING.
    pub status: JobStatus,
    /// Who ran it.
    pub worker: Option<WorkerId>,
    /// When it started.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// How its process ended.
    pub end: ProcessEnd,
    /// Why it did not complete.
    pub fault: Option<Fault>,
}
