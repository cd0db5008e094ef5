//! What a script says of itself: the header block, read as TOML.
//!
//! ```toml
//! description = "Counts to a number"
//! timeout = "10m"
//!
//! [parameters.steps]
//! type = "integer"
//! default = 5
//! minimum = 1
//! description = "How far to count"
//! ```
//!
//! Whatever is not understood is an error with its line in the script, never passed over: a bound that is misspelt
//! and silently gone would let through what its author believes is refused.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::block::Block;
use super::declaration::{Declaration, DeclarationFault, unknown};
use super::duration::{from_seconds, parse_duration};
use super::parameters::{PARAMETERS, Parameters};
use super::variable::variable_name;

const KEYS: [&str; 3] = ["description", "timeout", "parameters"];

/// What a script says of itself.
#[derive(Debug, Default)]
pub(super) struct Header {
    /// What it is for.
    pub(super) description: Option<String>,
    /// How long it may run where the request says nothing.
    pub(super) timeout: Option<Duration>,
    /// What it takes; none where it declares nothing, and then it takes anything.
    pub(super) parameters: Option<Arc<Parameters>>,
}

/// Why a header cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub(super) struct HeaderError {
    line: usize,
    reason: String,
}

impl HeaderError {
    pub(super) fn new(line: usize, reason: impl Into<String>) -> Self {
        Self {
            line,
            reason: reason.into(),
        }
    }

    /// The script's line, from 1.
    #[cfg(any(test, fuzzing))]
    pub(super) const fn line(&self) -> usize {
        self.line
    }
}

impl Header {
    /// The header in `head`, the beginning of a script; `cut` says that the script goes on after it. None where the
    /// script has no header block.
    pub(super) fn parse(head: &str, cut: bool) -> Result<Option<Self>, HeaderError> {
        Block::find(head, cut)?
            .map(|block| Reader { block: &block }.header())
            .transpose()
    }
}

struct Reader<'a> {
    block: &'a Block,
}

impl Reader<'_> {
    /// The script's line in which the byte `offset` of the block stands.
    fn line(&self, offset: usize) -> usize {
        let before = self
            .block
            .toml
            .as_bytes()
            .get(..offset)
            .unwrap_or(self.block.toml.as_bytes());
        self.block.first_line + memchr::memchr_iter(b'\n', before).count()
    }

    fn error<T>(&self, at: &Spanned<T>, reason: impl Into<String>) -> HeaderError {
        HeaderError::new(self.line(at.span().start), reason)
    }

    fn header(&self) -> Result<Header, HeaderError> {
        let table = DeTable::parse(&self.block.toml).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            HeaderError::new(self.line(offset), error.message().to_owned())
        })?;
        let mut header = Header::default();
        for (key, value) in table.get_ref() {
            match key.get_ref().as_ref() {
                "description" => header.description = Some(self.text(value, "description")?),
                "timeout" => header.timeout = Some(self.timeout(value)?),
                "parameters" => header.parameters = Some(Arc::new(self.parameters(value)?)),
                other => return Err(self.error(key, unknown("key", other, &KEYS))),
            }
        }
        Ok(header)
    }

    fn text(&self, value: &Spanned<DeValue<'_>>, key: &str) -> Result<String, HeaderError> {
        let text = value.get_ref().as_str();
        text.map(str::to_owned)
            .ok_or_else(|| self.error(value, format!("`{key}` must be a string")))
    }

    fn timeout(&self, value: &Spanned<DeValue<'_>>) -> Result<Duration, HeaderError> {
        let duration = match value.get_ref() {
            DeValue::String(text) => parse_duration(text),
            DeValue::Integer(_) | DeValue::Float(_) => {
                let seconds = self.json(value)?.as_f64().unwrap_or(f64::NAN);
                from_seconds(seconds)
            }
            _ => {
                return Err(self.error(
                    value,
                    "`timeout` must be a string such as \"90s\" or a number of seconds",
                ));
            }
        };
        duration.map_err(|error| self.error(value, format!("`timeout`: {error}")))
    }

    fn parameters(&self, value: &Spanned<DeValue<'_>>) -> Result<Parameters, HeaderError> {
        let table = value
            .get_ref()
            .as_table()
            .ok_or_else(|| self.error(value, "`parameters` must be tables: write [parameters.NAME]"))?;
        // The parser sorts by name; people read them in the order in which they are written.
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);

        let mut declarations = Vec::with_capacity(entries.len());
        let mut lines = HashMap::new();
        let mut variables: HashMap<String, String> = HashMap::new();
        for (name, value) in entries {
            let text = name.get_ref().as_ref();
            if text.is_empty() {
                return Err(self.error(name, "a parameter needs a name"));
            }
            if let Some(variable) = variable_name(text)
                && let Some(other) = variables.insert(variable.clone(), text.to_owned())
            {
                let reason =
                    format!("the parameters `{other}` and `{text}` would both be {variable}: rename one");
                return Err(self.error(name, reason));
            }
            lines.insert(vec![text.to_owned()], self.line(name.span().start));
            declarations.push(self.declaration(name, value, &mut lines)?);
        }
        Parameters::compile(PARAMETERS, declarations).map_err(|fault| {
            let fallback = self.line(value.span().start);
            declared_wrong(&fault, &lines).unwrap_or_else(|| HeaderError::new(fallback, fault.message))
        })
    }

    fn declaration(
        &self,
        name: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
        lines: &mut HashMap<Vec<String>, usize>,
    ) -> Result<Declaration, HeaderError> {
        let text = name.get_ref().as_ref();
        let table = value.get_ref().as_table().ok_or_else(|| {
            self.error(
                value,
                format!("parameter `{text}` must be a table: write [parameters.{text}]"),
            )
        })?;
        let mut keywords = Map::new();
        for (key, value) in table {
            let keyword = key.get_ref().as_ref();
            let line = self.line(key.span().start);
            lines.insert(vec![text.to_owned(), keyword.to_owned()], line);
            keywords.insert(keyword.to_owned(), self.json(value)?);
        }
        Declaration::read(text, keywords).map_err(|fault| {
            let fallback = self.line(name.span().start);
            declared_wrong(&fault, lines).unwrap_or_else(|| HeaderError::new(fallback, fault.message))
        })
    }

    /// A TOML value as JSON. Dates become strings; infinity and NaN have no form in JSON.
    fn json(&self, value: &Spanned<DeValue<'_>>) -> Result<Value, HeaderError> {
        Ok(match value.get_ref() {
            DeValue::String(text) => Value::String(text.to_string()),
            DeValue::Boolean(truth) => Value::Bool(*truth),
            DeValue::Datetime(at) => Value::String(at.to_string()),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map(Value::from)
                .map_err(|_| self.error(value, "a whole number must fit into 64 bits"))?,
            DeValue::Float(number) => number
                .as_str()
                .parse()
                .ok()
                .and_then(serde_json::Number::from_f64)
                .map(Value::Number)
                .ok_or_else(|| self.error(value, "a number must be finite"))?,
            DeValue::Array(items) => Value::Array(
                items
                    .iter()
                    .map(|item| self.json(item))
                    .collect::<Result<_, _>>()?,
            ),
            DeValue::Table(table) => Value::Object(
                table
                    .iter()
                    .map(|(key, value)| Ok((key.get_ref().to_string(), self.json(value)?)))
                    .collect::<Result<_, HeaderError>>()?,
            ),
        })
    }
}

/// The fault at the line of its keyword or else of its parameter.
fn declared_wrong(fault: &DeclarationFault, lines: &HashMap<Vec<String>, usize>) -> Option<HeaderError> {
    let line = [2, 1]
        .into_iter()
        .find_map(|parts| lines.get(fault.path.get(..parts)?))?;
    Some(HeaderError::new(*line, fault.sentence(PARAMETERS)))
}

#[cfg(test)]
mod tests;
