//! A look at a document's text before it is parsed: how many tokens it has, and how deep brackets stand in each other.
//!
//! The parser takes some two hundred bytes of memory for each byte of a dense document, and one level of its stack, and
//! more, for each bracket; it has a bound of its own only for selections. So both are bounded first.

/// Brackets of a document within each other. The deepest introspection query of the usual tools has 16.
pub(super) const MAX_NESTING: usize = 100;

/// Why a text is not parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// More tokens than the limit.
    Tokens,
    /// Brackets nested deeper than [`MAX_NESTING`].
    Nesting,
    /// A string without an end. It is an error in any case, and has to be one here: the parser would go back and read
    /// the beginning of a block string as an empty string, and what follows as something else.
    String,
}

/// Walks over the text once. In one that is no document the figures may be off, but never too low for what the parser
/// would descend into.
pub(super) fn check(text: &str, max_tokens: usize) -> Result<(), Fault> {
    let text = text.as_bytes();
    let (mut depth, mut tokens, mut at) = (0_usize, 0_usize, 0);
    while let Some(&byte) = text.get(at) {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' | b',' => at += 1,
            b'#' => {
                at += text[at..]
                    .iter()
                    .take_while(|byte| !matches!(byte, b'\n' | b'\r'))
                    .count()
            }
            _ => {
                tokens += 1;
                if tokens > max_tokens {
                    return Err(Fault::Tokens);
                }
                match byte {
                    b'{' | b'[' | b'(' => depth += 1,
                    b'}' | b']' | b')' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                if depth > MAX_NESTING {
                    return Err(Fault::Nesting);
                }
                at = match byte {
                    b'"' => after_string(text, at).ok_or(Fault::String)?,
                    byte if is_word(byte) => {
                        at + text[at..].iter().take_while(|byte| is_word(**byte)).count()
                    }
                    _ => at + 1,
                };
            }
        }
    }
    Ok(())
}

/// What names and numbers are made of.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'+')
}

/// Where the string that begins at `start` is over, if it is.
fn after_string(text: &[u8], start: usize) -> Option<usize> {
    let block = text[start..].starts_with(b"\"\"\"");
    let mut at = start + if block { 3 } else { 1 };
    loop {
        match *text.get(at)? {
            b'\\' if block => at += if text[at..].starts_with(b"\\\"\"\"") { 4 } else { 1 },
            b'\\' => at += 2,
            b'"' if !block => return Some(at + 1),
            b'"' if text[at..].starts_with(b"\"\"\"") => return Some(at + 3),
            b'\n' | b'\r' if !block => return None,
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_counted() {
        for (text, tokens) in [
            ("", 0),
            (" {a, b}#c d e\r", 4),
            (r#"{a(b: "c d", e: -1)}"#, 11),
            ("{a(b:\"\"\"c \\\"\"\" d\"\"\")}", 8),
            ("query Q($a: [Int!]! = [1 2]) @d {...F}", 25),
        ] {
            assert_eq!(check(text, tokens), Ok(()), "{text}");
            assert!(
                tokens == 0 || check(text, tokens - 1) == Err(Fault::Tokens),
                "{text}"
            );
        }
    }

    #[test]
    fn brackets_count_outside_of_strings_and_comments() {
        let open = "[".repeat(MAX_NESTING);
        for text in [
            open.clone(),
            format!("{open}\"[[[\\\"[[[\""),
            format!("{open}\"\"\"[[[\\\"\"\"[[[\"\"\""),
            format!("{open}# [[[\r"),
            format!("}}){open}][]"),
        ] {
            assert_eq!(check(&text, 1_000), Ok(()), "{text}");
            assert_eq!(
                check(&format!("{text}["), 1_000),
                if text.ends_with("][]") {
                    Ok(())
                } else {
                    Err(Fault::Nesting)
                }
            );
        }
        for text in ["\"[\n\"", "{a(b:\"", "\"\"\"x\"\"", "\"\\"] {
            assert_eq!(check(text, 1_000), Err(Fault::String), "{text}");
        }
    }
}
