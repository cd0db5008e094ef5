//! Takes what a process prints, and stores it: live, in order, whole up to the limit, in bounded memory.
//!
//! ```text
//!   process ── chunks (16 at most) ──▶ lines ──▶ encoder ── 256 KiB or 50 ms ──▶ packed ──▶ AppendLog
//!                                                     └── what is left at the end goes with EndJob
//! ```
//!
//! While a chunk is packed, on another thread, and written, the next one is gathered; once that is full nothing is read: the
//! pipe fills, and the process waits. So a flood costs the flooder.

use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::time::timestamp;
use crate::domain::{JobId, LogLevel, LogStream, Progress, Timestamp, log_limit_notice};
use crate::process::{OutputChunk, Stream};
use crate::program::{Line, Lines, Reading, Sink, drain};
use crate::store::{Answer, AppendLog, LogChunk, LogEncoder, RecordProgress, StoreError, Writer};
use crate::telemetry::{chain, metrics};

/// As much as is written at once.
const FLUSH_BYTES: usize = 256 * 1024;

/// Pauses between tries while the store is away.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Tries of a write that the store refuses although it is there.
const TRIES: u32 = 3;

/// A chunk on its way.
#[derive(Debug)]
struct UnderWay {
    /// The bytes of its lines.
    length: usize,
    handed_over: JoinHandle<(LogChunk, Result<Answer<bool>, StoreError>)>,
}

/// Stores the log of one attempt.
#[derive(Debug)]
pub(super) struct LogWriter {
    writer: Writer,
    job: JobId,
    attempt: u32,
    lines: Lines,
    encoder: LogEncoder,
    /// What is being packed and written.
    under_way: Option<UnderWay>,
    progress: Option<Progress>,
    /// Bytes that may still be kept.
    room: u64,
    limit: u64,
    discarded: u64,
    /// Set once the attempt is no longer this node's: nothing is written any more.
    stale: bool,
    /// Cancelled when writing has lost its sense: the lease is gone, or the server must end.
    abandon: CancellationToken,
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
            writer,
            job,
            attempt,
            lines: Lines::default(),
            encoder: LogEncoder::default(),
            under_way: None,
            progress: None,
            room: limit.saturating_sub(used),
            limit,
            discarded: 0,
            stale: false,
            abandon,
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
        if let Some(progress) = self.progress.take().filter(|_| !self.stale) {
            let (job, attempt) = (self.job, self.attempt);
            let record = || RecordProgress {
                job,
                attempt,
                progress: progress.clone(),
            };
            self.write(None, record).await;
        }
    }

    /// Waits until the chunk that is under way is written.
    async fn settle(&mut self) {
        let Some(UnderWay { length, handed_over }) = self.under_way.take() else {
            return;
        };
        let written = match handed_over.await {
            Ok((chunk, Ok(answer))) => {
                let (job, attempt) = (self.job, self.attempt);
                let append = || AppendLog {
                    job,
                    attempt,
                    chunk: chunk.clone(),
                };
                self.write(Some(answer), append).await
            }
            // The server is going down.
            Ok((_, Err(_))) => {
                self.stale = true;
                false
            }
            Err(error) => {
                tracing::error!(job.id = %self.job, error = %chain(&error), "a piece of a log could not be packed");
                false
            }
        };
        if !written {
            self.discarded += length as u64;
        }
    }

    /// Writes until it is written, or has lost its sense. Tells whether it was written. `answer` is that of the first try,
    /// where it was made already.
    async fn write<O: crate::store::Operation<Output = bool>>(
        &mut self,
        mut answer: Option<Answer<bool>>,
        operation: impl Fn() -> O,
    ) -> bool {
        let mut pause = FIRST_PAUSE;
        let mut refused = 0;
        while !self.stale {
            let written = match answer.take() {
                Some(answer) => answer.durable().await,
                None => self.writer.write(operation()).await,
            };
            let error = match written {
                Ok(still_ours) => {
                    self.stale = !still_ours;
                    return still_ours;
                }
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
        self.stale = true;
        false
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
        // One at a time: what comes later must not be stored without what came before.
        self.settle().await;
        if let Some(chunk) = self.encoder.take_loose().filter(|_| !self.stale) {
            let (writer, job, attempt) = (self.writer.clone(), self.job, self.attempt);
            self.under_way = Some(UnderWay {
                length: chunk.len(),
                handed_over: tokio::task::spawn_blocking(move || {
                    let chunk = chunk.pack();
                    let append = AppendLog {
                        job,
                        attempt,
                        chunk: chunk.clone(),
                    };
                    (chunk, writer.hand_over_blocking(append))
                }),
            });
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
