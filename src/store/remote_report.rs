//! What a registered worker tells of a job that it holds: log lines, progress, the result, all in one transaction.

use std::time::Duration;

use entity::{job, log_chunk};
use futures_util::future::BoxFuture;
use sea_orm::{ColumnTrait, QueryFilter};
use serde_json::Value;

use super::dialect;
use super::error::StoreError;
use super::log_codec::{LogChunk, LogEncoder, chunk_row};
use super::log_read::{chunks, size_of};
use super::moves::{AttemptEnd, EndResult, RecordProgress, end};
use super::record;
use super::remote::{RemoteFault, heard_of, registered, renew};
use super::transaction::SelectInTx;
use super::tx::Tx;
use super::writer::Operation;
use crate::domain::{
    Fault, FaultCode, Job, JobId, JobStatus, LogLevel, LogStream, ProcessEnd, Progress, Timestamp, WorkerId,
    log_limit_notice,
};

/// As much of a log as goes into one row.
const CHUNK_BYTES: usize = 256 * 1024;

/// A row keeps the times of its lines as distances from the first; beyond this one a new row begins.
const CHUNK_SPAN: Duration = Duration::from_secs(3_600);

/// A line that a worker reports, or a piece of a very long one.
#[derive(Debug, Clone)]
pub struct ReportedLine {
    /// When it was printed; the store keeps it between the attempt's start and now.
    pub at: Option<Timestamp>,
    /// Standard output or standard error; the third stream is the server's own.
    pub stream: LogStream,
    /// How grave it is.
    pub level: LogLevel,
    /// Its bytes, with its line feed.
    pub bytes: Vec<u8>,
}

/// How a worker says that a job ended.
#[derive(Debug, Clone)]
pub struct ReportedResult {
    /// Whether it completed.
    pub success: bool,
    /// The exit code, where there was a process.
    pub exit_code: Option<i32>,
    /// What it handed back; kept only where it completed.
    pub output: Option<Value>,
    /// What went wrong.
    pub error: Option<String>,
}

/// What a worker tells of a job. It counts as a sign of life of both.
#[derive(Debug)]
pub struct Report {
    /// The worker.
    pub worker: WorkerId,
    /// The job.
    pub job: JobId,
    /// The attempt that it claimed.
    pub attempt: u32,
    /// Lines, in order.
    pub lines: Vec<ReportedLine>,
    /// How far it is.
    pub progress: Option<Progress>,
    /// How it ended, where it has.
    pub result: Option<ReportedResult>,
    /// Bytes that the job's log may have.
    pub log_limit: u64,
    /// How long the worker holds the job from now on, never beyond its timeout.
    pub lease: Duration,
    /// When.
    pub now: Timestamp,
    /// 0 to 1, to spread retries.
    pub jitter: f64,
}

impl Operation for Report {
    /// The job after the report.
    type Output = Result<(Job, Option<EndResult>), RemoteFault>;

    fn apply<'t>(&'t self, tx: &'t mut Tx) -> BoxFuture<'t, Result<Self::Output, StoreError>> {
        Box::pin(self.report(tx))
    }
}

impl Report {
    async fn report(&self, tx: &mut Tx) -> Result<Result<(Job, Option<EndResult>), RemoteFault>, StoreError> {
        let worker = match registered(tx, self.worker, "").await? {
            Ok(row) => row,
            Err(fault) => return Ok(Err(fault)),
        };
        // The lock holds off another node that is about to end this attempt.
        let Some(job) = self.look(tx, dialect::for_update(tx.backend())).await? else {
            return Ok(Err(RemoteFault::UnknownJob(self.job)));
        };
        if let Err(fault) = self.is_held(&job) {
            return Ok(Err(fault));
        }
        let ended = self.result.as_ref().map(|result| self.end_of(&job, result));
        self.add_lines(tx, &job, ended.as_ref()).await?;
        if let Some(progress) = &self.progress {
            let recorded = RecordProgress {
                job: self.job,
                attempt: self.attempt,
                progress: progress.clone(),
            };
            recorded.apply(tx).await?;
        }
        let result = match &ended {
            Some(ended) => Some(end(tx, &job, ended, self.now, self.jitter).await?),
            None => {
                renew(tx, self.worker, &[self.job], self.lease, self.now).await?;
                None
            }
        };
        heard_of(tx, &worker, None, self.lease, self.now).await?;
        let job = self.look(tx, "").await?.unwrap_or(job);
        Ok(Ok((job, result)))
    }

    /// The job as it is now, locked as `lock` says.
    async fn look(&self, tx: &Tx, lock: &str) -> Result<Option<Job>, StoreError> {
        let statement = tx.statement(
            &format!("SELECT * FROM job WHERE id = ?{lock}"),
            [self.job.uuid().into()],
        );
        let row = tx.row(statement).await?;
        row.map(|row| record::job(row.model::<job::Model>()?)).transpose()
    }

    /// Whether the report is about the attempt that this worker runs.
    fn is_held(&self, job: &Job) -> Result<(), RemoteFault> {
        if job.status.is_final() {
            return Err(RemoteFault::Ended(job.status));
        }
        if job.attempt != self.attempt {
            return Err(RemoteFault::OtherAttempt {
                reported: self.attempt,
                latest: job.attempt,
            });
        }
        if job.status != JobStatus::Running {
            return Err(RemoteFault::NotRunning(job.attempt));
        }
        if job.worker != Some(self.worker) {
            return Err(RemoteFault::NotHeld);
        }
        Ok(())
    }

    /// What the worker's words mean for the attempt. What failed because it was asked to stop was cancelled, and what
    /// failed after its time was up failed by that; what completed did so in spite of both.
    fn end_of(&self, job: &Job, result: &ReportedResult) -> AttemptEnd {
        let deadline = job.started_at.unwrap_or(self.now).after(job.timeout);
        let (status, fault) = if result.success {
            (JobStatus::Completed, None)
        } else if let Some(cancel) = &job.cancel {
            let message = cancel
                .reason
                .as_ref()
                .map_or_else(|| "cancelled".to_owned(), |reason| format!("cancelled: {reason}"));
            (
                JobStatus::Cancelled,
                Some(Fault::new(FaultCode::Cancelled, message)),
            )
        } else if self.now >= deadline {
            (JobStatus::Timeout, Some(timed_out(job)))
        } else {
            let message = match (&result.error, result.exit_code) {
                (Some(error), _) => error.clone(),
                (None, Some(code)) => format!("exited with code {code}"),
                (None, None) => "the worker reported that it failed, and not why".to_owned(),
            };
            (JobStatus::Failed, Some(Fault::new(FaultCode::Reported, message)))
        };
        AttemptEnd {
            status,
            end: ProcessEnd {
                exit_code: result.exit_code,
                signal: None,
            },
            output: result.output.clone().filter(|_| result.success),
            fault,
        }
    }

    /// Adds the lines as far as the job's limit lets them, and what the server itself says of the end.
    async fn add_lines(&self, tx: &mut Tx, job: &Job, ended: Option<&AttemptEnd>) -> Result<(), StoreError> {
        if self.lines.is_empty() && ended.is_none() {
            return Ok(());
        }
        // Another report on this job may wait in the same transaction.
        tx.flush_chunks().await?;
        let mut log = Log::new(size_of(tx, self.job, self.attempt).await?);
        let mut room = self
            .log_limit
            .saturating_sub(self.used(tx, log.encoder.size()).await?);
        let mut limited = false;
        for line in &self.lines {
            let started = job.started_at.unwrap_or(self.now);
            let at = line.at.unwrap_or(self.now).clamp(started.min(self.now), self.now);
            let length = line.bytes.len() as u64;
            if length <= room && !limited {
                room -= length;
                log.push(line.stream, line.level, at, &line.bytes);
                continue;
            }
            // The first line that does not fit is kept as far as it does.
            let fits = usize::try_from(room).unwrap_or(0);
            if !limited && fits > 0 {
                log.push(line.stream, line.level, at, &line.bytes[..fits]);
            }
            if !limited && !self.limit_was_told(tx).await? {
                log.alone(&log_limit_notice(self.log_limit), at);
            }
            limited = true;
            room = 0;
        }
        if let Some(ended) = ended {
            let (level, text) = ended.last_line();
            log.system(level, &text, self.now);
        }
        for chunk in log.finish() {
            tx.add_chunk(chunk_row(self.job, record::number(self.attempt), chunk), self.job);
        }
        Ok(())
    }

    /// What all attempts took of the job's limit so far.
    async fn used(&self, tx: &Tx, latest: super::LogSize) -> Result<u64, StoreError> {
        let mut bytes = latest.stdout + latest.stderr;
        if !self.lines.is_empty() {
            for attempt in 1..self.attempt {
                let size = size_of(tx, self.job, attempt).await?;
                bytes += size.stdout + size.stderr;
            }
        }
        Ok(u64::try_from(bytes).unwrap_or(0))
    }

    /// Whether an earlier report on this attempt went over the limit: the notice has a row of its own.
    async fn limit_was_told(&self, tx: &Tx) -> Result<bool, StoreError> {
        let told = chunks(self.job, self.attempt)
            .filter(log_chunk::Column::Streams.eq(1 << LogStream::System as i32))
            .filter(log_chunk::Column::Levels.eq(1 << LogLevel::Warning as i32))
            .count_in(tx)
            .await?;
        Ok(told > 0)
    }
}

/// Gathers lines into rows.
struct Log {
    encoder: LogEncoder,
    /// The time of the open row's first line.
    open: Option<Timestamp>,
    full: Vec<LogChunk>,
}

impl Log {
    fn new(size: super::LogSize) -> Self {
        Self {
            encoder: LogEncoder::after(size),
            open: None,
            full: Vec::new(),
        }
    }

    fn push(&mut self, stream: LogStream, level: LogLevel, at: Timestamp, bytes: &[u8]) {
        if let Some(first) = self.open
            && (at < first || at.since(first) > CHUNK_SPAN || self.encoder.waiting() > CHUNK_BYTES)
        {
            self.close();
        }
        self.open.get_or_insert(at);
        self.encoder.push(stream, level, at, bytes);
    }

    fn system(&mut self, level: LogLevel, text: &str, at: Timestamp) {
        let line = format!("{}\n", text.replace('\n', " "));
        self.push(LogStream::System, level, at, line.as_bytes());
    }

    /// A warning of the server's own, in a row of its own.
    fn alone(&mut self, text: &str, at: Timestamp) {
        self.close();
        self.system(LogLevel::Warning, text, at);
        self.close();
    }

    fn close(&mut self) {
        self.full.extend(self.encoder.take());
        self.open = None;
    }

    fn finish(mut self) -> Vec<LogChunk> {
        self.close();
        self.full
    }
}

/// Why an attempt ended whose time was up.
pub(super) fn timed_out(job: &Job) -> Fault {
    let message = format!("ran longer than its timeout of {} ms", job.timeout.as_millis());
    Fault::new(FaultCode::Timeout, message)
}
