//! Filters and orders of listings.

use async_graphql::{ID, InputObject};

use super::TagInput;
use crate::domain::{self, JobId, MOST_TAGS, NamePattern, TimeRange, WorkerId};
use crate::graphql::error::{ApiError, ApiResult};
use crate::graphql::scalar::DateTime;
use crate::graphql::words::{
    JobKind, JobOrderField, JobStatus, LogLevel, LogStream, OrderDirection, WorkerStatus,
};
use crate::store::{self, StatsWindow};

/// Which jobs are meant. All that are given must hold; an empty list is met by no job.
#[derive(Debug, Clone, Default, InputObject)]
pub(in crate::graphql) struct JobFilter {
    /// One of these.
    ids: Option<Vec<ID>>,
    /// In one of these states.
    statuses: Option<Vec<JobStatus>>,
    /// Running commands of one of these kinds.
    kinds: Option<Vec<JobKind>>,
    /// Of this name; one that ends in `*` is met by all names that begin so.
    name: Option<String>,
    /// In one of these queues.
    queues: Option<Vec<String>>,
    /// Run by this worker, now or last.
    worker_id: Option<ID>,
    /// Steps of this plan.
    parent_id: Option<ID>,
    /// True: only jobs that are no step of a plan. False: only steps.
    top_level: Option<bool>,
    /// Carrying all of these labels.
    tags: Option<Vec<TagInput>>,
    /// Asked for by this source.
    source: Option<String>,
    /// Belonging to this conversation.
    conversation_id: Option<ID>,
    /// Asked for in this time.
    created: Option<DateTimeRange>,
    /// Ended in this time.
    finished: Option<DateTimeRange>,
}

impl JobFilter {
    /// The filter in the domain's words. An id that is none is told: a filter that silently matches nothing is hard
    /// to find in a listing, and a subscription would wait with it for ever.
    pub(in crate::graphql) fn into_domain(self) -> ApiResult<domain::JobFilter> {
        fn converted<T, U: From<T>, C: FromIterator<U>>(all: Option<Vec<T>>) -> Option<C> {
            all.map(|all| all.into_iter().map(U::from).collect())
        }
        no_nul("name", &self.name)?;
        no_nul("queues", self.queues.iter().flatten())?;
        no_nul("source", &self.source)?;
        no_nul("conversationId", self.conversation_id.iter().map(|id| &id.0))?;
        no_nul(
            "tags",
            self.tags.iter().flatten().flat_map(|tag| [&tag.key, &tag.value]),
        )?;
        if let Some(tags) = self.tags.as_ref().filter(|tags| tags.len() > MOST_TAGS) {
            let message = format!(
                "`filter.tags` names {} labels; no job has more than {MOST_TAGS}.",
                tags.len()
            );
            return Err(ApiError::limit(message));
        }
        let ids = self
            .ids
            .map(|ids| ids.iter().map(|id| parsed("ids", id)).collect());
        Ok(domain::JobFilter {
            ids: ids.transpose()?,
            statuses: converted(self.statuses),
            kinds: converted(self.kinds),
            name: self.name.as_deref().map(NamePattern::parse),
            queues: converted(self.queues),
            worker: self
                .worker_id
                .map(|id| parsed::<WorkerId>("workerId", &id))
                .transpose()?,
            parent: self
                .parent_id
                .map(|id| parsed::<JobId>("parentId", &id))
                .transpose()?,
            top_level: self.top_level,
            tags: converted(self.tags).unwrap_or_default(),
            source: self.source,
            conversation_id: self.conversation_id.map(|id| id.0),
            created: self.created.map(TimeRange::from).unwrap_or_default(),
            finished: self.finished.map(TimeRange::from),
        })
    }
}

fn parsed<T: std::str::FromStr>(field: &str, id: &ID) -> ApiResult<T> {
    id.as_str().parse().map_err(|_| {
        let message = format!("`filter.{field}`: `{}` is no id; ids are UUIDs.", id.as_str());
        ApiError::input(message)
    })
}

/// No stored text holds the NUL character, and Postgres refuses to look for one.
fn no_nul<'t>(field: &str, texts: impl IntoIterator<Item = &'t String>) -> ApiResult<()> {
    if texts.into_iter().any(|text| text.contains('\0')) {
        let message = format!("`filter.{field}` holds the NUL character, which nothing stored does.");
        return Err(ApiError::input(message));
    }
    Ok(())
}

/// From `since`, included, to `until`, not included; either may be left open.
#[derive(Debug, Clone, Default, InputObject)]
pub(in crate::graphql) struct DateTimeRange {
    /// The first moment that belongs to it.
    since: Option<DateTime>,
    /// The first moment that does not.
    until: Option<DateTime>,
}

impl From<DateTimeRange> for TimeRange {
    fn from(range: DateTimeRange) -> Self {
        Self {
            since: range.since.map(|moment| moment.0),
            until: range.until.map(|moment| moment.0),
        }
    }
}

/// How jobs are ordered.
#[derive(Debug, Clone, InputObject)]
pub(in crate::graphql) struct JobOrder {
    /// By which moment.
    field: JobOrderField,
    /// Which end comes first.
    direction: OrderDirection,
}

impl JobOrder {
    /// The order in the store's words; the newest first where none is given.
    pub(in crate::graphql) fn or_newest_first(order: Option<Self>) -> store::JobOrder {
        order.map_or(
            store::JobOrder {
                field: store::JobOrderField::CreatedAt,
                descending: true,
            },
            |order| store::JobOrder {
                field: order.field.into(),
                descending: order.direction == OrderDirection::Desc,
            },
        )
    }
}

/// Which lines of a log are meant. All that are given must hold.
#[derive(Debug, Clone, Default, InputObject)]
pub(in crate::graphql) struct LogFilter {
    /// Of one of these streams.
    streams: Option<Vec<LogStream>>,
    /// At least so grave.
    min_level: Option<LogLevel>,
    /// With this in the message, in capitals or not.
    search: Option<String>,
    /// Which attempt, from 1; where left out, the latest.
    attempt: Option<i32>,
}

impl LogFilter {
    /// The attempt that is asked for.
    pub(in crate::graphql) fn attempt(&self) -> ApiResult<Option<u32>> {
        let checked = |attempt: i32| {
            u32::try_from(attempt)
                .ok()
                .filter(|&attempt| attempt > 0)
                .ok_or_else(|| {
                    ApiError::input(format!(
                        "`filter.attempt` is {attempt}; attempts are counted from 1."
                    ))
                })
        };
        self.attempt.map(checked).transpose()
    }
}

impl From<LogFilter> for store::LogFilter {
    fn from(filter: LogFilter) -> Self {
        Self {
            streams: filter
                .streams
                .map(|all| all.into_iter().map(Into::into).collect()),
            min_level: filter.min_level.map(Into::into),
            search: filter.search,
        }
    }
}

/// Over which jobs figures are wanted.
#[derive(Debug, Clone, Default, InputObject)]
pub(in crate::graphql) struct StatsFilter {
    /// Those of exactly this name.
    name: Option<String>,
    /// Those that were asked for in this time. Figures over a window are counted anew each time.
    created: Option<DateTimeRange>,
}

impl StatsFilter {
    /// The window in the store's words.
    pub(in crate::graphql) fn into_window(self) -> ApiResult<StatsWindow> {
        no_nul("name", &self.name)?;
        Ok(StatsWindow {
            name: self.name,
            created: self.created.map(Into::into).unwrap_or_default(),
        })
    }
}

/// Which workers are meant. All that are given must hold.
#[derive(Debug, Clone, Default, InputObject)]
pub(in crate::graphql) struct WorkerFilter {
    /// In one of these states.
    statuses: Option<Vec<WorkerStatus>>,
    /// Of this kind of backend.
    backend_type: Option<String>,
}

impl WorkerFilter {
    pub(in crate::graphql) fn matches(&self, worker: &domain::Worker) -> bool {
        self.statuses
            .as_ref()
            .is_none_or(|all| all.contains(&worker.status.into()))
            && self
                .backend_type
                .as_ref()
                .is_none_or(|backend| *backend == worker.backend_type)
    }
}
