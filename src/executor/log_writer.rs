//! Takes what a process prints, and stores it: live, in order, whole up to the limit, in bounded memory.
//!
//! ```text
//!   process ── chunks (16 at most) ──▶ lines ──▶ encoder ── 256 KiB or 50 ms ──▶ packed ── all there are ──▶ AppendLog
//!                                                     └── what is left at the end goes with EndJob
//! ```
//!
//! While pieces are written the next ones are packed, on other threads, and another is gathered; once that is full nothing
//! is read: the pipe fills, and the process waits. So a flood costs the flooder.

use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;
use std::time::{Duration, SystemTime};

use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::time::timestamp;
use crate::domain::{JobId, LogLevel, LogStream, Progress, Timestamp, log_limit_notice};
use crate::process::{OutputChunk, Stream};
use crate::program::{Line, Lines, Reading, Sink, drain};
use crate::store::{AppendLog, LogChunk, LogEncoder, Operation, RecordProgress, Room, StoreError, Writer};
use crate::telemetry::{chain, metrics};

/// As much as is written at once.
const FLUSH_BYTES: usize = 256 * 1024;

/// Pauses between tries while the store is away.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Tries of a write that the store refuses although it is there.
const TRIES: u32 = 3;

/// Pieces that may wait to be written, packed or being packed.
const WAITING: usize = 3;

/// Pieces that are written together at most. A commit takes as long as two of them, whatever it holds.
const TOGETHER: usize = 4;

/// Pieces of all jobs that are packed at once: more threads would pack no faster, and each keeps memory of its own.
static PACKERS: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(available_parallelism().map_or(1, NonZero::get)));

/// A piece on its way.
#[derive(Debug)]
struct Piece {
    /// The bytes of its lines.
    length: usize,
    packing: JoinHandle<(LogChunk, Room)>,
}

/// What writes for one attempt, for as long as that makes sense.
#[derive(Debug)]
struct Appender {
    writer: Writer,
    job: JobId,
    attempt: u32,
    /// Set once the attempt is no longer this node's: nothing is written any more.
    stale: AtomicBool,
    /// Bytes of pieces that could not be written.
    lost: AtomicU64,
    /// What packed pieces took, for the next ones. There are no more than pieces on their way.
    rooms: Mutex<Vec<Room>>,
    /// Cancelled when writing has lost its sense: the lease is gone, or the server must end.
    abandon: CancellationToken,
}

impl Appender {
    fn rooms(&self) -> MutexGuard<'_, Vec<Room>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lose(&self, bytes: usize) {
        self.lost.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Relaxed)
    }

    /// Writes until it is written, or has lost its sense. Tells whether it was written.
    async fn write<O: Operation<Output = bool>>(&self, operation: impl Fn() -> O) -> bool {
        let mut pause = FIRST_PAUSE;
        let mut refused = 0;
        while !self.is_stale() {
            let error = match self.writer.write(operation()).await {
                Ok(still_ours) => {
                    if !still_ours {
                        self.stale.store(true, Ordering::Relaxed);
                    }
                    return still_ours;
                }
                // The server is going down.
                Err(StoreError::Closed) => break,
                Err(error) => error,
            };
            if !error.is_unavailable() {
                refused += 1;
                if refused == TRIES {
                    tracing::error!(job.id = %self.job, error = %chain(&error), "a piece of a log could not be stored");
                    return false;
                }
            }
            tracing::warn!(job.id = %self.job, error = %chain(&error), retry_ms = crate::telemetry::millis(pause), "a piece of a log waits for the store");
            if self
                .abandon
                .run_until_cancelled(tokio::time::sleep(pause))
                .await
                .is_none()
            {
                break;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        self.stale.store(true, Ordering::Relaxed);
        false
    }

    /// Writes pieces in their order, until there are no more: those together that are packed by then.
    async fn append(&self, mut pieces: mpsc::Receiver<Piece>) {
        let mut next = pieces.recv().await;
        while let Some(first) = next.take() {
            let mut chunks = Vec::from_iter(self.packed(first).await);
            next = pieces.try_recv().ok();
            while chunks.len() < TOGETHER
                && let Some(more) = next.take_if(|piece| piece.packing.is_finished())
            {
                chunks.extend(self.packed(more).await);
                next = pieces.try_recv().ok();
            }
            let length = chunks.iter().map(LogChunk::len).sum();
            let chunks: Arc<[LogChunk]> = chunks.into();
            let append = || AppendLog {
                job: self.job,
                attempt: self.attempt,
                chunks: Arc::clone(&chunks),
            };
            if !chunks.is_empty() && !self.write(append).await {
                self.lose(length);
            }
            if next.is_none() {
                next = pieces.recv().await;
            }
        }
    }

    async fn packed(&self, piece: Piece) -> Option<LogChunk> {
        match piece.packing.await {
            Ok((chunk, room)) => {
                self.rooms().push(room);
                Some(chunk)
            }
            Err(error) => {
                tracing::error!(job.id = %self.job, error = %chain(&error), "a piece of a log could not be packed");
                self.lose(piece.length);
                None
            }
        }
    }
}

/// Stores the log of one attempt.
#[derive(Debug)]
pub(super) struct LogWriter {
    appender: Arc<Appender>,
    lines: Lines,
    encoder: LogEncoder,
    /// Where the pieces go, once there was one.
    pieces: Option<mpsc::Sender<Piece>>,
    /// The task that writes them.
    appending: JoinSet<()>,
    progress: Option<Progress>,
    /// Bytes that may still be kept.
    room: u64,
    limit: u64,
    discarded: u64,
}

impl LogWriter {
    /// For one attempt; `used` bytes of the job's limit are taken by earlier ones.
    pub(super) fn new(
        writer: Writer,
        job: JobId,
        attempt: u32,
        limit: u64,
        used: u64,
        abandon: CancellationToken,
    ) -> Self {
        Self {
            appender: Arc::new(Appender {
                writer,
                job,
                attempt,
                stale: AtomicBool::new(false),
                lost: AtomicU64::new(0),
                rooms: Mutex::default(),
                abandon,
            }),
            lines: Lines::default(),
            encoder: LogEncoder::default(),
            pieces: None,
            appending: JoinSet::new(),
            progress: None,
            room: limit.saturating_sub(used),
            limit,
            discarded: 0,
        }
    }

    /// Hides secrets that the job is given.
    pub(super) fn hide(&mut self, secrets: &[String]) {
        for secret in secrets {
            self.lines.hide(secret);
        }
    }

    /// What hides secrets in whatever else the job tells.
    pub(super) const fn masks(&self) -> &Lines {
        &self.lines
    }

    /// A line of the server's own. It does not count against the limit: what was cut off must always be told.
    pub(super) fn system(&mut self, level: LogLevel, text: &str, at: Timestamp) {
        let line = format!("{}\n", self.lines.mask_text(&text.replace('\n', " ")));
        self.encoder.push(LogStream::System, level, at, line.as_bytes());
    }

    /// Takes output until the process and all who hold its pipes are done.
    pub(super) async fn drain(&mut self, output: &mut mpsc::Receiver<OutputChunk>) {
        drain(self, output).await;
    }

    /// Whether progress is left that [`finish`](Self::finish) has to write by itself.
    pub(super) const fn has_progress(&self) -> bool {
        self.progress.is_some()
    }

    /// What is left to be written with the attempt's end.
    pub(super) async fn finish(mut self) -> Vec<LogChunk> {
        self.record_progress().await;
        self.encoder.take().into_iter().collect()
    }

    fn line(&mut self, stream: Stream, line: &Line<'_>, at: Timestamp) {
        let Reading {
            stream: log_stream,
            level,
            progress,
        } = line.read(stream, at);
        if progress.is_some() {
            self.progress = progress;
        }
        let length = line.bytes.len() as u64;
        if length <= self.room {
            self.room -= length;
            return self.encoder.push(log_stream, level, at, &line.bytes);
        }
        // The first line that does not fit is kept as far as it does.
        if self.discarded == 0 {
            let fits = usize::try_from(self.room).unwrap_or(0);
            if fits > 0 {
                self.encoder.push(log_stream, level, at, &line.bytes[..fits]);
            }
            self.system(LogLevel::Warning, &log_limit_notice(self.limit), at);
        }
        self.discarded += length - self.room;
        self.room = 0;
    }

    async fn record_progress(&mut self) {
        if let Some(progress) = self.progress.take() {
            let record = || RecordProgress {
                job: self.appender.job,
                attempt: self.appender.attempt,
                progress: progress.clone(),
            };
            self.appender.write(record).await;
        }
    }

    /// Waits until all pieces that are on their way are written.
    async fn settle(&mut self) {
        self.pieces = None;
        while let Some(appended) = self.appending.join_next().await {
            if let Err(error) = appended {
                tracing::error!(job.id = %self.appender.job, error = %chain(&error), "pieces of a log were lost");
            }
        }
        self.discarded += self.appender.lost.swap(0, Ordering::Relaxed);
    }

    /// Room for the next piece. Who prints little keeps none.
    fn room(&self) -> Room {
        let mut rooms = self.appender.rooms();
        if !self.is_full() {
            rooms.clear();
        }
        rooms.pop().unwrap_or_default()
    }

    /// Where pieces go.
    fn pieces(&mut self) -> &mpsc::Sender<Piece> {
        let (appender, appending) = (&self.appender, &mut self.appending);
        self.pieces.get_or_insert_with(|| {
            let (pieces, waiting) = mpsc::channel(WAITING);
            let appender = Arc::clone(appender);
            appending.spawn(async move { appender.append(waiting).await });
            pieces
        })
    }
}

impl Sink for LogWriter {
    fn take(&mut self, chunk: &OutputChunk) {
        let at = timestamp(chunk.at);
        metrics::log_bytes(chunk.bytes.len());
        let mut lines = std::mem::take(&mut self.lines);
        lines.push(chunk.stream, &chunk.bytes, |stream, line| {
            self.line(stream, &line, at)
        });
        self.lines = lines;
    }

    fn is_full(&self) -> bool {
        self.encoder.waiting() >= FLUSH_BYTES
    }

    async fn flush(&mut self) {
        self.record_progress().await;
        let room = self.room();
        let Some(piece) = self
            .encoder
            .take_loose(room)
            .filter(|_| !self.appender.is_stale())
        else {
            return;
        };
        let length = piece.len();
        // Packed once there is room: until then it is the one that is gathered.
        let pieces = self.pieces().clone();
        match (pieces.reserve().await, PACKERS.acquire().await) {
            (Ok(room), Ok(turn)) => {
                let packing = tokio::task::spawn_blocking(move || {
                    let _turn = turn;
                    piece.pack()
                });
                room.send(Piece { length, packing });
            }
            // The task is gone; why, is told when it is waited for.
            _ => self.appender.lose(length),
        }
    }

    /// Ends the lines that have no end: what the server says afterwards comes after all that was printed.
    async fn close(&mut self) {
        self.settle().await;
        let now = SystemTime::now();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let mut lines = std::mem::take(&mut self.lines);
            lines.end(stream, |stream, line| self.line(stream, &line, timestamp(now)));
            self.lines = lines;
        }
        if self.discarded > 0 {
            let text = format!("{} more bytes were printed and not kept", self.discarded);
            self.system(LogLevel::Warning, &text, timestamp(now));
        }
    }
}
