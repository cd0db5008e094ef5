//! How a chunk is compressed: its heads and its bytes as LZ4 blocks, each with its length before it, where that is worth
//! while.

use std::mem::replace;

use entity::log_chunk;
use lz4_flex::block::{compress_into, decompress_size_prepended, get_maximum_output_size, uncompressed_size};

use super::log_codec::LogChunk;

/// Bytes from which on a chunk is compressed.
const WORTH_IT: usize = 1_024;

/// Bytes of a block's length, which comes before it.
const LENGTH: usize = 4;

/// More than any chunk has, in bytes: what claims to be larger is damaged.
const LARGEST: usize = 64 << 20;

/// Room for what a piece takes until it is stored, to be used again: as much as that would go to the system and come back
/// for each piece, and from one thread to another.
#[derive(Debug, Default)]
pub struct Room {
    pub(super) heads: Vec<u8>,
    pub(super) bytes: Vec<u8>,
    pub(super) packed: Vec<u8>,
}

/// Lines that are ready but for being compressed, which takes as long as everything else that is done for them.
#[derive(Debug)]
pub struct LooseChunk {
    pub(super) chunk: LogChunk,
    /// Where it is compressed.
    pub(super) packed: Vec<u8>,
}

impl LooseChunk {
    /// As it is stored, and the room that it took.
    #[must_use]
    pub fn pack(self) -> (LogChunk, Room) {
        let Self {
            mut chunk,
            mut packed,
        } = self;
        chunk.length = chunk.bytes.len();
        let mut room = Room::default();
        // What is random, or compressed already, grows.
        if chunk.length >= WORTH_IT
            && let Some(heads) = compressed(&chunk.heads, &mut packed)
            && let Some(bytes) = compressed(&chunk.bytes, &mut packed)
            && heads.len() + bytes.len() < chunk.heads.len() + chunk.bytes.len()
        {
            room.heads = replace(&mut chunk.heads, heads);
            room.bytes = replace(&mut chunk.bytes, bytes);
            chunk.compressed = true;
        }
        room.packed = packed;
        (chunk, room)
    }

    /// The bytes that its lines have.
    #[must_use]
    pub fn len(&self) -> usize {
        self.chunk.bytes.len()
    }

    /// Whether it has no line.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chunk.is_empty()
    }
}

/// An LZ4 block with its length before it, in as many bytes as it has. `room` is where it is made. None where it could not
/// be made: the bytes are then stored as they are.
fn compressed(bytes: &[u8], room: &mut Vec<u8>) -> Option<Vec<u8>> {
    let most = get_maximum_output_size(bytes.len());
    if room.len() < most {
        room.resize(most, 0);
    }
    let length = compress_into(bytes, room).ok()?;
    let mut block = Vec::with_capacity(LENGTH + length);
    block.extend_from_slice(&u32::try_from(bytes.len()).ok()?.to_le_bytes());
    block.extend_from_slice(&room[..length]);
    Some(block)
}

/// A stored chunk, with heads and bytes as they were before they were compressed. Of one that is damaged, none.
pub(super) fn unpack(mut chunk: log_chunk::Model) -> log_chunk::Model {
    if chunk.compressed {
        let plain = |packed: &[u8]| {
            let (length, _) = uncompressed_size(packed).ok()?;
            (length <= LARGEST)
                .then(|| decompress_size_prepended(packed).ok())
                .flatten()
        };
        chunk.heads = plain(&chunk.heads).unwrap_or_default();
        chunk.bytes = plain(&chunk.bytes).unwrap_or_default();
        chunk.compressed = false;
    }
    chunk
}

#[cfg(test)]
mod tests {
    use entity::log_chunk;

    use super::super::log_codec::{LogEncoder, RawLine, chunk_row, decode};
    use super::*;
    use crate::domain::{JobId, LogLevel, LogStream, Timestamp};

    #[test]
    fn many_lines_are_compressed_and_a_damaged_chunk_has_none() {
        use sea_orm::TryIntoModel as _;
        let mut encoder = LogEncoder::default();
        let at = Timestamp::from_millis(1_000);
        for number in 0..1_000 {
            let line = format!("line {number}\n");
            encoder.push(LogStream::Stdout, LogLevel::Info, at, line.as_bytes());
        }
        let length = usize::try_from(encoder.size().total).unwrap();
        let chunk = encoder.take().unwrap();
        assert_eq!(chunk.len(), length);
        let row = |chunk| {
            chunk_row(JobId::from_uuid(uuid::Uuid::nil()), 1, chunk)
                .try_into_model()
                .unwrap()
        };
        let stored = row(chunk);
        assert!(stored.compressed && stored.bytes.len() * 2 < length && stored.heads.len() < 1_000);
        let plain = unpack(stored.clone());
        let lines: Vec<RawLine<'_>> = decode(&plain).collect();
        assert_eq!(lines.len(), 1_000);
        assert_eq!((lines[999].number, lines[999].bytes), (1_000, &b"line 999\n"[..]));
        for damage in [
            vec![],
            vec![0xff; 40],
            stored.bytes[..stored.bytes.len() / 2].to_vec(),
        ] {
            let damaged = log_chunk::Model {
                bytes: damage,
                ..stored.clone()
            };
            assert_eq!(decode(&unpack(damaged)).count(), 0);
        }

        let mut dice = fastrand::Rng::with_seed(1);
        let noise: Vec<u8> = std::iter::repeat_with(|| dice.u8(..)).take(4_096).collect();
        encoder.push(LogStream::Stdout, LogLevel::Info, at, &noise);
        let stored = row(encoder.take().unwrap());
        assert!(!stored.compressed && stored.bytes == noise);
    }
}
