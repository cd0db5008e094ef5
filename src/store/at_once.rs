//! What a transaction leaves to its end, in one statement: on Postgres each statement is a way there and back.
//!
//! ```text
//!   WITH held AS (the lock that orders commits)
//!        rows of all tables ─── as they come
//!        counters, workers, events ─── each reads `held` first, so the lock is there before they write
//!   SELECT the last event's number, and the hint to the other nodes
//! ```

use sea_orm::{DbBackend, Statement, Value};

use super::error::StoreError;
use super::rows::Rows;
use super::{dialect, notify};

/// Where the rows of counters, workers and events come from, after the lock.
const AFTER_LOCK: &str = "held, ";

/// The parts of the statement, and their values in the same order.
#[derive(Debug, Default)]
pub(super) struct AtOnce {
    parts: Vec<String>,
    values: Vec<Value>,
    locked: bool,
    tells: bool,
}

impl AtOnce {
    /// Takes the lock that orders commits before counters, workers and events are written.
    pub(super) fn lock(&mut self) {
        self.locked = true;
        // Materialized: it is taken once, whoever reads it first.
        let held = format!("held AS MATERIALIZED ({})", dialect::COMMIT_ORDER);
        self.parts.push(held);
        self.values.push(dialect::COMMIT_ORDER_LOCK.into());
    }

    /// Rows of a table that are written in no order.
    pub(super) fn insert(&mut self, name: &str, rows: Rows, end: &str) -> Result<(), StoreError> {
        let (sql, rows) = rows.into_one("", end)?;
        self.push(name, &sql, rows);
        Ok(())
    }

    /// Counters, which are added to where they are there.
    pub(super) fn count(&mut self, counters: Rows, end: &str) -> Result<(), StoreError> {
        let (sql, rows) = counters.into_one(self.after_lock(), end)?;
        self.push("counted", &sql, rows);
        Ok(())
    }

    /// What the workers have done, as JSON.
    pub(super) fn work(&mut self, tasks: Value) {
        let sql = format!(
            "UPDATE worker SET tasks_completed = tasks_completed + completed, tasks_failed = tasks_failed + failed
             FROM {}json_to_recordset(CAST(? AS json)) AS task(worker uuid, completed bigint, failed bigint)
             WHERE id = worker",
            self.after_lock()
        );
        self.push("worked", &sql, tasks);
    }

    /// Events, which get their numbers here.
    pub(super) fn tell(&mut self, events: Rows) -> Result<(), StoreError> {
        let (sql, rows) = events.into_one(self.after_lock(), " RETURNING seq")?;
        self.push("told", &sql, rows);
        self.tells = true;
        Ok(())
    }

    /// The statement: it answers with the number of the last event as `seq`. None where there is nothing to do.
    pub(super) fn statement(mut self, hint: Option<String>) -> Option<Statement> {
        if self.parts.is_empty() && hint.is_none() {
            return None;
        }
        let with = if self.parts.is_empty() {
            String::new()
        } else {
            format!("WITH {} ", self.parts.join(", "))
        };
        let last = if self.tells {
            "SELECT MAX(seq) AS seq FROM told"
        } else {
            "SELECT CAST(NULL AS BIGINT) AS seq"
        };
        let hinted = hint.map_or("", |hint| {
            self.values.extend(notify::values(hint));
            notify::WITH_LAST_EVENT
        });
        let sql = format!("{with}SELECT seq{hinted} FROM ({last}) AS last");
        Some(dialect::statement(DbBackend::Postgres, &sql, self.values))
    }

    fn after_lock(&self) -> &'static str {
        if self.locked { AFTER_LOCK } else { "" }
    }

    fn push(&mut self, name: &str, sql: &str, value: Value) {
        self.parts.push(format!("{name} AS ({sql})"));
        self.values.push(value);
    }
}
