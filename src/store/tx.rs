//! One transaction: what its operations write at once, and what they leave to be written together at its end.

use std::collections::BTreeMap;

use entity::{audit, job, job_dependency, job_event, job_tag, log_chunk, plan};
use sea_orm::sea_query::Expr;
use sea_orm::{ActiveModelTrait, ColumnTrait, DbBackend, Statement};
use serde_json::json;
use uuid::Uuid;

use super::at_once::AtOnce;
use super::counters::{ADD_TO_COUNTER, Counters, metric};
use super::ends::Ends;
use super::error::StoreError;
use super::rows::Rows;
use super::steps::{self, Ended};
use super::transaction::{Asked, CommitError, Row, Transaction};
use super::{dialect, notify, record};
use crate::domain::{
    Changes, EventSeq, Fault, Job, JobEventType, JobId, JobStatus, Progress, Timestamp, WorkerId,
};
use crate::failpoint::failpoint;

/// A piece of a log that is there already came with a commit whose answer was lost: who wrote it could not know, and writes
/// it again.
const KNOWN_CHUNK: &str = " ON CONFLICT (job_id, attempt, first_line) DO NOTHING";

/// An event that gets its number at the end of the transaction.
pub(super) struct NewEvent {
    pub(super) job: JobId,
    pub(super) kind: JobEventType,
    pub(super) at: Timestamp,
    pub(super) status: JobStatus,
    pub(super) previous: Option<JobStatus>,
    pub(super) attempt: u32,
    pub(super) progress: Option<Progress>,
    pub(super) fault: Option<Fault>,
}

/// One transaction of the writer. Only operations of the store look inside.
pub struct Tx {
    node: Uuid,
    transaction: Transaction,
    backend: DbBackend,
    new_jobs: Vec<job::ActiveModel>,
    new_tags: Vec<job_tag::ActiveModel>,
    pub(super) new_dependencies: Vec<job_dependency::ActiveModel>,
    new_plans: Vec<plan::ActiveModel>,
    new_chunks: Vec<log_chunk::ActiveModel>,
    new_audit: Vec<audit::ActiveModel>,
    events: Vec<NewEvent>,
    /// Jobs that came to their end, whose plans and dependents are seen to before the commit.
    pub(super) ended: Vec<Ended>,
    pub(super) ends: Ends,
    /// What gives the number of the last event.
    last: Option<Asked>,
    /// Whether an earlier try was rolled back.
    again: bool,
    /// The step that started last, for each plan of which one did.
    pub(super) steps_started: BTreeMap<JobId, String>,
    /// The latest moment that an operation of this transaction told.
    now: Timestamp,
    /// Whether it holds the lock that orders commits.
    pub(super) ordered: bool,
    pub(super) counters: Counters,
    worker_tasks: BTreeMap<WorkerId, (i64, i64)>,
    /// PENDING jobs before this transaction, once somebody asked, and what it has changed since.
    pending_before: Option<i64>,
    pending_change: i64,
    /// Whether this transaction put jobs into line for the pools, which no claim of its own has taken.
    pub(super) left_to_pools: bool,
    /// What the commit will tell.
    pub(super) committed: Changes,
}

impl Tx {
    pub(super) fn new(transaction: Transaction, node: Uuid, again: bool) -> Self {
        let backend = transaction.backend();
        Self {
            node,
            transaction,
            backend,
            new_jobs: Vec::new(),
            new_tags: Vec::new(),
            new_dependencies: Vec::new(),
            new_plans: Vec::new(),
            new_chunks: Vec::new(),
            new_audit: Vec::new(),
            events: Vec::new(),
            ended: Vec::new(),
            ends: Ends::default(),
            last: None,
            again,
            steps_started: BTreeMap::new(),
            now: Timestamp::from_micros(0),
            ordered: false,
            counters: Counters::default(),
            worker_tasks: BTreeMap::new(),
            pending_before: None,
            pending_change: 0,
            left_to_pools: false,
            committed: Changes::default(),
        }
    }

    /// Writes; gives how many rows it changed.
    pub(super) async fn execute(&self, statement: Statement) -> Result<u64, StoreError> {
        Ok(self.transaction.execute(statement).await?)
    }

    /// Writes, at the latest with the next statement whose answer is awaited.
    pub(super) async fn later(&self, statement: Statement) -> Result<(), StoreError> {
        Ok(self.transaction.later(statement).await?)
    }

    /// Asks for what [`answer`](Self::answer) gives; on Postgres together with all that is asked by then.
    pub(super) async fn ask(&self, statement: Statement) -> Result<Asked, StoreError> {
        Ok(self.transaction.ask(statement).await?)
    }

    pub(super) async fn answer(&self, asked: Asked) -> Result<Vec<Row>, StoreError> {
        Ok(self.transaction.answer(asked).await?)
    }

    /// Runs a statement on SQLite once for each row of values; gives the number of the row that was inserted last.
    pub(super) async fn each(
        &self,
        sql: &str,
        rows: Vec<Vec<sea_orm::Value>>,
    ) -> Result<Option<i64>, StoreError> {
        Ok(self.transaction.each(sql, rows).await?)
    }

    /// Runs statements that have no values, one after the other.
    pub(super) async fn batch(&self, sql: &str) -> Result<(), StoreError> {
        Ok(self.transaction.batch(sql).await?)
    }

    /// All that a statement answers.
    pub(super) async fn rows(&self, statement: Statement) -> Result<Vec<Row>, StoreError> {
        Ok(self.transaction.rows(statement).await?)
    }

    /// The one row, or the first of those, that a statement answers.
    pub(super) async fn row(&self, statement: Statement) -> Result<Option<Row>, StoreError> {
        Ok(self.rows(statement).await?.into_iter().next())
    }

    /// That a column is one of these ids.
    pub(super) fn among(&self, column: impl ColumnTrait, ids: &[Uuid]) -> Expr {
        dialect::is_among(self.backend, column, ids.iter().copied())
    }

    /// This server process.
    pub(super) const fn node(&self) -> Uuid {
        self.node
    }

    pub(super) const fn backend(&self) -> DbBackend {
        self.backend
    }

    pub(super) fn statement(&self, sql: &str, values: impl IntoIterator<Item = sea_orm::Value>) -> Statement {
        dialect::statement(self.backend, sql, values)
    }

    /// Leaves a job to be written with all others of this transaction.
    pub(super) fn add_job(&mut self, row: job::ActiveModel, tags: Vec<job_tag::ActiveModel>) {
        self.new_jobs.push(row);
        self.new_tags.extend(tags);
    }

    /// Leaves what a job waits for to be written with all others of this transaction.
    pub(super) fn add_dependencies(&mut self, rows: impl IntoIterator<Item = job_dependency::ActiveModel>) {
        self.new_dependencies.extend(rows);
    }

    /// Leaves the rules of a plan to be written with all others of this transaction.
    pub(super) fn add_plan(&mut self, row: plan::ActiveModel) {
        self.new_plans.push(row);
    }

    /// Notes that a job came to its end: what waits for it, and its plan, are seen to before the commit.
    pub(super) fn add_ended(&mut self, ended: Ended, now: Timestamp) {
        self.see(now);
        self.ended.push(ended);
    }

    /// Whether an earlier try of this was rolled back.
    pub(super) const fn is_again(&self) -> bool {
        self.again
    }

    pub(super) fn take_ended(&mut self) -> Vec<Ended> {
        std::mem::take(&mut self.ended)
    }

    /// Notes that a job started: where it is a step, its plan tells so.
    pub(super) fn note_started(&mut self, job: &Job, now: Timestamp) {
        if let (Some(plan), Some(key)) = (job.parent, &job.step_key) {
            self.see(now);
            self.steps_started.insert(plan, key.clone());
        }
    }

    pub(super) fn take_steps_started(&mut self) -> BTreeMap<JobId, String> {
        std::mem::take(&mut self.steps_started)
    }

    /// Takes note of the moment at which an operation takes place.
    pub(super) fn see(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
    }

    /// The latest moment that an operation of this transaction told.
    pub(super) const fn now(&self) -> Timestamp {
        self.now
    }

    /// Takes the lock that orders commits, once. What is read from here on is as the commits before left it, so
    /// whoever links jobs with each other takes it before it looks.
    pub(super) async fn order(&mut self) -> Result<(), StoreError> {
        if !self.ordered {
            if let Some(lock) = dialect::commit_order_lock(self.backend) {
                self.later(lock).await?;
            }
            self.ordered = true;
        }
        Ok(())
    }

    /// Leaves a piece of a log to be written with all others of this transaction.
    pub(super) fn add_chunk(&mut self, row: log_chunk::ActiveModel, job: JobId) {
        self.new_chunks.push(row);
        self.committed.logs.insert(job);
    }

    /// Leaves a line of the audit log to be written with all others of this transaction.
    pub(super) fn add_audit(&mut self, row: audit::ActiveModel) {
        self.new_audit.push(row);
    }

    /// How many events were left to be written.
    pub(super) const fn events(&self) -> usize {
        self.events.len()
    }

    /// Puts these events, of those that were left from `since` on, behind the ones that came after them.
    pub(super) fn put_behind(&mut self, since: usize, events: usize) {
        if let Some(events_since) = self.events.get_mut(since..) {
            events_since.rotate_left(events.min(events_since.len()));
        }
    }

    /// Leaves an event to be numbered and written at the end.
    pub(super) fn add_event(&mut self, event: NewEvent) {
        self.committed.jobs.insert(event.job);
        self.events.push(event);
    }

    /// Moves one job from a status to another in the counters; none stands for "not there".
    pub(super) fn count_move(&mut self, name: &str, from: Option<JobStatus>, to: Option<JobStatus>) {
        let pending = |status| i64::from(status == Some(JobStatus::Pending));
        self.pending_change += pending(to) - pending(from);
        self.counters.count_move(name, from, to);
    }

    /// Counts a job that `worker` brought to its end.
    pub(super) fn count_task(&mut self, worker: WorkerId, completed: bool) {
        let (done, failed) = self.worker_tasks.entry(worker).or_default();
        *(if completed { done } else { failed }) += 1;
    }

    /// How many jobs are PENDING, with all that this transaction has done so far. The counters of other nodes'
    /// transactions under way are not seen, so the limit is exact on one node and close on many.
    pub(super) async fn pending(&mut self) -> Result<i64, StoreError> {
        if let Some(before) = self.pending_before {
            return Ok(before + self.pending_change);
        }
        // Sums of integers are NUMERIC on Postgres, hence the cast.
        let statement = self.statement(
            "SELECT CAST(COALESCE(SUM(value), 0) AS BIGINT) AS pending FROM stat WHERE metric = ? AND bucket = ?",
            [metric::STATUS.into(), (JobStatus::Pending as i32).into()],
        );
        let row = self.row(statement).await?;
        let before: i64 = row.map_or(Ok(0), |row| row.get("pending"))?;
        Ok(*self.pending_before.insert(before) + self.pending_change)
    }

    /// Writes the jobs gathered so far, for an operation that is about to look at the table.
    pub(super) async fn flush_jobs(&mut self) -> Result<(), StoreError> {
        let rows = std::mem::take(&mut self.new_jobs);
        self.insert(rows, "").await?;
        let rows = std::mem::take(&mut self.new_tags);
        self.insert(rows, "").await?;
        let rows = std::mem::take(&mut self.new_dependencies);
        self.insert(rows, "").await?;
        let rows = std::mem::take(&mut self.new_plans);
        self.insert(rows, "").await
    }

    async fn insert<A: ActiveModelTrait + Send>(&self, rows: Vec<A>, end: &str) -> Result<(), StoreError> {
        if !rows.is_empty() {
            Rows::of(rows, None)?.insert(self, end).await?;
        }
        Ok(())
    }

    /// Writes the pieces of logs gathered so far, for an operation that adds to one of them.
    pub(super) async fn flush_chunks(&mut self) -> Result<(), StoreError> {
        let rows = std::mem::take(&mut self.new_chunks);
        self.insert(rows, KNOWN_CHUNK).await
    }

    /// Commits what was flushed.
    pub(super) async fn commit(mut self) -> Result<Changes, CommitError> {
        let last = self.transaction.commit(self.last).await?;
        if let Some(row) = last.first() {
            // It is committed, whatever is wrong with the answer.
            let seq = row.get::<Option<i64>>("seq");
            let seq = seq.map_err(|error| CommitError::During(error.into()))?;
            self.committed.last_event = seq.map(EventSeq).max(self.committed.last_event);
        }
        Ok(self.committed)
    }

    /// Gives up what was written.
    pub(super) async fn roll_back(self) {
        // Where this fails it is rolled back with its connection.
        if let Err(error) = self.transaction.roll_back().await {
            tracing::debug!(error = %crate::telemetry::chain(&error), "a transaction was not rolled back");
        }
    }

    /// Writes what was gathered: the last before the commit.
    pub(super) async fn flush(&mut self) -> Result<(), StoreError> {
        self.committed.workers |= !self.worker_tasks.is_empty();
        self.committed.queued |= self.left_to_pools;
        if self.has_company().await? {
            self.settle().await?;
        }
        if self.backend == DbBackend::Postgres {
            self.flush_at_once().await
        } else {
            let last = self.flush_by_table().await?;
            self.committed.last_event = last.map(EventSeq).max(self.committed.last_event);
            Ok(())
        }
    }

    /// Sees to all that waits for what ended, under the lock that orders commits.
    async fn settle(&mut self) -> Result<(), StoreError> {
        if self.ended.is_empty() && self.steps_started.is_empty() {
            return Ok(());
        }
        self.flush_jobs().await?;
        self.order().await?;
        steps::settle(self).await?;
        failpoint!("plan.settled");
        Ok(())
    }

    /// Writes all that is left by one statement, but for what is much. It goes with the commit.
    async fn flush_at_once(&mut self) -> Result<(), StoreError> {
        let mut at_once = AtOnce::default();
        let mut left = Vec::new();
        left.extend(gathered("jobs", &mut self.new_jobs, "")?);
        left.extend(gathered("tags", &mut self.new_tags, "")?);
        left.extend(gathered("dependencies", &mut self.new_dependencies, "")?);
        left.extend(gathered("plans", &mut self.new_plans, "")?);
        left.extend(gathered("logged", &mut self.new_chunks, KNOWN_CHUNK)?);
        left.extend(gathered("audited", &mut self.new_audit, "")?);
        for (name, rows, end) in left {
            if rows.are_few() {
                at_once.insert(name, rows, end)?;
            } else {
                rows.insert(self, end).await?;
            }
        }
        let counters = self.counters.take_rows()?;
        let events = self.event_rows()?;
        let tasks = std::mem::take(&mut self.worker_tasks);
        if !(self.ordered || counters.is_empty() && events.is_empty() && tasks.is_empty()) {
            at_once.lock();
            self.ordered = true;
        }
        if !counters.is_empty() {
            at_once.count(counters, ADD_TO_COUNTER)?;
        }
        if !tasks.is_empty() {
            let tasks: serde_json::Value = tasks
                .iter()
                .map(|(worker, (completed, failed))| json!({ "worker": worker.uuid(), "completed": completed, "failed": failed }))
                .collect();
            at_once.work(tasks.to_string().into());
        }
        if !events.is_empty() {
            at_once.tell(events)?;
        }
        if let Some(statement) = at_once.statement(notify::hint(self.node, &self.committed)) {
            self.last = Some(self.ask(statement).await?);
        }
        Ok(())
    }

    /// Writes all that is left, a statement for each row. Gives the number of the last event.
    async fn flush_by_table(&mut self) -> Result<Option<i64>, StoreError> {
        self.flush_jobs().await?;
        self.flush_chunks().await?;
        let rows = std::mem::take(&mut self.new_audit);
        self.insert(rows, "").await?;
        self.counters.take_rows()?.insert(self, ADD_TO_COUNTER).await?;
        let tasks = std::mem::take(&mut self.worker_tasks).into_iter();
        let tasks = tasks
            .map(|(worker, (completed, failed))| vec![completed.into(), failed.into(), worker.uuid().into()]);
        self.each(
            "UPDATE worker SET tasks_completed = tasks_completed + ?, tasks_failed = tasks_failed + ? WHERE id = ?",
            tasks.collect(),
        )
        .await?;
        self.event_rows()?.insert(self, "").await
    }

    fn event_rows(&mut self) -> Result<Rows, StoreError> {
        let events = std::mem::take(&mut self.events)
            .into_iter()
            .map(record::new_event);
        Rows::of(events.collect(), Some(job_event::Column::Seq))
    }
}

/// What was gathered for a table, if anything was, with a name for it and the end of its statement.
fn gathered<A: ActiveModelTrait>(
    name: &'static str,
    rows: &mut Vec<A>,
    end: &'static str,
) -> Result<Option<(&'static str, Rows, &'static str)>, StoreError> {
    if rows.is_empty() {
        return Ok(None);
    }
    Ok(Some((name, Rows::of(std::mem::take(rows), None)?, end)))
}
