//! Hints that something changed; never the truth.
//!
//! Whoever waits registers first, then reads the store, then waits for "more than mine". A hint may be lost, come
//! twice or come early: it only says that a look is worth it.
//!
//! ```text
//!   commit of this node ──▶ Hints::publish ──▶ events: the highest number known   (a level)
//!   hint of another node ─▶                ├─▶ queued, workers                    (a level that counts up)
//!                                          ├─▶ cancels                            (a channel that may lag)
//!                                          └─▶ each watched job                   (a level that counts up)
//! ```

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{broadcast, watch};

use crate::domain::{Changes, EventSeq, JobId};

/// Cancels that a slow receiver may be behind; beyond it the receiver is told that it missed some, and looks at all.
const CANCELS: usize = 1_024;

/// Where hints come together. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Hints(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    events: watch::Sender<EventSeq>,
    queued: watch::Sender<u64>,
    coming: watch::Sender<u64>,
    workers: watch::Sender<u64>,
    /// None for any job: the hints to some were lost.
    cancels: broadcast::Sender<Option<JobId>>,
    jobs: Mutex<HashMap<JobId, Watched>>,
}

#[derive(Debug)]
struct Watched {
    level: watch::Sender<u64>,
    watchers: usize,
}

impl Default for Hints {
    fn default() -> Self {
        Self(Arc::new(Inner {
            events: watch::Sender::new(EventSeq(0)),
            queued: watch::Sender::new(0),
            coming: watch::Sender::new(0),
            workers: watch::Sender::new(0),
            cancels: broadcast::Sender::new(CANCELS),
            jobs: Mutex::default(),
        }))
    }
}

fn raise(level: &watch::Sender<u64>) {
    level.send_modify(|level| *level = level.wrapping_add(1));
}

impl Hints {
    /// Tells of a commit.
    pub fn publish(&self, changes: &Changes) {
        let inner = &self.0;
        if let Some(last) = changes.last_event {
            self.events_up_to(last);
        }
        if changes.queued {
            raise(&inner.queued);
        }
        if changes.workers {
            raise(&inner.workers);
        }
        for &job in &changes.cancels {
            // Nobody listens while no pool runs; the heartbeat tells of cancels too.
            let _ = inner.cancels.send(Some(job));
        }
        if changes.more {
            self.any_job();
        } else if !(changes.jobs.is_empty() && changes.logs.is_empty()) {
            let jobs = inner.jobs.lock().unwrap_or_else(PoisonError::into_inner);
            for job in changes.jobs.union(&changes.logs) {
                if let Some(watched) = jobs.get(job) {
                    raise(&watched.level);
                }
            }
        }
    }

    /// Tells that jobs are being stored: a claim that is asked for now shares their commit, if it comes in time.
    pub fn jobs_come(&self) {
        raise(&self.0.coming);
    }

    /// Tells that anything may have changed: hints were lost.
    pub fn anything(&self) {
        raise(&self.0.queued);
        raise(&self.0.workers);
        self.0.events.send_modify(|_| {});
        let _ = self.0.cancels.send(None);
        self.any_job();
    }

    fn any_job(&self) {
        let jobs = self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        for watched in jobs.values() {
            raise(&watched.level);
        }
    }

    /// Raises the level of events, where it is below.
    pub fn events_up_to(&self, last: EventSeq) {
        self.0.events.send_if_modified(|level| {
            let higher = last > *level;
            if higher {
                *level = last;
            }
            higher
        });
    }

    /// The highest number of an event that is known to be committed.
    #[must_use]
    pub fn events(&self) -> watch::Receiver<EventSeq> {
        self.0.events.subscribe()
    }

    /// Counts up when a job may be ready to start.
    #[must_use]
    pub fn queued(&self) -> watch::Receiver<u64> {
        self.0.queued.subscribe()
    }

    /// Counts up when jobs are being stored by this node; [`Hints::queued`] does so once they are.
    #[must_use]
    pub fn coming(&self) -> watch::Receiver<u64> {
        self.0.coming.subscribe()
    }

    /// Counts up when a worker changed.
    #[must_use]
    pub fn workers(&self) -> watch::Receiver<u64> {
        self.0.workers.subscribe()
    }

    /// The running jobs that somebody wants stopped; none stands for any of them.
    #[must_use]
    pub fn cancels(&self) -> broadcast::Receiver<Option<JobId>> {
        self.0.cancels.subscribe()
    }

    /// Watches one job's state and log, until the watch is dropped.
    #[must_use]
    pub fn watch_job(&self, job: JobId) -> JobWatch {
        let mut jobs = self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let watched = jobs.entry(job).or_insert_with(|| Watched {
            level: watch::Sender::new(0),
            watchers: 0,
        });
        watched.watchers += 1;
        JobWatch {
            hints: self.clone(),
            job,
            level: watched.level.subscribe(),
        }
    }
}

/// Waits for changes of one job.
#[derive(Debug)]
pub struct JobWatch {
    hints: Hints,
    job: JobId,
    level: watch::Receiver<u64>,
}

impl JobWatch {
    /// Waits until something changed since the last time that this returned, or since the watch began.
    pub async fn changed(&mut self) {
        // The sender lives as long as the watch does, so there is always one.
        let _ = self.level.changed().await;
    }
}

impl Drop for JobWatch {
    fn drop(&mut self) {
        let mut jobs = self.hints.0.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut entry) = jobs.entry(self.job) {
            entry.get_mut().watchers -= 1;
            if entry.get().watchers == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> JobId {
        JobId::from_uuid(uuid::Uuid::now_v7())
    }

    #[tokio::test]
    async fn a_watched_job_wakes_its_watchers_and_is_forgotten_after_them() {
        let hints = Hints::default();
        let (job, other) = (id(), id());
        let mut first = hints.watch_job(job);
        let mut second = hints.watch_job(job);
        let third = hints.watch_job(other);
        let changes = Changes {
            logs: [job].into(),
            ..Changes::default()
        };
        hints.publish(&changes);
        first.changed().await;
        second.changed().await;
        assert!(!third.level.has_changed().unwrap());
        drop((first, second));
        assert!(!hints.0.jobs.lock().unwrap().contains_key(&job));
        assert!(hints.0.jobs.lock().unwrap().contains_key(&other));
    }

    #[test]
    fn the_level_of_events_never_falls() {
        let hints = Hints::default();
        let mut level = hints.events();
        hints.events_up_to(EventSeq(5));
        hints.events_up_to(EventSeq(3));
        assert_eq!(*level.borrow_and_update(), EventSeq(5));
    }

    #[test]
    fn lost_hints_wake_everybody() {
        let hints = Hints::default();
        let (events, queued, watch) = (hints.events(), hints.queued(), hints.watch_job(id()));
        let mut cancels = hints.cancels();
        hints.anything();
        assert!(events.has_changed().unwrap() && queued.has_changed().unwrap());
        assert!(watch.level.has_changed().unwrap());
        assert_eq!(cancels.try_recv(), Ok(None));
    }
}
