//! Handing jobs to registered workers.

use std::time::Duration;

use entity::{job, worker};
use futures_util::future::BoxFuture;
use sea_orm::{ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, QueryFilter, Value as SqlValue};
use tokio_util::sync::CancellationToken;

use super::claim::{claim_sql, claimed};
use super::error::StoreError;
use super::log_codec::{LogEncoder, chunk_row};
use super::read::Reader;
use super::remote::{HELD, RemoteFault, heard_of, registered};
use super::transaction::SelectInTx;
use super::tx::Tx;
use super::writer::Operation;
use super::{dialect, record};
use crate::domain::{Job, JobId, LogLevel, LogStream, Pattern, Timestamp, WorkerId};

/// Takes the next jobs that a registered worker supports, no more than it has room for.
#[derive(Debug)]
pub struct ClaimTasks {
    /// The worker.
    pub worker: WorkerId,
    /// The most that it takes; 0 is a sign of life without a look at the queue.
    pub max: u32,
    /// How long it holds them, never beyond their timeouts.
    pub lease: Duration,
    /// Cancelled when nobody waits for the answer any more: then nothing is taken.
    pub gone: CancellationToken,
    /// The moment at which the jobs start.
    pub now: Timestamp,
}

impl Operation for ClaimTasks {
    /// The jobs, the most urgent first.
    type Output = Result<Vec<Job>, RemoteFault>;

    fn apply<'t>(&'t self, tx: &'t mut Tx) -> BoxFuture<'t, Result<Self::Output, StoreError>> {
        Box::pin(self.claim(tx))
    }
}

impl ClaimTasks {
    async fn claim(&self, tx: &mut Tx) -> Result<Result<Vec<Job>, RemoteFault>, StoreError> {
        if self.gone.is_cancelled() {
            return Ok(Ok(Vec::new()));
        }
        // The lock keeps a second claim of the same worker, on another node, from seeing the same room.
        let row = match registered(tx, self.worker, dialect::for_update(tx.backend())).await? {
            Ok(row) => row,
            Err(fault) => return Ok(Err(fault)),
        };
        let running = job::Entity::find()
            .filter(dialect::is_running())
            .filter(job::Column::WorkerId.eq(row.id))
            .count_in(tx)
            .await?;
        let limit = u32::try_from(row.max_parallel_tasks).unwrap_or(0);
        let room = u64::from(limit).saturating_sub(running);
        if room == 0 {
            return Ok(Err(RemoteFault::NoRoom { running, limit }));
        }
        heard_of(tx, &row, Some(true), self.lease, self.now).await?;
        if self.max == 0 {
            return Ok(Ok(Vec::new()));
        }
        tx.flush_jobs().await?;
        let (condition, mut values) = supported(tx.backend(), &row)?;
        let now = SqlValue::from(self.now.micros());
        let sql = claim_sql(
            tx.backend(),
            "",
            &dialect::indexed_by(tx.backend(), "job_route"),
            &condition,
            "?",
            "CASE WHEN timeout_ms * 1000 < ? THEN ? + timeout_ms * 1000 ELSE ? END",
            &format!("CAST(? AS {})", dialect::uuid_type(tx.backend())),
        );
        values.extend([
            i64::try_from(room.min(u64::from(self.max))).unwrap_or(1).into(),
            now.clone(),
            now.clone(),
            i64::try_from(self.lease.as_micros()).unwrap_or(i64::MAX).into(),
            now,
            self.now.after(self.lease).micros().into(),
            row.id.into(),
        ]);
        let statement = tx.statement(&sql, values);
        let jobs = claimed(tx, statement, self.now).await?;
        for job in &jobs {
            let mut log = LogEncoder::default();
            let text = format!("attempt {} started on {}\n", job.attempt, row.name);
            log.push(LogStream::System, LogLevel::Info, self.now, text.as_bytes());
            if let Some(chunk) = log.take() {
                tx.add_chunk(chunk_row(job.id, record::number(job.attempt), chunk), job.id);
            }
        }
        Ok(Ok(jobs))
    }
}

/// The condition that a job waits for a worker of these patterns, with its values.
fn supported(backend: DbBackend, row: &worker::Model) -> Result<(String, Vec<SqlValue>), StoreError> {
    let patterns: Vec<String> = serde_json::from_str(&row.supported_problems)?;
    if patterns.iter().any(|pattern| pattern == "*") {
        return Ok(("route IS NOT NULL".to_owned(), Vec::new()));
    }
    let each = vec![dialect::matches(backend, "route"); patterns.len()].join(" OR ");
    let values = patterns
        .iter()
        .map(|pattern| dialect::pattern_value(backend, pattern).into());
    Ok((format!("route IS NOT NULL AND ({each})"), values.collect()))
}

impl Reader {
    /// Whether a job is in line that this registered worker supports. Tasks that nobody supports may stand before it,
    /// and are looked at one by one: readers do so, since the writer would hold up all others meanwhile.
    ///
    /// # Errors
    ///
    /// See [`Reader::job`].
    pub async fn has_task_for(&self, worker: WorkerId) -> Result<bool, StoreError> {
        let row = worker::Entity::find_by_id(worker.uuid()).one(&self.db).await?;
        let Some(row) = row.filter(|row| !row.internal) else {
            return Ok(false);
        };
        let backend = self.backend();
        let (condition, values) = supported(backend, &row)?;
        let sql = format!(
            "SELECT 1 AS one FROM job{} WHERE status = 'PENDING' AND wait = 'QUEUED' AND {condition} LIMIT 1",
            dialect::indexed_by(backend, "job_route"),
        );
        let statement = dialect::statement(backend, &sql, values);
        Ok(self.db.query_one_raw(statement).await?.is_some())
    }

    /// Those of these jobs that the worker holds and may go on with.
    ///
    /// # Errors
    ///
    /// See [`Reader::job`].
    pub async fn held_by(
        &self,
        worker: WorkerId,
        jobs: &[JobId],
        now: Timestamp,
    ) -> Result<Vec<JobId>, StoreError> {
        let mut held = Vec::with_capacity(jobs.len());
        let backend = self.backend();
        let ids = dialect::id_list(jobs.iter().map(|job| job.uuid()));
        let statement = dialect::statement(
            backend,
            &format!(
                "SELECT id FROM job WHERE id {} AND {HELD}",
                dialect::among_ids(backend)
            ),
            [ids, worker.uuid().into(), now.micros().into()],
        );
        for row in self.db.query_all_raw(statement).await? {
            held.push(JobId::from_uuid(row.try_get("", "id")?));
        }
        Ok(held)
    }

    /// What the registered workers support that are online and were heard of since `silent_since`.
    ///
    /// # Errors
    ///
    /// See [`Reader::job`].
    pub async fn supported_patterns(&self, silent_since: Timestamp) -> Result<Vec<Pattern>, StoreError> {
        let rows = worker::Entity::find()
            .filter(worker::Column::Internal.eq(false))
            .filter(worker::Column::Online.eq(true))
            .filter(worker::Column::LastHeartbeat.gte(silent_since.micros()))
            .all(&self.db)
            .await?;
        let mut patterns = Vec::new();
        for row in rows {
            let texts: Vec<String> = serde_json::from_str(&row.supported_problems)?;
            for text in texts {
                patterns.push(text.parse().map_err(|fault| {
                    StoreError::Unreadable(format!("a pattern of worker {}: {fault}", row.name))
                })?);
            }
        }
        patterns.sort_unstable();
        patterns.dedup();
        Ok(patterns)
    }
}
