//! Every change of a job's status. Each is guarded by the status and the attempt that it expects, and writes the
//! event of the same step of the state machine.

use std::collections::BTreeMap;
use std::sync::Arc;

use entity::{attempt, job};
use futures_util::future::BoxFuture;
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter};
use serde_json::{Value, json};

use super::error::StoreError;
use super::log_codec::{LogChunk, chunk_row};
use super::steps::Ended;
use super::transaction::{InTx, SelectInTx};
use super::tx::{NewEvent, Tx};
use super::writer::Operation;
use super::{dialect, record};
use crate::domain::{
    Fault, FaultCode, Job, JobEventType, JobId, JobStatus, Move, ProcessEnd, Progress, Step, Timestamp,
    WaitReason, WorkerId, backoff, transition,
};

/// How an attempt came to its end.
#[derive(Debug, Clone)]
pub struct AttemptEnd {
    /// COMPLETED, FAILED, TIMEOUT or CANCELLED.
    pub status: JobStatus,
    /// How the process ended.
    pub end: ProcessEnd,
    /// What the job handed back.
    pub output: Option<Value>,
    /// Why it did not complete.
    pub fault: Option<Fault>,
}

/// Ends an attempt, with the last of its log. A failure with attempts left goes back to the queue.
#[derive(Debug, Clone)]
pub struct EndJob {
    /// The job as it was claimed.
    pub job: Arc<Job>,
    /// How it ended.
    pub end: AttemptEnd,
    /// The lines that were not stored yet.
    pub log: Vec<LogChunk>,
    /// When it ended.
    pub now: Timestamp,
    /// 0 to 1, to spread retries.
    pub jitter: f64,
}

/// What became of an attempt's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum EndResult {
    /// The job has ended so.
    Ended(JobStatus),
    /// The job is tried again, not before this moment.
    Retried(Timestamp),
    /// Somebody else decided about this attempt before; nothing was written.
    Stale,
}

impl Operation for EndJob {
    type Output = EndResult;

    fn end(&self) -> Option<&EndJob> {
        Some(self)
    }

    fn apply<'t>(&'t self, tx: &'t mut Tx) -> BoxFuture<'t, Result<EndResult, StoreError>> {
        Box::pin(async move {
            let result = end(tx, &self.job, &self.end, self.now, self.jitter).await?;
            if result != EndResult::Stale {
                for chunk in &self.log {
                    tx.add_chunk(
                        chunk_row(self.job.id, record::number(self.job.attempt), chunk.clone()),
                        self.job.id,
                    );
                }
            }
            Ok(result)
        })
    }
}

/// Bytes of an output that is written together with other ends.
const SMALL_OUTPUT: usize = 32 * 1024;

/// What is in each row of [`end_at_once`], and is asked for: Postgres then expects few of them, and finds the jobs by their
/// ids. Of a list of unknown length it expects so many that it would read the whole table instead.
const MARK: &str = "end";

/// Asks for the final ends of a group to be written by one statement, where each statement is a way there and back. The
/// operations that they are of find out by [`Tx::written_end`], and do the rest.
pub(super) async fn end_at_once(tx: &mut Tx, ends: &[&EndJob]) -> Result<(), StoreError> {
    let mut wanted = BTreeMap::new();
    for EndJob { job, end, now, .. } in ends {
        let step = transition(
            job.status,
            job.attempt,
            job.retry.max_attempts,
            Move::End(end.status),
        );
        let output = end.output.as_ref().map(record::json_text);
        if let Ok(step) = step
            && step.to.is_final()
            && output.as_ref().is_none_or(|output| output.len() <= SMALL_OUTPUT)
        {
            // Of two for one job, the second finds that it has ended.
            wanted.entry((job.id, job.attempt)).or_insert_with(|| {
                json!({
                    "mark": MARK, "ended": job.id.uuid(), "tried": job.attempt, "became": step.to.as_str(), "at": now.micros(),
                    "code": end.end.exit_code, "sent": end.end.signal, "gave": output,
                    "fault": end.fault.as_ref().map(|fault| fault.code.as_str()),
                    "said": end.fault.as_ref().map(|fault| record::plain_text(&fault.message)),
                })
            });
        }
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let rows = Value::from_iter(wanted.values().cloned());
    let statement = tx.statement(
        "UPDATE job SET status = became, finished_at = at, updated_at = at, lease_until = NULL, exit_code = code,
            signal = sent, output = gave, error_code = fault, error_message = said
         FROM json_to_recordset(CAST(? AS json)) AS ends(mark text, ended uuid, tried integer, became text, at bigint,
            code integer, sent text, gave text, fault text, said text)
         WHERE mark = ? AND id = ended AND status = 'RUNNING' AND attempt = tried
         RETURNING id, attempt",
        [rows.to_string().into(), MARK.into()],
    );
    tx.ask_ends(statement, wanted.into_keys().collect()).await
}

/// Ends the attempt that `job` is at.
pub(super) async fn end(
    tx: &mut Tx,
    job: &Job,
    ended: &AttemptEnd,
    now: Timestamp,
    jitter: f64,
) -> Result<EndResult, StoreError> {
    let step = match transition(
        job.status,
        job.attempt,
        job.retry.max_attempts,
        Move::End(ended.status),
    ) {
        Ok(step) => step,
        Err(_) => return Ok(EndResult::Stale),
    };
    if step.to.is_final() {
        return finish(tx, job, step, ended, now).await;
    }
    let pause = backoff(job.retry, job.attempt, jitter);
    let run_at = now.after(pause);
    let wait = if pause.is_zero() {
        WaitReason::Queued
    } else {
        WaitReason::Backoff
    };
    let statement = tx.statement(
        "UPDATE job SET status = 'PENDING', wait = ?, run_at = ?, updated_at = ?, started_at = NULL,
            lease_until = NULL, worker_id = NULL, progress_current = NULL, progress_total = NULL,
            progress_step = NULL, progress_at = NULL, error_code = ?, error_message = ?
         WHERE id = ? AND status = 'RUNNING' AND attempt = ? AND cancel_at IS NULL",
        [
            wait.as_str().into(),
            run_at.micros().into(),
            now.micros().into(),
            ended.fault.as_ref().map(|fault| fault.code.as_str()).into(),
            ended
                .fault
                .as_ref()
                .map(|fault| record::plain_text(&fault.message))
                .into(),
            job.id.uuid().into(),
            record::number(job.attempt).into(),
        ],
    );
    if tx.execute(statement).await? == 0 {
        // Somebody asked for it to stop while it came to its own end: then it is not tried again.
        return Ok(match cancel_asked(tx, job).await? {
            true => {
                let fault = Fault::new(FaultCode::Cancelled, "cancelled while it came to its end");
                let ended = AttemptEnd {
                    status: JobStatus::Cancelled,
                    fault: Some(fault),
                    ..ended.clone()
                };
                Box::pin(self::end(tx, job, &ended, now, jitter)).await?
            }
            false => EndResult::Stale,
        });
    }
    attempt::Entity::insert(attempt_row(job, ended, now))
        .run_in(tx)
        .await?;
    tx.count_move(&job.name, Some(step.from), Some(step.to));
    tx.add_event(event(job, step, now, ended.fault.clone()));
    tx.committed.queued = true;
    tx.committed.workers = true;
    Ok(EndResult::Retried(run_at))
}

async fn cancel_asked(tx: &Tx, job: &Job) -> Result<bool, StoreError> {
    let asked = job::Entity::find_by_id(job.id.uuid())
        .filter(dialect::is_running())
        .filter(job::Column::Attempt.eq(record::number(job.attempt)))
        .filter(job::Column::CancelAt.is_not_null())
        .one_in(tx)
        .await?;
    Ok(asked.is_some())
}

/// Writes a final status.
async fn finish(
    tx: &mut Tx,
    job: &Job,
    step: Step,
    ended: &AttemptEnd,
    now: Timestamp,
) -> Result<EndResult, StoreError> {
    let written = match tx.written_end(job).await? {
        Some(written) => written,
        None => write_end(tx, job, step, ended, now).await?,
    };
    if !written {
        return Ok(EndResult::Stale);
    }
    tx.count_move(&job.name, Some(step.from), Some(step.to));
    let started = job.started_at.unwrap_or(now);
    tx.counters.count_times(
        &job.name,
        Some(now.since(started)),
        Some(started.since(job.run_at)),
        1,
    );
    if let Some(worker) = job.worker {
        tx.count_task(worker, step.to == JobStatus::Completed);
    }
    tx.add_event(event(job, step, now, ended.fault.clone()));
    tx.add_ended(Ended::of(job, step, ended.fault.clone()), now);
    Ok(EndResult::Ended(step.to))
}

/// Writes the row of a job that has ended; whether it was still at this attempt.
async fn write_end(
    tx: &Tx,
    job: &Job,
    step: Step,
    ended: &AttemptEnd,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let statement = tx.statement(
        "UPDATE job SET status = ?, finished_at = ?, updated_at = ?, lease_until = NULL, exit_code = ?, signal = ?,
            output = ?, error_code = ?, error_message = ?
         WHERE id = ? AND status = 'RUNNING' AND attempt = ?",
        [
            step.to.as_str().into(),
            now.micros().into(),
            now.micros().into(),
            ended.end.exit_code.into(),
            ended.end.signal.clone().into(),
            ended.output.as_ref().map(record::json_text).into(),
            ended.fault.as_ref().map(|fault| fault.code.as_str()).into(),
            ended.fault.as_ref().map(|fault| record::plain_text(&fault.message)).into(),
            job.id.uuid().into(),
            record::number(job.attempt).into(),
        ],
    );
    Ok(tx.execute(statement).await? > 0)
}

fn attempt_row(job: &Job, ended: &AttemptEnd, now: Timestamp) -> attempt::ActiveModel {
    attempt::ActiveModel {
        job_id: Set(job.id.uuid()),
        number: Set(record::number(job.attempt)),
        status: Set(ended.status.as_str().to_owned()),
        worker_id: Set(job.worker.map(WorkerId::uuid)),
        started_at: Set(job.started_at.unwrap_or(now).micros()),
        finished_at: Set(now.micros()),
        exit_code: Set(ended.end.exit_code),
        signal: Set(ended.end.signal.clone()),
        error_code: Set(ended.fault.as_ref().map(|fault| fault.code.as_str().to_owned())),
        error_message: Set(ended
            .fault
            .as_ref()
            .map(|fault| record::plain_text(&fault.message))),
    }
}

pub(super) fn event(job: &Job, step: Step, at: Timestamp, fault: Option<Fault>) -> NewEvent {
    NewEvent {
        job: job.id,
        kind: step.event,
        at,
        status: step.to,
        previous: Some(step.from),
        attempt: step.attempt,
        progress: None,
        fault,
    }
}

/// Gives a job back whose process was not started; the attempt is not used up. Its number comes again, so the worker is
/// part of the guard.
#[derive(Debug)]
pub struct ReleaseJob {
    /// The job as it was claimed.
    pub job: Arc<Job>,
    /// When.
    pub now: Timestamp,
}

impl Operation for ReleaseJob {
    /// Whether the job was still this node's to give back.
    type Output = bool;

    fn apply<'t>(&'t self, tx: &'t mut Tx) -> BoxFuture<'t, Result<bool, StoreError>> {
        Box::pin(async move {
            let job = &self.job;
            let Ok(step) = transition(job.status, job.attempt, job.retry.max_attempts, Move::Release) else {
                return Ok(false);
            };
            let statement = tx.statement(
                "UPDATE job SET status = 'PENDING', wait = 'QUEUED', attempt = ?, updated_at = ?, started_at = NULL,
                    lease_until = NULL, worker_id = NULL
                 WHERE id = ? AND status = 'RUNNING' AND attempt = ? AND worker_id = ? AND cancel_at IS NULL",
                [
                    record::number(step.attempt).into(),
                    self.now.micros().into(),
                    job.id.uuid().into(),
                    record::number(job.attempt).into(),
                    job.worker.map(WorkerId::uuid).into(),
                ],
            );
            if tx.execute(statement).await? == 0 {
                return Ok(false);
            }
            tx.count_move(&job.name, Some(step.from), Some(step.to));
            tx.add_event(event(job, step, self.now, None));
            tx.committed.queued = true;
            Ok(true)
        })
    }
}

/// Notes how far a running job is.
#[derive(Debug)]
pub struct RecordProgress {
    /// The job.
    pub job: JobId,
    /// The attempt that says so.
    pub attempt: u32,
    /// How far it is.
    pub progress: Progress,
}

impl Operation for RecordProgress {
    /// Whether the attempt is still the one that runs.
    type Output = bool;

    fn apply<'t>(&'t self, tx: &'t mut Tx) -> BoxFuture<'t, Result<bool, StoreError>> {
        Box::pin(async move {
            let at = self.progress.updated_at;
            let step = self.progress.step.as_deref().map(record::plain_text);
            let statement = tx.statement(
                "UPDATE job SET progress_current = ?, progress_total = ?, progress_step = ?, progress_at = ?,
                    updated_at = ?
                 WHERE id = ? AND status = 'RUNNING' AND attempt = ?",
                [
                    self.progress.current.into(),
                    self.progress.total.into(),
                    step.clone().into(),
                    at.micros().into(),
                    at.micros().into(),
                    self.job.uuid().into(),
                    record::number(self.attempt).into(),
                ],
            );
            if tx.execute(statement).await? == 0 {
                return Ok(false);
            }
            tx.add_event(NewEvent {
                job: self.job,
                kind: JobEventType::Progressed,
                at,
                status: JobStatus::Running,
                previous: Some(JobStatus::Running),
                attempt: self.attempt,
                progress: Some(Progress {
                    step,
                    ..self.progress.clone()
                }),
                fault: None,
            });
            Ok(true)
        })
    }
}
