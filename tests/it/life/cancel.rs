//! Cancelling: before the start, while it runs, after the end, and twice.

use serde_json::{Value, json};

use super::{printed, shell, shell_with, system};
use crate::support::app::{Setup, TestApp};
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    a_job_that_has_not_started_never_does,
    a_running_job_ends_with_the_reason,
    who_cleans_up_on_the_term_signal_is_cancelled_all_the_same,
    no_grace_is_no_grace,
    an_ended_job_stays_as_it_is,
    asking_twice_is_asking_once,
    cancelling_while_it_starts_leaves_no_process,
);

/// The payload of `cancel`.
pub(super) async fn cancel(app: &TestApp, input: Value) -> Value {
    let query = "mutation($input: CancelInput!) { cancel(input: $input) {
        job { id status error { code message } } errors { code message path }
    } }";
    app.data(query, json!({ "input": input })).await["cancel"].take()
}

async fn a_job_that_has_not_started_never_does(db: TestDb) {
    let app = Setup::new(&db).flag("--workers", 1).start().await;
    let busy = app.shell("echo up; sleep 1000").await;
    printed(&app, &busy, "up").await;
    let queued = app.run(shell(r#"touch "$HOME/ran""#)).await;
    let later = shell_with(
        r#"touch "$HOME/ran""#,
        json!({ "runAt": "2999-01-01T00:00:00.000Z" }),
    );
    let scheduled = app.run(later).await;
    assert_eq!(app.job(&queued).await["waitReason"], "QUEUED");
    assert_eq!(app.job(&scheduled).await["waitReason"], "SCHEDULED");
    for id in [&queued, &scheduled] {
        let payload = cancel(&app, json!({ "id": id, "reason": "not needed" })).await;
        assert_eq!(payload["errors"], json!([]));
        assert_eq!(payload["job"]["status"], "CANCELLED");
        let job = app.job(id).await;
        assert_eq!((&job["attempt"], &job["startedAt"]), (&json!(0), &Value::Null));
        assert_eq!(
            job["error"],
            json!({ "code": "CANCELLED", "message": "cancelled: not needed" })
        );
        assert!(job["finishedAt"].is_string());
    }
    cancel(&app, json!({ "id": busy, "graceMs": 0 })).await;
    app.ended(&busy).await;
    // The worker is free, and whatever it takes comes after those two.
    app.completed(shell("echo last")).await;
    assert!(!app.folder().join("ran").exists());
    app.stop().await;
}

async fn a_running_job_ends_with_the_reason(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let id = app.shell("echo up; sleep 1000; echo never").await;
    printed(&app, &id, "up").await;
    let payload = cancel(&app, json!({ "id": id, "reason": "changed my mind" })).await;
    assert_eq!(payload["errors"], json!([]));
    let job = app.ended(&id).await;
    assert_eq!(
        (&job["status"], &job["signal"]),
        (&json!("CANCELLED"), &json!("SIGTERM"))
    );
    let error = json!({ "code": "CANCELLED", "message": "cancelled: changed my mind" });
    assert_eq!(job["error"], error);
    assert_eq!(job["attempts"][0]["status"], "CANCELLED");
    assert_eq!(job["stdout"], "up\n");
    let said = system(&app, &id).await;
    assert!(said.last().unwrap().contains("changed my mind"), "{said:?}");
    app.nothing_left().await;
    app.stop().await;
}

async fn who_cleans_up_on_the_term_signal_is_cancelled_all_the_same(db: TestDb) {
    let app = Setup::new(&db).flag("--cancel-grace-ms", 30_000).start().await;
    let id = app
        .shell("trap 'echo cleaned; exit 0' TERM; echo up; while :; do sleep 0.02; done")
        .await;
    printed(&app, &id, "up").await;
    cancel(&app, json!({ "id": id })).await;
    let job = app.ended(&id).await;
    assert_eq!(
        (&job["status"], &job["exitCode"]),
        (&json!("CANCELLED"), &json!(0))
    );
    assert_eq!(job["stdout"], "up\ncleaned\n");
    app.stop().await;
}

async fn no_grace_is_no_grace(db: TestDb) {
    let app = Setup::new(&db).flag("--cancel-grace-ms", 60_000).start().await;
    let id = app
        .shell("trap '' TERM; echo up; while :; do sleep 0.02; done")
        .await;
    printed(&app, &id, "up").await;
    cancel(&app, json!({ "id": id, "graceMs": 0 })).await;
    let job = app.ended(&id).await;
    assert_eq!(
        (&job["status"], &job["signal"]),
        (&json!("CANCELLED"), &json!("SIGKILL"))
    );
    app.nothing_left().await;
    app.stop().await;
}

async fn an_ended_job_stays_as_it_is(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let before = app.completed(shell("echo done")).await;
    let payload = cancel(&app, json!({ "id": before["id"] })).await;
    assert_eq!(payload["errors"][0]["code"], "CONFLICT", "{payload:#}");
    assert_eq!(payload["errors"][0]["path"], json!(["input", "id"]));
    assert_eq!(app.job(before["id"].as_str().unwrap()).await, before);
    let unknown = cancel(&app, json!({ "id": "01980000-0000-7000-8000-000000000000" })).await;
    assert_eq!(unknown["errors"][0]["code"], "NOT_FOUND", "{unknown:#}");
    app.stop().await;
}

async fn asking_twice_is_asking_once(db: TestDb) {
    let app = Setup::new(&db).flag("--cancel-grace-ms", 60_000).start().await;
    let id = app
        .shell("trap 'echo heard' TERM; echo up; while :; do sleep 0.02; done")
        .await;
    printed(&app, &id, "up").await;
    let first = cancel(&app, json!({ "id": id, "reason": "first" })).await;
    assert_eq!(first["errors"], json!([]));
    printed(&app, &id, "heard").await;
    // The second one has less patience: the first would have waited for a minute.
    let second = cancel(&app, json!({ "id": id, "reason": "second", "graceMs": 50 })).await;
    assert_eq!(second["errors"], json!([]));
    let job = app.ended(&id).await;
    assert_eq!(
        (&job["status"], &job["signal"]),
        (&json!("CANCELLED"), &json!("SIGKILL"))
    );
    assert_eq!(job["error"]["message"], "cancelled: first");
    let third = cancel(&app, json!({ "id": id })).await;
    assert_eq!(third["errors"][0]["code"], "CONFLICT", "{third:#}");
    app.nothing_left().await;
    app.stop().await;
}

/// The cancel comes at every moment from the queue to the end.
async fn cancelling_while_it_starts_leaves_no_process(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let mut ids = Vec::new();
    for _ in 0..30 {
        let id = app.shell("sleep 1000").await;
        cancel(&app, json!({ "id": id, "graceMs": 0 })).await;
        ids.push(id);
    }
    for id in &ids {
        let job = app.ended(id).await;
        assert_eq!(job["status"], "CANCELLED", "{job:#}");
    }
    app.nothing_left().await;
    app.stop().await;
}
