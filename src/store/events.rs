//! Events in the order of their commits.

use std::collections::BTreeSet;

use entity::{job_event, meta};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::cleanup::EVENT_FLOOR;
use super::error::StoreError;
use super::list::PageRequest;
use super::read::Reader;
use super::record;
use crate::domain::{EventSeq, JobEvent, JobEventType, JobId};

/// Which events a listener wants, as far as the events themselves tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Of these jobs.
    pub jobs: Option<BTreeSet<JobId>>,
    /// Of these types.
    pub types: Option<BTreeSet<JobEventType>>,
}

/// Events of one job.
#[derive(Debug, Clone)]
pub struct EventPage {
    /// Oldest first.
    pub events: Vec<JobEvent>,
    /// Whether more follow.
    pub has_next: bool,
}

impl Reader {
    /// The next events after a place, at most `limit`.
    ///
    /// # Errors
    ///
    /// See [`Reader::job`].
    pub async fn events_after(
        &self,
        after: EventSeq,
        filter: &EventFilter,
        limit: u64,
    ) -> Result<Vec<JobEvent>, StoreError> {
        let mut query = job_event::Entity::find().filter(job_event::Column::Seq.gt(after.0));
        if let Some(jobs) = &filter.jobs {
            query = query.filter(self.among(job_event::Column::JobId, jobs.iter().map(|id| id.uuid())));
        }
        if let Some(types) = &filter.types {
            query = query.filter(job_event::Column::Kind.is_in(types.iter().map(|kind| kind.as_str())));
        }
        let rows = self
            .page(query.order_by_asc(job_event::Column::Seq).limit(limit))
            .await?;
        rows.into_iter().map(record::event).collect()
    }

    /// A page of one job's events, oldest first.
    ///
    /// # Errors
    ///
    /// See [`Reader::job`].
    pub async fn job_events(&self, job: JobId, page: PageRequest<EventSeq>) -> Result<EventPage, StoreError> {
        let query = job_event::Entity::find()
            .filter(job_event::Column::JobId.eq(job.uuid()))
            .filter(job_event::Column::Seq.gt(page.after.map_or(0, |seq| seq.0)))
            .order_by_asc(job_event::Column::Seq)
            .limit(page.limit + 1);
        let rows = self.page(query).await?;
        let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
        let has_next = rows.len() > limit;
        let events = rows
            .into_iter()
            .take(limit)
            .map(record::event)
            .collect::<Result<_, _>>()?;
        Ok(EventPage { events, has_next })
    }

    /// The place of the latest event; all that is committed later gets a higher one.
    ///
    /// # Errors
    ///
    /// See [`Reader::job`].
    pub async fn last_event(&self) -> Result<EventSeq, StoreError> {
        let last: Option<i64> = job_event::Entity::find()
            .select_only()
            .column_as(job_event::Column::Seq.max(), "last")
            .into_tuple::<Option<i64>>()
            .one(&self.db)
            .await?
            .flatten();
        Ok(EventSeq(last.unwrap_or(0)).max(self.event_floor().await?))
    }

    /// The latest event that was deleted. A listener whose place is before it would miss something.
    ///
    /// # Errors
    ///
    /// See [`Reader::job`].
    pub async fn event_floor(&self) -> Result<EventSeq, StoreError> {
        let floor = meta::Entity::find_by_id(EVENT_FLOOR.to_owned())
            .one(&self.db)
            .await?;
        Ok(EventSeq(floor.map_or(0, |row| row.value)))
    }
}
