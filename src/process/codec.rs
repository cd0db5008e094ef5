//! Frames on a byte stream: a length, a kind, then numbers and byte strings in an order that both sides know.
//!
//! Program names, arguments and environments are bytes, not text, and may be megabytes; this carries them as they
//! are. What the frames mean is in `protocol`.

/// The most a frame may hold. The kernel takes at most 6 MiB of arguments and environment together.
pub(super) const LARGEST_FRAME: usize = 16 * 1024 * 1024;

/// The length field in front of each frame.
const HEAD: usize = 4;

/// What a buffer of frames keeps allocated.
const KEPT: usize = 64 * 1024;

/// The other side does not speak this protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the other end of the spawner's socket sent a malformed frame")]
pub(super) struct Malformed;

impl From<Malformed> for std::io::Error {
    fn from(malformed: Malformed) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, malformed)
    }
}

/// Builds one frame.
pub(super) struct Encoder(Vec<u8>);

impl Encoder {
    pub(super) fn new(kind: u64) -> Self {
        let mut encoder = Self(vec![0; HEAD]);
        encoder.number(kind);
        encoder
    }

    pub(super) fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// The finished frame, or nothing if it grew too large.
    pub(super) fn finish(mut self) -> Option<Vec<u8>> {
        let body = self.0.len() - HEAD;
        if body > LARGEST_FRAME {
            return None;
        }
        let length = u32::try_from(body).ok()?;
        self.0[..HEAD].copy_from_slice(&length.to_le_bytes());
        Some(self.0)
    }
}

/// Reads one frame's fields back, in the order in which they were put in.
pub(super) struct Decoder<'a>(&'a [u8]);

impl<'a> Decoder<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        Self(body)
    }

    pub(super) fn number(&mut self) -> Result<u64, Malformed> {
        let (number, rest) = self.0.split_first_chunk::<8>().ok_or(Malformed)?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*number))
    }

    pub(super) fn narrow<N: TryFrom<u64>>(&mut self) -> Result<N, Malformed> {
        N::try_from(self.number()?).map_err(|_| Malformed)
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length: usize = self.narrow()?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(bytes)
    }
}

/// Gathers what was read until a frame is whole.
#[derive(Debug, Default)]
pub(super) struct Frames {
    gathered: Vec<u8>,
    taken: usize,
}

impl Frames {
    pub(super) fn push(&mut self, read: &[u8]) {
        if self.taken > 0 {
            self.gathered.drain(..self.taken);
            self.taken = 0;
            // One huge request must not keep the spawner large for ever.
            self.gathered.shrink_to(KEPT);
        }
        self.gathered.extend_from_slice(read);
    }

    /// The body of the next whole frame.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, Malformed> {
        let waiting = &self.gathered[self.taken..];
        let Some((head, rest)) = waiting.split_first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*head) as usize;
        if length > LARGEST_FRAME {
            return Err(Malformed);
        }
        if rest.len() < length {
            return Ok(None);
        }
        let start = self.taken + HEAD;
        self.taken = start + length;
        Ok(Some(&self.gathered[start..start + length]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u64, text: &[u8]) -> Vec<u8> {
        let mut encoder = Encoder::new(kind);
        encoder.bytes(text);
        encoder.finish().expect("small")
    }

    #[test]
    fn frames_survive_any_cut() {
        let stream = [frame(1, b"one"), frame(2, &[0xff; 100_000]), frame(3, b"")].concat();
        for cut in [1, 3, 7, 4096, stream.len()] {
            let mut frames = Frames::default();
            let mut seen = Vec::new();
            for piece in stream.chunks(cut) {
                frames.push(piece);
                while let Some(body) = frames.next().expect("well formed") {
                    let mut fields = Decoder::new(body);
                    let kind = fields.number().expect("kind");
                    seen.push((kind, fields.bytes().expect("text").len()));
                }
            }
            assert_eq!(seen, [(1, 3), (2, 100_000), (3, 0)], "cut in pieces of {cut}");
        }
    }

    #[test]
    fn a_lie_about_a_length_is_refused() {
        let mut frames = Frames::default();
        frames.push(&u32::MAX.to_le_bytes());
        assert_eq!(frames.next().err(), Some(Malformed));
        assert_eq!(Decoder::new(&9_u64.to_le_bytes()).bytes().err(), Some(Malformed));
    }

    #[test]
    fn too_large_a_frame_is_not_built() {
        let mut encoder = Encoder::new(1);
        encoder.bytes(&vec![0; LARGEST_FRAME]);
        assert!(encoder.finish().is_none());
    }
}
