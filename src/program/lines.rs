//! Bytes that a process prints, cut into lines, with its secrets masked.
//!
//! A line keeps its line feed, so nothing is lost by the cut. A line without an end is cut into pieces: memory is
//! bounded by a piece for each stream, however long the line is.

#[cfg(any(test, fuzzing))]
pub(crate) mod invariants;

use std::borrow::Cow;
use std::ops::Range;

use memchr::{memchr, memmem};

use crate::domain::{LineCommand, LogLevel, LogStream, Progress, Timestamp, line_command, parse_line};
use crate::process::Stream;

/// The longest piece that is kept together, in bytes.
const PIECE: usize = 16 * 1024;

/// What takes the place of a secret.
const MASK: &[u8] = b"***";

/// Secrets that one attempt may name, and how long each may be: a bound on memory and on the cost of each line.
const MOST_MASKS: usize = 64;
pub(crate) const LONGEST_MASK: usize = 4_096;

/// Cuts the output of one attempt.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    open: [Open; 2],
    masks: Vec<Vec<u8>>,
    longest_mask: usize,
    /// Secrets that the job named itself.
    named: usize,
}

/// The line of a stream that has not ended yet.
#[derive(Debug, Default)]
struct Open {
    /// What is kept of it, as it was printed: a mask that was put in too early might look like a secret itself.
    bytes: Vec<u8>,
    /// How many of these bytes belong to a secret whose mask was handed over already.
    covered: usize,
    /// Whether its beginning was handed over already.
    begun: bool,
}

/// A line, or a piece of a very long one.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    /// With its line feed, where it has one.
    pub(crate) bytes: Cow<'a, [u8]>,
    /// Whether it begins where a line begins: only then it can mean something.
    pub(crate) from_start: bool,
}

/// What a line is to its reader.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) stream: LogStream,
    pub(crate) level: LogLevel,
    /// Where the line says how far the job is.
    pub(crate) progress: Option<Progress>,
}

impl Line<'_> {
    /// Reads what the line says of itself; otherwise the stream that it came from decides.
    pub(crate) fn read(&self, stream: Stream, at: Timestamp) -> Reading {
        let (stream, usual) = match stream {
            Stream::Stdout => (LogStream::Stdout, LogLevel::Info),
            Stream::Stderr => (LogStream::Stderr, LogLevel::Warning),
        };
        let text = self.bytes.trim_ascii_end();
        let mut reading = Reading {
            stream,
            level: usual,
            progress: None,
        };
        if self.from_start && text.first().is_some_and(|&first| first == b'{' || first == b':') {
            reading.level = parse_line(text).level.unwrap_or(usual);
            if let Some(LineCommand::Progress { current, total, step }) = line_command(text) {
                reading.progress = Some(Progress {
                    current,
                    total,
                    step,
                    updated_at: at,
                });
            }
        }
        reading
    }
}

impl Lines {
    /// Adds what was read, and hands over each line that is complete.
    pub(crate) fn push(&mut self, stream: Stream, bytes: &[u8], mut each: impl FnMut(Stream, Line<'_>)) {
        let mut rest = bytes;
        while let Some(end) = memchr(b'\n', rest) {
            let (line, after) = rest.split_at(end + 1);
            rest = after;
            let open = &self.open[stream as usize];
            if open.bytes.is_empty() && !open.begun && line.len() <= PIECE {
                self.learn(line);
                let bytes = self.mask(line, 0);
                let from_start = true;
                each(stream, Line { bytes, from_start });
            } else {
                self.extend(stream, line, &mut each);
                self.close(stream, &mut each);
            }
        }
        if !rest.is_empty() {
            self.extend(stream, rest, &mut each);
        }
    }

    /// Hands over what is left once the stream has ended.
    pub(crate) fn end(&mut self, stream: Stream, mut each: impl FnMut(Stream, Line<'_>)) {
        self.close(stream, &mut each);
    }

    /// Adds to the open line, and hands over its beginning while it is too long.
    fn extend(&mut self, stream: Stream, mut bytes: &[u8], each: &mut impl FnMut(Stream, Line<'_>)) {
        // What is held back may be the first part of a secret whose rest is still to come, or of a character.
        let most = PIECE + self.longest_mask.saturating_sub(1) + 4;
        while !bytes.is_empty() {
            let open = &mut self.open[stream as usize];
            let room = most.saturating_sub(open.bytes.len()).max(1);
            let (some, after) = bytes.split_at(room.min(bytes.len()));
            open.bytes.extend_from_slice(some);
            bytes = after;
            if open.bytes.len() >= most {
                self.cut(stream, each);
            }
        }
    }

    /// Hands over a piece of the open line.
    fn cut(&mut self, stream: Stream, each: &mut impl FnMut(Stream, Line<'_>)) {
        let open = std::mem::take(&mut self.open[stream as usize]);
        let cut = char_boundary(&open.bytes, PIECE);
        let secrets = self.secrets(&open.bytes, open.covered);
        // A secret over the cut is shown as its mask before it, and its rest not at all.
        let before: Vec<Range<usize>> = secrets.into_iter().filter(|secret| secret.start < cut).collect();
        let end = before.last().map_or(0, |secret| secret.end);
        let covered = end.saturating_sub(cut);
        let piece = masked(&open.bytes[..cut], open.covered, &before);
        if !piece.is_empty() {
            let from_start = false;
            each(
                stream,
                Line {
                    bytes: piece,
                    from_start,
                },
            );
        }
        self.open[stream as usize] = Open {
            bytes: open.bytes[cut..].to_vec(),
            covered,
            begun: true,
        };
    }

    fn close(&mut self, stream: Stream, each: &mut impl FnMut(Stream, Line<'_>)) {
        let open = std::mem::take(&mut self.open[stream as usize]);
        // The rest of a long line means nothing, whatever it begins with.
        let from_start = !open.begun;
        if from_start {
            self.learn(&open.bytes);
        }
        let bytes = self.mask(&open.bytes, open.covered);
        if !bytes.is_empty() {
            each(stream, Line { bytes, from_start });
        }
    }

    /// Takes note of the secret that a line names.
    fn learn(&mut self, line: &[u8]) {
        if line.starts_with(b"::add-mask::")
            && let Some(LineCommand::AddMask(secret)) = line_command(line.trim_ascii_end())
        {
            self.add_mask(&secret);
        }
    }

    /// Hides a secret that the job was given, beside those that it names itself. It must not be longer than
    /// [`LONGEST_MASK`] in any line.
    pub(crate) fn hide(&mut self, secret: &str) {
        for line in secret.lines().map(str::trim).filter(|line| !line.is_empty()) {
            self.hide_line(line);
        }
    }

    /// A text with all secrets masked: one that is no line of the output, such as a reason.
    pub(crate) fn mask_text(&self, text: &str) -> String {
        String::from_utf8_lossy(&self.mask(text.as_bytes(), 0)).into_owned()
    }

    /// A JSON value with all secrets masked in its texts and keys.
    pub(crate) fn mask_json(&self, value: serde_json::Value) -> serde_json::Value {
        use serde_json::Value;
        if self.masks.is_empty() {
            return value;
        }
        match value {
            Value::String(text) => Value::String(self.mask_text(&text)),
            Value::Array(items) => items.into_iter().map(|item| self.mask_json(item)).collect(),
            Value::Object(members) => members
                .into_iter()
                .map(|(key, item)| (self.mask_text(&key), self.mask_json(item)))
                .collect(),
            // A secret of digits may be handed back as a number.
            Value::Number(number) if self.mask_text(&number.to_string()) != number.to_string() => {
                Value::String(self.mask_text(&number.to_string()))
            }
            other => other,
        }
    }

    fn hide_line(&mut self, line: &str) {
        if !self.masks.iter().any(|mask| mask == line.as_bytes()) {
            self.masks.push(line.as_bytes().to_vec());
            self.longest_mask = self.longest_mask.max(line.len());
        }
    }

    /// Each line of a secret is one of its own: what is printed later is cut into lines too.
    fn add_mask(&mut self, secret: &str) {
        for line in secret
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && line.len() <= LONGEST_MASK)
        {
            if self.named < MOST_MASKS {
                self.named += 1;
                self.hide_line(line);
            }
        }
    }

    fn mask<'a>(&self, bytes: &'a [u8], covered: usize) -> Cow<'a, [u8]> {
        // Most jobs have no secrets, and this is asked for every line.
        if self.masks.is_empty() && covered == 0 {
            return Cow::Borrowed(bytes);
        }
        masked(bytes, covered, &self.secrets(bytes, covered))
    }

    /// Where secrets lie, in their order; such as overlap are one. The first `covered` bytes belong to one already.
    fn secrets(&self, bytes: &[u8], covered: usize) -> Vec<Range<usize>> {
        let mut found: Vec<Range<usize>> = (covered > 0).then_some(0..covered).into_iter().collect();
        for secret in &self.masks {
            found.extend(memmem::find_iter(bytes, secret).map(|at| at..at + secret.len()));
        }
        found.sort_unstable_by_key(|secret| (secret.start, secret.end));
        found.dedup_by(|next, last| {
            let overlap = next.start < last.end;
            if overlap {
                last.end = last.end.max(next.end);
            }
            overlap
        });
        found
    }
}

/// The bytes with a mask for each secret, but for the one that begins with the `covered` bytes: its mask was shown.
fn masked<'a>(bytes: &'a [u8], covered: usize, secrets: &[Range<usize>]) -> Cow<'a, [u8]> {
    if secrets.is_empty() {
        return Cow::Borrowed(bytes);
    }
    let mut clean = Vec::with_capacity(bytes.len());
    let mut from = 0;
    for secret in secrets {
        clean.extend_from_slice(&bytes[from..secret.start]);
        if !(covered > 0 && secret.start == 0) {
            clean.extend_from_slice(MASK);
        }
        from = secret.end.min(bytes.len());
    }
    clean.extend_from_slice(&bytes[from..]);
    Cow::Owned(clean)
}

/// The last place at or before `cut` that is not inside a character, where the text is UTF-8 at all.
fn char_boundary(bytes: &[u8], cut: usize) -> usize {
    (cut.saturating_sub(3)..=cut)
        .rev()
        .find(|&at| at > 0 && bytes.get(at).is_none_or(|byte| byte & 0xc0 != 0x80))
        .unwrap_or(cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(lines: &mut Lines, chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        for chunk in chunks {
            lines.push(Stream::Stdout, chunk, |_, line| all.push(line.bytes.into_owned()));
        }
        lines.end(Stream::Stdout, |_, line| all.push(line.bytes.into_owned()));
        all
    }

    #[test]
    fn lines_are_whole_wherever_the_chunks_are_cut() {
        let text = b"one\ntwo\r\n\nlast without an end";
        for cut in 0..=text.len() {
            let (a, b) = text.split_at(cut);
            let lines = collect(&mut Lines::default(), &[a, b]);
            assert_eq!(
                lines,
                [&b"one\n"[..], b"two\r\n", b"\n", b"last without an end"],
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn a_line_without_an_end_comes_in_pieces_and_whole() {
        let text = "ü".repeat(100_000);
        let lines = collect(
            &mut Lines::default(),
            &text.as_bytes().chunks(65_536).collect::<Vec<_>>(),
        );
        assert!(
            lines
                .iter()
                .all(|piece| piece.len() <= PIECE + 8 && std::str::from_utf8(piece).is_ok())
        );
        assert_eq!(lines.concat(), text.as_bytes());
    }

    #[test]
    fn a_long_line_with_an_end_is_whole_too() {
        let mut text = vec![b'x'; 3 * PIECE];
        text.push(b'\n');
        text.extend(b"next\n");
        let lines = collect(&mut Lines::default(), &[&text]);
        assert_eq!(lines.concat(), text);
        assert_eq!(lines.last().unwrap(), b"next\n");
    }

    #[test]
    fn a_secret_is_masked_wherever_it_lies() {
        let secret = "s3cret-and-long";
        let filler = "x".repeat(PIECE - 7);
        let text = format!("::add-mask::{secret}\n{filler}{secret}{filler}{secret}\n{secret}");
        for size in [1_000, 16_384, 1_000_000] {
            let lines = collect(
                &mut Lines::default(),
                &text.as_bytes().chunks(size).collect::<Vec<_>>(),
            );
            let all = String::from_utf8(lines.concat()).unwrap();
            assert!(!all.contains(secret), "in chunks of {size}");
            assert_eq!(all, text.replace(secret, "***"));
        }
    }
}
