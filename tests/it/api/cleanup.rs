//! Deleting ended jobs with all that belongs to them.

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};

use super::fixture::{Stored, moment, mutate, refusals, request, shell, text_of};
use crate::support::app::{Setup, TestApp};
use crate::support::both_stores;
use crate::support::db::{TestDb, rows_of, texts};

both_stores!(
    a_dry_run_counts_and_deletes_nothing,
    only_what_is_asked_for_is_deleted,
    nothing_of_a_job_is_left,
    the_figures_follow,
    what_has_not_ended_is_never_deleted,
);

async fn cleanup(app: &TestApp, input: Value) -> Value {
    let mut payload = mutate(app, "cleanup", "deletedCount", input).await;
    assert_eq!(payload["errors"], json!([]), "{payload:#}");
    payload["deletedCount"].take()
}

async fn end_of(app: &TestApp, line: &str, rest: Value) -> Value {
    app.ended(&app.run(request(shell(line), rest)).await).await
}

async fn a_dry_run_counts_and_deletes_nothing(db: TestDb) {
    let app = Setup::new(&db).start().await;
    end_of(&app, "true", json!({})).await;
    end_of(&app, "false", json!({})).await;
    let before = Stored::now(&db).await;
    assert_eq!(cleanup(&app, json!({ "dryRun": true })).await, 2);
    assert_eq!(
        cleanup(&app, json!({ "dryRun": true, "statuses": ["FAILED", "TIMEOUT"] })).await,
        1
    );
    assert_eq!(cleanup(&app, json!({ "dryRun": true, "statuses": [] })).await, 0);
    before.unchanged().await;
    app.stop().await;
}

async fn only_what_is_asked_for_is_deleted(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let completed = end_of(&app, "true", json!({})).await;
    let failed = end_of(&app, "false", json!({})).await;
    let timeout = end_of(&app, "sleep 60", json!({ "timeoutMs": 50 })).await;
    let is_there = async |job: &Value| app.job(job["id"].as_str().unwrap()).await != json!(null);
    assert_eq!(
        cleanup(&app, json!({ "statuses": ["TIMEOUT", "CANCELLED"] })).await,
        1
    );
    assert!(is_there(&completed).await && is_there(&failed).await && !is_there(&timeout).await);
    // Not included: what ended at that moment. The store knows microseconds, the API milliseconds.
    let ended = moment(&failed["finishedAt"]);
    let before = |moment| json!({ "finishedBefore": text_of(moment) });
    assert_eq!(cleanup(&app, before(moment(&completed["finishedAt"]))).await, 0);
    assert_eq!(cleanup(&app, before(ended)).await, 1);
    assert!(!is_there(&completed).await && is_there(&failed).await);
    assert_eq!(cleanup(&app, before(Utc::now() - TimeDelta::days(1))).await, 0);
    assert_eq!(cleanup(&app, json!({})).await, 1);
    assert_eq!(cleanup(&app, json!({})).await, 0);
    app.stop().await;
}

async fn nothing_of_a_job_is_left(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let rest = json!({
        "maxAttempts": 2, "backoffMs": 0, "metadata": { "tags": [{ "key": "a", "value": "b" }] },
    });
    let job = end_of(&app, "echo printed; false", rest).await;
    let id = job["id"].as_str().unwrap();
    let raw = db.raw().await;
    let tables = ["job", "attempt", "job_event", "job_tag", "log_chunk"];
    for table in tables {
        assert!(
            !rows_of(&raw, table).await.is_empty(),
            "{table} has nothing that could be left"
        );
    }
    assert_eq!(cleanup(&app, json!({})).await, 1);
    for table in tables {
        assert_eq!(rows_of(&raw, table).await, [""; 0], "{table}");
    }
    assert_eq!(app.job(id).await, json!(null));
    let log = app
        .http()
        .get(format!("{}/jobs/{id}/log", app.url()))
        .send()
        .await
        .unwrap();
    assert_eq!(log.status(), 404);
    let listed = app.data("{ jobs { nodes { id } totalCount } }", json!({})).await;
    assert_eq!(listed["jobs"], json!({ "nodes": [], "totalCount": 0 }));
    app.stop().await;
}

/// Jobs of every way to end, with retries: what their start and their end added to the figures is all taken out.
async fn the_figures_follow(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let far = text_of(Utc::now() + TimeDelta::days(1));
    end_of(&app, "true", json!({})).await;
    end_of(
        &app,
        "test $RUNQL_ATTEMPT = 2",
        json!({ "maxAttempts": 2, "backoffMs": 0 }),
    )
    .await;
    end_of(&app, "false", json!({ "maxAttempts": 2, "backoffMs": 0 })).await;
    end_of(&app, "sleep 60", json!({ "timeoutMs": 50 })).await;
    let scheduled = app.run(request(shell("true"), json!({ "runAt": far }))).await;
    let retried = app
        .run(request(
            shell("false"),
            json!({ "maxAttempts": 2, "backoffMs": 3_600_000 }),
        ))
        .await;
    let running = app.shell("sleep 60").await;
    app.job_in(&running, &["RUNNING"]).await;
    crate::support::wait::until("the backoff", async || {
        let job = app.job(&retried).await;
        if job["waitReason"] == "BACKOFF" {
            Ok(())
        } else {
            Err(job)
        }
    })
    .await;
    for id in [&scheduled, &retried, &running] {
        mutate(&app, "cancel", "job { id }", json!({ "id": id })).await;
        app.ended(id).await;
    }
    let figures = "{ stats { counts { total pending running completed failed timeout cancelled } successRate
        duration { mean p50 p99 max } queueWait { mean p50 p99 max } finishedPerMinute byName { name } } }";
    let before = app.data(figures, json!({})).await;
    assert_eq!(
        before["stats"]["counts"],
        json!({
            "total": 7, "pending": 0, "running": 0, "completed": 2, "failed": 1, "timeout": 1, "cancelled": 3,
        })
    );
    assert_eq!(before["stats"]["finishedPerMinute"], 7.0);
    assert_eq!(cleanup(&app, json!({})).await, 7);
    let nothing = json!({ "mean": null, "p50": null, "p99": null, "max": null });
    assert_eq!(
        app.data(figures, json!({})).await["stats"],
        json!({
            "counts": {
                "total": 0, "pending": 0, "running": 0, "completed": 0, "failed": 0, "timeout": 0, "cancelled": 0,
            },
            "successRate": null, "duration": nothing, "queueWait": nothing, "finishedPerMinute": 0.0, "byName": [],
        })
    );
    let left = texts(
        &db.raw().await,
        "SELECT name || metric FROM stat WHERE value <> 0",
    )
    .await;
    assert_eq!(left, [""; 0]);
    app.stop().await;
}

async fn what_has_not_ended_is_never_deleted(db: TestDb) {
    let app = Setup::new(&db).flag("--workers", 1).start().await;
    let running = app.shell("sleep 60").await;
    app.job_in(&running, &["RUNNING"]).await;
    let pending = app.shell("true").await;
    let before = Stored::now(&db).await;
    let payload = mutate(
        &app,
        "cleanup",
        "deletedCount",
        json!({ "statuses": ["COMPLETED", "RUNNING", "PENDING"] }),
    )
    .await;
    assert_eq!(
        refusals(&payload),
        ["INVALID input.statuses.1", "INVALID input.statuses.2"]
    );
    assert_eq!(cleanup(&app, json!({})).await, 0);
    before.unchanged().await;
    mutate(&app, "cancel", "job { id }", json!({ "id": running })).await;
    app.ended(&pending).await;
    app.stop().await;
}
