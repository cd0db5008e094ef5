//! The executor in somebody's name: what they may run is checked, and what they do is noted in the audit log.
//!
//! Which right a call needs at all is decided before, where the call comes in. Here is what only the executor knows:
//! what a request comes to once its plans and pipelines are laid out.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::request::{JobRequest, Refusal, RefusalCode, SubmitError};
use super::time::now;
use super::validate::runs_code;
use super::validate_plan::CheckedJob;
use super::{Executor, PoolChange, PoolError, RemoteError, WorkerRegistration};
use crate::domain::{AuditAction, AuditEntry, Caller, JobId, JobKind, Worker};
use crate::store::{Audited, CancelJob, Cancelled, CleanupFilter, Inserted, RecordAudit, StoreError};

/// An executor in somebody's name. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Acting {
    executor: Executor,
    caller: Arc<Caller>,
}

/// In whose name jobs are asked for, and how.
#[derive(Debug, Clone)]
pub(super) struct OnBehalf {
    pub(super) caller: Arc<Caller>,
    pub(super) action: AuditAction,
    /// The job that is run once more.
    pub(super) again: Option<JobId>,
}

impl Executor {
    /// This executor in somebody's name.
    #[must_use]
    pub fn acting_for(&self, caller: Arc<Caller>) -> Acting {
        Acting {
            executor: self.clone(),
            caller,
        }
    }
}

impl Acting {
    /// As [`Executor::submit`].
    ///
    /// # Errors
    ///
    /// See [`Executor::submit`]; NOT_ALLOWED too, where the caller's token does not reach so far.
    pub async fn submit(&self, request: JobRequest) -> Result<Inserted, SubmitError> {
        let mut inserted = self.submit_all(vec![request]).await?;
        inserted.pop().ok_or(SubmitError::Store(StoreError::Closed))
    }

    /// As [`Executor::submit_all`].
    ///
    /// # Errors
    ///
    /// See [`Acting::submit`].
    pub async fn submit_all(&self, requests: Vec<JobRequest>) -> Result<Vec<Inserted>, SubmitError> {
        let behalf = OnBehalf {
            caller: Arc::clone(&self.caller),
            action: AuditAction::Run,
            again: None,
        };
        self.executor.take_in(requests, Some(behalf)).await
    }

    /// As [`Executor::rerun`].
    ///
    /// # Errors
    ///
    /// See [`Executor::rerun`] and [`Acting::submit`].
    pub async fn rerun(&self, id: JobId) -> Result<Inserted, SubmitError> {
        let behalf = OnBehalf {
            caller: Arc::clone(&self.caller),
            action: AuditAction::Rerun,
            again: Some(id),
        };
        self.executor.run_again(id, Some(behalf)).await
    }

    /// As [`Executor::cancel`]. A token that may run only some jobs may cancel only those, and is told so by a refusal.
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the store failed.
    pub async fn cancel(
        &self,
        id: JobId,
        reason: Option<String>,
        grace: Option<Duration>,
    ) -> Result<Result<Cancelled, Refusal>, StoreError> {
        if !self.caller.limits.is_open()
            && let Some(job) = self.executor.reader().job(id).await?
            && let Some(message) = self
                .caller
                .limits
                .against(job.command.kind(), &job.name, &job.queue)
        {
            return Ok(Err(Refusal::new(RefusalCode::NotAllowed, &["id"], message)));
        }
        let mut detail = Map::new();
        if let Some(reason) = &reason {
            detail.insert("reason".to_owned(), reason.clone().into());
        }
        let entry = self.entry(AuditAction::Cancel, Some(id.uuid()), detail);
        let operation = CancelJob {
            id,
            reason,
            grace,
            now: now(),
        };
        let note = Box::new(move |done: &Cancelled| match done {
            Cancelled::Done(_) | Cancelled::Requested(_) => vec![entry.clone()],
            Cancelled::AlreadyEnded(_) | Cancelled::NotFound => Vec::new(),
        });
        let write = Audited { operation, note };
        self.executor.0.store.writer().write(write).await.map(Ok)
    }

    /// As [`Executor::cleanup`]. What is asked for is noted before the first job is deleted.
    ///
    /// # Errors
    ///
    /// See [`Executor::cleanup`].
    pub async fn cleanup(&self, filter: CleanupFilter, dry_run: bool) -> Result<u64, StoreError> {
        if !dry_run {
            let statuses: Vec<&str> = filter.statuses.iter().map(|status| status.as_str()).collect();
            let mut detail = Map::new();
            detail.insert("statuses".to_owned(), statuses.into());
            if let Some(before) = filter.finished_before {
                detail.insert("finishedBefore".to_owned(), before.millis().into());
            }
            self.record(AuditAction::Cleanup, None, detail).await?;
        }
        self.executor.cleanup(filter, dry_run).await
    }

    /// As [`Executor::scale_workers`].
    ///
    /// # Errors
    ///
    /// See [`Executor::scale_workers`].
    pub async fn scale_workers(&self, size: usize) -> Result<PoolChange, PoolError> {
        let change = self.executor.scale_workers(size).await?;
        let detail = json!({ "size": size, "previousSize": change.previous });
        self.record_pool(AuditAction::ScaleWorkers, detail, change).await
    }

    /// As [`Executor::start_workers`].
    ///
    /// # Errors
    ///
    /// See [`Executor::start_workers`].
    pub async fn start_workers(&self) -> Result<PoolChange, PoolError> {
        let change = self.executor.start_workers().await?;
        self.record_pool(AuditAction::StartWorkers, Value::Null, change)
            .await
    }

    /// As [`Executor::stop_workers`].
    ///
    /// # Errors
    ///
    /// See [`Executor::stop_workers`].
    pub async fn stop_workers(&self, cancel_running: bool) -> Result<PoolChange, PoolError> {
        let change = self.executor.stop_workers(cancel_running).await?;
        let detail = json!({ "cancelRunning": cancel_running });
        self.record_pool(AuditAction::StopWorkers, detail, change).await
    }

    /// As [`Executor::register_worker`].
    ///
    /// # Errors
    ///
    /// See [`Executor::register_worker`].
    pub async fn register_worker(&self, registration: WorkerRegistration) -> Result<Worker, RemoteError> {
        let worker = self.executor.register_worker(registration).await?;
        let mut detail = Map::new();
        detail.insert("name".to_owned(), worker.name.clone().into());
        self.record(AuditAction::RegisterWorker, Some(worker.id.uuid()), detail)
            .await
            .map_err(RemoteError::Store)?;
        Ok(worker)
    }

    async fn record_pool(
        &self,
        action: AuditAction,
        detail: Value,
        change: PoolChange,
    ) -> Result<PoolChange, PoolError> {
        let detail = match detail {
            Value::Object(detail) => detail,
            _ => Map::new(),
        };
        self.record(action, None, detail)
            .await
            .map_err(PoolError::Store)?;
        Ok(change)
    }

    async fn record(
        &self,
        action: AuditAction,
        target: Option<Uuid>,
        detail: Map<String, Value>,
    ) -> Result<(), StoreError> {
        let entry = self.entry(action, target, detail);
        self.executor.0.store.writer().write(RecordAudit { entry }).await
    }

    fn entry(&self, action: AuditAction, target: Option<Uuid>, detail: Map<String, Value>) -> AuditEntry {
        AuditEntry {
            id: Uuid::now_v7(),
            at: now(),
            action,
            actor: self.caller.actor.clone(),
            target,
            detail,
        }
    }
}

impl OnBehalf {
    /// What the caller's token stands against in what was asked for. The steps of a pipeline are the server's own, as
    /// the lines of a script are: who may run it may run them.
    pub(super) fn against(&self, jobs: &[(usize, CheckedJob)]) -> Vec<(usize, Refusal)> {
        let limits = &self.caller.limits;
        if limits.is_open() {
            return Vec::new();
        }
        // Each plan comes before its steps.
        let mut own = std::collections::HashSet::new();
        let mut refusals = Vec::new();
        for (index, CheckedJob { job, place }) in jobs {
            let kind = job.command.kind();
            let is_own = job.step.as_ref().is_some_and(|step| own.contains(&step.plan));
            if is_own || kind == JobKind::Pipeline {
                own.insert(job.id);
            }
            if !is_own && let Some(message) = limits.against(kind, &job.command.name(), &job.queue) {
                let place: Vec<&str> = place.iter().map(String::as_str).collect();
                let refusal = Refusal::new(RefusalCode::NotAllowed, &["command"], message);
                refusals.push((*index, refusal.below(&place)));
            }
            // Else whoever may run one script could run anything in its name.
            let by_hand = job.env.iter().enumerate().filter(|_| !is_own);
            for (at, variable) in by_hand.filter(|(_, variable)| runs_code(&variable.name)) {
                let message = format!(
                    "{} can run other code than what was asked for, and this token may not run everything",
                    variable.name
                );
                let place: Vec<&str> = place.iter().map(String::as_str).collect();
                let refusal = Refusal::new(
                    RefusalCode::NotAllowed,
                    &["env", &at.to_string(), "name"],
                    message,
                );
                refusals.push((*index, refusal.below(&place)));
            }
        }
        refusals
    }

    /// What is noted of the jobs that were stored. One that was there already was not asked for now.
    pub(super) fn entries(&self, stored: &[Inserted]) -> Vec<AuditEntry> {
        let new = stored.iter().filter(|one| !one.deduplicated);
        new.map(|Inserted { job, .. }| {
            let mut detail = Map::new();
            detail.insert("kind".to_owned(), job.command.kind().as_str().into());
            detail.insert("name".to_owned(), job.name.clone().into());
            detail.insert("queue".to_owned(), job.queue.clone().into());
            if let Some(again) = self.again {
                detail.insert("of".to_owned(), again.to_string().into());
            }
            AuditEntry {
                id: Uuid::now_v7(),
                at: now(),
                action: self.action,
                actor: self.caller.actor.clone(),
                target: Some(job.id.uuid()),
                detail,
            }
        })
        .collect()
    }
}
