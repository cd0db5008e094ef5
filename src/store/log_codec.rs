//! How lines lie in a chunk: their bytes one after the other, as they were printed, and a small head for each.
//!
//! ```text
//!   head (9 bytes): │ stream 2 bits · level 3 bits · 3 spare │ length u32 │ µs after the chunk's time u32 │
//! ```
//!
//! A line's bytes include its line feed, so the bytes of one stream, put together, are exactly what was printed. Where there
//! are many, heads and bytes are stored as LZ4 blocks, each with its length before it: less to write costs less than to
//! compress.

use std::time::Duration;

use entity::log_chunk;

use super::log_pack::{LooseChunk, Room};
use crate::domain::{JobId, LogLevel, LogLine, LogStream, Timestamp, parse_line};

/// Bytes of one head.
const HEAD: usize = 9;

/// Lines that are ready to be stored.
#[derive(Debug, Clone)]
pub struct LogChunk {
    pub(super) first_line: i64,
    pub(super) line_count: i32,
    pub(super) offset: LogSize,
    pub(super) streams: i32,
    pub(super) levels: i32,
    pub(super) at: Timestamp,
    pub(super) heads: Vec<u8>,
    pub(super) bytes: Vec<u8>,
    pub(super) length: usize,
    pub(super) compressed: bool,
}

impl LogChunk {
    /// The bytes that its lines have.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether it has no line.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.line_count == 0
    }
}

/// How much there is of an attempt's log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogSize {
    /// Lines, or pieces of very long ones.
    pub lines: i64,
    /// Bytes of all streams.
    pub total: i64,
    /// Bytes of standard output.
    pub stdout: i64,
    /// Bytes of standard error.
    pub stderr: i64,
}

impl LogSize {
    /// Bytes of one stream, or of all.
    #[must_use]
    pub const fn of(&self, stream: Option<LogStream>) -> i64 {
        match stream {
            None => self.total,
            Some(LogStream::Stdout) => self.stdout,
            Some(LogStream::Stderr) => self.stderr,
            Some(LogStream::System) => self.total - self.stdout - self.stderr,
        }
    }

    pub(super) const fn grow(&mut self, stream: LogStream, bytes: i64) {
        self.lines += 1;
        self.total += bytes;
        match stream {
            LogStream::Stdout => self.stdout += bytes,
            LogStream::Stderr => self.stderr += bytes,
            LogStream::System => {}
        }
    }
}

/// Gathers the lines of one attempt into chunks, and knows where each lies in the whole.
#[derive(Debug, Default)]
pub struct LogEncoder {
    size: LogSize,
    open: Option<LogChunk>,
    /// For the next chunk.
    room: Room,
    /// The heads and the bytes of the latest chunk: the next one is likely to have as many.
    usual: (usize, usize),
}

impl LogEncoder {
    /// Goes on after what is stored already.
    #[must_use]
    pub fn after(size: LogSize) -> Self {
        Self {
            size,
            ..Self::default()
        }
    }

    /// Adds a line or a piece of one, its line feed included.
    pub fn push(&mut self, stream: LogStream, level: LogLevel, at: Timestamp, bytes: &[u8]) {
        let before = self.size;
        let Room {
            heads, bytes: texts, ..
        } = &mut self.room;
        let chunk = self.open.get_or_insert_with(|| LogChunk {
            first_line: before.lines + 1,
            line_count: 0,
            offset: before,
            streams: 0,
            levels: 0,
            at,
            heads: emptied(heads, self.usual.0),
            bytes: emptied(texts, self.usual.1),
            length: 0,
            compressed: false,
        });
        // A piece is far below 4 GiB, and a chunk spans less than an hour: both fit.
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let delta = u32::try_from(at.since(chunk.at).as_micros()).unwrap_or(u32::MAX);
        let mut head = [stream as u8 | (level as u8) << 2; HEAD];
        head[1..5].copy_from_slice(&length.to_le_bytes());
        head[5..].copy_from_slice(&delta.to_le_bytes());
        chunk.heads.extend_from_slice(&head);
        chunk.bytes.extend_from_slice(bytes);
        chunk.line_count += 1;
        chunk.streams |= 1 << stream as i32;
        chunk.levels |= 1 << level as i32;
        self.size.grow(stream, i64::from(length));
    }

    /// Bytes that wait to be taken.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.open
            .as_ref()
            .map_or(0, |chunk| chunk.bytes.len() + chunk.heads.len())
    }

    /// How much was pushed so far.
    #[must_use]
    pub const fn size(&self) -> LogSize {
        self.size
    }

    /// Takes what waits.
    pub fn take(&mut self) -> Option<LogChunk> {
        let (chunk, _) = self.take_loose(Room::default())?.pack();
        Some(chunk)
    }

    /// Takes what waits, to be packed elsewhere. It and the next chunk get this room, which an earlier one took.
    pub fn take_loose(&mut self, room: Room) -> Option<LooseChunk> {
        let chunk = self.open.take()?;
        self.usual = (chunk.heads.len(), chunk.bytes.len());
        let Room { heads, bytes, packed } = room;
        (self.room.heads, self.room.bytes) = (heads, bytes);
        Some(LooseChunk { chunk, packed })
    }
}

/// A buffer to be filled: this one, or one for as much as is usual.
fn emptied(buffer: &mut Vec<u8>, usual: usize) -> Vec<u8> {
    let mut buffer = std::mem::take(buffer);
    buffer.clear();
    buffer.reserve(usual);
    buffer
}

/// A line as it lies in a chunk.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawLine<'a> {
    /// 1 for the first line of the attempt.
    pub(super) number: i64,
    /// Where it came from.
    pub(super) stream: LogStream,
    /// How grave it is.
    pub(super) level: LogLevel,
    /// When the server read it.
    pub(super) at: Timestamp,
    /// Its bytes, with the line feed where it had one.
    pub(super) bytes: &'a [u8],
}

impl RawLine<'_> {
    /// The line as a reader gets it.
    pub(super) fn to_line(self) -> LogLine {
        let text = self.bytes.strip_suffix(b"\n").unwrap_or(self.bytes);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let (message, context) = if self.stream == LogStream::System {
            (String::from_utf8_lossy(text).into_owned(), None)
        } else {
            let parsed = parse_line(text);
            (parsed.message.into_owned(), parsed.context)
        };
        LogLine {
            number: self.number,
            at: self.at,
            stream: self.stream,
            level: self.level,
            message,
            context,
        }
    }
}

/// A place in a chunk that was unpacked: after so many of its lines and of their bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) byte: usize,
}

impl Place {
    /// The place after the line that begins here.
    pub(super) const fn after(self, line: &RawLine<'_>) -> Self {
        Self {
            line: self.line + 1,
            byte: self.byte + line.bytes.len(),
        }
    }
}

/// The lines of a chunk that was unpacked. A head that cannot be read ends the chunk: the database was damaged, and the rest of
/// the log is still worth showing.
pub(super) fn decode(chunk: &log_chunk::Model) -> impl Iterator<Item = RawLine<'_>> {
    decode_from(chunk, Place::default())
}

/// The lines of a chunk from a place on.
pub(super) fn decode_from(chunk: &log_chunk::Model, place: Place) -> impl Iterator<Item = RawLine<'_>> {
    let heads = chunk.heads.get(place.line * HEAD..).unwrap_or_default();
    let first = chunk
        .first_line
        .saturating_add(i64::try_from(place.line).unwrap_or(i64::MAX));
    let mut start = place.byte;
    heads
        .chunks_exact(HEAD)
        .zip(first..)
        .map_while(move |(head, number)| {
            let stream = *LogStream::ALL.get(usize::from(head[0] & 0b11))?;
            let level = *LogLevel::ALL.get(usize::from(head[0] >> 2 & 0b111))?;
            let length = u32::from_le_bytes(head[1..5].try_into().ok()?) as usize;
            let delta = u32::from_le_bytes(head[5..9].try_into().ok()?);
            let bytes = chunk.bytes.get(start..start + length)?;
            start += length;
            let at = Timestamp::from_micros(chunk.at).after(Duration::from_micros(u64::from(delta)));
            Some(RawLine {
                number,
                stream,
                level,
                at,
                bytes,
            })
        })
}

/// The row of a chunk.
pub(super) fn chunk_row(job: JobId, attempt: i32, chunk: LogChunk) -> log_chunk::ActiveModel {
    use sea_orm::{ActiveModelTrait, IntoActiveModel};
    log_chunk::Model {
        job_id: job.uuid(),
        attempt,
        first_line: chunk.first_line,
        line_count: chunk.line_count,
        total_offset: chunk.offset.total,
        stdout_offset: chunk.offset.stdout,
        stderr_offset: chunk.offset.stderr,
        streams: chunk.streams,
        levels: chunk.levels,
        at: chunk.at.micros(),
        heads: chunk.heads,
        bytes: chunk.bytes,
        compressed: chunk.compressed,
    }
    .into_active_model()
    .reset_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        let mut encoder = LogEncoder::default();
        let at = Timestamp::from_millis(1_000);
        encoder.push(LogStream::Stdout, LogLevel::Info, at, b"one\n");
        encoder.push(
            LogStream::Stderr,
            LogLevel::Error,
            at.after(Duration::from_millis(3)),
            b"t\xffwo\r\n",
        );
        let first = encoder.take().unwrap();
        encoder.push(LogStream::System, LogLevel::Info, at, b"three\n");
        let second = encoder.take().unwrap();
        assert_eq!(
            encoder.size(),
            LogSize {
                lines: 3,
                total: 16,
                stdout: 4,
                stderr: 6
            }
        );
        assert_eq!((second.first_line, second.offset.total), (3, 10));
        assert!(encoder.take().is_none());

        let row =
            sea_orm::TryIntoModel::try_into_model(chunk_row(JobId::from_uuid(uuid::Uuid::nil()), 1, first))
                .unwrap();
        let lines: Vec<LogLine> = decode(&row).map(RawLine::to_line).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!((lines[0].number, lines[0].message.as_str()), (1, "one"));
        assert_eq!((lines[1].number, lines[1].message.as_str()), (2, "t\u{fffd}wo"));
        assert_eq!(lines[1].at, at.after(Duration::from_millis(3)));
        assert_eq!(lines[1].level, LogLevel::Error);
    }
}
