//! Jobs, their attempts, events, labels and logs; workers; counters.
//!
//! Written as SQL, since partial indexes and CHECK constraints are the heart of it: the constraints repeat the
//! invariants of the state machine, the partial indexes keep the cost of a claim apart from the length of history.

#![expect(elided_lifetimes_in_paths, reason = "the trait's own signature elides it")]

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

use crate::WHOLE;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const STATEMENTS: &[&str] = &[
    "CREATE TABLE job (
        id {uuid} NOT NULL PRIMARY KEY,
        kind TEXT NOT NULL,
        name {text_by_bytes} NOT NULL,
        command TEXT NOT NULL,
        status TEXT NOT NULL
            CHECK (status IN ('PENDING', 'RUNNING', 'COMPLETED', 'FAILED', 'TIMEOUT', 'CANCELLED')),
        wait TEXT,
        queue TEXT NOT NULL,
        priority INTEGER NOT NULL CHECK (priority BETWEEN -100 AND 100),
        attempt INTEGER NOT NULL CHECK (attempt >= 0),
        max_attempts INTEGER NOT NULL CHECK (max_attempts >= 1),
        backoff_ms BIGINT NOT NULL,
        timeout_ms BIGINT NOT NULL,
        created_at BIGINT NOT NULL,
        updated_at BIGINT NOT NULL,
        run_at BIGINT NOT NULL,
        started_at BIGINT,
        finished_at BIGINT,
        exit_code INTEGER,
        signal TEXT,
        output TEXT,
        error_code TEXT,
        error_message TEXT,
        progress_current INTEGER,
        progress_total INTEGER,
        progress_step TEXT,
        progress_at BIGINT,
        worker_id {uuid},
        lease_until BIGINT,
        env TEXT,
        working_dir TEXT,
        idempotency_key TEXT,
        source TEXT,
        conversation_id TEXT,
        tags TEXT,
        parent_id {uuid},
        step_key TEXT,
        step_index INTEGER,
        blockers INTEGER NOT NULL DEFAULT 0 CHECK (blockers >= 0),
        gated BOOLEAN NOT NULL DEFAULT FALSE,
        route {text_by_bytes},
        cancel_at BIGINT,
        cancel_reason TEXT,
        cancel_grace_ms BIGINT,
        CONSTRAINT job_wait CHECK ((wait IS NOT NULL) = (status = 'PENDING')),
        CONSTRAINT job_lease CHECK ((lease_until IS NOT NULL) = (status = 'RUNNING')),
        CONSTRAINT job_started CHECK (started_at IS NOT NULL OR status IN ('PENDING', 'CANCELLED', 'FAILED')),
        CONSTRAINT job_finished CHECK ((finished_at IS NOT NULL) = (status NOT IN ('PENDING', 'RUNNING'))),
        CONSTRAINT job_failed CHECK ((error_code IS NULL) OR status <> 'COMPLETED')
    )",
    "CREATE INDEX job_claim ON job (priority DESC, id)
        WHERE status = 'PENDING' AND wait = 'QUEUED' AND route IS NULL",
    "CREATE INDEX job_route ON job (priority DESC, id, route)
        WHERE status = 'PENDING' AND wait = 'QUEUED' AND route IS NOT NULL",
    "CREATE INDEX job_due ON job (run_at) WHERE status = 'PENDING' AND wait IN ('SCHEDULED', 'BACKOFF')",
    "CREATE INDEX job_lease ON job (lease_until) WHERE status = 'RUNNING'",
    "CREATE INDEX job_worker ON job (worker_id) WHERE status = 'RUNNING'",
    "CREATE INDEX job_status ON job (status, id)",
    "CREATE INDEX job_name ON job (name, id)",
    "CREATE INDEX job_started ON job (started_at, id) WHERE started_at IS NOT NULL",
    "CREATE INDEX job_finished ON job (finished_at, id) WHERE finished_at IS NOT NULL",
    "CREATE INDEX job_conversation ON job (conversation_id, id) WHERE conversation_id IS NOT NULL",
    "CREATE INDEX job_parent ON job (parent_id, step_index) WHERE parent_id IS NOT NULL",
    "CREATE INDEX job_gate ON job (parent_id, step_index) WHERE status = 'PENDING' AND gated AND blockers = 0",
    "CREATE UNIQUE INDEX job_idempotency ON job (idempotency_key) WHERE idempotency_key IS NOT NULL",
    "CREATE TABLE job_dependency (
        depends_on {uuid} NOT NULL,
        job_id {uuid} NOT NULL,
        on_end BOOLEAN NOT NULL,
        PRIMARY KEY (depends_on, job_id)
    ){without_rowid}",
    "CREATE INDEX job_dependency_job ON job_dependency (job_id)",
    "CREATE TABLE plan (
        job_id {uuid} NOT NULL PRIMARY KEY,
        stop_on_error BOOLEAN NOT NULL,
        free_slots INTEGER CHECK (free_slots >= 0)
    )",
    "CREATE TABLE attempt (
        job_id {uuid} NOT NULL,
        number INTEGER NOT NULL,
        status TEXT NOT NULL CHECK (status IN ('FAILED', 'TIMEOUT', 'CANCELLED')),
        worker_id {uuid},
        started_at BIGINT NOT NULL,
        finished_at BIGINT NOT NULL,
        exit_code INTEGER,
        signal TEXT,
        error_code TEXT,
        error_message TEXT,
        PRIMARY KEY (job_id, number)
    )",
    "CREATE TABLE job_event (
        seq {sequence},
        job_id {uuid} NOT NULL,
        kind TEXT NOT NULL,
        at BIGINT NOT NULL,
        status TEXT NOT NULL,
        previous_status TEXT,
        attempt INTEGER NOT NULL,
        progress_current INTEGER,
        progress_total INTEGER,
        progress_step TEXT,
        error_code TEXT,
        error_message TEXT
    )",
    "CREATE INDEX job_event_job ON job_event (job_id, seq)",
    "CREATE TABLE job_tag (
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        job_id {uuid} NOT NULL,
        PRIMARY KEY (key, value, job_id)
    ){without_rowid}",
    "CREATE INDEX job_tag_job ON job_tag (job_id)",
    "CREATE TABLE log_chunk (
        job_id {uuid} NOT NULL,
        attempt INTEGER NOT NULL,
        first_line BIGINT NOT NULL,
        line_count INTEGER NOT NULL CHECK (line_count > 0),
        total_offset BIGINT NOT NULL,
        stdout_offset BIGINT NOT NULL,
        stderr_offset BIGINT NOT NULL,
        streams INTEGER NOT NULL,
        levels INTEGER NOT NULL,
        at BIGINT NOT NULL,
        heads {bytes} NOT NULL,
        bytes {bytes} NOT NULL,
        PRIMARY KEY (job_id, attempt, first_line)
    )",
    "CREATE TABLE worker (
        id {uuid} NOT NULL PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        backend_type TEXT NOT NULL,
        internal BOOLEAN NOT NULL,
        node_id {uuid},
        online BOOLEAN NOT NULL,
        max_parallel_tasks INTEGER NOT NULL CHECK (max_parallel_tasks >= 1),
        supported_problems TEXT NOT NULL,
        registered_at BIGINT NOT NULL,
        last_heartbeat BIGINT NOT NULL,
        tasks_completed BIGINT NOT NULL,
        tasks_failed BIGINT NOT NULL
    )",
    "CREATE TABLE stat (
        name TEXT NOT NULL,
        metric TEXT NOT NULL,
        bucket INTEGER NOT NULL,
        value BIGINT NOT NULL,
        PRIMARY KEY (name, metric, bucket)
    ){without_rowid}",
    "CREATE TABLE meta (key TEXT NOT NULL PRIMARY KEY, value BIGINT NOT NULL)",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        WHOLE
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        let (uuid, bytes, text_by_bytes, sequence, without_rowid) = match db.get_database_backend() {
            DbBackend::Sqlite => (
                "BLOB",
                "BLOB",
                "TEXT",
                "INTEGER PRIMARY KEY AUTOINCREMENT",
                " WITHOUT ROWID",
            ),
            _ => ("UUID", "BYTEA", "TEXT COLLATE \"C\"", "BIGSERIAL PRIMARY KEY", ""),
        };
        for statement in STATEMENTS {
            let sql = statement
                .replace("{uuid}", uuid)
                .replace("{bytes}", bytes)
                .replace("{text_by_bytes}", text_by_bytes)
                .replace("{sequence}", sequence)
                .replace("{without_rowid}", without_rowid);
            db.execute_unprepared(&sql).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        for table in [
            "meta",
            "stat",
            "worker",
            "log_chunk",
            "job_tag",
            "job_event",
            "attempt",
            "plan",
            "job_dependency",
            "job",
        ] {
            db.execute_unprepared(&format!("DROP TABLE {table}")).await?;
        }
        Ok(())
    }
}
