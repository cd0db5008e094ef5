//! The plans of Postgres for the hot statements beside a long history: the server's own counters tell whether the
//! table of jobs was read from end to end. (What SQLite does is told by the store's own tests.)

use std::sync::Arc;

use runql::domain::{EventSeq, JobFilter, JobId, JobStatus};
use runql::store::{
    EventFilter, ExpireLeases, JobOrder, JobOrderField, Keyset, PageRequest, PromoteDue, RenewLeases,
};
use sea_orm::{ConnectionTrait, DatabaseConnection};
use uuid::Uuid;

use super::fixture::{LEASE, at, claim, end, insert, new_job};
use crate::support::db::{TestDb, sql};
use crate::support::on_postgres;
use crate::support::wait::until;

on_postgres!(
    no_hot_statement_reads_the_history,
    no_end_of_a_job_reads_the_queue
);

const HISTORY: &str = "
    INSERT INTO job (id, kind, name, command, status, queue, priority, attempt, max_attempts, backoff_ms, timeout_ms,
        created_at, updated_at, run_at, started_at, finished_at)
    SELECT gen_random_uuid(), 'EXEC', 'name' || (i % 50), '{\"kind\":\"EXEC\",\"program\":\"x\",\"args\":[]}', 'COMPLETED',
        'default', 0, 1, 1, 0, 1, i, i, i, i + 1, i + 2 FROM generate_series(1, 20000) AS i;
    INSERT INTO job_event (job_id, kind, at, status, attempt) SELECT id, 'CREATED', created_at, 'PENDING', 0 FROM job;
    ANALYZE job; ANALYZE job_event;";

/// How often the table was read whole since the database was made.
async fn whole_reads(raw: &DatabaseConnection, table: &str) -> i64 {
    let query = format!("SELECT seq_scan AS n FROM pg_stat_user_tables WHERE relname = '{table}'");
    raw.query_one_raw(sql(raw, query))
        .await
        .unwrap()
        .unwrap()
        .try_get("", "n")
        .unwrap()
}

/// Waits until every other connection is gone, and with it has told what it counted.
async fn alone(raw: &DatabaseConnection) {
    let others = "SELECT count(*) AS n FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
    until("the others are gone", async || {
        let row = raw.query_one_raw(sql(raw, others)).await.unwrap().unwrap();
        match row.try_get::<i64>("", "n").unwrap() {
            0 => Ok(()),
            left => Err(left),
        }
    })
    .await;
}

async fn no_hot_statement_reads_the_history(db: TestDb) {
    db.node().await.close().await;
    let raw = db.raw().await;
    raw.execute_unprepared(HISTORY).await.unwrap();
    // The counters of a connection are sure to be told once it is closed.
    raw.close().await.unwrap();
    let raw = db.raw().await;
    alone(&raw).await;
    let before = (
        whole_reads(&raw, "job").await,
        whole_reads(&raw, "job_event").await,
    );

    let node = db.node().await;
    // More often than it takes Postgres to think of a plan without the values.
    for round in 0..8 {
        insert(&node, (0..5).map(new_job).collect()).await;
        let claimed = claim(&node, 3, 10).await;
        assert_eq!(claimed.len(), 3);
        let workers = claimed.iter().filter_map(|job| job.worker).collect();
        node.write(RenewLeases {
            workers,
            lease_until: at(round).after(LEASE),
            now: at(round),
        })
        .await;
        let _ = end(&node, &Arc::new(claimed[0].clone()), JobStatus::Completed, 20).await;
        node.write(PromoteDue { now: at(30) }).await;
        node.reader().next_due().await.unwrap();
        node.write(ExpireLeases {
            before: at(0),
            whose: runql::store::Whose::All,
            now: at(0),
            jitter: 0.0,
        })
        .await;
        for field in [
            JobOrderField::CreatedAt,
            JobOrderField::StartedAt,
            JobOrderField::FinishedAt,
        ] {
            let order = JobOrder {
                field,
                descending: true,
            };
            let place = Keyset {
                key: (field != JobOrderField::CreatedAt).then_some(9_000),
                id: JobId::from_uuid(Uuid::from_u128(1 << 127)),
            };
            let page = PageRequest {
                limit: 20,
                after: Some(place),
                before: None,
                from_end: false,
            };
            let page = node
                .reader()
                .list(&JobFilter::default(), order, page)
                .await
                .unwrap();
            assert_eq!(page.jobs.len(), 20);
        }
        let events = node
            .reader()
            .events_after(EventSeq(19_000), &EventFilter::default(), 100)
            .await
            .unwrap();
        assert_eq!(events.len(), 100);
        node.reader().last_event().await.unwrap();
    }
    node.close().await;
    alone(&raw).await;
    let after = (
        whole_reads(&raw, "job").await,
        whole_reads(&raw, "job_event").await,
    );
    assert_eq!(after, before);
    // The counters do count.
    let probe = db.raw().await;
    probe
        .execute_unprepared("SELECT count(*) FROM job WHERE command LIKE '%y%'")
        .await
        .unwrap();
    probe.close().await.unwrap();
    alone(&raw).await;
    assert!(whole_reads(&raw, "job").await > before.0);
}

/// Rows of jobs that were read, and looks for who waits for a job.
async fn reads(raw: &DatabaseConnection) -> i64 {
    let query = "SELECT CAST(SUM(CASE relname WHEN 'job' THEN seq_tup_read + idx_tup_fetch ELSE idx_scan + seq_tup_read END)
        AS BIGINT) AS n FROM pg_stat_user_tables WHERE relname IN ('job', 'job_dependency')";
    let row = raw.query_one_raw(sql(raw, query)).await.unwrap().unwrap();
    row.try_get("", "n").unwrap()
}

async fn no_end_of_a_job_reads_the_queue(db: TestDb) {
    const QUEUE: i64 = 5_000;
    let raw = db.raw().await;
    let before = reads(&raw).await;
    let node = db.node().await;
    let end_some = async || {
        for _ in 0..8 {
            for job in claim(&node, 3, 10).await {
                let _ = end(&node, &Arc::new(job), JobStatus::Completed, 20).await;
            }
        }
    };
    // Postgres settles on its plans while there is next to nothing, and keeps them when the queue has grown.
    insert(&node, (0..24).map(new_job).collect()).await;
    end_some().await;
    insert(&node, (0..QUEUE).map(new_job).collect()).await;
    end_some().await;
    node.close().await;
    alone(&raw).await;
    let read = reads(&raw).await - before;
    assert!(
        read < QUEUE,
        "{read} rows were read for 48 ends beside {QUEUE} jobs"
    );
    assert!(read > 48, "the counters do count: {read}");
}
