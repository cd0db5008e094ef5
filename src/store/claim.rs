//! Claiming: the next jobs, one for each worker that is free.

use std::sync::{Arc, Mutex, PoisonError};

use entity::job;
use futures_util::future::BoxFuture;
use sea_orm::{DbBackend, Iden, Iterable, Statement, Value as SqlValue};

use super::error::StoreError;
use super::moves::event;
use super::tx::Tx;
use super::writer::Operation;
use super::{dialect, record, worker};
use crate::domain::{Job, JobStatus, Move, Timestamp, WorkerId, transition};

/// Takes the next jobs, one for each worker that is free.
#[derive(Debug)]
pub struct ClaimJobs {
    /// The free workers; at most as many jobs are taken.
    pub workers: FreeWorkers,
    /// Until when they hold what they take.
    pub lease_until: Timestamp,
    /// The moment at which the jobs start.
    pub now: Timestamp,
}

/// Workers that are free. More can join while the claim waits for its turn: one claim then takes jobs for all of them.
#[derive(Debug, Clone, Default)]
pub struct FreeWorkers(Arc<Mutex<Free>>);

#[derive(Debug, Default)]
struct Free {
    workers: Vec<WorkerId>,
    is_closed: bool,
}

impl FreeWorkers {
    /// Nobody, for a claim that has had its turn.
    #[must_use]
    pub fn nobody() -> Self {
        Self(Arc::new(Mutex::new(Free {
            workers: Vec::new(),
            is_closed: true,
        })))
    }

    /// One more is free. Tells whether the claim is made for it, too: it may have had its turn.
    #[must_use]
    pub fn join(&self, worker: WorkerId) -> bool {
        let mut free = self.lock();
        if !free.is_closed {
            free.workers.push(worker);
        }
        !free.is_closed
    }

    /// Those whom the claim is made for; nobody joins them from here on.
    #[must_use]
    pub fn close(&self) -> Vec<WorkerId> {
        let mut free = self.lock();
        free.is_closed = true;
        free.workers.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Free> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FromIterator<WorkerId> for FreeWorkers {
    fn from_iter<I: IntoIterator<Item = WorkerId>>(workers: I) -> Self {
        let workers = workers.into_iter().collect();
        Self(Arc::new(Mutex::new(Free {
            workers,
            is_closed: false,
        })))
    }
}

impl Operation for ClaimJobs {
    /// The jobs, the most urgent first; each names its worker.
    type Output = Vec<Job>;

    fn is_awaited_by_jobs(&self) -> bool {
        true
    }

    fn apply<'t>(&'t self, tx: &'t mut Tx) -> BoxFuture<'t, Result<Vec<Job>, StoreError>> {
        Box::pin(self.claim(tx))
    }
}

impl ClaimJobs {
    async fn claim(&self, tx: &mut Tx) -> Result<Vec<Job>, StoreError> {
        tx.flush_jobs().await?;
        let workers = self.workers.close();
        let (mine, mut values) = worker::mine(tx, &workers);
        let sql = claim_sql(
            tx.backend(),
            &format!("mine AS MATERIALIZED ({mine}),"),
            &dialect::indexed_by(tx.backend(), "job_claim"),
            "route IS NULL",
            "(SELECT COUNT(*) FROM mine)",
            "?",
            "(SELECT mine_id FROM mine WHERE mine_number = pick_number)",
        );
        let now = SqlValue::from(self.now.micros());
        values.extend([now.clone(), now, self.lease_until.micros().into()]);
        let statement = tx.statement(&sql, values);
        let jobs = claimed(tx, statement, self.now).await?;
        // With workers to spare it has taken all that there were, those of this transaction among them: nobody need look
        // for these. (A worker that another node took over is to spare, too; then some wait for the next look.)
        tx.left_to_pools &= jobs.len() >= workers.len();
        Ok(jobs)
    }
}

/// The statement that takes the next jobs of those that `condition` names. Its values, in this order: those of `before`,
/// which is what comes first with a comma, those of the condition, of `limit`, the moment twice, those of `lease`, those of
/// `worker`.
///
/// The rows are locked, or this is the only writer: they are still PENDING when they are written. Materialized, since
/// a plan that ran the choice twice would take other rows the second time.
pub(super) fn claim_sql(
    backend: DbBackend,
    before: &str,
    index: &str,
    condition: &str,
    limit: &str,
    lease: &str,
    worker: &str,
) -> String {
    let columns: Vec<String> = job::Column::iter().map(|column| column.to_string()).collect();
    format!(
        "WITH {before} pick AS MATERIALIZED (
            SELECT pick_id, row_number() OVER (ORDER BY pick_priority DESC, pick_id) AS pick_number
            FROM (
                SELECT id AS pick_id, priority AS pick_priority FROM job{index}
                WHERE status = 'PENDING' AND wait = 'QUEUED' AND {condition}
                ORDER BY priority DESC, id LIMIT {limit}{lock}
            ) AS next
         )
         UPDATE job SET status = 'RUNNING', wait = NULL, attempt = attempt + 1, started_at = ?, updated_at = ?,
            error_code = NULL, error_message = NULL, lease_until = {lease}, worker_id = {worker}
         FROM pick WHERE id = pick_id
         RETURNING {columns}",
        lock = dialect::for_update_skip_locked(backend),
        columns = columns.join(", "),
    )
}

/// Runs a statement of [`claim_sql`], and writes what belongs to each start. The jobs come the most urgent first.
pub(super) async fn claimed(
    tx: &mut Tx,
    statement: Statement,
    now: Timestamp,
) -> Result<Vec<Job>, StoreError> {
    let mut jobs = Vec::new();
    for row in tx.rows(statement).await? {
        jobs.push(record::job(row.model::<job::Model>()?)?);
    }
    jobs.sort_by_key(|job| (std::cmp::Reverse(job.priority), job.id));
    for job in &jobs {
        let step = transition(
            JobStatus::Pending,
            job.attempt - 1,
            job.retry.max_attempts,
            Move::Claim,
        )
        .map_err(|illegal| StoreError::Unreadable(illegal.to_string()))?;
        tx.count_move(&job.name, Some(step.from), Some(step.to));
        tx.add_event(event(job, step, now, None));
        tx.note_started(job, now);
        tx.committed.workers = true;
    }
    Ok(jobs)
}
