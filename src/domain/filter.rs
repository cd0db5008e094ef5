//! Which jobs a listing or a listener wants.

use std::collections::BTreeSet;

use super::{Job, JobId, JobKind, JobStatus, Tag, Timestamp, WorkerId};

/// From `since`, included, to `until`, not included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimeRange {
    /// The first moment that belongs to it.
    pub since: Option<Timestamp>,
    /// The first moment that does not.
    pub until: Option<Timestamp>,
}

impl TimeRange {
    fn holds(&self, moment: Timestamp) -> bool {
        self.since.is_none_or(|since| moment >= since) && self.until.is_none_or(|until| moment < until)
    }
}

/// A name to be met exactly, or by its beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamePattern {
    /// This name.
    Exact(String),
    /// Every name that begins so.
    Prefix(String),
}

impl NamePattern {
    /// Reads the form that clients write: a prefix ends in `*`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        text.strip_suffix('*').map_or_else(
            || Self::Exact(text.to_owned()),
            |prefix| Self::Prefix(prefix.to_owned()),
        )
    }

    fn holds(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => name == exact,
            Self::Prefix(prefix) => name.starts_with(prefix),
        }
    }
}

/// All that are given must hold; an empty list is met by nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JobFilter {
    /// One of these.
    pub ids: Option<BTreeSet<JobId>>,
    /// In one of these states.
    pub statuses: Option<BTreeSet<JobStatus>>,
    /// Of one of these kinds.
    pub kinds: Option<BTreeSet<JobKind>>,
    /// Of this name.
    pub name: Option<NamePattern>,
    /// In one of these queues.
    pub queues: Option<BTreeSet<String>>,
    /// Run by this worker.
    pub worker: Option<WorkerId>,
    /// A step of this plan.
    pub parent: Option<JobId>,
    /// True: no step of a plan. False: only steps.
    pub top_level: Option<bool>,
    /// Carrying all of these labels.
    pub tags: Vec<Tag>,
    /// Asked for by this source.
    pub source: Option<String>,
    /// Belonging to this conversation.
    pub conversation_id: Option<String>,
    /// Asked for in this time.
    pub created: TimeRange,
    /// Ended in this time.
    pub finished: Option<TimeRange>,
}

impl JobFilter {
    /// Whether the job, as it is, meets all that is asked. The same rules as the store's own, for events that
    /// arrive one by one.
    #[must_use]
    pub fn matches(&self, job: &Job) -> bool {
        fn among<T: Ord>(wanted: Option<&BTreeSet<T>>, got: &T) -> bool {
            wanted.is_none_or(|all| all.contains(got))
        }
        among(self.ids.as_ref(), &job.id)
            && among(self.statuses.as_ref(), &job.status)
            && among(self.kinds.as_ref(), &job.command.kind())
            && among(self.queues.as_ref(), &job.queue)
            && self.name.as_ref().is_none_or(|name| name.holds(&job.name))
            && self.worker.is_none_or(|worker| job.worker == Some(worker))
            && self.parent.is_none_or(|parent| job.parent == Some(parent))
            && self.top_level.is_none_or(|top| job.parent.is_none() == top)
            && self.tags.iter().all(|tag| job.metadata.tags.contains(tag))
            && self
                .source
                .as_ref()
                .is_none_or(|source| job.metadata.source.as_ref() == Some(source))
            && self
                .conversation_id
                .as_ref()
                .is_none_or(|id| job.metadata.conversation_id.as_ref() == Some(id))
            && self.created.holds(job.created_at)
            && self
                .finished
                .is_none_or(|range| job.finished_at.is_some_and(|at| range.holds(at)))
    }
}
