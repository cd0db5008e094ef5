//! Fencing: who comes late with an attempt that is no longer his changes nothing, and is told so.

use std::sync::Arc;
use std::time::Duration;

use runql::domain::{Job, JobStatus, LogLevel, LogStream, Progress};
use runql::store::{
    AppendLog, EndJob, EndResult, ExpireLeases, LogChunk, LogEncoder, RecordProgress, ReleaseJob,
};
use sea_orm::{ConnectionTrait, DatabaseConnection, TransactionTrait};

use super::fixture::{LEASE, at, claim, end, ending, retried_job, running};
use crate::support::db::{Node, TestDb, rows_of, sql};
use crate::support::wait::until;
use crate::support::{both_stores, on_postgres};

both_stores!(
    an_attempt_that_was_taken_over,
    an_attempt_that_waits_for_its_retry,
    an_attempt_that_ended
);
on_postgres!(a_log_line_waits_for_an_end_under_way);

const TABLES: [&str; 8] = [
    "job",
    "attempt",
    "job_event",
    "job_tag",
    "log_chunk",
    "stat",
    "worker",
    "meta",
];

async fn everything(raw: &DatabaseConnection) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for table in TABLES {
        all.push(rows_of(raw, table).await);
    }
    all
}

fn chunk(text: &str) -> LogChunk {
    let mut encoder = LogEncoder::default();
    encoder.push(LogStream::Stdout, LogLevel::Info, at(0), text.as_bytes());
    encoder.take().unwrap()
}

/// Tries every write that an attempt can make.
async fn come_late(node: &Node, raw: &DatabaseConnection, old: &Arc<Job>) {
    let before = everything(raw).await;
    node.take_commits();
    for &status in JobStatus::ALL {
        let late = EndJob {
            job: Arc::clone(old),
            end: ending(status),
            log: vec![chunk("late\n")],
            now: at(90_000),
            jitter: 0.5,
        };
        assert_eq!(node.write(late).await, EndResult::Stale, "{status}");
    }
    let append = AppendLog {
        job: old.id,
        attempt: old.attempt,
        chunks: [chunk("late\n")].into(),
    };
    assert!(!node.write(append).await);
    let progress = RecordProgress {
        job: old.id,
        attempt: old.attempt,
        progress: Progress {
            current: 1,
            total: None,
            step: None,
            updated_at: at(90_000),
        },
    };
    assert!(!node.write(progress).await);
    let release = ReleaseJob {
        job: Arc::clone(old),
        now: at(90_000),
    };
    assert!(!node.write(release).await);
    assert_eq!(everything(raw).await, before);
    assert!(node.take_commits().is_empty());
}

async fn expire(node: &Node) {
    let after = at(0).after(LEASE * 2);
    let expired = node
        .write(ExpireLeases {
            before: after,
            whose: runql::store::Whose::All,
            now: after,
            jitter: 1.0,
        })
        .await;
    assert_eq!(expired.jobs.len(), 1);
}

async fn an_attempt_that_was_taken_over(db: TestDb) {
    let node = db.node().await;
    let old = running(&node, retried_job(0, 3, Duration::ZERO), 1).await;
    expire(&node).await;
    let new = claim(&node, 1, 80_000).await.pop().unwrap();
    assert_eq!((new.id, new.attempt), (old.id, 2));
    come_late(&node, &db.raw().await, &old).await;
    assert_eq!(
        end(&node, &Arc::new(new), JobStatus::Completed, 90_001).await,
        EndResult::Ended(JobStatus::Completed)
    );
}

async fn an_attempt_that_waits_for_its_retry(db: TestDb) {
    let node = db.node().await;
    let old = running(&node, retried_job(0, 3, Duration::from_secs(60)), 1).await;
    expire(&node).await;
    come_late(&node, &db.raw().await, &old).await;
}

async fn an_attempt_that_ended(db: TestDb) {
    let node = db.node().await;
    let raw = db.raw().await;
    for status in [
        JobStatus::Completed,
        JobStatus::Failed,
        JobStatus::Timeout,
        JobStatus::Cancelled,
    ] {
        let old = running(&node, retried_job(0, 1, Duration::ZERO), 1).await;
        assert_eq!(end(&node, &old, status, 2).await, EndResult::Ended(status));
        come_late(&node, &raw, &old).await;
    }
}

/// Another node is about to commit the end of this attempt: a line of it must wait, and is then refused.
async fn a_log_line_waits_for_an_end_under_way(db: TestDb) {
    let node = db.node().await;
    let job = running(&node, retried_job(0, 1, Duration::ZERO), 1).await;
    let raw = db.raw().await;
    let look = db.raw().await;
    let other = raw.begin().await.unwrap();
    let statement = "UPDATE job SET status = 'FAILED', finished_at = 2, lease_until = NULL";
    other.execute_unprepared(statement).await.unwrap();
    let append = AppendLog {
        job: job.id,
        attempt: 1,
        chunks: [chunk("too late\n")].into(),
    };
    let line = node.write(append);
    let commit = async {
        until("the line waits for the other's lock", async || {
            let waiting = "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database()
                AND wait_event_type = 'Lock'";
            let row = look.query_one_raw(sql(&look, waiting)).await.unwrap().unwrap();
            match row.try_get::<i64>("", "n").unwrap() {
                0 => Err("nobody waits"),
                _ => Ok(()),
            }
        })
        .await;
        other.commit().await.unwrap();
    };
    let (stored, ()) = tokio::join!(line, commit);
    assert!(!stored);
    assert!(rows_of(&look, "log_chunk").await.is_empty());
}
