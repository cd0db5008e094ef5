//! Listening: everything after a place, in order, then live, on one path.
//!
//! Each listener keeps its own place and reads at its own pace, so a slow one slows nobody and loses nothing. It
//! registers first, then reads, then waits for more than it has seen. One that has begun outlasts a database that is
//! away: it goes on where it was.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_stream::try_stream;
use futures_util::Stream;

use super::feed::{BATCH, LoadedEvent, load};
use super::{Context, Executor};
use crate::domain::{EventSeq, Job, JobEventType, JobFilter, JobId, LogLine};
use crate::store::{EventFilter, LogFilter, LogPiece, StoreError};
use crate::telemetry::chain;

/// Lines in one batch at most.
const BATCH_LINES: usize = 500;

/// Text in one batch, in bytes, but for its last line. A batch costs several times its text until it is sent, and each
/// listener may have one that it does not take.
const BATCH_BYTES: usize = 64 * 1024;

/// Pieces of a log that are read at once: first, and where they turn out small. Each has a few hundred KiB at most, and
/// many listeners may each have so many in memory.
const PIECES: u64 = 2;
const MOST_PIECES: u64 = 16;

/// Where those of one look have less than half of this together, the next reads twice as many.
const PIECES_BYTES: usize = 512 * 1024;

/// How often a listener to a running job's log looks without a hint.
const LOOK: Duration = Duration::from_secs(2);

/// Which events a listener wants.
#[derive(Debug, Clone, Default)]
pub struct EventQuery {
    /// Of the jobs that match.
    pub filter: JobFilter,
    /// Of these types; none is all.
    pub types: Option<BTreeSet<JobEventType>>,
}

impl EventQuery {
    fn wants(&self, loaded: &LoadedEvent) -> bool {
        self.types
            .as_ref()
            .is_none_or(|types| types.contains(&loaded.event.kind))
            && self.filter.matches(&loaded.job)
    }
}

/// Why a listener gets no more.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Events after this place were deleted.
    #[error("events after this cursor were deleted: read the jobs anew, and listen without a cursor")]
    CursorExpired,
    /// No event has ever had this place.
    #[error("this cursor is not one that this server gave out")]
    CursorUnknown,
    /// The store failed, or was away at the beginning.
    #[error("the store failed while it was listened to")]
    Store(#[from] StoreError),
}

/// A place in a job's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogPlace {
    /// The attempt.
    pub attempt: u32,
    /// The last line that was looked at.
    pub line: i64,
}

/// Lines as they are written.
#[derive(Debug, Clone)]
pub struct LogBatch {
    /// Those that match, in order.
    pub lines: Vec<LogLine>,
    /// From where to go on.
    pub place: LogPlace,
}

/// Between two tries of a listener while the database is away. Many may listen, so it is not short.
const PAUSE: Duration = Duration::from_secs(1);

/// Asks until the database answers, whatever it answers.
async fn outlast<T, E, F>(ask: impl Fn() -> F) -> Result<T, ListenError>
where
    F: Future<Output = Result<T, E>>,
    E: Into<ListenError>,
{
    loop {
        match ask().await.map_err(Into::into) {
            Err(ListenError::Store(error @ StoreError::Unavailable(_))) => {
                tracing::debug!(error = %chain(&error), "a listener waits for the store");
                tokio::time::sleep(PAUSE).await;
            }
            answer => return answer,
        }
    }
}

impl Executor {
    /// The events after a place in the order of their commits, then live. Without a place: those that are committed from
    /// now on, where now is the first poll; nothing is read before that is fixed. With several nodes it may begin as much
    /// earlier as the hints of the others are late.
    ///
    /// # Errors
    ///
    /// [`ListenError`] where the place is none, or the store failed.
    pub async fn events(
        &self,
        after: Option<EventSeq>,
        query: EventQuery,
    ) -> Result<impl Stream<Item = Result<Arc<LoadedEvent>, ListenError>> + Send + 'static, ListenError> {
        let context = Arc::clone(&self.0);
        // Registered before the first look, so the feed loads from here on.
        let mut level = context.feed.level();
        let known = context.known();
        let mut place = match after {
            // The store is not asked: until it answered, much could happen that would not be told.
            None => known,
            Some(after) => {
                if after > known && after > context.store.reader().last_event().await? {
                    return Err(ListenError::CursorUnknown);
                }
                check_floor(&context, after).await?;
                after
            }
        };
        Ok(try_stream! {
            loop {
                level.borrow_and_update();
                // The feed may not have come to what was committed when this listener began.
                let (batch, looked_to, more) = outlast(|| next(&context, place)).await?;
                place = looked_to;
                for loaded in batch {
                    if query.wants(&loaded) {
                        yield loaded;
                    }
                }
                if more {
                    continue;
                }
                if level.changed().await.is_err() {
                    return;
                }
            }
        })
    }

    /// The job as it is now, then at each change, until it has ended. Empty where there is no such job.
    pub fn watch(&self, id: JobId) -> impl Stream<Item = Result<Job, ListenError>> + Send + 'static {
        let context = Arc::clone(&self.0);
        try_stream! {
            let mut watch = context.hints.watch_job(id);
            // Another node's hint may be lost; the feed, which looks by itself, then wakes this listener.
            let _feed = context.feed.level();
            let mut seen = None;
            while let Some(job) = outlast(|| context.store.reader().job(id)).await? {
                let ended = job.status.is_final();
                let state = (job.status, job.attempt, job.updated_at);
                if seen != Some(state) {
                    seen = Some(state);
                    yield job;
                }
                if ended {
                    return;
                }
                watch.changed().await;
            }
        }
    }

    /// The lines of a job's log after a place, then live, until the job has ended and all of them are sent. Without
    /// `attempt`, it goes on from each attempt to the next.
    pub fn follow_log(
        &self,
        id: JobId,
        after: Option<LogPlace>,
        filter: LogFilter,
        attempt: Option<u32>,
    ) -> impl Stream<Item = Result<LogBatch, ListenError>> + Send + 'static {
        let context = Arc::clone(&self.0);
        try_stream! {
            let mut watch = context.hints.watch_job(id);
            let mut place = after;
            loop {
                // The job first: what it printed before it ended is then there to be read.
                let Some(job) = outlast(|| context.store.reader().job(id)).await? else { return };
                let latest = attempt.unwrap_or(job.attempt);
                let mut at = place.unwrap_or(LogPlace { attempt: latest, line: 0 });
                if attempt.is_some_and(|wanted| wanted != at.attempt) {
                    at = LogPlace { attempt: latest, line: 0 };
                }
                if at.attempt > 0 {
                    let mut ahead = Ahead::default();
                    loop {
                        let mut batch = Batch::default();
                        while !batch.is_full() && !ahead.is_over() {
                            if ahead.pieces.is_empty() {
                                let read = outlast(|| {
                                    let reader = context.store.reader();
                                    reader.log_pieces(id, at.attempt, &filter, at.line, ahead.at_once)
                                });
                                ahead.add(read.await?);
                            }
                            batch.fill(&mut ahead, &mut at.line);
                        }
                        place = Some(at);
                        if batch.lines.is_empty() {
                            break;
                        }
                        yield LogBatch { lines: batch.lines, place: at };
                    }
                }
                if at.attempt == 0 {
                    // Whoever listens before the first attempt gets it, also where the next has begun by the next look.
                    place = Some(LogPlace { attempt: 1, line: 0 });
                } else if at.attempt < latest {
                    place = Some(LogPlace { attempt: at.attempt + 1, line: 0 });
                    continue;
                }
                let past = attempt.is_some_and(|wanted| job.attempt > wanted);
                if job.status.is_final() || past {
                    return;
                }
                tokio::select! {
                    () = watch.changed() => {}
                    () = tokio::time::sleep(LOOK) => {}
                }
            }
        }
    }
}

/// Pieces of a log that were read and not sent yet.
struct Ahead {
    pieces: VecDeque<LogPiece>,
    /// So many are read at once.
    at_once: u64,
    /// Whether the last look found all that there was.
    found_all: bool,
}

impl Default for Ahead {
    fn default() -> Self {
        Self {
            pieces: VecDeque::new(),
            at_once: PIECES,
            found_all: false,
        }
    }
}

impl Ahead {
    /// Takes what a look found.
    fn add(&mut self, pieces: Vec<LogPiece>) {
        self.found_all = (pieces.len() as u64) < self.at_once;
        let bytes: usize = pieces.iter().map(LogPiece::size).sum();
        self.at_once = if bytes < PIECES_BYTES / 2 {
            MOST_PIECES.min(self.at_once * 2)
        } else {
            PIECES
        };
        self.pieces.extend(pieces);
    }

    fn is_over(&self) -> bool {
        self.found_all && self.pieces.is_empty()
    }
}

/// Lines that are sent together.
#[derive(Default)]
struct Batch {
    lines: Vec<LogLine>,
    bytes: usize,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.lines.len() >= BATCH_LINES || self.bytes >= BATCH_BYTES
    }

    /// Takes lines until it is full or nothing is left, and notes how far that goes.
    fn fill(&mut self, ahead: &mut Ahead, place: &mut i64) {
        while let Some(piece) = ahead.pieces.front_mut() {
            for line in piece.by_ref() {
                self.bytes += line.message.len();
                self.lines.push(line);
                if self.is_full() {
                    *place = piece.looked_to();
                    return;
                }
            }
            *place = piece.looked_to();
            ahead.pieces.pop_front();
        }
    }
}

/// The next events after a place, how far that goes, and whether there may be more at once.
async fn next(
    context: &Context,
    place: EventSeq,
) -> Result<(Vec<Arc<LoadedEvent>>, EventSeq, bool), ListenError> {
    if let Some(batch) = context.feed.after(place) {
        let more = batch.len() as u64 == BATCH;
        let looked_to = batch.last().map_or(place, |loaded| loaded.event.seq);
        return Ok((batch, looked_to, more));
    }
    let reader = context.store.reader();
    let events = reader.events_after(place, &EventFilter::default(), BATCH).await?;
    // Checked after the read: what was deleted before it is missing from it.
    check_floor(context, place).await?;
    let more = events.len() as u64 == BATCH;
    let looked_to = events.last().map_or(place, |event| event.seq);
    Ok((load(reader, events).await?, looked_to, more))
}

impl Context {
    /// The highest number of an event that this node knows of. Its own commits are known before anybody is told of them.
    fn known(&self) -> EventSeq {
        let (hinted, loaded) = (self.hints.events(), self.feed.level());
        let hinted = *hinted.borrow();
        hinted.max(*loaded.borrow())
    }
}

async fn check_floor(context: &Context, place: EventSeq) -> Result<(), ListenError> {
    if place < context.store.reader().event_floor().await? {
        return Err(ListenError::CursorExpired);
    }
    Ok(())
}
