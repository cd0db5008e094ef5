//! Takes what a program prints, and tells the server: soon, in order, each line once, in bounded memory.
//!
//! ```text
//!   program ── chunks (16 at most) ──▶ lines ──▶ batches ── 256 KiB or 50 ms ──▶ report
//!                                                    └── the last goes with the result
//! ```
//!
//! While a report is under way nothing is read: the pipe fills, and the program waits, however long the server is away.
//! A report whose answer was lost may have arrived. Before it is sent again, the end of the log is looked at.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json, value::to_raw_value};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::api::{self, JobResult, Report, Task};
use super::client::CallError;
use super::pause::Pause;
use crate::clock::timestamp;
use crate::domain::{JobId, LONGEST_STRUCTURED_LINE, LogLevel, LogStream, Progress, Timestamp, parse_line};
use crate::process::{OutputChunk, Stream};
use crate::program::{Line, Lines, Reading, Sink};
use crate::telemetry::{chain, millis};

/// As much as goes into one report, as JSON: a quarter of what a server takes by default.
const BATCH_BYTES: usize = 512 * 1024;

/// As many lines as go into one report.
const BATCH_LINES: usize = 5_000;

/// Bytes that the server takes for the name of a step.
const LONGEST_STEP: usize = 1_024;

/// As much of one line is put together again from its pieces; of a longer one each such part becomes a line.
const LONGEST_LINE: usize = 128 * 1024;

/// Lines of one report.
#[derive(Debug, Default)]
struct Batch {
    lines: Vec<Box<RawValue>>,
    bytes: usize,
    /// How many lines the server makes of them.
    stored: i64,
    /// The text of the last of those.
    last: String,
}

/// A line as it is reported. What is left out is what the server takes it for.
#[derive(Serialize)]
struct ReportedLine<'a> {
    timestamp: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<&'static str>,
    message: &'a str,
}

/// What became of a report.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    /// The server has it.
    Yes,
    /// It is larger than the server takes.
    TooLarge,
    /// The server does not take what it says, and it says why.
    Invalid(String),
    /// The job is no longer this worker's, or there is no time left to tell.
    Never,
}

/// Reports on one attempt.
#[derive(Debug)]
pub(super) struct Reporter {
    shared: Arc<Shared>,
    job: JobId,
    attempt: u32,
    lines: Lines,
    /// The pieces so far of a line that is longer than a piece, for each stream.
    long: [Vec<u8>; 2],
    batches: VecDeque<Batch>,
    progress: Option<Progress>,
    /// The number of the log's last line, as far as this worker knows.
    known: i64,
    /// Cancelled once the job is no longer this worker's.
    lost: CancellationToken,
}

impl Reporter {
    pub(super) fn new(shared: Arc<Shared>, task: &Task, lost: CancellationToken) -> Self {
        Self {
            shared,
            job: task.id,
            attempt: task.attempt,
            lines: Lines::default(),
            long: Default::default(),
            batches: VecDeque::new(),
            progress: None,
            known: task.log_lines(),
            lost,
        }
    }

    /// Adds a line of the worker's own to standard error: the third stream is the server's.
    pub(super) fn say(&mut self, level: LogLevel, text: &str) {
        let reading = Reading {
            stream: LogStream::Stderr,
            level,
            progress: None,
        };
        self.push(&reading, text.as_bytes(), crate::clock::now());
    }

    fn line(&mut self, stream: Stream, line: &Line<'_>, at: Timestamp) {
        let mut reading = line.read(stream, at);
        if let Some(progress) = reading.progress.take() {
            self.progress = Some(progress);
        }
        let long = &mut self.long[stream as usize];
        let whole = line.bytes.strip_suffix(b"\n");
        if whole.is_none() && long.len() < LONGEST_LINE {
            long.extend_from_slice(&line.bytes);
            return;
        }
        let end = whole.unwrap_or(&line.bytes);
        if long.is_empty() {
            return self.push(&reading, end, at);
        }
        let mut text = std::mem::take(long);
        text.extend_from_slice(end);
        self.push(&reading, &text, at);
    }

    fn push(&mut self, reading: &Reading, text: &[u8], at: Timestamp) {
        let at = DateTime::<Utc>::from_timestamp_micros(at.micros())
            .unwrap_or_default()
            .to_rfc3339_opts(SecondsFormat::Millis, true);
        let message = String::from_utf8_lossy(text);
        let line = ReportedLine {
            timestamp: &at,
            stream: (reading.stream != LogStream::Stdout).then(|| reading.stream.as_str()),
            level: (reading.level != LogLevel::Info).then(|| reading.level.as_str()),
            message: &message,
        };
        // A line of plain text always has a form as JSON.
        let Ok(line) = to_raw_value(&line) else { return };
        let bytes = line.get().len() + 1;
        let has_room = |open: &Batch| open.bytes + bytes <= BATCH_BYTES && open.lines.len() < BATCH_LINES;
        if !self.batches.back().is_some_and(has_room) {
            self.batches.push_back(Batch::default());
        }
        let Some(open) = self.batches.back_mut() else {
            return;
        };
        open.bytes += bytes;
        open.lines.push(line);
        let (pieces, last) = pieces(&message);
        open.stored += pieces;
        open.last.clear();
        open.last.push_str(last);
    }

    /// Tells what is left, and how the attempt ended. Tells whether the server has it.
    pub(super) async fn finish(mut self, result: JobResult) -> bool {
        // All but the last batch go by themselves.
        while self.batches.len() > 1 {
            if !self.flush_first().await {
                return false;
            }
        }
        let last = self.batches.pop_front().unwrap_or_default();
        let progress = self.progress.take();
        match self.tell(&last, progress.as_ref(), Some(&result)).await {
            Told::Yes => return true,
            Told::Never => return false,
            Told::TooLarge | Told::Invalid(_) => {}
        }
        // Each by itself; and where the server does not take the result, that is the result.
        self.batches.push_front(last);
        while !self.batches.is_empty() {
            if !self.flush_first().await {
                return false;
            }
        }
        let none = Batch::default();
        let reason = match self.tell(&none, None, Some(&result)).await {
            Told::Yes => return true,
            Told::Never => return false,
            Told::TooLarge => "it is larger than a request may be".to_owned(),
            Told::Invalid(message) => message,
        };
        let failed = JobResult {
            exit_code: result.exit_code,
            ..JobResult::failed(format!("the server did not take the result: {reason}"))
        };
        self.tell(&none, None, Some(&failed)).await == Told::Yes
    }

    /// Tells the first batch, in halves where it is too large. Tells whether there is any sense in going on.
    async fn flush_first(&mut self) -> bool {
        let Some(batch) = self.batches.pop_front() else {
            return true;
        };
        match self.tell(&batch, None, None).await {
            Told::Yes => true,
            Told::Never => false,
            Told::TooLarge if batch.lines.len() > 1 => {
                let mut lines = batch.lines;
                let rest = lines.split_off(lines.len() / 2);
                for half in [rest, lines] {
                    self.batches.push_front(batch_of(half));
                }
                true
            }
            Told::TooLarge | Told::Invalid(_) => {
                tracing::warn!(job.id = %self.job, lines = batch.lines.len(), "the server does not take these lines, and they are left out");
                true
            }
        }
    }

    /// Tells until it is told, or has lost its sense.
    async fn tell(&mut self, batch: &Batch, progress: Option<&Progress>, result: Option<&JobResult>) -> Told {
        if self.lost.is_cancelled() {
            return Told::Never;
        }
        let report = Report {
            worker_id: self.shared.worker(),
            job_id: self.job,
            attempt: self.attempt,
            logs: &batch.lines,
            progress: progress.map(progress_input),
            result,
        };
        let mut pause = Pause::default();
        let mut unsure = false;
        loop {
            let told = async {
                if unsure && result.is_none() && self.arrived(batch).await? {
                    return Ok(None);
                }
                api::report(&self.shared.client, &report).await.map(Some)
            };
            let Some(told) = self.lost.run_until_cancelled(told).await else {
                return Told::Never;
            };
            match told {
                Ok(renewed) => {
                    if let Some(renewed) = renewed {
                        self.shared.held.renew(&[self.job], renewed);
                    }
                    self.known += batch.stored;
                    return Told::Yes;
                }
                Err(CallError::TooLarge) => return Told::TooLarge,
                Err(CallError::Refused { code, message })
                    if matches!(code.as_str(), "INVALID" | "LIMIT_EXCEEDED") =>
                {
                    return Told::Invalid(message);
                }
                Err(error @ CallError::Refused { .. }) => {
                    // After an answer that was lost, this is how it is told that the result had arrived.
                    if unsure && result.is_some() && error.is("CONFLICT") {
                        tracing::info!(job.id = %self.job, "the server had the result, or has decided otherwise");
                    } else {
                        tracing::warn!(job.id = %self.job, job.attempt = self.attempt, error = %chain(&error), "the server does not want reports on the job any more");
                    }
                    self.lost.cancel();
                    return Told::Never;
                }
                Err(error) => {
                    unsure |= !matches!(error, CallError::Away { unsent: true, .. });
                    let pause = pause.take();
                    tracing::warn!(job.id = %self.job, error = %chain(&error), retry_ms = millis(pause), "a report waits for the server");
                    let rested = self.lost.run_until_cancelled(tokio::time::sleep(pause)).await;
                    if rested.is_none() {
                        return Told::Never;
                    }
                }
            }
        }
    }

    /// Whether a report whose answer was lost had arrived: the log has grown by its lines, and ends with its last one.
    async fn arrived(&self, batch: &Batch) -> Result<bool, CallError> {
        if batch.lines.is_empty() {
            return Ok(false);
        }
        let ours = parse_line(batch.last.trim_end().as_bytes()).message;
        let last = api::last_line(&self.shared.client, self.shared.worker(), self.job, self.attempt).await?;
        Ok(last.is_some_and(|last| last.number >= self.known + batch.stored && last.message == ours))
    }
}

/// Lines that were in a larger batch.
fn batch_of(lines: Vec<Box<RawValue>>) -> Batch {
    let mut batch = Batch::default();
    for line in lines {
        batch.bytes += line.get().len() + 1;
        if let Ok(value) = serde_json::from_str::<Value>(line.get()) {
            let (stored, last) = pieces(value["message"].as_str().unwrap_or_default());
            batch.stored += stored;
            batch.last = last.to_owned();
        }
        batch.lines.push(line);
    }
    batch
}

/// How many lines the server makes of one, and the last of them.
fn pieces(text: &str) -> (i64, &str) {
    let mut count = 1;
    let mut rest = text;
    while rest.len() >= LONGEST_STRUCTURED_LINE {
        rest = &rest[rest.floor_char_boundary(LONGEST_STRUCTURED_LINE - 1)..];
        count += 1;
    }
    (count, rest)
}

fn progress_input(progress: &Progress) -> Value {
    let step = progress
        .step
        .as_ref()
        .map(|step| &step[..step.floor_char_boundary(LONGEST_STEP)]);
    json!({ "current": progress.current, "total": progress.total, "step": step })
}

impl Sink for Reporter {
    fn take(&mut self, chunk: &OutputChunk) {
        let at = timestamp(chunk.at);
        let mut lines = std::mem::take(&mut self.lines);
        lines.push(chunk.stream, &chunk.bytes, |stream, line| {
            self.line(stream, &line, at)
        });
        self.lines = lines;
    }

    fn is_full(&self) -> bool {
        self.batches.len() > 1 || self.batches.iter().any(|batch| batch.bytes > BATCH_BYTES / 2)
    }

    async fn flush(&mut self) {
        while !self.batches.is_empty() {
            if !self.flush_first().await {
                self.batches.clear();
            }
        }
        if let Some(progress) = self.progress.take() {
            self.tell(&Batch::default(), Some(&progress), None).await;
        }
    }

    async fn close(&mut self) {
        let now = timestamp(SystemTime::now());
        for stream in [Stream::Stdout, Stream::Stderr] {
            let mut lines = std::mem::take(&mut self.lines);
            lines.end(stream, |stream, line| self.line(stream, &line, now));
            self.lines = lines;
            // The last line may have no end; then this is it.
            if !self.long[stream as usize].is_empty() {
                let end = Line {
                    bytes: b"\n".into(),
                    from_start: false,
                };
                self.line(stream, &end, now);
            }
        }
    }
}
