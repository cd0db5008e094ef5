//! Asking for a job to stop.

use std::time::Duration;

use entity::job;
use futures_util::future::BoxFuture;

use super::error::StoreError;
use super::moves::event;
use super::steps::{self, Ended, Stop};
use super::tx::Tx;
use super::writer::Operation;
use super::{dialect, record};
use crate::domain::{Fault, FaultCode, Job, JobId, JobStatus, Move, Timestamp, transition};

/// Cancels a pending job, or asks for a running one to stop.
#[derive(Debug)]
pub struct CancelJob {
    /// The job.
    pub id: JobId,
    /// Why, in the words of who asks.
    pub reason: Option<String>,
    /// The time between SIGTERM and SIGKILL; none is the server's own.
    pub grace: Option<Duration>,
    /// When.
    pub now: Timestamp,
}

/// What became of it.
#[derive(Debug, Clone)]
pub enum Cancelled {
    /// It was pending, and is CANCELLED now.
    Done(Job),
    /// It runs; whoever runs it is told to stop it.
    Requested(Job),
    /// It had ended before; nothing was changed.
    AlreadyEnded(Job),
    /// There is no such job.
    NotFound,
}

impl Operation for CancelJob {
    type Output = Cancelled;

    fn apply<'t>(&'t self, tx: &'t mut Tx) -> BoxFuture<'t, Result<Cancelled, StoreError>> {
        Box::pin(self.cancel(tx))
    }
}

impl CancelJob {
    async fn cancel(&self, tx: &mut Tx) -> Result<Cancelled, StoreError> {
        tx.flush_jobs().await?;
        let Some(job) = self.look(tx, "").await? else {
            return Ok(Cancelled::NotFound);
        };
        let has_steps = job.command.kind().has_steps();
        if has_steps {
            // Its state changes with its steps', under this lock.
            tx.order().await?;
        }
        tx.see(self.now);
        // The lock makes sure that on Postgres no other node claims or ends it between the look and the write.
        let Some(job) = self.look(tx, dialect::for_update(tx.backend())).await? else {
            return Ok(Cancelled::NotFound);
        };
        match job.status {
            JobStatus::Pending => self.end_pending(tx, job).await,
            JobStatus::Running => {
                let statement = tx.statement(
                    "UPDATE job SET cancel_at = COALESCE(cancel_at, ?), cancel_reason = COALESCE(cancel_reason, ?),
                        cancel_grace_ms = ?, updated_at = ?
                     WHERE id = ? AND status = 'RUNNING'",
                    [
                        self.now.micros().into(),
                        self.reason.as_deref().map(record::plain_text).into(),
                        self.grace.map(record::millis).into(),
                        self.now.micros().into(),
                        self.id.uuid().into(),
                    ],
                );
                tx.later(statement).await?;
                tx.committed.cancels.insert(self.id);
                if has_steps {
                    let fault = Fault::new(FaultCode::Cancelled, "its plan was cancelled");
                    let stop = Stop {
                        reason: self.reason.clone(),
                        grace_ms: self.grace.map(record::millis),
                    };
                    steps::stop_steps(tx, self.id, &fault, &stop).await?;
                }
                let asked = self.look(tx, "").await?;
                Ok(asked.map_or(Cancelled::NotFound, Cancelled::Requested))
            }
            _ => Ok(Cancelled::AlreadyEnded(job)),
        }
    }

    async fn end_pending(&self, tx: &mut Tx, job: Job) -> Result<Cancelled, StoreError> {
        let step = transition(job.status, job.attempt, job.retry.max_attempts, Move::Cancel)
            .map_err(|illegal| StoreError::Unreadable(illegal.to_string()))?;
        let message = self.reason.as_deref().map_or_else(
            || {
                let when = if job.attempt == 0 {
                    "before it started"
                } else {
                    "before it was tried again"
                };
                format!("cancelled {when}")
            },
            |reason| format!("cancelled: {}", record::plain_text(reason)),
        );
        let fault = Fault::new(FaultCode::Cancelled, message);
        let statement = tx.statement(
            "UPDATE job SET status = 'CANCELLED', wait = NULL, finished_at = ?, updated_at = ?, cancel_at = ?,
                cancel_reason = ?, error_code = ?, error_message = ?
             WHERE id = ? AND status = 'PENDING'",
            [
                self.now.micros().into(),
                self.now.micros().into(),
                self.now.micros().into(),
                self.reason.as_deref().map(record::plain_text).into(),
                fault.code.as_str().into(),
                fault.message.clone().into(),
                self.id.uuid().into(),
            ],
        );
        tx.later(statement).await?;
        tx.count_move(&job.name, Some(step.from), Some(step.to));
        tx.add_event(event(&job, step, self.now, Some(fault.clone())));
        tx.add_ended(Ended::of(&job, step, Some(fault)), self.now);
        let ended = self.look(tx, "").await?;
        Ok(ended.map_or(Cancelled::NotFound, Cancelled::Done))
    }

    /// The job as it is now, locked as `lock` says.
    async fn look(&self, tx: &Tx, lock: &str) -> Result<Option<Job>, StoreError> {
        let statement = tx.statement(
            &format!("SELECT * FROM job WHERE id = ?{lock}"),
            [self.id.uuid().into()],
        );
        let row = tx.row(statement).await?;
        row.map(|row| record::job(row.model::<job::Model>()?)).transpose()
    }
}
