//! Several statements in one message: one way there and back for all of them.
//!
//! The driver's protocol for statements with values has one statement in each message. The other protocol has as many as
//! one likes, but no values. So a connection keeps each statement ready by a name, once for all, as `PREPARE` does, and
//! a message runs it by that name, with its values written out:
//!
//! ```text
//!   BEGIN; PREPARE r7 (text, bigint) AS UPDATE …; EXECUTE r7 ('…', '…'); EXECUTE r3 ('…')
//! ```
//!
//! Where one fails, the server does none of those that follow in the message.

use std::collections::HashMap;
use std::fmt::Write as _;

use futures_util::TryStreamExt;
use sea_orm::sqlx::pool::PoolConnection;
use sea_orm::sqlx::{AssertSqlSafe, Either, Executor as _, Postgres};
use sea_orm::{DbErr, QueryResult, SqlxError, Statement, Value, Values};

use super::{failed, query};

/// Statements that a connection keeps ready at most.
const READY: usize = 128;

/// Bytes of values that are written out. Above it a statement goes by itself: bytes would be twice as long.
const WRITTEN_OUT: usize = 64 * 1024;

/// The statements that a connection keeps ready: their names by their text.
#[derive(Debug, Default)]
pub(super) struct Ready {
    names: HashMap<String, u64>,
    next: u64,
}

impl Ready {
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

/// What a statement answered.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) rows: Vec<QueryResult>,
    /// How many rows it changed, or gave.
    pub(super) changed: u64,
}

impl Answer {
    /// That of a statement that goes by itself, with its values beside it.
    pub(super) async fn to(
        statement: Statement,
        connection: &mut PoolConnection<Postgres>,
    ) -> Result<Self, SqlxError> {
        let mut answer = Self::default();
        let mut stream = connection.fetch_many(query(statement));
        while let Some(next) = stream.try_next().await? {
            match next {
                Either::Right(row) => answer.rows.push(row.into()),
                Either::Left(result) => answer.changed += result.rows_affected(),
            }
        }
        Ok(answer)
    }
}

/// Why a message failed.
#[derive(Debug)]
pub(in crate::store) struct Failed {
    pub(in crate::store) error: DbErr,
    /// Whether the server may have done all of it: what was lost is the answer.
    pub(in crate::store) is_open: bool,
}

/// A message in the making.
#[derive(Debug)]
pub(super) struct Script<'r> {
    ready: &'r mut Ready,
    text: String,
    steps: Vec<Step>,
}

/// Each is told of by one answer.
#[derive(Debug)]
enum Step {
    /// Words that have no answer of interest.
    Words,
    /// A statement is kept ready from here on.
    Prepare(String),
    /// A statement, and its place where its answer is wanted.
    Run(Option<usize>),
}

impl<'r> Script<'r> {
    pub(super) const fn new(ready: &'r mut Ready) -> Self {
        Self {
            ready,
            text: String::new(),
            steps: Vec::new(),
        }
    }

    /// Whether a statement can be part of a message.
    pub(super) fn can_hold(statement: &Statement) -> bool {
        let values = values(statement);
        let length = |value: &Value| match value {
            Value::String(Some(text)) => text.len(),
            Value::Bytes(Some(bytes)) => bytes.len(),
            _ => 0,
        };
        // NUL would end the message. No text of Postgres holds it, and Postgres says so itself where it is sent as a value.
        let has_nul = |value: &Value| matches!(value, Value::String(Some(text)) if text.contains('\0'));
        values
            .iter()
            .all(|value| type_of(value).is_some() && !has_nul(value))
            && values.iter().map(length).sum::<usize>() <= WRITTEN_OUT
    }

    /// Adds words that have no values and need no answer.
    pub(super) fn say(&mut self, words: &str) {
        self.text.push_str(words);
        self.text.push_str(";\n");
        self.steps.push(Step::Words);
    }

    /// Adds a statement, which must be one that this [can hold](Self::can_hold).
    pub(super) fn add(&mut self, statement: &Statement, place: Option<usize>) {
        let name = match self.ready.names.get(&statement.sql) {
            Some(name) => *name,
            None => self.prepare(statement),
        };
        let mut written = String::new();
        for value in values(statement) {
            if !written.is_empty() {
                written.push_str(", ");
            }
            write_out(value, &mut written);
        }
        let written = match written.is_empty() {
            true => written,
            false => format!(" ({written})"),
        };
        // To write into a string cannot fail.
        let _ = writeln!(self.text, "EXECUTE r{name}{written};");
        self.steps.push(Step::Run(place));
    }

    fn prepare(&mut self, statement: &Statement) -> u64 {
        if self.ready.names.len() >= READY {
            // Those that are needed are soon there again.
            for (_, name) in std::mem::take(&mut self.ready.names) {
                self.say(&format!("DEALLOCATE r{name}"));
            }
        }
        let name = self.ready.next;
        self.ready.next += 1;
        let types: Vec<&str> = values(statement).iter().filter_map(type_of).collect();
        let types = match types.as_slice() {
            [] => String::new(),
            types => format!(" ({})", types.join(", ")),
        };
        let _ = writeln!(self.text, "PREPARE r{name}{types} AS {};", statement.sql);
        self.steps.push(Step::Prepare(statement.sql.clone()));
        self.ready.names.insert(statement.sql.clone(), name);
        name
    }

    /// Sends the message, and gives each answer with its statement's place. Where `ends`, its last word is what makes all
    /// of it lasting.
    pub(super) async fn send(
        self,
        connection: &mut PoolConnection<Postgres>,
        ends: bool,
    ) -> Result<Vec<(usize, Answer)>, Failed> {
        let mut answers = Vec::new();
        let mut answer = Answer::default();
        let (mut done, all) = (0, self.steps.len());
        let mut stream = connection.fetch_many(AssertSqlSafe(self.text));
        let error = loop {
            match stream.try_next().await {
                Ok(Some(Either::Right(row))) => answer.rows.push(row.into()),
                Ok(Some(Either::Left(result))) => {
                    let mut answer = std::mem::take(&mut answer);
                    answer.changed = result.rows_affected();
                    if let Some(Step::Run(Some(place))) = self.steps.get(done) {
                        answers.push((*place, answer));
                    }
                    done += 1;
                }
                Ok(None) => return Ok(answers),
                Err(error) => break error,
            }
        };
        // None of these came to be ready.
        for step in self.steps.into_iter().skip(done) {
            if let Step::Prepare(sql) = step {
                self.ready.names.remove(&sql);
            }
        }
        // Where the server itself tells what failed, nothing that follows was done.
        let is_last = done + 1 >= all;
        let told = matches!(error, SqlxError::Database(_));
        Err(Failed {
            is_open: ends && (is_last || !told),
            error: failed(error),
        })
    }
}

fn values(statement: &Statement) -> &[Value] {
    match &statement.values {
        Some(Values(values)) => values,
        None => &[],
    }
}

/// The type of Postgres that the driver, too, gives such a value. None where it is not written out here.
const fn type_of(value: &Value) -> Option<&'static str> {
    Some(match value {
        Value::Bool(_) => "boolean",
        Value::Int(_) => "integer",
        Value::BigInt(_) | Value::Unsigned(_) | Value::BigUnsigned(_) => "bigint",
        Value::String(_) => "text",
        Value::Uuid(_) => "uuid",
        Value::Bytes(_) => "bytea",
        _ => return None,
    })
}

/// Writes a value as Postgres reads it.
fn write_out(value: &Value, to: &mut String) {
    match value {
        Value::Bool(Some(value)) => quote(if *value { "t" } else { "f" }, to),
        Value::Int(Some(value)) => quote(&value.to_string(), to),
        Value::BigInt(Some(value)) => quote(&value.to_string(), to),
        Value::Unsigned(Some(value)) => quote(&value.to_string(), to),
        Value::BigUnsigned(Some(value)) => quote(&value.to_string(), to),
        Value::String(Some(value)) => quote(value, to),
        Value::Uuid(Some(value)) => quote(&value.to_string(), to),
        Value::Bytes(Some(value)) => quote(&hex(value), to),
        // Of a type that `type_of` knows.
        _ => to.push_str("NULL"),
    }
}

/// Writes a text between quotes, in the form that means the same whatever `standard_conforming_strings` is.
fn quote(text: &str, to: &mut String) {
    to.push_str(if text.contains('\\') { "E'" } else { "'" });
    for part in text.split_inclusive(['\'', '\\']) {
        to.push_str(part);
        // Each of them is doubled.
        if let Some(last @ ('\'' | '\\')) = part.chars().next_back() {
            to.push(last);
        }
    }
    to.push('\'');
}

/// Bytes as Postgres reads them from a text.
pub(in crate::store) fn hex(bytes: &[u8]) -> String {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let digits = bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]));
    "\\x".chars().chain(digits).collect()
}
