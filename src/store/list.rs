//! Pages of jobs by keyset: the cost of a page does not grow with its depth.

use entity::{job, job_tag};
use sea_orm::sea_query::{Expr, ExprTrait, Query, SimpleExpr};
use sea_orm::{
    ColumnTrait, Condition, DbBackend, EntityTrait, Order, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect,
};
use uuid::Uuid;

use super::error::StoreError;
use super::read::Reader;
use super::{dialect, record};
use crate::domain::{Job, JobFilter, JobId, NamePattern, TimeRange, Timestamp};

/// By which moment jobs are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobOrderField {
    /// When they were asked for; ids sort by it.
    CreatedAt,
    /// When they started; lists only those that did.
    StartedAt,
    /// When they ended; lists only those that did.
    FinishedAt,
    /// A plan's steps, as the plan lists them.
    StepIndex,
}

impl JobOrderField {
    const fn column(self) -> Option<job::Column> {
        match self {
            Self::CreatedAt => None,
            Self::StartedAt => Some(job::Column::StartedAt),
            Self::FinishedAt => Some(job::Column::FinishedAt),
            Self::StepIndex => Some(job::Column::StepIndex),
        }
    }
}

/// How a listing is ordered. The id decides between equals, so the order is total.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobOrder {
    /// By what.
    pub field: JobOrderField,
    /// The latest first.
    pub descending: bool,
}

/// A place in an ordered listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keyset {
    /// The value that the order looks at; none where the order is that of the ids.
    pub key: Option<i64>,
    /// The job.
    pub id: JobId,
}

/// Which part of a listing is wanted.
#[derive(Debug, Clone, Copy)]
pub struct PageRequest<K> {
    /// At most so many.
    pub limit: u64,
    /// Those that follow this place.
    pub after: Option<K>,
    /// Those that come before this place.
    pub before: Option<K>,
    /// The last ones instead of the first.
    pub from_end: bool,
}

/// A part of a listing.
#[derive(Debug, Clone)]
pub struct JobPage {
    /// The jobs in the listing's order, each with its place.
    pub jobs: Vec<(Keyset, Job)>,
    /// Whether more follow.
    pub has_next: bool,
    /// Whether some come before.
    pub has_previous: bool,
}

impl Reader {
    /// A page of the jobs that match.
    ///
    /// # Errors
    ///
    /// See [`Reader::job`].
    pub async fn list(
        &self,
        filter: &JobFilter,
        order: JobOrder,
        page: PageRequest<Keyset>,
    ) -> Result<JobPage, StoreError> {
        let descending = order.descending != page.from_end;
        let mut query = job::Entity::find().filter(condition(self.backend(), filter));
        if let Some(column) = order.field.column() {
            query = query.filter(column.is_not_null());
        }
        for (place, forward) in [(page.after, true), (page.before, false)] {
            if let Some(place) = place {
                query = query.filter(beyond(order.field, place, forward == order.descending));
            }
        }
        let direction = if descending { Order::Desc } else { Order::Asc };
        if let Some(column) = order.field.column() {
            query = query.order_by(column, direction.clone());
        }
        let query = query.order_by(job::Column::Id, direction).limit(page.limit + 1);
        let rows = self.page(query).await?;
        let more = rows.len() as u64 > page.limit;
        let mut jobs = Vec::with_capacity(rows.len());
        for row in rows
            .into_iter()
            .take(usize::try_from(page.limit).unwrap_or(usize::MAX))
        {
            let key = match order.field {
                JobOrderField::CreatedAt => None,
                JobOrderField::StartedAt => row.started_at,
                JobOrderField::FinishedAt => row.finished_at,
                JobOrderField::StepIndex => row.step_index.map(i64::from),
            };
            let place = Keyset {
                key,
                id: JobId::from_uuid(row.id),
            };
            jobs.push((place, record::job(row)?));
        }
        if page.from_end {
            jobs.reverse();
            return Ok(JobPage {
                jobs,
                has_next: page.before.is_some(),
                has_previous: more,
            });
        }
        Ok(JobPage {
            jobs,
            has_next: more,
            has_previous: page.after.is_some(),
        })
    }

    /// How many jobs match.
    ///
    /// # Errors
    ///
    /// See [`Reader::job`].
    pub async fn count(&self, filter: &JobFilter) -> Result<i64, StoreError> {
        if let Some(counted) = self.count_from_figures(filter).await? {
            return Ok(counted);
        }
        let rows = job::Entity::find()
            .filter(condition(self.backend(), filter))
            .count(&self.db)
            .await?;
        Ok(i64::try_from(rows).unwrap_or(i64::MAX))
    }

    /// Answers from the counters where the filter asks for nothing but statuses and an exact name.
    async fn count_from_figures(&self, filter: &JobFilter) -> Result<Option<i64>, StoreError> {
        let name = match &filter.name {
            None => None,
            Some(NamePattern::Exact(name)) => Some(name.as_str()),
            Some(NamePattern::Prefix(_)) => return Ok(None),
        };
        let plain = JobFilter {
            statuses: filter.statuses.clone(),
            name: filter.name.clone(),
            ..JobFilter::default()
        };
        if *filter != plain {
            return Ok(None);
        }
        let counts = self.status_counts(name).await?;
        Ok(Some(filter.statuses.as_ref().map_or_else(
            || counts.total(),
            |statuses| statuses.iter().map(|&status| counts.of(status)).sum(),
        )))
    }
}

/// Beyond a place: below it where `below`, else above it.
fn beyond(field: JobOrderField, place: Keyset, below: bool) -> SimpleExpr {
    let id = place.id.uuid();
    match (field.column(), place.key) {
        (Some(column), Some(key)) => {
            let row = Expr::tuple([Expr::col(column), Expr::col(job::Column::Id)]);
            let mark = Expr::tuple([Expr::value(key), Expr::value(id)]);
            if below { row.lt(mark) } else { row.gt(mark) }
        }
        _ if below => job::Column::Id.lt(id),
        _ => job::Column::Id.gt(id),
    }
}

/// The filter as the database reads it: the same rules as [`JobFilter::matches`].
fn condition(backend: DbBackend, filter: &JobFilter) -> Condition {
    use job::Column as C;
    let mut all = Condition::all()
        .add_option(
            filter
                .ids
                .as_ref()
                .map(|ids| dialect::is_among(backend, C::Id, ids.iter().map(|id| id.uuid()))),
        )
        .add_option(
            filter
                .statuses
                .as_ref()
                .map(|all| C::Status.is_in(all.iter().map(|status| status.as_str()))),
        )
        .add_option(
            filter
                .kinds
                .as_ref()
                .map(|all| C::Kind.is_in(all.iter().map(|kind| kind.as_str()))),
        )
        .add_option(
            filter
                .queues
                .as_ref()
                .map(|all| dialect::is_one_of(backend, C::Queue, all.iter().map(String::as_str))),
        )
        .add_option(filter.worker.map(|worker| C::WorkerId.eq(worker.uuid())))
        .add_option(filter.parent.map(|parent| C::ParentId.eq(parent.uuid())))
        .add_option(filter.top_level.map(|top| {
            if top {
                C::ParentId.is_null()
            } else {
                C::ParentId.is_not_null()
            }
        }))
        .add_option(filter.source.as_ref().map(|source| C::Source.eq(source.as_str())))
        .add_option(
            filter
                .conversation_id
                .as_ref()
                .map(|id| C::ConversationId.eq(id.as_str())),
        );
    match &filter.name {
        None => {}
        Some(NamePattern::Exact(name)) => all = all.add(C::Name.eq(name.as_str())),
        // The column sorts by bytes on both databases, so a prefix is a range of the index.
        Some(NamePattern::Prefix(prefix)) => {
            all = all
                .add(C::Name.gte(prefix.as_str()))
                .add(C::Name.lt(format!("{prefix}\u{10ffff}")));
        }
    }
    for tag in &filter.tags {
        all = all.add(
            C::Id.in_subquery(
                Query::select()
                    .column(job_tag::Column::JobId)
                    .from(job_tag::Entity)
                    .and_where(job_tag::Column::Key.eq(tag.key.as_str()))
                    .and_where(job_tag::Column::Value.eq(tag.value.as_str()))
                    .take(),
            ),
        );
    }
    if let Some(range) = filter.finished {
        all = all
            .add(C::FinishedAt.is_not_null())
            .add_option(range.since.map(|since| C::FinishedAt.gte(since.micros())))
            .add_option(range.until.map(|until| C::FinishedAt.lt(until.micros())));
    }
    created(all, filter.created)
}

/// Jobs take their moment of creation from their id, so a range of time is a range of ids.
pub(super) fn created(all: Condition, range: TimeRange) -> Condition {
    all.add_option(range.since.map(|since| job::Column::Id.gte(first_id_at(since))))
        .add_option(range.until.map(|until| job::Column::Id.lt(first_id_at(until))))
}

/// The lowest id that a job created at this moment or later can have.
fn first_id_at(moment: Timestamp) -> Uuid {
    let millis = u64::try_from(moment.micros().saturating_add(999).div_euclid(1_000)).unwrap_or(0);
    Uuid::from_u128(u128::from(Ord::min(millis, (1 << 48) - 1)) << 80)
}
