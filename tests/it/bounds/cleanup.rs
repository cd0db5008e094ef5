//! A clean-up of very many jobs, while others are stored.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sea_orm::ConnectionTrait;
use serde_json::json;

use super::size;
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::{TestDb, texts};
use crate::support::socket::Socket;
use crate::support::wait::until;
use runql::store::Backend;

both_stores!(a_large_cleanup_holds_up_nobody);

/// Jobs that have ended, each with what belongs to it. Their ids grow, as those that the server gives do.
fn history(backend: Backend, jobs: usize) -> String {
    let (numbers, id, bytes) = match backend {
        Backend::Sqlite => (
            format!(
                "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {jobs}) SELECT i FROM n)"
            ),
            "CAST(printf('%016d', i) AS BLOB)",
            "x'00'",
        ),
        Backend::Postgres => (
            format!("generate_series(1, {jobs}) AS n(i)"),
            "LPAD(TO_HEX(i), 32, '0')::uuid",
            "'\\x00'::bytea",
        ),
    };
    format!(
        "INSERT INTO job (id, kind, name, command, status, queue, priority, attempt, max_attempts, backoff_ms, timeout_ms,
            created_at, updated_at, run_at, started_at, finished_at, error_code)
         SELECT {id}, 'EXEC', 'old' || (i % 7), '{{\"kind\":\"EXEC\",\"program\":\"x\",\"args\":[]}}',
            CASE i % 4 WHEN 0 THEN 'FAILED' ELSE 'COMPLETED' END, 'default', 0, 1, 2, 0, 1, i, i, i, i, i,
            CASE i % 4 WHEN 0 THEN 'EXIT_CODE' END FROM {numbers};
         INSERT INTO job_event (job_id, kind, at, status, attempt) SELECT id, 'CREATED', created_at, 'PENDING', 0 FROM job;
         INSERT INTO attempt (job_id, number, status, started_at, finished_at)
            SELECT id, 1, 'FAILED', started_at, finished_at FROM job;
         INSERT INTO log_chunk (job_id, attempt, first_line, line_count, total_offset, stdout_offset, stderr_offset,
            streams, levels, at, heads, bytes) SELECT id, 1, 0, 1, 0, 0, 0, 1, 1, 0, {bytes}, {bytes} FROM job;
         INSERT INTO stat (name, metric, bucket, value)
            SELECT name, 'status', CASE status WHEN 'FAILED' THEN 3 ELSE 2 END, COUNT(*) FROM job GROUP BY 1, 2, 3;
         INSERT INTO stat (name, metric, bucket, value) SELECT name, metric, 0, COUNT(*) FROM job,
            (SELECT 'duration' AS metric UNION ALL SELECT 'wait') AS times GROUP BY 1, 2;"
    )
}

async fn a_large_cleanup_holds_up_nobody(db: TestDb) {
    let jobs = size(8_000, 1_000_000);
    db.node().await.close().await;
    let raw = db.raw().await;
    raw.execute_unprepared(&history(db.backend(), jobs))
        .await
        .unwrap();
    let app = Setup::new(&db).flag("--auto-start-workers", false).start().await;
    let cleanup =
        "mutation($input: CleanupInput!) { cleanup(input: $input) { deletedCount errors { code } } }";
    let old = json!({ "input": { "finishedBefore": "2001-01-01T00:00:00Z" } });
    let all = app.answer(
        cleanup,
        json!({ "input": { "finishedBefore": "2001-01-01T00:00:00Z", "dryRun": true } }),
    );
    assert_eq!(all.await["data"]["cleanup"]["deletedCount"], jobs);
    let first = texts(&raw, "SELECT CAST(MIN(seq) AS TEXT) FROM job_event").await;
    assert_eq!(first, ["1"]);

    // A client that goes away ends the clean-up, and leaves what it did not come to.
    let gone = app
        .http()
        .post(format!("{}/graphql", app.url()))
        .json(&json!({ "query": cleanup, "variables": old }))
        .timeout(Duration::from_millis(100));
    assert!(gone.send().await.is_err(), "so many jobs take longer");
    let count = "SELECT CAST(COUNT(*) AS TEXT) FROM job WHERE name LIKE 'old%'";
    let left = until("the clean-up rests", async || {
        let before = texts(&raw, count).await;
        // Each waits behind whatever batch is under way, and all of them take longer than a pause.
        for _ in 0..100 {
            app.shell("true").await;
        }
        let now = texts(&raw, count).await;
        if before == now {
            Ok(now[0].parse::<u64>().unwrap())
        } else {
            Err(now)
        }
    })
    .await;
    assert!(left > 0, "it went on for nobody");

    let over = AtomicBool::new(false);
    let runs = async {
        let mut answered = 0;
        while !over.load(Ordering::Relaxed) {
            app.shell("true").await;
            answered += 1;
        }
        answered
    };
    let cleaning = async {
        // As long as it takes: the bound is on others, not on it.
        let sent = app
            .http()
            .post(format!("{}/graphql", app.url()))
            .json(&json!({ "query": cleanup, "variables": old }));
        let answer: serde_json::Value = sent.send().await.unwrap().json().await.unwrap();
        over.store(true, Ordering::Relaxed);
        answer["data"]["cleanup"]["deletedCount"].as_u64().unwrap()
    };
    let (deleted, answered) = tokio::join!(cleaning, runs);
    assert!(answered > 0, "jobs were stored meanwhile");
    assert_eq!(deleted, left, "the rest");
    for table in ["attempt", "log_chunk", "job_event"] {
        let left =
            format!("SELECT CAST(COUNT(*) AS TEXT) FROM {table} WHERE job_id NOT IN (SELECT id FROM job)");
        assert_eq!(texts(&raw, &left).await, ["0"], "{table}");
    }
    let old = "SELECT name || metric || value FROM stat WHERE name LIKE 'old%' AND metric = 'status' AND value <> 0";
    assert_eq!(texts(&raw, old).await, [""; 0]);
    let mut socket = Socket::listen(
        &app,
        "subscription($after: String) { jobEvents(after: $after) { cursor } }",
        json!({ "after": first_cursor() }),
    )
    .await;
    assert_eq!(socket.refusal().await, "CURSOR_EXPIRED");
    app.stop().await;
}

/// The cursor of the first event there ever was, written as the server writes it.
fn first_cursor() -> String {
    use base64::Engine as _;
    use sha2::Digest as _;
    let mut bytes = vec![1, b'e'];
    bytes.extend(1_i64.to_be_bytes());
    let sum: [u8; 32] = sha2::Sha256::digest(&bytes).into();
    bytes.extend(&sum[..4]);
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}
