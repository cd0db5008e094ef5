//! Rows into words of the domain, and back.

use std::time::Duration;

use entity::{attempt, job, job_event, job_tag, worker};
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::{ActiveModelTrait, IntoActiveModel};
use serde_json::Value;

use super::error::StoreError;
use super::tx::NewEvent;
use crate::domain::{
    Attempt, CancelRequest, Command, EnvVar, EventSeq, Fault, Job, JobEvent, JobId, JobStatus, Metadata,
    NewJob, ProcessEnd, Progress, RetryPolicy, Tag, Timestamp, WaitReason, Worker, WorkerId, WorkerStatus,
};

/// Milliseconds as the store keeps them.
pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn duration(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

fn count(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

/// An attempt's number as the store keeps it.
pub(super) fn number(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn fault(code: Option<String>, message: Option<String>) -> Result<Option<Fault>, StoreError> {
    code.map(|code| {
        Ok(Fault {
            code: code.parse()?,
            message: message.unwrap_or_default(),
        })
    })
    .transpose()
}

fn list<T: serde::de::DeserializeOwned>(text: Option<&str>) -> Result<Vec<T>, StoreError> {
    Ok(text.map(serde_json::from_str).transpose()?.unwrap_or_default())
}

fn unless_empty<T: serde::Serialize>(list: &[T]) -> Result<Option<String>, StoreError> {
    Ok((!list.is_empty())
        .then(|| serde_json::to_string(list))
        .transpose()?)
}

/// A job of the domain from its row.
pub(super) fn job(row: job::Model) -> Result<Job, StoreError> {
    let progress = row.progress_current.map(|current| Progress {
        current,
        total: row.progress_total,
        step: row.progress_step,
        updated_at: Timestamp::from_micros(row.progress_at.unwrap_or(row.updated_at)),
    });
    let cancel = row.cancel_at.map(|at| CancelRequest {
        at: Timestamp::from_micros(at),
        reason: row.cancel_reason,
        grace: row.cancel_grace_ms.map(duration),
    });
    Ok(Job {
        id: JobId::from_uuid(row.id),
        name: row.name,
        command: serde_json::from_str(&row.command)?,
        status: row.status.parse()?,
        wait: row.wait.as_deref().map(str::parse).transpose()?,
        queue: row.queue,
        priority: row.priority,
        attempt: count(row.attempt),
        retry: RetryPolicy {
            max_attempts: count(row.max_attempts),
            backoff: duration(row.backoff_ms),
        },
        timeout: duration(row.timeout_ms),
        created_at: Timestamp::from_micros(row.created_at),
        updated_at: Timestamp::from_micros(row.updated_at),
        run_at: Timestamp::from_micros(row.run_at),
        started_at: row.started_at.map(Timestamp::from_micros),
        finished_at: row.finished_at.map(Timestamp::from_micros),
        end: ProcessEnd {
            exit_code: row.exit_code,
            signal: row.signal,
        },
        output: row.output.as_deref().map(serde_json::from_str).transpose()?,
        fault: fault(row.error_code, row.error_message)?,
        progress,
        worker: row.worker_id.map(WorkerId::from_uuid),
        lease_until: row.lease_until.map(Timestamp::from_micros),
        env: list::<EnvVar>(row.env.as_deref())?,
        working_dir: row.working_dir,
        idempotency_key: row.idempotency_key,
        metadata: Metadata {
            source: row.source,
            conversation_id: row.conversation_id,
            tags: list::<Tag>(row.tags.as_deref())?,
        },
        parent: row.parent_id.map(JobId::from_uuid),
        step_key: row.step_key,
        admitted: !row.gated,
        route: row.route,
        cancel,
    })
}

/// How a job begins that is to be stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beginning {
    blockers: i32,
    gated: bool,
    run_at: Timestamp,
    /// What it waits for; none for a plan, which starts at once.
    wait: Option<WaitReason>,
}

impl Beginning {
    /// Of a job for which so many others have to end first, and which its plan may not have let in yet.
    pub(super) fn new(new: &NewJob, blockers: usize, gated: bool) -> Self {
        let run_at = new.run_at.unwrap_or(new.created_at).max(new.created_at);
        let wait = if gated || blockers > 0 {
            Some(WaitReason::Blocked)
        } else if run_at > new.created_at {
            Some(WaitReason::Scheduled)
        } else {
            new.plan.is_none().then_some(WaitReason::Queued)
        };
        Self {
            blockers: i32::try_from(blockers).unwrap_or(i32::MAX),
            gated,
            run_at,
            wait,
        }
    }

    /// Whether it starts at once.
    pub(super) const fn is_start(self) -> bool {
        self.wait.is_none()
    }
}

/// The rows of a job that is to be stored, and the job as it will be read.
pub(super) fn new_job(
    new: &NewJob,
    beginning: Beginning,
) -> Result<(Job, job::ActiveModel, Vec<job_tag::ActiveModel>), StoreError> {
    let Beginning { run_at, wait, .. } = beginning;
    let status = if beginning.is_start() {
        JobStatus::Running
    } else {
        JobStatus::Pending
    };
    let started = beginning.is_start().then_some(new.created_at);
    let model = job::Model {
        id: new.id.uuid(),
        kind: new.command.kind().as_str().to_owned(),
        name: new.command.name(),
        command: command_text(&new.command)?,
        status: status.as_str().to_owned(),
        wait: wait.map(|wait| wait.as_str().to_owned()),
        queue: new.queue.clone(),
        priority: new.priority,
        attempt: i32::from(beginning.is_start()),
        max_attempts: number(new.retry.max_attempts),
        backoff_ms: millis(new.retry.backoff),
        timeout_ms: millis(new.timeout),
        created_at: new.created_at.micros(),
        updated_at: new.created_at.micros(),
        run_at: run_at.micros(),
        started_at: started.map(Timestamp::micros),
        finished_at: None,
        exit_code: None,
        signal: None,
        output: None,
        error_code: None,
        error_message: None,
        progress_current: new.plan.map(|_| 0),
        progress_total: new.plan.map(|rules| number(rules.steps)),
        progress_step: None,
        progress_at: new.plan.map(|_| new.created_at.micros()),
        worker_id: None,
        // Nobody holds a plan: it ends with its steps, or when its time is over.
        lease_until: started.map(|started| started.after(new.timeout).micros()),
        env: unless_empty(&new.env)?,
        working_dir: new.working_dir.clone(),
        idempotency_key: new.idempotency_key.clone(),
        source: new.metadata.source.clone(),
        conversation_id: new.metadata.conversation_id.clone(),
        tags: unless_empty(&new.metadata.tags)?,
        parent_id: new.step.as_ref().map(|step| step.plan.uuid()),
        step_key: new.step.as_ref().map(|step| step.key.clone()),
        step_index: new
            .step
            .as_ref()
            .map(|step| i32::try_from(step.index).unwrap_or(i32::MAX)),
        blockers: beginning.blockers,
        gated: beginning.gated,
        route: new.route.clone(),
        cancel_at: None,
        cancel_reason: None,
        cancel_grace_ms: None,
    };
    let mut tags: Vec<&Tag> = new.metadata.tags.iter().collect();
    tags.sort_by(|a, b| (&a.key, &a.value).cmp(&(&b.key, &b.value)));
    tags.dedup();
    let tags = tags
        .into_iter()
        .map(|tag| {
            job_tag::Model {
                key: tag.key.clone(),
                value: tag.value.clone(),
                job_id: new.id.uuid(),
            }
            .into_active_model()
            .reset_all()
        })
        .collect();
    Ok((job(model.clone())?, model.into_active_model().reset_all(), tags))
}

fn command_text(command: &Command) -> Result<String, StoreError> {
    Ok(serde_json::to_string(command)?)
}

/// JSON as the store keeps it. Postgres refuses the NUL character in text, escaped or not in `jsonb`; as plain text
/// the escape is harmless.
pub(super) fn json_text(value: &Value) -> String {
    value.to_string()
}

/// Text that both databases take: Postgres has no NUL in text.
pub(super) fn plain_text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// An earlier attempt from its row.
pub(super) fn attempt(row: attempt::Model) -> Result<Attempt, StoreError> {
    Ok(Attempt {
        number: count(row.number),
        status: row.status.parse()?,
        worker: row.worker_id.map(WorkerId::from_uuid),
        started_at: Timestamp::from_micros(row.started_at),
        finished_at: Some(Timestamp::from_micros(row.finished_at)),
        end: ProcessEnd {
            exit_code: row.exit_code,
            signal: row.signal,
        },
        fault: fault(row.error_code, row.error_message)?,
    })
}

/// An event from its row.
pub(super) fn event(row: job_event::Model) -> Result<JobEvent, StoreError> {
    Ok(JobEvent {
        seq: EventSeq(row.seq),
        job: JobId::from_uuid(row.job_id),
        kind: row.kind.parse()?,
        at: Timestamp::from_micros(row.at),
        status: row.status.parse()?,
        previous: row.previous_status.as_deref().map(str::parse).transpose()?,
        attempt: count(row.attempt),
        progress: row.progress_current.map(|current| Progress {
            current,
            total: row.progress_total,
            step: row.progress_step,
            updated_at: Timestamp::from_micros(row.at),
        }),
        fault: fault(row.error_code, row.error_message)?,
    })
}

/// A worker from its row. It is BUSY while jobs are held in its name, and OFFLINE where it left in order or was not
/// heard of since `silent_since`.
pub(super) fn worker(row: worker::Model, busy: bool, silent_since: Timestamp) -> Result<Worker, StoreError> {
    let last_heartbeat = Timestamp::from_micros(row.last_heartbeat);
    let status = if !row.online || last_heartbeat < silent_since {
        WorkerStatus::Offline
    } else if busy {
        WorkerStatus::Busy
    } else {
        WorkerStatus::Idle
    };
    Ok(Worker {
        id: WorkerId::from_uuid(row.id),
        name: row.name,
        backend_type: row.backend_type,
        status,
        internal: row.internal,
        max_parallel_tasks: count(row.max_parallel_tasks),
        supported_problems: serde_json::from_str(&row.supported_problems)?,
        registered_at: Timestamp::from_micros(row.registered_at),
        last_heartbeat,
        tasks_completed: row.tasks_completed,
        tasks_failed: row.tasks_failed,
    })
}

/// The row of an event, but for its number.
pub(super) fn new_event(event: NewEvent) -> job_event::ActiveModel {
    let (progress_current, progress_total, progress_step) =
        event.progress.map_or((None, None, None), |progress| {
            (Some(progress.current), progress.total, progress.step)
        });
    let (error_code, error_message) = event.fault.map_or((None, None), |fault| {
        (Some(fault.code.as_str().to_owned()), Some(fault.message))
    });
    job_event::ActiveModel {
        seq: NotSet,
        job_id: Set(event.job.uuid()),
        kind: Set(event.kind.as_str().to_owned()),
        at: Set(event.at.micros()),
        status: Set(event.status.as_str().to_owned()),
        previous_status: Set(event.previous.map(|status| status.as_str().to_owned())),
        attempt: Set(i32::try_from(event.attempt).unwrap_or(i32::MAX)),
        progress_current: Set(progress_current),
        progress_total: Set(progress_total),
        progress_step: Set(progress_step),
        error_code: Set(error_code),
        error_message: Set(error_message),
    }
}
