//! New events, loaded once for all who listen.
//!
//! ```text
//!   hint ─▶ feed: reads what is new, with its jobs ─▶ a ring of the latest ─▶ level ─▶ every listener
//!                                                          └── one that is further behind reads the store itself
//! ```
//!
//! While nobody listens nothing is loaded.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Context;
use crate::domain::{EventSeq, Job, JobEvent, JobId};
use crate::failpoint::failpoint;
use crate::store::{EventFilter, Reader, StoreError};
use crate::telemetry::chain;

/// Events that are kept for listeners: one that is no further behind costs no read.
const RING: usize = 2_048;

/// Events that are read at once.
pub(super) const BATCH: u64 = 512;

/// How often to look without a hint: on Postgres another node's hint may be lost.
const LOOK: Duration = Duration::from_secs(2);

/// An event together with its job.
#[derive(Debug, Clone)]
pub struct LoadedEvent {
    /// What happened.
    pub event: JobEvent,
    /// The job as it was when the event was loaded, which may be later than the event.
    pub job: Arc<Job>,
    /// Of this loading, in this process: whoever loads the event again may find another job.
    pub number: u64,
}

/// The number of the next loading.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// The latest events, shared by all listeners.
#[derive(Debug)]
pub(super) struct Feed {
    ring: Mutex<Ring>,
    /// The highest number that is loaded. Listeners wait for more than theirs.
    level: watch::Sender<EventSeq>,
}

#[derive(Debug, Default)]
struct Ring {
    events: VecDeque<Arc<LoadedEvent>>,
    /// Everything after this number is in the ring.
    complete_after: EventSeq,
}

impl Default for Feed {
    fn default() -> Self {
        Self {
            ring: Mutex::default(),
            level: watch::Sender::new(EventSeq(0)),
        }
    }
}

impl Feed {
    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The highest number that is loaded.
    pub(super) fn level(&self) -> watch::Receiver<EventSeq> {
        self.level.subscribe()
    }

    /// The events after a place, where the ring has them all.
    pub(super) fn after(&self, place: EventSeq) -> Option<Vec<Arc<LoadedEvent>>> {
        let ring = self.lock();
        if place < ring.complete_after {
            return None;
        }
        let start = ring.events.partition_point(|loaded| loaded.event.seq <= place);
        Some(
            ring.events
                .range(start..)
                .take(usize::try_from(BATCH).unwrap_or(usize::MAX))
                .cloned()
                .collect(),
        )
    }

    /// Forgets what it has: everything up to `last` is to be read from the store.
    pub(super) fn skip_to(&self, last: EventSeq) {
        let mut ring = self.lock();
        ring.events.clear();
        ring.complete_after = last;
        drop(ring);
        self.level.send_replace(last);
    }

    fn add(&self, loaded: Vec<Arc<LoadedEvent>>, last: EventSeq) {
        let mut ring = self.lock();
        ring.events.extend(loaded);
        while ring.events.len() > RING {
            if let Some(gone) = ring.events.pop_front() {
                ring.complete_after = gone.event.seq;
            }
        }
        drop(ring);
        self.level.send_replace(last);
    }
}

/// Keeps the ring current until `stop`.
pub(super) async fn feed(context: Arc<Context>, stop: CancellationToken) {
    let mut hints = context.hints.events();
    let mut place = *context.feed.level.borrow();
    loop {
        let known = *hints.borrow_and_update();
        if let Err(error) = advance(&context, &mut place, known).await {
            tracing::warn!(error = %chain(&error), "new events could not be read");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            _ = hints.changed() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Loads all that is new. The place moves with each batch, so that what is in the ring is not read once more where a
/// later batch fails.
async fn advance(context: &Context, place: &mut EventSeq, known: EventSeq) -> Result<(), StoreError> {
    let reader = context.store.reader();
    if context.feed.level.receiver_count() == 0 {
        // Where a listener without a cursor begins is taken from here, so hints that were lost are made up for.
        let last = if known > *place {
            known
        } else {
            reader.last_event().await?
        };
        if last > *place {
            context.feed.skip_to(last);
            *place = last;
        }
        return Ok(());
    }
    loop {
        let events = reader
            .events_after(*place, &EventFilter::default(), BATCH)
            .await?;
        let Some(last) = events.last().map(|event| event.seq) else {
            return Ok(());
        };
        let full = events.len() as u64 == BATCH;
        // Listeners of one job wait for the job itself; other nodes' hints to them may have been lost.
        context.hints.publish(&crate::domain::Changes {
            jobs: events.iter().map(|event| event.job).collect(),
            ..crate::domain::Changes::default()
        });
        failpoint!("feed.read");
        context.feed.add(load(reader, events).await?, last);
        *place = last;
        if !full {
            return Ok(());
        }
    }
}

/// Puts each event together with its job. An event whose job was deleted meanwhile is left out: there is nothing
/// left to tell of.
pub(super) async fn load(
    reader: &Reader,
    events: Vec<JobEvent>,
) -> Result<Vec<Arc<LoadedEvent>>, StoreError> {
    let mut ids: Vec<JobId> = events.iter().map(|event| event.job).collect();
    ids.sort_unstable();
    ids.dedup();
    let jobs = reader.jobs(&ids).await?;
    let jobs: std::collections::HashMap<_, _> =
        jobs.into_iter().map(|(id, job)| (id, Arc::new(job))).collect();
    Ok(events
        .into_iter()
        .filter_map(|event| {
            let job = Arc::clone(jobs.get(&event.job)?);
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            Some(Arc::new(LoadedEvent { event, job, number }))
        })
        .collect())
}
