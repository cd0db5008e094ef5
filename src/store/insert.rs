//! Storing new jobs.

use std::collections::{HashMap, HashSet};

use entity::{job_dependency, plan};
use futures_util::future::BoxFuture;
use sea_orm::sea_query::{LockBehavior, LockType};
use sea_orm::{ActiveValue::Set, EntityTrait, QueryFilter, QuerySelect};
use uuid::Uuid;

use super::error::StoreError;
use super::moves::event;
use super::record::Beginning;
use super::transaction::{InTx, SelectInTx};
use super::tx::{NewEvent, Tx};
use super::writer::Operation;
use super::{dialect, record};
use crate::domain::{Dependency, Job, JobEventType, JobId, JobStatus, Move, NewJob, WaitReason, transition};

/// Stores jobs, all of them or none.
#[derive(Debug)]
pub struct InsertJobs {
    /// The jobs, each plan before its steps. One whose idempotency key is known is not stored again, nor are its
    /// steps.
    pub jobs: Vec<NewJob>,
    /// The most jobs that may be PENDING.
    pub queue_limit: u64,
}

/// One job of those that were asked for; the steps of a plan are not told.
#[derive(Debug, Clone)]
pub struct Inserted {
    /// The job as it is.
    pub job: Job,
    /// Whether its key was seen before, and this is the earlier job.
    pub deduplicated: bool,
}

/// Why nothing was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InsertRefused {
    /// The queue is full.
    #[error("{pending} jobs are pending and the limit is {limit}")]
    QueueFull {
        /// How many jobs are PENDING.
        pending: i64,
        /// How many there may be.
        limit: u64,
    },
    /// A job waits for one that is not there.
    #[error("there is no job {awaited}")]
    NoSuchJob {
        /// The job that was to be stored.
        job: JobId,
        /// What it was to wait for.
        awaited: JobId,
    },
    /// A job waits for one that has ended without being COMPLETED, so it could never start.
    #[error("the job {awaited} is {status}, so this one could never start")]
    NeverStarts {
        /// The job that was to be stored.
        job: JobId,
        /// What it was to wait for.
        awaited: JobId,
        /// How that ended.
        status: JobStatus,
    },
}

impl Operation for InsertJobs {
    type Output = Result<Vec<Inserted>, InsertRefused>;

    fn apply<'t>(&'t self, tx: &'t mut Tx) -> BoxFuture<'t, Result<Self::Output, StoreError>> {
        Box::pin(self.insert(tx))
    }
}

impl InsertJobs {
    async fn insert(&self, tx: &mut Tx) -> Result<Result<Vec<Inserted>, InsertRefused>, StoreError> {
        let awaited = match self.awaited(tx).await? {
            Ok(awaited) => awaited,
            Err(refused) => return Ok(Err(refused)),
        };
        let mut known = self.known(tx).await?;
        let mut inserted = Vec::with_capacity(self.jobs.len());
        let mut opening = Opening::new(awaited);
        let mut fresh = Vec::new();
        for new in &self.jobs {
            // The steps of a plan that is known are known too.
            if new.step.as_ref().is_some_and(|step| !opening.knows(step.plan)) {
                continue;
            }
            if let Some(job) = new.idempotency_key.as_ref().and_then(|key| known.get(key)) {
                inserted.push(Inserted {
                    job: job.clone(),
                    deduplicated: true,
                });
                continue;
            }
            let (job, row, tags) = record::new_job(new, opening.of(new))?;
            if let Some(key) = &new.idempotency_key {
                known.insert(key.clone(), job.clone());
            }
            fresh.push((new, job.clone(), row, tags));
            if new.step.is_none() {
                inserted.push(Inserted {
                    job,
                    deduplicated: false,
                });
            }
        }
        let pending = tx.pending().await?;
        let wanted = fresh
            .iter()
            .filter(|(_, job, ..)| job.status == JobStatus::Pending);
        let wanted = i64::try_from(wanted.count()).unwrap_or(i64::MAX);
        if wanted > 0 && pending.saturating_add(wanted) > i64::try_from(self.queue_limit).unwrap_or(i64::MAX)
        {
            return Ok(Err(InsertRefused::QueueFull {
                pending,
                limit: self.queue_limit,
            }));
        }
        for (new, job, row, tags) in fresh {
            match (job.wait, &job.route) {
                (Some(WaitReason::Queued), None) => tx.left_to_pools = true,
                (Some(WaitReason::Queued | WaitReason::Scheduled), _) => tx.committed.queued = true,
                _ => {}
            }
            tx.count_move(&job.name, None, Some(job.status));
            tx.add_event(NewEvent {
                job: job.id,
                kind: JobEventType::Created,
                at: job.created_at,
                status: JobStatus::Pending,
                previous: None,
                attempt: 0,
                progress: None,
                fault: None,
            });
            if job.status == JobStatus::Running {
                let step = transition(JobStatus::Pending, 0, job.retry.max_attempts, Move::Claim)
                    .map_err(|illegal| StoreError::Unreadable(illegal.to_string()))?;
                tx.add_event(event(&job, step, job.created_at, None));
            }
            tx.add_job(row, tags);
            tx.add_dependencies(new.depends_on.iter().map(|awaited| job_dependency::ActiveModel {
                depends_on: Set(awaited.job.uuid()),
                job_id: Set(job.id.uuid()),
                on_end: Set(awaited.on_end),
            }));
            if let Some(rules) = new.plan {
                tx.add_plan(plan::ActiveModel {
                    job_id: Set(job.id.uuid()),
                    stop_on_error: Set(rules.stop_on_error),
                    free_slots: Set(opening.free_slots(job.id)),
                });
            }
        }
        Ok(Ok(inserted))
    }

    /// Where the jobs stand that are waited for and were stored before; refused where one of them is not there, or
    /// can never be COMPLETED.
    async fn awaited(
        &self,
        tx: &mut Tx,
    ) -> Result<Result<HashMap<JobId, JobStatus>, InsertRefused>, StoreError> {
        let new: HashSet<JobId> = self.jobs.iter().map(|job| job.id).collect();
        let wanted = || {
            self.jobs.iter().flat_map(|job| {
                let stored = job
                    .depends_on
                    .iter()
                    .filter(|awaited| !new.contains(&awaited.job));
                stored.map(|awaited| (job.id, *awaited))
            })
        };
        let mut ids: Vec<Uuid> = wanted().map(|(_, awaited)| awaited.job.uuid()).collect();
        if ids.is_empty() {
            return Ok(Ok(HashMap::new()));
        }
        ids.sort_unstable();
        ids.dedup();
        tx.flush_jobs().await?;
        let stored = entity::job::Entity::find()
            .select_only()
            .column(entity::job::Column::Id)
            .column(entity::job::Column::Status)
            .filter(tx.among(entity::job::Column::Id, &ids));
        if tx.is_again() {
            // Another node had one of these rows under way; now that no lock is held that it needs, it is waited for.
            stored.clone().lock_shared().rows_in(tx).await?;
        }
        // An end whose row is written later sees the new job among those that wait for it, and one that sees to what
        // waits for it comes before this or after it. With this lock nothing is waited for: whoever has such a row may be
        // waiting for the lock.
        tx.order().await?;
        let mut found = HashMap::with_capacity(ids.len());
        let rows = stored
            .lock_with_behavior(LockType::Share, LockBehavior::Nowait)
            .rows_in(tx)
            .await?;
        for row in rows {
            let status: JobStatus = row.get::<String>("status")?.parse()?;
            // A claim steps over a row that is locked, and is not to take the queue for empty.
            tx.committed.queued |= status == JobStatus::Pending;
            found.insert(JobId::from_uuid(row.get("id")?), status);
        }
        for (job, Dependency { job: awaited, on_end }) in wanted() {
            match found.get(&awaited) {
                None => return Ok(Err(InsertRefused::NoSuchJob { job, awaited })),
                Some(&status) if status.is_final() && status != JobStatus::Completed && !on_end => {
                    return Ok(Err(InsertRefused::NeverStarts { job, awaited, status }));
                }
                Some(_) => {}
            }
        }
        Ok(Ok(found))
    }

    /// The jobs that are stored under the keys asked for. Held under a lock for each key, so that two nodes which
    /// are asked at the same moment store one job.
    async fn known(&self, tx: &mut Tx) -> Result<HashMap<String, Job>, StoreError> {
        let mut keys: Vec<&String> = self
            .jobs
            .iter()
            .filter_map(|job| job.idempotency_key.as_ref())
            .collect();
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        keys.sort_unstable();
        keys.dedup();
        tx.flush_jobs().await?;
        for key in &keys {
            if let Some(lock) = dialect::key_lock(tx.backend(), key) {
                tx.later(lock).await?;
            }
        }
        let mut known = HashMap::new();
        let rows = entity::job::Entity::find()
            .filter(dialect::is_one_of(
                tx.backend(),
                entity::job::Column::IdempotencyKey,
                keys.iter().map(|key| key.as_str()),
            ))
            .all_in(tx)
            .await?;
        for row in rows {
            if let Some(key) = row.idempotency_key.clone() {
                known.insert(key, record::job(row)?);
            }
        }
        Ok(known)
    }
}

/// Which of the new jobs may start at once. Plans come before their steps, so one look at each is enough.
struct Opening {
    /// Where those stand that were stored before.
    awaited: HashMap<JobId, JobStatus>,
    /// The new plans: whether each has started, and how many steps it may still let in.
    plans: HashMap<JobId, (bool, Option<u32>)>,
}

impl Opening {
    fn new(awaited: HashMap<JobId, JobStatus>) -> Self {
        Self {
            awaited,
            plans: HashMap::new(),
        }
    }

    fn knows(&self, plan: JobId) -> bool {
        self.plans.contains_key(&plan)
    }

    /// How a job begins.
    fn of(&mut self, new: &NewJob) -> Beginning {
        let ended = |awaited: &&Dependency| {
            self.awaited
                .get(&awaited.job)
                .is_some_and(|status| status.is_final())
        };
        let blockers = new.depends_on.len() - new.depends_on.iter().filter(ended).count();
        let gated = match new.step.as_ref().and_then(|step| self.plans.get_mut(&step.plan)) {
            None | Some((true, None)) => false,
            // A step that has to wait takes no place from one that could run.
            Some((true, Some(free))) if *free > 0 && blockers == 0 => {
                *free -= 1;
                false
            }
            Some(_) => true,
        };
        let beginning = Beginning::new(new, blockers, gated);
        if let Some(rules) = new.plan {
            self.plans
                .insert(new.id, (beginning.is_start(), rules.max_concurrency));
        }
        beginning
    }

    fn free_slots(&self, plan: JobId) -> Option<i32> {
        let (_, free) = self.plans.get(&plan)?;
        free.map(|free| i32::try_from(free).unwrap_or(i32::MAX))
    }
}
