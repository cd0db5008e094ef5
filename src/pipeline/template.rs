//! Expressions within the steps of a pipeline, and what they stand for.
//!
//! There are `${{ inputs.NAME }}` and `${{ config.NAME }}`, with dots into objects, and nothing else. They are found
//! once, when the file is read. What is filled in is never looked at for expressions again: a value that comes from a
//! client can name no other value.

use std::cell::Cell;
use std::fmt;

use serde_json::{Map, Value};

const OPEN: &str = "${{";
const CLOSE: &str = "}}";

/// The most bytes that expressions may bring into the steps of one run. A file can name one large input very often.
pub(super) const MOST_FILLED: usize = 16 << 20;

/// Where an expression looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Root {
    Inputs,
    Config,
}

impl Root {
    const fn name(self) -> &'static str {
        match self {
            Self::Inputs => "inputs",
            Self::Config => "config",
        }
    }
}

/// One expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expression {
    pub(super) root: Root,
    /// The name, and those below it; one at least.
    pub(super) names: Vec<String>,
}

impl Expression {
    /// Reads what stands between the braces.
    fn read(text: &str) -> Result<Self, String> {
        let refused = || {
            format!(
                "`{OPEN}{text}{CLOSE}` is no expression: there are `${{{{ inputs.NAME }}}}` and `${{{{ config.NAME }}}}`"
            )
        };
        let mut names = text.trim().split('.').map(str::to_owned);
        let root = match names.next().as_deref() {
            Some("inputs") => Root::Inputs,
            Some("config") => Root::Config,
            _ => return Err(refused()),
        };
        let names: Vec<String> = names.collect();
        if names.is_empty() || !names.iter().all(|name| is_name(name)) {
            return Err(refused());
        }
        Ok(Self { root, names })
    }

    /// Its place: `inputs`, the name, and those below it.
    fn path(&self, depth: usize) -> Vec<String> {
        let names = self.names.iter().take(depth).cloned();
        [self.root.name().to_owned()].into_iter().chain(names).collect()
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{OPEN} {} {CLOSE}", self.path(usize::MAX).join("."))
    }
}

/// Whether an expression can name it: letters, digits, `_` and `-` of ASCII, and no digit or dash in front.
pub(super) fn is_name(name: &str) -> bool {
    name.bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

/// Whether there is an expression in a text, or what is meant as one.
pub(super) fn has_expression(text: &str) -> bool {
    text.contains(OPEN)
}

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    Value(Expression),
}

/// A value of the file with the expressions in its strings.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Template {
    /// Without any.
    Constant(Value),
    /// An expression alone, which becomes the value that it stands for.
    Whole(Expression),
    /// Text with expressions within.
    Text(Vec<Piece>),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl Template {
    /// Finds the expressions of a value.
    ///
    /// # Errors
    ///
    /// A sentence about one that is none.
    pub(super) fn read(value: Value) -> Result<Self, String> {
        Ok(match value {
            Value::String(text) if has_expression(&text) => Self::text(&text)?,
            Value::Array(items) => Self::List(items.into_iter().map(Self::read).collect::<Result<_, _>>()?),
            Value::Object(members) => {
                let read = |(name, value): (String, Value)| {
                    if has_expression(&name) {
                        return Err(format!("`{name}` is a name, and names take no expressions"));
                    }
                    Ok((name, Self::read(value)?))
                };
                Self::Object(members.into_iter().map(read).collect::<Result<_, _>>()?)
            }
            constant => Self::Constant(constant),
        })
    }

    fn text(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once(OPEN) {
            let (inside, after) = after.split_once(CLOSE).ok_or_else(|| {
                format!("an expression that `{OPEN}` opens is not closed: end it with `{CLOSE}`")
            })?;
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            pieces.push(Piece::Value(Expression::read(inside)?));
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(match pieces.as_slice() {
            [Piece::Value(expression)] => Self::Whole(expression.clone()),
            _ => Self::Text(pieces),
        })
    }

    /// Calls `visit` with each expression.
    pub(super) fn each(&self, visit: &mut impl FnMut(&Expression)) {
        match self {
            Self::Constant(_) => {}
            Self::Whole(expression) => visit(expression),
            Self::Text(pieces) => {
                for piece in pieces {
                    if let Piece::Value(expression) = piece {
                        visit(expression);
                    }
                }
            }
            Self::List(items) => items.iter().for_each(|item| item.each(visit)),
            Self::Object(members) => members.iter().for_each(|(_, member)| member.each(visit)),
        }
    }

    /// As the file has it, with the expressions as text.
    pub(super) fn as_written(&self) -> Value {
        match self {
            Self::Constant(value) => value.clone(),
            Self::Whole(expression) => expression.to_string().into(),
            Self::Text(pieces) => pieces
                .iter()
                .map(|piece| match piece {
                    Piece::Text(text) => text.clone(),
                    Piece::Value(expression) => expression.to_string(),
                })
                .collect::<String>()
                .into(),
            Self::List(items) => items.iter().map(Self::as_written).collect(),
            Self::Object(members) => members
                .iter()
                .map(|(name, member)| (name.clone(), member.as_written()))
                .collect(),
        }
    }

    /// The value with all expressions filled in.
    pub(super) fn fill(&self, values: &Values<'_>) -> Result<Value, Unfilled> {
        Ok(match self {
            Self::Constant(value) => value.clone(),
            Self::Whole(expression) => values.get(expression)?.clone(),
            Self::Text(pieces) => {
                let mut text = String::new();
                for piece in pieces {
                    match piece {
                        Piece::Text(piece) => text.push_str(piece),
                        Piece::Value(expression) => text.push_str(&values.text(expression)?),
                    }
                }
                Value::String(text)
            }
            Self::List(items) => {
                let filled = items.iter().map(|item| item.fill(values));
                Value::Array(filled.collect::<Result<_, _>>()?)
            }
            Self::Object(members) => {
                let filled = members
                    .iter()
                    .map(|(name, member)| Ok((name.clone(), member.fill(values)?)));
                Value::Object(filled.collect::<Result<_, _>>()?)
            }
        })
    }
}

/// Why an expression stands for nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unfilled {
    /// What it names is not there or does not fit, at this place of the request.
    At { path: Vec<String>, message: String },
    /// The steps would be too large.
    TooLarge,
}

/// What expressions stand for in one run.
#[derive(Debug)]
pub(super) struct Values<'a> {
    inputs: &'a Map<String, Value>,
    config: &'a Map<String, Value>,
    /// Bytes that may still be filled in.
    left: Cell<usize>,
}

impl<'a> Values<'a> {
    pub(super) const fn new(inputs: &'a Map<String, Value>, config: &'a Map<String, Value>) -> Self {
        Self {
            inputs,
            config,
            left: Cell::new(MOST_FILLED),
        }
    }

    fn get(&self, expression: &Expression) -> Result<&'a Value, Unfilled> {
        let mut members = match expression.root {
            Root::Inputs => self.inputs,
            Root::Config => self.config,
        };
        let missing = |depth: usize| {
            let path = expression.path(depth);
            let message = format!("the pipeline uses `{}`: it is missing", path.join("."));
            Unfilled::At { path, message }
        };
        let Some((last, above)) = expression.names.split_last() else {
            return Err(missing(0));
        };
        for (depth, name) in above.iter().enumerate() {
            members = match members.get(name) {
                Some(Value::Object(inner)) => inner,
                None => return Err(missing(depth + 1)),
                Some(_) => {
                    let path = expression.path(depth + 1);
                    let message = format!(
                        "the pipeline uses `{expression}`: `{}` must be an object",
                        path.join(".")
                    );
                    return Err(Unfilled::At { path, message });
                }
            };
        }
        let value = members.get(last).ok_or_else(|| missing(usize::MAX))?;
        let left = self
            .left
            .get()
            .checked_sub(weight(value))
            .ok_or(Unfilled::TooLarge)?;
        self.left.set(left);
        Ok(value)
    }

    /// A value as it stands within a text.
    fn text(&self, expression: &Expression) -> Result<String, Unfilled> {
        text_of(self.get(expression)?).ok_or_else(|| {
            let path = expression.path(usize::MAX);
            let message = format!(
                "`{}` is inserted into a text: it must be a string, a number or a boolean",
                path.join(".")
            );
            Unfilled::At { path, message }
        })
    }
}

/// The text of a string, a number or a boolean.
pub(super) fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// About how many bytes a value takes.
fn weight(value: &Value) -> usize {
    const NODE: usize = 16;
    NODE + match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(weight).sum(),
        Value::Object(members) => members
            .iter()
            .map(|(name, member)| name.len() + weight(member))
            .sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

#[cfg(test)]
mod tests;
