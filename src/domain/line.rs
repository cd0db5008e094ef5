//! What a printed line means: its level, its message and its fields, or a command to the server.
//!
//! The same reading is done twice, when a line is stored (for its level) and when it is shown (for its message and
//! fields), so it is one pure function: what is stored is what was printed.

use serde_json::{Map, Value};

use super::LogLevel;

/// The longest line that is looked at for its form, in bytes; beyond it a line is plain text.
pub const LONGEST_STRUCTURED_LINE: usize = 16 * 1024;

/// A line as it is read.
#[derive(Debug, Clone, PartialEq)]
pub struct ParsedLine<'a> {
    /// How grave it is; none where the line does not say.
    pub level: Option<LogLevel>,
    /// Its text.
    pub message: std::borrow::Cow<'a, str>,
    /// The other fields of a structured line.
    pub context: Option<Value>,
}

/// What a line tells the server to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LineCommand {
    /// `::add-mask::secret`: never store this text.
    AddMask(String),
    /// `::progress current=2 total=5::name of the step`.
    Progress {
        /// Steps done.
        current: i32,
        /// Steps in all.
        total: Option<i32>,
        /// The step under way.
        step: Option<String>,
    },
}

/// Reads a line, without its end. Invalid UTF-8 becomes the replacement character.
#[must_use]
pub fn parse_line(line: &[u8]) -> ParsedLine<'_> {
    structured(line)
        .or_else(|| command_with_level(line))
        .unwrap_or_else(|| ParsedLine {
            level: None,
            message: String::from_utf8_lossy(line),
            context: None,
        })
}

/// A JSON object with `level` and `message` or `msg`, both strings.
fn structured(line: &[u8]) -> Option<ParsedLine<'_>> {
    if line.len() > LONGEST_STRUCTURED_LINE || !line.trim_ascii().starts_with(b"{") {
        return None;
    }
    let mut fields: Map<String, Value> = serde_json::from_slice(line).ok()?;
    let level = level_of(fields.get("level")?.as_str()?)?;
    let key = if fields.contains_key("message") {
        "message"
    } else {
        "msg"
    };
    let message = fields.get(key)?.as_str()?.to_owned();
    fields.shift_remove(key);
    fields.shift_remove("level");
    Some(ParsedLine {
        level: Some(level),
        message: message.into(),
        context: (!fields.is_empty()).then_some(Value::Object(fields)),
    })
}

/// The words that common logging libraries use, in any case.
fn level_of(word: &str) -> Option<LogLevel> {
    Some(match word.to_ascii_lowercase().as_str() {
        "trace" | "debug" => LogLevel::Debug,
        "info" | "information" | "notice" => LogLevel::Info,
        "warn" | "warning" => LogLevel::Warning,
        "error" | "err" => LogLevel::Error,
        "critical" | "fatal" | "emergency" | "alert" | "panic" => LogLevel::Critical,
        _ => return None,
    })
}

/// `::warning file=a.py,line=3::text`: the level and the text, with the properties as fields.
fn command_with_level(line: &[u8]) -> Option<ParsedLine<'_>> {
    let (name, properties, text) = command_parts(line)?;
    let level = match name {
        "debug" => LogLevel::Debug,
        "notice" => LogLevel::Info,
        "warning" => LogLevel::Warning,
        "error" => LogLevel::Error,
        _ => return None,
    };
    let fields: Map<String, Value> = properties
        .split(',')
        .filter_map(|pair| pair.trim().split_once('='))
        .map(|(key, value)| (key.to_owned(), Value::String(unescape(value))))
        .collect();
    Some(ParsedLine {
        level: Some(level),
        message: unescape(text).into(),
        context: (!fields.is_empty()).then_some(Value::Object(fields)),
    })
}

/// Whether the line is a command to the server, and which.
#[must_use]
pub fn line_command(line: &[u8]) -> Option<LineCommand> {
    let (name, properties, text) = command_parts(line)?;
    match name {
        "add-mask" => Some(LineCommand::AddMask(unescape(text.trim()))).filter(|mask| {
            // An empty mask would hide everything.
            !matches!(mask, LineCommand::AddMask(secret) if secret.is_empty())
        }),
        "progress" => {
            let number = |wanted: &str| {
                properties
                    .split([' ', ','])
                    .filter_map(|pair| pair.split_once('='))
                    .find(|(key, _)| *key == wanted)
                    .and_then(|(_, value)| value.trim().parse().ok())
                    .filter(|number: &i32| *number >= 0)
            };
            Some(LineCommand::Progress {
                current: number("current")?,
                total: number("total"),
                step: Some(unescape(text.trim())).filter(|step| !step.is_empty()),
            })
        }
        _ => None,
    }
}

/// `::name properties::text`, cut into its three.
fn command_parts(line: &[u8]) -> Option<(&str, &str, &str)> {
    if !line.starts_with(b"::") || line.len() > LONGEST_STRUCTURED_LINE {
        return None;
    }
    let (head, text) = std::str::from_utf8(line)
        .ok()?
        .strip_prefix("::")?
        .split_once("::")?;
    let (name, properties) = head.split_once(' ').unwrap_or((head, ""));
    Some((name, properties, text))
}

/// The three escapes with which a command carries line ends.
fn unescape(text: &str) -> String {
    text.replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_structured_line_gives_its_level_and_fields() {
        let line = parse_line(br#"{"level":"WARN","msg":"slow","ms":12}"#);
        assert_eq!(line.level, Some(LogLevel::Warning));
        assert_eq!(line.message, "slow");
        assert_eq!(line.context, Some(json!({"ms": 12})));
    }

    #[test]
    fn what_only_looks_structured_is_text() {
        for text in [
            r#"{"level":"loud","message":"x"}"#,
            r#"{"message":"x"}"#,
            r#"{"level":"info"}"#,
            "{",
            "[1]",
        ] {
            let line = parse_line(text.as_bytes());
            assert_eq!((line.level, line.context), (None, None));
            assert_eq!(line.message, text);
        }
    }

    #[test]
    fn commands_give_levels_progress_and_masks() {
        let line = parse_line(b"::error file=a.py,line=3::it broke%0Ahere");
        assert_eq!(line.level, Some(LogLevel::Error));
        assert_eq!(line.message, "it broke\nhere");
        assert_eq!(line.context, Some(json!({"file": "a.py", "line": "3"})));
        assert_eq!(
            line_command(b"::progress current=2 total=5::build"),
            Some(LineCommand::Progress {
                current: 2,
                total: Some(5),
                step: Some("build".into())
            })
        );
        assert_eq!(line_command(b"::progress current=-2::"), None);
        assert_eq!(
            line_command(b"::add-mask::s3cret"),
            Some(LineCommand::AddMask("s3cret".into()))
        );
        assert_eq!(line_command(b"::add-mask::"), None);
        assert_eq!(parse_line(b"::other::x").message, "::other::x");
    }

    #[test]
    fn invalid_utf8_stays_readable() {
        assert_eq!(parse_line(b"a\xffb").message, "a\u{fffd}b");
    }
}
