//! Finds the header block in a script's text.
//!
//! The form is that of Python's inline script metadata (PEP 723), of type `runql`, and with whatever begins a line
//! comment in the script's language:
//!
//! ```text
//! # /// runql
//! # description = "Greets somebody"
//! # ///
//! ```
//!
//! It differs from PEP 723 in one rule: the first `///` line closes the block, as TOML has no use for another. What
//! is nearly a block is an error and not silence, for its author believes that it is one.

use super::header::HeaderError;

/// How much of a script is searched for its block, in bytes.
pub(super) const HEAD_BYTES: usize = 64 * 1024;

/// What begins a line comment; longer ones first.
const LEADERS: [&str; 6] = [";;", "//", "--", "#", ";", "%"];

/// The block's TOML, one line of it for each line of the script.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// The script's line, from 1, of the first line of `toml`.
    pub(super) first_line: usize,
    /// The lines without what made them comments.
    pub(super) toml: String,
}

impl Block {
    /// The block in `head`, which is the beginning of a script; `cut` says that the script goes on after it.
    pub(super) fn find(head: &str, cut: bool) -> Result<Option<Self>, HeaderError> {
        let head = head.strip_prefix('\u{feff}').unwrap_or(head);
        let mut lines = head.lines().enumerate().map(|(index, line)| (index + 1, line));
        while let Some((number, line)) = lines.next() {
            let Some(leader) = opening(number, line)? else {
                continue;
            };
            let block = Self::collect(leader, number, &mut lines, cut)?;
            for (number, line) in lines {
                if opening(number, line)?.is_some() {
                    return Err(HeaderError::new(
                        number,
                        "a second runql block: a script has one, so put all into the first",
                    ));
                }
            }
            return Ok(Some(block));
        }
        Ok(None)
    }

    fn collect<'a>(
        leader: &str,
        opened: usize,
        lines: &mut impl Iterator<Item = (usize, &'a str)>,
        cut: bool,
    ) -> Result<Self, HeaderError> {
        let mut toml = String::new();
        let mut last = opened;
        for (number, line) in lines {
            last = number;
            let Some(rest) = line.strip_prefix(leader) else {
                return Err(HeaderError::new(
                    number,
                    format!("the runql block of line {opened} is not closed: end it with `{leader} ///`"),
                ));
            };
            if rest.trim_end() == " ///" {
                return Ok(Self {
                    first_line: opened + 1,
                    toml,
                });
            }
            let content = match rest.strip_prefix(' ') {
                Some(content) => content,
                None if rest.trim_end().is_empty() => "",
                None => {
                    return Err(HeaderError::new(
                        number,
                        format!("a line of the runql block begins with `{leader} `, with a space"),
                    ));
                }
            };
            toml.push_str(content);
            toml.push('\n');
        }
        let within = if cut {
            " within the first 64 KiB of the script"
        } else {
            ""
        };
        Err(HeaderError::new(
            last,
            format!("the runql block of line {opened} is not closed{within}: end it with `{leader} ///`"),
        ))
    }
}

/// The comment leader where this line opens a runql block.
fn opening(number: usize, line: &str) -> Result<Option<&'static str>, HeaderError> {
    for leader in LEADERS {
        let Some(rest) = line.strip_prefix(leader) else {
            continue;
        };
        if rest.trim_end() == " /// runql" {
            return Ok(Some(leader));
        }
        // All but the spaces is right, so a block is meant.
        if rest.len() <= 64
            && rest
                .split_whitespace()
                .flat_map(str::chars)
                .eq("///runql".chars())
        {
            return Err(HeaderError::new(
                number,
                format!("a runql block opens with exactly `{leader} /// runql`"),
            ));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toml(text: &str) -> String {
        Block::find(text, false).unwrap().unwrap().toml
    }

    fn error(text: &str) -> (usize, String) {
        let error = Block::find(text, false).unwrap_err();
        (error.line(), error.to_string())
    }

    #[test]
    fn every_leader_opens_and_closes_a_block() {
        for leader in LEADERS {
            let text = format!(
                "first\n{leader} /// runql\n{leader} a = 1\n{leader}\n{leader}   b\n{leader} ///\nrest"
            );
            let block = Block::find(&text, false).unwrap().unwrap();
            assert_eq!(
                block,
                Block {
                    first_line: 3,
                    toml: "a = 1\n\n  b\n".to_owned()
                },
                "{leader}"
            );
        }
    }

    #[test]
    fn carriage_returns_a_byte_order_mark_and_spaces_at_the_end_do_no_harm() {
        assert_eq!(
            toml("\u{feff}# /// runql \r\n# a = 1\r\n#\r\n# /// \r\n"),
            "a = 1\n\n"
        );
    }

    #[test]
    fn a_text_without_a_block_has_none() {
        for text in [
            "",
            "#!/bin/sh\necho",
            "# /// script\n# x = 1\n# ///",
            "  # /// runql\n",
            "# /// runqlx",
            "echo '# /// runql'",
        ] {
            assert_eq!(Block::find(text, false).unwrap(), None, "{text:?}");
        }
    }

    #[test]
    fn a_block_of_another_type_may_stand_before_and_after() {
        let text =
            "# /// script\n# dependencies = []\n# ///\n# /// runql\n# a = 1\n# ///\n# /// script\n# ///\n";
        assert_eq!(toml(text), "a = 1\n");
    }

    #[test]
    fn an_open_block_is_an_error_that_names_the_line() {
        let (line, message) = error("# /// runql\n# a = 1\necho\n");
        assert_eq!(line, 3);
        assert!(
            message.contains("not closed") && message.contains("`# ///`"),
            "{message}"
        );
        assert_eq!(error("x\n// /// runql\n// a = 1").0, 3);
        assert_eq!(error("# /// runql").0, 1);
        let cut = Block::find("# /// runql\n# a = 1\n", true)
            .unwrap_err()
            .to_string();
        assert!(cut.contains("64 KiB"), "{cut}");
    }

    #[test]
    fn what_is_nearly_a_block_is_an_error() {
        for text in [
            "#/// runql\n",
            "# ///runql\n",
            "#  ///  runql\n",
            "-- ///\trunql\n",
        ] {
            assert!(error(text).1.contains("opens with exactly"), "{text:?}");
        }
        assert_eq!(error("# /// runql\n#a = 1\n# ///\n").0, 2);
    }

    #[test]
    fn a_second_block_is_an_error() {
        let (line, message) = error("# /// runql\n# ///\n\n# /// runql\n# ///\n");
        assert_eq!(line, 4);
        assert!(message.contains("second"), "{message}");
    }
}
