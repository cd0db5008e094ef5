//! Rows as the server writes them, put into its tables past it: to run five million jobs would take hours.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use sea_orm::prelude::Uuid;

use crate::db::Db;

/// The columns of a new job that are not null.
pub(crate) const NEW_JOB: &[&str] = &[
    "id",
    "kind",
    "name",
    "command",
    "status",
    "wait",
    "queue",
    "priority",
    "attempt",
    "max_attempts",
    "backoff_ms",
    "timeout_ms",
    "created_at",
    "updated_at",
    "run_at",
];
/// The columns of its first event that are not null.
pub(crate) const NEW_EVENT: &[&str] = &["job_id", "kind", "at", "status", "attempt"];

/// Between two jobs of the history, in microseconds.
const STEP: i64 = 500_000;
/// Jobs in one transaction.
const CHUNK: i64 = 100_000;
/// Names in the history, with a share of 1 ÷ `NAMES` of its jobs each.
pub(crate) const NAMES: i64 = 10;
/// Added to a job's index in its id, for it to be positive.
const OFFSET: i64 = 1 << 40;

/// The moment, in microseconds since 1970.
pub(crate) fn now_micros() -> Result<i64> {
    Ok(i64::try_from(
        SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros(),
    )?)
}

/// A UUID of version 7.
pub(crate) fn new_id(now: i64) -> Uuid {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let millis = u128::from((now / 1_000).cast_unsigned());
    let count = u128::from(COUNT.fetch_add(1, Ordering::Relaxed));
    Uuid::from_u128(millis << 80 | 7 << 76 | 1 << 63 | count)
}

/// A history of ended jobs. They count up to 0, exclusive, the newest, which ended ten minutes before `new`.
pub(crate) struct History {
    /// When the job 0 would have been asked for, in microseconds: a whole second.
    base: i64,
}

impl History {
    /// An empty one.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            base: now_micros()? / 1_000_000 * 1_000_000 - 600_000_000,
        })
    }

    /// A moment after which jobs from `index` on, an even number, were asked for and ended, and before which all others.
    pub(crate) fn before(&self, index: i64) -> Result<String> {
        let seconds = (self.base + index * STEP) / 1_000_000;
        Db::open("sqlite::memory:")?.text(&format!(
            "SELECT strftime('%Y-%m-%dT%H:%M:%SZ', {seconds}, 'unixepoch')"
        ))
    }

    /// Adds the jobs `from` to `to`, exclusive: COMPLETED, each with its events, its log and its part of the counters.
    /// Both are multiples of [`NAMES`]. No server may run on the store.
    pub(crate) fn fill(&self, db: &Db, from: i64, to: i64) -> Result<()> {
        for setting in if db.is_postgres() {
            ["SET synchronous_commit = off", "SET work_mem = '64MB'"]
        } else {
            ["PRAGMA synchronous = OFF", "PRAGMA cache_size = -262144"]
        } {
            db.execute(setting)?;
        }
        let mut start = from;
        while start < to {
            let end = (start + CHUNK).min(to);
            db.execute("BEGIN")?;
            for statement in [JOBS, EVENTS, LOGS] {
                db.execute(&self.statement(db, statement, start, end))?;
            }
            db.execute("COMMIT")?;
            start = end;
        }
        let each = (to - from) / NAMES;
        for name in 0..NAMES {
            for (metric, bucket, value) in [
                ("status", 2, each),
                // The buckets of 4 ms and of 1 ms.
                ("duration", 192, each),
                ("duration_sum", 0, each * 4_000),
                ("wait", 160, each),
                ("wait_sum", 0, each * 1_000),
            ] {
                db.execute(&format!(
                    "INSERT INTO stat (name, metric, bucket, value)
                     VALUES ('/usr/bin/job-{name}', '{metric}', {bucket}, {value})
                     ON CONFLICT (name, metric, bucket) DO UPDATE SET value = stat.value + excluded.value"
                ))?;
            }
        }
        // As a store is that has grown for long, and not one that was filled a moment ago.
        db.execute(if db.is_postgres() {
            "VACUUM ANALYZE"
        } else {
            "PRAGMA wal_checkpoint(TRUNCATE)"
        })?;
        if db.is_postgres() {
            db.execute("CHECKPOINT")?;
        }
        Ok(())
    }

    fn statement(&self, db: &Db, template: &str, from: i64, to: i64) -> String {
        let created = format!("({} + i * {STEP})", self.base);
        let (numbers, id) = if db.is_postgres() {
            (
                format!("n(i) AS (SELECT generate_series({from}::bigint, {to} - 1))"),
                format!(
                    "(lpad(to_hex({created} / 1000), 12, '0') || '70008000' || lpad(to_hex(i + {OFFSET}), 12, '0'))::uuid"
                ),
            )
        } else {
            (
                format!("RECURSIVE n(i) AS (SELECT {from} UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {to})"),
                format!("unhex(printf('%012x70008000%012x', {created} / 1000, i + {OFFSET}))"),
            )
        };
        // The bytes of a log's two lines: what the server itself says at the start and at the end of an attempt.
        let bytes = |hex: &str| {
            if db.is_postgres() {
                format!("decode('{hex}', 'hex')")
            } else {
                format!("x'{hex}'")
            }
        };
        template
            .replace("{numbers}", &numbers)
            .replace("{id}", &id)
            .replace("{created}", &created)
            .replace("{name}", &format!("'/usr/bin/job-' || abs(i % {NAMES})"))
            .replace("{heads}", &bytes("062600000000000000060A000000E13E0000"))
            .replace(
                "{lines}",
                &bytes(
                    "617474656D707420312073746172746564206F6E20776F726B65722D3030312D6C6F63616C0A636F6D706C657465640A",
                ),
            )
    }
}

const JOBS: &str = "WITH {numbers}
    INSERT INTO job (id, kind, name, command, status, queue, priority, attempt, max_attempts, backoff_ms, timeout_ms,
        created_at, updated_at, run_at, started_at, finished_at, exit_code)
    SELECT {id}, 'EXEC', {name}, '{\"kind\":\"EXEC\",\"program\":\"' || {name} || '\",\"args\":[]}', 'COMPLETED',
        'default', 0, 1, 1, 1000, 1800000, {created}, {created} + 5000, {created}, {created} + 1000, {created} + 5000, 0
    FROM n ORDER BY i";

const EVENTS: &str = "WITH {numbers}, k(number, kind, status, previous, attempt, delay) AS (
        SELECT 1, 'CREATED', 'PENDING', NULL, 0, 0
        UNION ALL SELECT 2, 'STARTED', 'RUNNING', 'PENDING', 1, 1000
        UNION ALL SELECT 3, 'COMPLETED', 'COMPLETED', 'RUNNING', 1, 5000)
    INSERT INTO job_event (job_id, kind, at, status, previous_status, attempt)
    SELECT {id}, kind, {created} + delay, status, previous, attempt FROM n CROSS JOIN k ORDER BY i, number";

const LOGS: &str = "WITH {numbers}
    INSERT INTO log_chunk (job_id, attempt, first_line, line_count, total_offset, stdout_offset, stderr_offset, streams,
        levels, at, heads, bytes)
    SELECT {id}, 1, 1, 2, 0, 0, 0, 4, 2, {created} + 1000, {heads}, {lines} FROM n ORDER BY i";
