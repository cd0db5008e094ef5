//! Deleting ended jobs with all that belongs to them.

use std::time::{Duration, Instant};

use entity::{attempt, job, job_dependency, job_event, job_tag, log_chunk, plan};
use futures_util::future::BoxFuture;
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, EntityTrait, PaginatorTrait, QueryFilter, QuerySelect,
};
use uuid::Uuid;

use super::error::StoreError;
use super::transaction::{InTx, Row};
use super::tx::Tx;
use super::writer::Operation;
use super::{dialect, record};
use crate::domain::{EventSeq, JobStatus, Timestamp};

/// Ended jobs that one transaction looks at, and deletes, at most: each is a value of its statements.
pub const MOST_AT_ONCE: usize = 512;

/// Where the store keeps the number of the latest event that was deleted.
pub(super) const EVENT_FLOOR: &str = "event_floor";

/// A step stays as long as its plan runs: what it did is part of what the plan shows.
const OWN_TIME: &str = "(parent_id IS NULL OR NOT EXISTS
    (SELECT 1 FROM job AS whole WHERE whole.id = job.parent_id AND whole.finished_at IS NULL))";

/// Which ended jobs to delete.
#[derive(Debug, Clone)]
pub struct CleanupFilter {
    /// Those that ended before this moment; none is all.
    pub finished_before: Option<Timestamp>,
    /// Those with one of these final statuses.
    pub statuses: Vec<JobStatus>,
}

impl CleanupFilter {
    fn final_statuses(&self) -> Vec<&'static str> {
        let statuses = self.statuses.iter().filter(|status| status.is_final());
        statuses.map(|status| status.as_str()).collect()
    }

    fn condition(&self) -> Condition {
        Condition::all()
            .add(job::Column::FinishedAt.is_not_null())
            .add(job::Column::Status.is_in(self.final_statuses()))
            .add(Expr::cust(OWN_TIME))
            .add_option(
                self.finished_before
                    .map(|before| job::Column::FinishedAt.lt(before.micros())),
            )
    }

    /// Of the next so many ended jobs after a place, in the order of their ends, the ones that it names.
    ///
    /// It never begins anew: on Postgres the index keeps what was deleted until a vacuum, and each look from its
    /// beginning would take longer than the one before.
    async fn next(&self, tx: &Tx, after: Place, most: usize) -> Result<Looked, StoreError> {
        let statuses = self.final_statuses();
        if statuses.is_empty() {
            return Ok(Looked::default());
        }
        // A plan that runs is counted by its key for each step: a join would read all jobs for those that run.
        let sql = format!(
            "SELECT id, finished_at, status, (SELECT COUNT(*) FROM job AS whole
                WHERE whole.id = job.parent_id AND whole.finished_at IS NULL) AS held
             FROM job{} WHERE finished_at IS NOT NULL AND (finished_at, id) > (?, ?) AND finished_at < ?
             ORDER BY finished_at, id LIMIT {most}",
            dialect::indexed_by(tx.backend(), "job_finished"),
        );
        let before = self.finished_before.map_or(i64::MAX, Timestamp::micros);
        let values = [after.finished.into(), after.id.into(), before.into()];
        let rows = tx.rows(tx.statement(&sql, values)).await?;
        let mut looked = Looked {
            more: rows.len() == most,
            ..Looked::default()
        };
        for row in rows {
            let (id, finished) = (row.get("id")?, row.get("finished_at")?);
            looked.last = Some(Place { finished, id });
            let status: String = row.get("status")?;
            if statuses.contains(&status.as_str()) && row.get::<i64>("held")? == 0 {
                looked.ids.push(id);
            }
        }
        Ok(looked)
    }

    /// How many jobs it would delete.
    pub(super) async fn count(&self, db: &impl sea_orm::ConnectionTrait) -> Result<u64, StoreError> {
        Ok(job::Entity::find().filter(self.condition()).count(db).await?)
    }
}

/// A place among the ended jobs, in the order of their ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    finished: i64,
    id: Uuid,
}

impl Default for Place {
    /// Before all of them.
    fn default() -> Self {
        Self {
            finished: i64::MIN,
            id: Uuid::nil(),
        }
    }
}

#[derive(Debug, Default)]
struct Looked {
    ids: Vec<Uuid>,
    last: Option<Place>,
    more: bool,
}

/// Deletes some of the jobs that a filter names.
#[derive(Debug)]
pub struct CleanupBatch {
    /// Which.
    pub filter: CleanupFilter,
    /// Where the batch before ended.
    pub after: Place,
    /// How many ended jobs to look at, at most; never more than [`MOST_AT_ONCE`].
    pub most: usize,
}

/// What one batch did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanedUp {
    /// How many jobs were deleted.
    pub deleted: u64,
    /// Where the next batch begins, if there may be more.
    pub next: Option<Place>,
    /// How long it took by itself, without those before it in the line and without the commit.
    pub took: Duration,
}

impl Operation for CleanupBatch {
    type Output = CleanedUp;

    fn apply<'t>(&'t self, tx: &'t mut Tx) -> BoxFuture<'t, Result<CleanedUp, StoreError>> {
        Box::pin(async move {
            let began = Instant::now();
            let (deleted, next) = self.delete(tx).await?;
            Ok(CleanedUp {
                deleted,
                next,
                took: began.elapsed(),
            })
        })
    }
}

impl CleanupBatch {
    /// How many it deleted, and where the next batch begins.
    async fn delete(&self, tx: &mut Tx) -> Result<(u64, Option<Place>), StoreError> {
        let looked = self
            .filter
            .next(tx, self.after, self.most.min(MOST_AT_ONCE))
            .await?;
        let next = looked.last.filter(|_| looked.more);
        let mut ids = looked.ids;
        if ids.is_empty() {
            return Ok((0, next));
        }
        if let Some(hint) = dialect::walk_by_indexes(tx.backend()) {
            tx.batch(hint).await?;
        }
        // Two nodes may clean at once: only who deletes the job itself takes it out of the figures.
        let mut delete = job::Entity::delete_many().filter(tx.among(job::Column::Id, &ids));
        delete.query().returning_all();
        let gone = delete.rows_in(tx).await?;
        let gone = gone
            .iter()
            .map(Row::model)
            .collect::<Result<Vec<job::Model>, _>>()?;
        ids.retain(|id| gone.iter().any(|row| row.id == *id));
        if ids.is_empty() {
            return Ok((0, next));
        }
        self.raise_floor(tx, &ids).await?;
        attempt::Entity::delete_many()
            .filter(tx.among(attempt::Column::JobId, &ids))
            .run_in(tx)
            .await?;
        job_event::Entity::delete_many()
            .filter(tx.among(job_event::Column::JobId, &ids))
            .run_in(tx)
            .await?;
        job_tag::Entity::delete_many()
            .filter(tx.among(job_tag::Column::JobId, &ids))
            .run_in(tx)
            .await?;
        // Two statements, since each has an index of its own.
        for column in [job_dependency::Column::JobId, job_dependency::Column::DependsOn] {
            job_dependency::Entity::delete_many()
                .filter(tx.among(column, &ids))
                .run_in(tx)
                .await?;
        }
        plan::Entity::delete_many()
            .filter(tx.among(plan::Column::JobId, &ids))
            .run_in(tx)
            .await?;
        log_chunk::Entity::delete_many()
            .filter(tx.among(log_chunk::Column::JobId, &ids))
            .run_in(tx)
            .await?;
        let deleted = gone.len() as u64;
        for row in gone {
            let job = record::job(row)?;
            tx.count_move(&job.name, Some(job.status), None);
            let finished = job.finished_at.unwrap_or(job.updated_at);
            tx.counters.count_times(
                &job.name,
                job.started_at.map(|started| finished.since(started)),
                job.started_at.map(|started| started.since(job.run_at)),
                -1,
            );
        }
        Ok((deleted, next))
    }

    /// A cursor below the latest event that is deleted would miss it, and is refused from now on.
    async fn raise_floor(&self, tx: &Tx, ids: &[Uuid]) -> Result<(), StoreError> {
        let latest = job_event::Entity::find()
            .select_only()
            // Of a plain column Postgres looks for the maximum from the end of all events, and those that are deleted
            // are the first of them: each batch would read the whole table.
            .column_as(Expr::col(job_event::Column::Seq).add(0).max(), "latest")
            .filter(tx.among(job_event::Column::JobId, ids))
            .rows_in(tx)
            .await?
            .pop();
        let latest: Option<i64> = latest.map_or(Ok(None), |row| row.get("latest"))?;
        let Some(latest) = latest else { return Ok(()) };
        let floor = Expr::col((entity::meta::Entity, entity::meta::Column::Value));
        entity::meta::Entity::insert(entity::meta::ActiveModel {
            key: Set(EVENT_FLOOR.to_owned()),
            value: Set(EventSeq(latest).0),
        })
        .on_conflict(
            OnConflict::column(entity::meta::Column::Key)
                .value(
                    entity::meta::Column::Value,
                    Expr::case(floor.clone().lt(latest), latest).finally(floor),
                )
                .to_owned(),
        )
        .run_in(tx)
        .await?;
        Ok(())
    }
}
