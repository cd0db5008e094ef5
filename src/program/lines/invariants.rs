//! What holds for every output, wherever it is cut: tried with random bytes by the tests here and by `fuzz/`.

use super::{LONGEST_MASK, Lines, MASK, PIECE};
use crate::process::Stream;

/// More than any state or piece may hold: a piece that is all masks of the shortest secret, beside what is held back.
const MOST_HELD: usize = MASK.len() * (PIECE + LONGEST_MASK + 4);

/// Cuts the rest of the bytes as the first of them says, and insists on what always holds.
pub(crate) fn hold_for(data: &[u8]) {
    let Some((&[size, large, secrets], output)) = data.split_first_chunk::<3>() else {
        return;
    };
    // Single bytes, odd numbers, or more than a piece at once.
    let chunk = usize::from(size).max(1) * if large & 1 == 1 { 521 } else { 1 };
    // Repeated, so that a small case reaches beyond a piece.
    let output = output.repeat(if large & 2 == 2 {
        1 + 3 * PIECE / output.len().max(1)
    } else {
        1
    });
    let mut lines = Lines::default();
    let mut printed = Vec::new();
    let mut given = 0;
    let mut begun = true;
    for chunk in output.chunks(chunk) {
        given += chunk.len();
        lines.push(Stream::Stdout, chunk, |_, line| {
            assert!(
                line.bytes.len() <= MOST_HELD,
                "a piece of {} bytes",
                line.bytes.len()
            );
            assert!(
                !line.from_start || begun,
                "the middle of a line is taken for its start"
            );
            begun = line.bytes.ends_with(b"\n");
            printed.extend_from_slice(&line.bytes);
        });
        let held: usize = lines.open.iter().map(|open| open.bytes.len()).sum();
        assert!(held <= MOST_HELD, "{held} bytes are held back");
        if lines.masks.is_empty() {
            // Its bytes are compared at the end: here it would take the square of their number.
            assert_eq!(printed.len() + lines.open[0].bytes.len(), given);
        }
    }
    lines.end(Stream::Stdout, |_, line| printed.extend_from_slice(&line.bytes));
    assert!(lines.open.iter().all(|open| open.bytes.is_empty()));
    if lines.masks.is_empty() {
        assert_eq!(printed, output, "nothing is lost");
    }
    with_secrets(secrets, chunk, &output);
}

/// Names secrets first, then prints the same: none of them is left.
fn with_secrets(secrets: u8, chunk: usize, output: &[u8]) {
    let mut lines = Lines::default();
    let mut from = 0;
    // Taken from the output itself, so that they are in it.
    for length in [usize::from(secrets % 7) + 1, usize::from(secrets) + 3, 4_000] {
        let secret = output
            .get(from..from + length)
            .and_then(|bytes| std::str::from_utf8(bytes).ok());
        // A secret of asterisks cannot be told from the mask, and one that others may share in would be made by it.
        if let Some(secret) = secret.filter(|secret| !secret.contains('*')) {
            lines.add_mask(secret);
        }
        from += length / 2;
    }
    // The output may name more of them, after it has printed them.
    let named = lines.masks.clone();
    let mut printed = Vec::new();
    for chunk in output.chunks(chunk) {
        lines.push(Stream::Stderr, chunk, |_, line| {
            printed.extend_from_slice(&line.bytes)
        });
        let held: usize = lines.open.iter().map(|open| open.bytes.len()).sum();
        assert!(held <= MOST_HELD, "{held} bytes are held back");
    }
    lines.end(Stream::Stderr, |_, line| printed.extend_from_slice(&line.bytes));
    for secret in &named {
        assert!(
            memchr::memmem::find(&printed, secret).is_none(),
            "a secret of {} bytes was printed",
            secret.len()
        );
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::Config;

    use super::*;

    /// Bytes of which lines, commands, structured lines and long lines are made.
    fn output() -> impl Strategy<Value = Vec<u8>> {
        let word = prop_oneof![
            4 => "[a-c*:\n]{1,6}".prop_map(String::into_bytes),
            1 => "::add-mask::[a-c*]{1,3}\n".prop_map(String::into_bytes),
            1 => Just(b"{\"level\":\"error\",\"message\":\"x\"}\n".to_vec()),
            1 => Just("ü".as_bytes().to_vec()),
            1 => proptest::collection::vec(any::<u8>(), 0..40),
            1 => (prop_oneof![Just(b'a'), Just(b'*'), Just(b'x')], 1_usize..40_000)
                .prop_map(|(byte, length)| vec![byte; length]),
        ];
        let words = proptest::collection::vec(word, 0..8).prop_map(|words| words.concat());
        (any::<[u8; 3]>(), words).prop_map(|(head, words)| [&head[..], &words].concat())
    }

    proptest! {
        #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

        #[test]
        fn whatever_is_printed(data in output()) {
            hold_for(&data);
        }
    }

    #[test]
    fn a_mask_that_looks_like_its_secret_does_not_grow() {
        let mut data = vec![255, 1, 0];
        data.extend(b"::add-mask::*\n");
        data.extend(vec![b'*'; 200_000]);
        hold_for(&data);
    }
}
