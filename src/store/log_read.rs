//! Reading logs: pages of lines, and ranges of bytes.

use std::collections::BTreeSet;
use std::sync::Arc;

use entity::log_chunk::{self, Column};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ColumnTrait, EntityTrait, Order, QueryFilter, QueryOrder, QuerySelect, Select};

use super::error::StoreError;
use super::list::PageRequest;
use super::log_codec::{LogSize, Place, RawLine, decode, decode_from};
use super::log_pack::unpack;
use super::read::Reader;
use super::record;
use super::transaction::SelectInTx;
use super::tx::Tx;
use crate::domain::{JobId, LogLevel, LogLine, LogStream};

/// Chunks that one piece of bytes is made of at most; each has a few hundred KiB at most.
const CHUNKS_OF_BYTES: u64 = 8;

/// Chunks that are read at once for lines. Many listeners may each have so many in memory.
const CHUNKS_OF_LINES: u64 = 2;

/// Which lines of an attempt's log are wanted; all that are given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogFilter {
    /// Of these streams.
    pub streams: Option<BTreeSet<LogStream>>,
    /// At least so grave.
    pub min_level: Option<LogLevel>,
    /// With this in the message, in any case.
    pub search: Option<String>,
}

impl LogFilter {
    fn select(&self, query: Select<log_chunk::Entity>) -> Select<log_chunk::Entity> {
        let bits = |column: Column, wanted: i32| Expr::col(column).bit_and(wanted).ne(0);
        let mut query = query;
        if let Some(streams) = &self.streams {
            let wanted = streams.iter().fold(0, |bits, &stream| bits | 1 << stream as i32);
            query = query.filter(bits(Column::Streams, wanted));
        }
        if let Some(least) = self.min_level {
            let wanted = LogLevel::ALL
                .iter()
                .filter(|&&level| level >= least)
                .fold(0, |bits, &level| bits | 1 << level as i32);
            query = query.filter(bits(Column::Levels, wanted));
        }
        query
    }

    /// The filter with which lines are picked.
    fn lowered(&self) -> Self {
        Self {
            search: self.search.as_ref().map(|text| text.to_lowercase()),
            ..self.clone()
        }
    }

    /// The line as a reader gets it, where it is wanted. To be asked of a filter that was lowered.
    fn pick(&self, raw: RawLine<'_>) -> Option<LogLine> {
        let wanted = self
            .streams
            .as_ref()
            .is_none_or(|streams| streams.contains(&raw.stream))
            && self.min_level.is_none_or(|least| raw.level >= least);
        if !wanted {
            return None;
        }
        let line = raw.to_line();
        self.search
            .as_ref()
            .is_none_or(|search| line.message.to_lowercase().contains(search))
            .then_some(line)
    }
}

/// A part of a log.
#[derive(Debug, Clone)]
pub struct LogPage {
    /// In the order in which they were printed.
    pub lines: Vec<LogLine>,
    /// Whether more follow.
    pub has_next: bool,
    /// Whether some come before.
    pub has_previous: bool,
}

/// A stored piece of a log, from which lines are taken one after the other. It holds the piece as it was printed, and
/// makes each line as it is asked for.
#[derive(Debug)]
pub struct LogPiece {
    chunk: log_chunk::Model,
    place: Place,
    filter: Arc<LogFilter>,
}

impl LogPiece {
    /// The number of the last line that was looked at; what was not taken up to here did not match.
    #[must_use]
    pub fn looked_to(&self) -> i64 {
        self.chunk.first_line - 1 + i64::try_from(self.place.line).unwrap_or(i64::MAX)
    }

    /// How much memory it takes, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.chunk.heads.len() + self.chunk.bytes.len()
    }

    /// Passes over the lines up to this one.
    fn skip_to(&mut self, number: i64) {
        let mut place = self.place;
        for line in decode(&self.chunk).take_while(|line| line.number <= number) {
            place = place.after(&line);
        }
        self.place = place;
    }
}

/// The lines that match.
impl Iterator for LogPiece {
    type Item = LogLine;

    fn next(&mut self) -> Option<LogLine> {
        for raw in decode_from(&self.chunk, self.place) {
            self.place = self.place.after(&raw);
            if let Some(line) = self.filter.pick(raw) {
                return Some(line);
            }
        }
        // Where a damaged head hides the rest, that was looked at, too.
        self.place.line = usize::try_from(self.chunk.line_count).unwrap_or(0);
        self.place.byte = self.chunk.bytes.len();
        None
    }
}

/// The pieces of an attempt's log.
pub(super) fn chunks(job: JobId, attempt: u32) -> Select<log_chunk::Entity> {
    log_chunk::Entity::find()
        .filter(Column::JobId.eq(job.uuid()))
        .filter(Column::Attempt.eq(record::number(attempt)))
}

/// The pieces with a line above `low` and one below `high`.
fn between(job: JobId, attempt: u32, low: i64, high: i64) -> Select<log_chunk::Entity> {
    let end = Expr::col(Column::FirstLine)
        .add(Expr::col(Column::LineCount))
        .sub(1);
    // The bounds on the key itself are what the index can use; chunks are far below so many lines.
    chunks(job, attempt)
        .filter(Column::FirstLine.lt(high))
        .filter(end.gt(low))
        .filter(Column::FirstLine.gt(low.saturating_sub(LINES_PER_CHUNK)))
}

/// How much there is of an attempt's log.
pub(super) async fn size_of(tx: &Tx, job: JobId, attempt: u32) -> Result<LogSize, StoreError> {
    Ok(size_with(last_chunk(job, attempt).one_in(tx).await?))
}

fn last_chunk(job: JobId, attempt: u32) -> Select<log_chunk::Entity> {
    chunks(job, attempt).order_by_desc(Column::FirstLine)
}

/// How much there is of a log with this as its last piece.
fn size_with(last: Option<log_chunk::Model>) -> LogSize {
    last.map_or_else(LogSize::default, |chunk| {
        let mut size = LogSize {
            lines: chunk.first_line - 1,
            total: chunk.total_offset,
            stdout: chunk.stdout_offset,
            stderr: chunk.stderr_offset,
        };
        for line in decode(&unpack(chunk)) {
            size.grow(line.stream, i64::try_from(line.bytes.len()).unwrap_or(i64::MAX));
        }
        size
    })
}

impl Reader {
    /// How much there is of an attempt's log.
    ///
    /// # Errors
    ///
    /// See [`Reader::job`].
    pub async fn log_size(&self, job: JobId, attempt: u32) -> Result<LogSize, StoreError> {
        Ok(size_with(last_chunk(job, attempt).one(&self.db).await?))
    }

    /// The next pieces of a log that may have lines after this one that match, at most so many, in their order.
    ///
    /// # Errors
    ///
    /// See [`Reader::job`].
    pub async fn log_pieces(
        &self,
        job: JobId,
        attempt: u32,
        filter: &LogFilter,
        after: i64,
        limit: u64,
    ) -> Result<Vec<LogPiece>, StoreError> {
        let query = filter
            .select(between(job, attempt, after, i64::MAX))
            .order_by_asc(Column::FirstLine)
            .limit(limit);
        let chunks = self.page(query).await?;
        let filter = Arc::new(filter.lowered());
        let pieces = chunks.into_iter().map(|chunk| LogPiece {
            chunk: unpack(chunk),
            place: Place::default(),
            filter: Arc::clone(&filter),
        });
        let mut pieces: Vec<LogPiece> = pieces.collect();
        if let Some(first) = pieces.first_mut() {
            first.skip_to(after);
        }
        Ok(pieces)
    }

    /// A page of lines; places are line numbers.
    ///
    /// # Errors
    ///
    /// See [`Reader::job`].
    pub async fn log_page(
        &self,
        job: JobId,
        attempt: u32,
        filter: &LogFilter,
        page: PageRequest<i64>,
    ) -> Result<LogPage, StoreError> {
        let filter = filter.lowered();
        let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
        let (mut low, mut high) = (page.after.unwrap_or(0), page.before.unwrap_or(i64::MAX));
        let (first, last) = (low, high);
        let mut lines = Vec::new();
        while lines.len() <= limit {
            let order = if page.from_end { Order::Desc } else { Order::Asc };
            let query = filter
                .select(between(job, attempt, low, high))
                .order_by(Column::FirstLine, order)
                .limit(CHUNKS_OF_LINES);
            let chunks = self.page(query).await?;
            let Some(edge) = chunks.last() else { break };
            let edge = (edge.first_line, edge.first_line + i64::from(edge.line_count));
            for chunk in chunks {
                let chunk = unpack(chunk);
                let mut picked: Vec<LogLine> = decode(&chunk)
                    .filter(|raw| raw.number > first && raw.number < last)
                    .filter_map(|raw| filter.pick(raw))
                    .collect();
                if page.from_end {
                    picked.reverse();
                }
                lines.append(&mut picked);
                if lines.len() > limit {
                    break;
                }
            }
            if page.from_end {
                high = edge.0;
            } else {
                low = edge.1 - 1;
            }
        }
        let more = lines.len() > limit;
        lines.truncate(limit);
        if page.from_end {
            lines.reverse();
            return Ok(LogPage {
                lines,
                has_next: page.before.is_some(),
                has_previous: more,
            });
        }
        Ok(LogPage {
            lines,
            has_next: more,
            has_previous: page.after.is_some(),
        })
    }

    /// A piece of an attempt's log as it was printed, of one stream or of all: from byte `from` on, up to but not
    /// including byte `to`, and at most a few chunks of it. Empty where there is nothing there.
    ///
    /// # Errors
    ///
    /// See [`Reader::job`].
    pub async fn log_bytes(
        &self,
        job: JobId,
        attempt: u32,
        stream: Option<LogStream>,
        from: i64,
        to: i64,
    ) -> Result<Vec<u8>, StoreError> {
        let offset = match stream {
            None => Expr::col(Column::TotalOffset),
            Some(LogStream::Stdout) => Expr::col(Column::StdoutOffset),
            Some(LogStream::Stderr) => Expr::col(Column::StderrOffset),
            Some(LogStream::System) => Expr::col(Column::TotalOffset)
                .sub(Expr::col(Column::StdoutOffset))
                .sub(Expr::col(Column::StderrOffset)),
        };
        // The chunk that holds the first byte is the last that begins at or before it.
        let start = chunks(job, attempt)
            .filter(offset.clone().lte(from))
            .order_by_desc(Column::FirstLine)
            .one(&self.db)
            .await?;
        let Some(start) = start else { return Ok(Vec::new()) };
        let mut query = chunks(job, attempt)
            .filter(Column::FirstLine.gte(start.first_line))
            .filter(offset.lt(to));
        if let Some(stream) = stream {
            let wanted = [stream]
                .into_iter()
                .fold(0, |bits, stream| bits | 1 << stream as i32);
            query = query.filter(Expr::col(Column::Streams).bit_and(wanted).ne(0));
        }
        let query = query.order_by_asc(Column::FirstLine).limit(CHUNKS_OF_BYTES);
        let chunks = self.page(query).await?;
        let mut piece = Vec::new();
        for chunk in chunks {
            let chunk = unpack(chunk);
            let mut place = match stream {
                None => chunk.total_offset,
                Some(LogStream::Stdout) => chunk.stdout_offset,
                Some(LogStream::Stderr) => chunk.stderr_offset,
                Some(LogStream::System) => chunk.total_offset - chunk.stdout_offset - chunk.stderr_offset,
            };
            for line in decode(&chunk).filter(|line| stream.is_none_or(|stream| line.stream == stream)) {
                let length = i64::try_from(line.bytes.len()).unwrap_or(i64::MAX);
                let (skip, keep) = ((from - place).clamp(0, length), (to - place).clamp(0, length));
                if skip < keep {
                    let range = usize::try_from(skip).unwrap_or(0)..usize::try_from(keep).unwrap_or(0);
                    piece.extend_from_slice(&line.bytes[range]);
                }
                place += length;
            }
        }
        Ok(piece)
    }

    /// The end of one stream, at most `bytes` of it.
    ///
    /// # Errors
    ///
    /// See [`Reader::job`].
    pub async fn log_tail(
        &self,
        job: JobId,
        attempt: u32,
        stream: LogStream,
        bytes: i64,
    ) -> Result<Vec<u8>, StoreError> {
        let end = self.log_size(job, attempt).await?.of(Some(stream));
        let mut from = Ord::max(end - bytes, 0);
        let mut tail = Vec::new();
        while from < end {
            let piece = self.log_bytes(job, attempt, Some(stream), from, end).await?;
            if piece.is_empty() {
                break;
            }
            from += i64::try_from(piece.len()).unwrap_or(i64::MAX);
            tail.extend(piece);
        }
        Ok(tail)
    }
}

/// More lines than a chunk ever has: a chunk is closed at a few hundred KiB of bytes and heads.
const LINES_PER_CHUNK: i64 = 262_144;
