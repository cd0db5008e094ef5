//! What listeners are told.

use std::collections::BTreeSet;

use super::{Fault, JobId, JobStatus, Progress, Timestamp, word::words};

words!(
    /// What happened to a job.
    JobEventType, "type of event" {
        /// It was stored.
        Created = "CREATED",
        /// A worker took it.
        Started = "STARTED",
        /// It told how far it is.
        Progressed = "PROGRESSED",
        /// It goes back to the queue for another attempt.
        RetryScheduled = "RETRY_SCHEDULED",
        /// It ended well.
        Completed = "COMPLETED",
        /// It ended badly.
        Failed = "FAILED",
        /// It ended by its time limit.
        TimedOut = "TIMED_OUT",
        /// It was cancelled.
        Cancelled = "CANCELLED",
    }
);

/// The place of an event in the order of commits. Events become visible in the order of these numbers, on one node
/// and on many, so "all after mine" misses nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventSeq(pub i64);

/// One thing that happened to a job, as the store keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct JobEvent {
    /// Its place in the order of commits.
    pub seq: EventSeq,
    /// The job it happened to.
    pub job: JobId,
    /// What happened.
    pub kind: JobEventType,
    /// When.
    pub at: Timestamp,
    /// The status right after it.
    pub status: JobStatus,
    /// The status right before it; none for the first.
    pub previous: Option<JobStatus>,
    /// The attempt it belongs to; 0 before the first start.
    pub attempt: u32,
    /// How far the job was, for the events that tell it.
    pub progress: Option<Progress>,
    /// Why the attempt failed, for the events that tell it.
    pub fault: Option<Fault>,
}

/// What a commit changed, for those who wait for changes. Hints: they may be lost, and nothing rests on them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// The highest number among the new events.
    pub last_event: Option<EventSeq>,
    /// The jobs that have new events.
    pub jobs: BTreeSet<JobId>,
    /// The jobs whose logs grew.
    pub logs: BTreeSet<JobId>,
    /// The running jobs that somebody wants stopped.
    pub cancels: BTreeSet<JobId>,
    /// Whether a job became ready to start, or will become so at a moment that was not known before.
    pub queued: bool,
    /// Whether a worker changed.
    pub workers: bool,
    /// Whether more jobs have new events or lines than are named.
    pub more: bool,
}

impl Changes {
    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
