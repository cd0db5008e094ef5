//! Bad input of workers: each gets its typed error with the path of the input at fault, and changes nothing.

use serde_json::{Value, json};

use super::{claim_one, complete, heartbeat, join, report, task, task_with, try_claim, try_report};
use crate::api::fixture::{Stored, messages, refusals};
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::{TestDb, rows_of};

both_stores!(calls_that_are_refused, reports_that_are_refused);

const UNKNOWN: &str = "01981c6a-5ad1-7abc-8def-000000000000";

async fn calls_that_are_refused(db: TestDb) {
    let app = Setup::new(&db)
        .flag("--workers", 1)
        .flag("--lease-ms", 600_000)
        .start()
        .await;
    let internal = app.data("{ workers { id } }", Value::Null).await["workers"][0]["id"].take();
    let worker = join(&app, "worker-001-gpu", &["*"], 1).await;
    app.run(task("t")).await;
    let before = Stored::now(&db).await;
    let raw = db.raw().await;
    let workers = rows_of(&raw, "worker").await;
    let of = |id: &Value| json!({ "workerId": id });
    for (id, expected) in [
        (json!(UNKNOWN), "NOT_FOUND input.workerId"),
        (json!("me"), "INVALID input.workerId"),
        (internal, "NOT_ALLOWED input.workerId"),
    ] {
        assert_eq!(refusals(&heartbeat(&app, of(&id)).await), [expected]);
        assert_eq!(refusals(&try_claim(&app, of(&id)).await), [expected]);
        let input = json!({ "workerId": id, "jobId": UNKNOWN, "attempt": 1 });
        assert_eq!(refusals(&try_report(&app, input).await), [expected]);
    }
    for (field, value, expected) in [
        ("max", json!(0), "INVALID input.max"),
        ("max", json!(-1), "INVALID input.max"),
        ("waitMs", json!(-1), "INVALID input.waitMs"),
        ("waitMs", json!(60_001), "INVALID input.waitMs"),
    ] {
        let payload = try_claim(&app, json!({ "workerId": worker, field: value })).await;
        assert_eq!(refusals(&payload), [expected], "{field} {value}");
        assert_eq!(payload["jobs"], json!([]));
    }
    for (field, value, expected) in [
        ("jobIds", json!([UNKNOWN, "x"]), "INVALID input.jobIds.1"),
        (
            "jobIds",
            json!(vec![UNKNOWN; 1_001]),
            "LIMIT_EXCEEDED input.jobIds",
        ),
        ("waitMs", json!(-1), "INVALID input.waitMs"),
        ("waitMs", json!(60_001), "INVALID input.waitMs"),
    ] {
        let payload = heartbeat(&app, json!({ "workerId": worker, field: value })).await;
        assert_eq!(refusals(&payload), [expected], "{field}");
        assert_eq!(
            (&payload["worker"], &payload["leaseMs"]),
            (&Value::Null, &Value::Null)
        );
    }
    before.unchanged().await;
    assert_eq!(rows_of(&raw, "worker").await, workers);
    app.stop().await;
}

async fn reports_that_are_refused(db: TestDb) {
    let app = Setup::new(&db)
        .flag("--workers", 1)
        .flag("--lease-ms", 600_000)
        .start()
        .await;
    let worker = join(&app, "worker-001-gpu", &["t*"], 9).await;
    let other = join(&app, "worker-002-gpu", &["t*"], 9).await;
    let ended = app.run(task("t-ended")).await;
    claim_one(&app, &worker).await;
    complete(&app, &worker, &ended, 1).await;
    let retried = app
        .run(task_with(
            "t-retried",
            json!({ "maxAttempts": 3, "backoffMs": 3_600_000 }),
        ))
        .await;
    claim_one(&app, &worker).await;
    report(
        &app,
        &worker,
        &retried,
        1,
        json!({ "result": { "success": false } }),
    )
    .await;
    app.run(task("t-theirs")).await;
    let theirs = claim_one(&app, &other).await;
    app.run(task("t-mine")).await;
    let mine = claim_one(&app, &worker).await;
    let waiting = app.run(task("never")).await;
    let local = app.shell("sleep 1000").await;
    app.job_in(&local, &["RUNNING"]).await;
    let log = app.data(
        "query($id: ID!) { job(id: $id) { logs(first: 1) { nodes { number } } } }",
        json!({ "id": local }),
    );
    log.await;
    let before = Stored::now(&db).await;
    let raw = db.raw().await;
    let workers = rows_of(&raw, "worker").await;
    let result = || json!({ "success": true, "output": 1 });
    for (job, attempt, expected, words) in [
        (UNKNOWN, 1, "NOT_FOUND input.jobId", "there is no job"),
        ("x", 1, "INVALID input.jobId", "UUID"),
        (&ended, 1, "CONFLICT input.jobId", "it is COMPLETED"),
        (&ended, 2, "CONFLICT input.jobId", "it is COMPLETED"),
        (&retried, 1, "CONFLICT input.jobId", "attempt 1 is over"),
        (&theirs, 1, "CONFLICT input.jobId", "another worker"),
        (&local, 1, "CONFLICT input.jobId", "another worker"),
        (&waiting, 1, "CONFLICT input.attempt", "the job is at attempt 0"),
        (&mine, 2, "CONFLICT input.attempt", "the job is at attempt 1"),
        (&mine, 0, "INVALID input.attempt", "counted from 1"),
        (&mine, -1, "INVALID input.attempt", "counted from 1"),
    ] {
        let input = json!({ "workerId": worker, "jobId": job, "attempt": attempt, "result": result(),
            "logs": [{ "message": "not kept" }], "progress": { "current": 1 } });
        let payload = try_report(&app, input).await;
        assert_eq!(refusals(&payload), [expected], "{payload:#}");
        assert!(messages(&payload).contains(words), "{payload:#}");
        assert_eq!(payload["job"], Value::Null);
    }
    let line = |fields: Value| {
        let mut line = json!({ "message": "m" });
        line.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        json!({ "logs": [{ "message": "first" }, line] })
    };
    let progress = |fields: Value| json!({ "progress": fields });
    let result = |fields: Value| json!({ "result": fields });
    for (what, expected) in [
        (line(json!({ "stream": "SYSTEM" })), "INVALID input.logs.1.stream"),
        (line(json!({ "context": [1] })), "INVALID input.logs.1.context"),
        (line(json!({ "context": "x" })), "INVALID input.logs.1.context"),
        (
            line(json!({ "context": { "level": "x" } })),
            "INVALID input.logs.1.context",
        ),
        (
            line(json!({ "context": { "message": "x" } })),
            "INVALID input.logs.1.context",
        ),
        (
            line(json!({ "context": { "a": "x".repeat(16_384) } })),
            "INVALID input.logs.1.context",
        ),
        (
            json!({ "logs": vec![json!({ "message": "" }); 10_001] }),
            "LIMIT_EXCEEDED input.logs",
        ),
        (
            progress(json!({ "current": -1 })),
            "INVALID input.progress.current",
        ),
        (
            progress(json!({ "current": 1, "total": -1 })),
            "INVALID input.progress.total",
        ),
        (
            progress(json!({ "current": 1, "step": "x".repeat(1_025) })),
            "INVALID input.progress.step",
        ),
        (
            result(json!({ "success": true, "error": "but" })),
            "INVALID input.result.error",
        ),
        (
            result(json!({ "success": false, "error": "x".repeat(16_385) })),
            "LIMIT_EXCEEDED input.result.error",
        ),
        (
            result(json!({ "success": true, "output": "x".repeat(1 << 20) })),
            "LIMIT_EXCEEDED input.result.output",
        ),
    ] {
        let mut input = json!({ "workerId": worker, "jobId": mine, "attempt": 1 });
        input
            .as_object_mut()
            .unwrap()
            .extend(what.as_object().unwrap().clone());
        let payload = try_report(&app, input).await;
        assert_eq!(refusals(&payload), [expected]);
    }
    before.unchanged().await;
    assert_eq!(rows_of(&raw, "worker").await, workers);
    // The same report without its fault is taken.
    complete(&app, &worker, &mine, 1).await;
    super::cancel(&app, &local).await;
    app.ended(&local).await;
    app.stop().await;
}
