//! Questions about single jobs, attempts and workers, many ids at a time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use entity::{attempt, job, job_dependency, worker};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait, Select, Statement,
};
use uuid::Uuid;

use super::bounded::Bounded;
use super::cells::{Stored, model_of};
use super::cleanup::CleanupFilter;
use super::error::StoreError;
use super::sqlite_readers::SqliteReaders;
use super::together::Together;
use super::{dialect, record};
use crate::domain::{Attempt, Job, JobId, JobKind, StatusCounts, Timestamp, Worker, WorkerId};

/// Asks the store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reader {
    pub(super) db: Bounded,
    /// What answers the questions of every request on SQLite.
    file: Option<SqliteReaders>,
    /// Who asks for a job, on Postgres.
    together: Together,
    /// The question for a job on SQLite, written once: it is asked with nearly every request, and has a name for each column.
    job_by_id: Arc<str>,
    /// The question for jobs by a list of ids.
    jobs_by_ids: Arc<str>,
}

impl Reader {
    /// `patience` is how long a question waits for its turn.
    pub(super) fn new(db: Bounded, file: Option<SqliteReaders>, patience: Duration) -> Self {
        let job_by_id = job::Entity::find_by_id(Uuid::nil()).build(DbBackend::Sqlite);
        let backend = db.get_database_backend();
        let jobs_by_ids = job::Entity::find().filter(dialect::is_among(backend, job::Column::Id, []));
        Self {
            db,
            file,
            together: Together::new(patience),
            job_by_id: job_by_id.sql.into(),
            jobs_by_ids: jobs_by_ids.build(backend).sql.into(),
        }
    }

    /// The rows of a table that are asked for by their keys.
    async fn by_key<E>(&self, statement: Statement) -> Result<Vec<E::Model>, StoreError>
    where
        E: EntityTrait,
        E::Model: Stored,
    {
        Ok(match &self.file {
            Some(file) => file.at_once(&statement).await?,
            None => self.all(statement).await?,
        })
    }

    /// The rows of a question that may have to look at many.
    pub(super) async fn page<E>(&self, query: Select<E>) -> Result<Vec<E::Model>, StoreError>
    where
        E: EntityTrait,
        E::Model: Stored + 'static,
    {
        Ok(match &self.file {
            Some(file) => file.aside(query.build(DbBackend::Sqlite)).await?,
            None => self.all(query.build(self.backend())).await?,
        })
    }

    /// The rows of a question to the database itself.
    async fn all<M: Stored>(&self, statement: Statement) -> Result<Vec<M>, DbErr> {
        let rows = self.db.query_all_raw(statement).await?;
        rows.iter().map(model_of).collect()
    }

    pub(super) fn backend(&self) -> DbBackend {
        self.db.get_database_backend()
    }

    /// That a column is one of these ids.
    pub(super) fn among(&self, column: impl ColumnTrait, ids: impl IntoIterator<Item = Uuid>) -> Expr {
        dialect::is_among(self.backend(), column, ids)
    }

    /// The job of this id.
    ///
    /// # Errors
    ///
    /// [`StoreError`], here as everywhere in the reader, where the database failed or a row cannot be read.
    pub async fn job(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        let Some(file) = &self.file else {
            return self
                .together
                .job(id, |ids| async move { self.jobs(&ids).await })
                .await;
        };
        let statement =
            Statement::from_sql_and_values(DbBackend::Sqlite, &*self.job_by_id, [id.uuid().into()]);
        let mut rows = file.at_once::<job::Model>(&statement).await?;
        rows.pop().map(record::job).transpose()
    }

    /// The jobs of these ids, as far as they are there.
    ///
    /// # Errors
    ///
    /// See [`Reader::job`].
    pub async fn jobs(&self, ids: &[JobId]) -> Result<HashMap<JobId, Job>, StoreError> {
        let mut found = HashMap::with_capacity(ids.len());
        let list = dialect::id_list(ids.iter().map(|id| id.uuid()));
        let statement = Statement::from_sql_and_values(self.backend(), &*self.jobs_by_ids, [list]);
        for row in self.by_key::<job::Entity>(statement).await? {
            let job = record::job(row)?;
            found.insert(job.id, job);
        }
        Ok(found)
    }

    /// The attempts of these jobs that were followed by another, oldest first; the latest is told by the job itself.
    ///
    /// # Errors
    ///
    /// See [`Reader::job`].
    pub async fn earlier_attempts(&self, ids: &[JobId]) -> Result<HashMap<JobId, Vec<Attempt>>, StoreError> {
        let mut found: HashMap<JobId, Vec<Attempt>> = HashMap::new();
        let rows = attempt::Entity::find()
            .filter(self.among(attempt::Column::JobId, ids.iter().map(|id| id.uuid())))
            .order_by_asc(attempt::Column::Number)
            .all(&self.db)
            .await?;
        for row in rows {
            let job = JobId::from_uuid(row.job_id);
            found.entry(job).or_default().push(record::attempt(row)?);
        }
        Ok(found)
    }

    /// Every worker that is known, by name. Those not heard of since `silent_since` are OFFLINE.
    ///
    /// # Errors
    ///
    /// See [`Reader::job`].
    pub async fn workers(&self, silent_since: Timestamp) -> Result<Vec<Worker>, StoreError> {
        let rows = worker::Entity::find()
            .order_by_asc(worker::Column::Name)
            .all(&self.db)
            .await?;
        self.with_status(rows, silent_since).await
    }

    /// The workers of these ids, as far as they are there.
    ///
    /// # Errors
    ///
    /// See [`Reader::job`].
    pub async fn workers_by_id(
        &self,
        ids: &[WorkerId],
        silent_since: Timestamp,
    ) -> Result<HashMap<WorkerId, Worker>, StoreError> {
        let mut found = HashMap::with_capacity(ids.len());
        let rows = worker::Entity::find()
            .filter(self.among(worker::Column::Id, ids.iter().map(|id| id.uuid())))
            .all(&self.db)
            .await?;
        let workers = self.with_status(rows, silent_since).await?;
        found.extend(workers.into_iter().map(|worker| (worker.id, worker)));
        Ok(found)
    }

    async fn with_status(
        &self,
        rows: Vec<worker::Model>,
        silent_since: Timestamp,
    ) -> Result<Vec<Worker>, StoreError> {
        let ids: Vec<WorkerId> = rows.iter().map(|row| WorkerId::from_uuid(row.id)).collect();
        let busy = self.current_jobs(&ids).await?;
        rows.into_iter()
            .map(|row| {
                let is_busy = busy.contains_key(&WorkerId::from_uuid(row.id));
                record::worker(row, is_busy, silent_since)
            })
            .collect()
    }

    /// What these workers hold.
    ///
    /// # Errors
    ///
    /// See [`Reader::job`].
    pub async fn current_jobs(&self, ids: &[WorkerId]) -> Result<HashMap<WorkerId, Vec<JobId>>, StoreError> {
        let mut found: HashMap<WorkerId, Vec<JobId>> = HashMap::new();
        let rows: Vec<(Uuid, Uuid)> = job::Entity::find()
            .select_only()
            .column(job::Column::WorkerId)
            .column(job::Column::Id)
            .filter(dialect::is_running())
            .filter(self.among(job::Column::WorkerId, ids.iter().map(|id| id.uuid())))
            .order_by_asc(job::Column::Id)
            .into_tuple()
            .all(&self.db)
            .await?;
        for (worker, job) in rows {
            found
                .entry(WorkerId::from_uuid(worker))
                .or_default()
                .push(JobId::from_uuid(job));
        }
        Ok(found)
    }

    /// How many children of each status these jobs have.
    ///
    /// # Errors
    ///
    /// See [`Reader::job`].
    pub async fn child_counts(&self, parents: &[JobId]) -> Result<HashMap<JobId, StatusCounts>, StoreError> {
        let mut found: HashMap<JobId, StatusCounts> = HashMap::new();
        let rows: Vec<(Uuid, String, i64)> = job::Entity::find()
            .select_only()
            .column(job::Column::ParentId)
            .column(job::Column::Status)
            .column_as(job::Column::Id.count(), "jobs")
            .filter(self.among(job::Column::ParentId, parents.iter().map(|id| id.uuid())))
            .group_by(job::Column::ParentId)
            .group_by(job::Column::Status)
            .into_tuple()
            .all(&self.db)
            .await?;
        for (parent, status, jobs) in rows {
            found
                .entry(JobId::from_uuid(parent))
                .or_default()
                .add(status.parse()?, jobs);
        }
        Ok(found)
    }

    /// For each step of a plan, in its order, the keys of the steps that it waits for.
    ///
    /// # Errors
    ///
    /// See [`Reader::job`].
    pub async fn step_dependencies(&self, plan: JobId) -> Result<Vec<(String, Vec<String>)>, StoreError> {
        let statement = dialect::statement(
            self.backend(),
            "SELECT step.step_key AS step_key, awaited.step_key AS awaited_key
             FROM job AS step
             LEFT JOIN job_dependency ON job_dependency.job_id = step.id
             LEFT JOIN job AS awaited ON awaited.id = job_dependency.depends_on AND awaited.parent_id = step.parent_id
             WHERE step.parent_id = ? ORDER BY step.step_index, awaited.step_index",
            [plan.uuid().into()],
        );
        let mut found: Vec<(String, Vec<String>)> = Vec::new();
        for row in self.db.query_all_raw(statement).await? {
            let key: String = row.try_get("", "step_key")?;
            let awaited: Option<String> = row.try_get("", "awaited_key")?;
            if found.last().is_none_or(|(last, _)| *last != key) {
                found.push((key, Vec::new()));
            }
            if let (Some((_, keys)), Some(awaited)) = (found.last_mut(), awaited) {
                keys.push(awaited);
            }
        }
        Ok(found)
    }

    /// The steps of a plan, in its order.
    ///
    /// # Errors
    ///
    /// See [`Reader::job`].
    pub async fn steps(&self, plan: JobId) -> Result<Vec<Job>, StoreError> {
        let rows = job::Entity::find()
            .filter(job::Column::ParentId.eq(plan.uuid()))
            .order_by_asc(job::Column::StepIndex)
            .all(&self.db)
            .await?;
        rows.into_iter().map(record::job).collect()
    }

    /// What these jobs wait for or waited for, as far as it must have completed.
    ///
    /// # Errors
    ///
    /// See [`Reader::job`].
    pub async fn dependencies(&self, ids: &[JobId]) -> Result<HashMap<JobId, Vec<JobId>>, StoreError> {
        let mut found: HashMap<JobId, Vec<JobId>> = HashMap::new();
        let rows = job_dependency::Entity::find()
            .filter(self.among(job_dependency::Column::JobId, ids.iter().map(|id| id.uuid())))
            .filter(job_dependency::Column::OnEnd.eq(false))
            .order_by_asc(job_dependency::Column::DependsOn)
            .all(&self.db)
            .await?;
        for row in rows {
            let awaited = JobId::from_uuid(row.depends_on);
            found
                .entry(JobId::from_uuid(row.job_id))
                .or_default()
                .push(awaited);
        }
        Ok(found)
    }

    /// The latest job of each kind and name.
    ///
    /// # Errors
    ///
    /// See [`Reader::job`].
    pub async fn last_jobs(
        &self,
        named: &[(JobKind, String)],
    ) -> Result<HashMap<(JobKind, String), Job>, StoreError> {
        let mut found = HashMap::with_capacity(named.len());
        for (kind, name) in named {
            let row = job::Entity::find()
                .filter(job::Column::Name.eq(name.as_str()))
                .filter(job::Column::Kind.eq(kind.as_str()))
                .order_by_desc(job::Column::Id)
                .one(&self.db)
                .await?;
            if let Some(row) = row {
                found.insert((*kind, name.clone()), record::job(row)?);
            }
        }
        Ok(found)
    }

    /// The first moment at which a job that waits for its moment becomes ready.
    ///
    /// # Errors
    ///
    /// See [`Reader::job`].
    pub async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        let backend = self.backend();
        let sql = format!(
            "SELECT MIN(run_at) AS due FROM job{} WHERE status = 'PENDING' AND wait IN ('SCHEDULED', 'BACKOFF')",
            dialect::indexed_by(backend, "job_due"),
        );
        let statement = dialect::statement(backend, &sql, []);
        let row = self.db.query_one_raw(statement).await?;
        let due: Option<i64> = row.map_or(Ok(None), |row| row.try_get("", "due"))?;
        Ok(due.map(Timestamp::from_micros))
    }

    /// The first moment at which a lease, or the time of a plan, is over.
    ///
    /// # Errors
    ///
    /// See [`Reader::job`].
    pub async fn next_expiry(&self) -> Result<Option<Timestamp>, StoreError> {
        let backend = self.backend();
        let sql = format!(
            "SELECT MIN(lease_until) AS until FROM job{} WHERE status = 'RUNNING'",
            dialect::indexed_by(backend, "job_lease"),
        );
        let statement = dialect::statement(backend, &sql, []);
        let row = self.db.query_one_raw(statement).await?;
        let until: Option<i64> = row.map_or(Ok(None), |row| row.try_get("", "until"))?;
        Ok(until.map(Timestamp::from_micros))
    }

    /// How many jobs a cleanup would delete.
    ///
    /// # Errors
    ///
    /// See [`Reader::job`].
    pub async fn count_cleanup(&self, filter: &CleanupFilter) -> Result<u64, StoreError> {
        filter.count(&self.db).await
    }

    /// Asks the database for as little as possible, and tells how long that took.
    ///
    /// # Errors
    ///
    /// See [`Reader::job`].
    pub async fn ping(&self) -> Result<Duration, StoreError> {
        let started = Instant::now();
        let statement = dialect::statement(self.backend(), "SELECT 1 AS one", []);
        self.db.query_one_raw(statement).await?;
        Ok(started.elapsed())
    }

    /// The size of the database in bytes.
    ///
    /// # Errors
    ///
    /// See [`Reader::job`].
    pub async fn size_bytes(&self) -> Result<i64, StoreError> {
        let row = self.db.query_one_raw(dialect::size_query(self.backend())).await?;
        Ok(row.map_or(Ok(0), |row| row.try_get("", "bytes"))?)
    }
}
