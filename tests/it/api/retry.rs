//! Attempts: how often a job is tried, what is kept of each try, and what it waits for in between.

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};

use super::fixture::{moment, mutate, request, shell, text_of};
use crate::support::app::{Setup, TestApp};
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    it_is_tried_until_it_completes,
    it_fails_once_no_attempt_is_left,
    a_timeout_is_tried_again_and_a_cancelled_job_is_not,
    it_waits_out_its_backoff,
    it_waits_for_its_moment,
    it_waits_for_a_worker,
);

async fn events(app: &TestApp, id: &str) -> Vec<String> {
    let query = "query($id: ID!) { job(id: $id) { events { nodes { type attempt } } } }";
    let nodes = app.data(query, json!({ "id": id })).await["job"]["events"]["nodes"].take();
    let text = |event: &Value| format!("{} {}", event["type"].as_str().unwrap(), event["attempt"]);
    nodes.as_array().unwrap().iter().map(text).collect()
}

fn attempts(job: &Value) -> Vec<String> {
    let text = |attempt: &Value| {
        format!(
            "{} {} {}",
            attempt["number"],
            attempt["status"].as_str().unwrap(),
            attempt["error"]["code"]
        )
    };
    job["attempts"].as_array().unwrap().iter().map(text).collect()
}

async fn it_is_tried_until_it_completes(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let line = "echo try $RUNQL_ATTEMPT; test $RUNQL_ATTEMPT -ge 3";
    let job = app
        .completed(request(shell(line), json!({ "maxAttempts": 5, "backoffMs": 1 })))
        .await;
    assert_eq!(
        (&job["attempt"], &job["maxAttempts"], &job["error"]),
        (&json!(3), &json!(5), &json!(null))
    );
    assert_eq!(
        attempts(&job),
        [
            r#"1 FAILED "EXIT_CODE""#,
            r#"2 FAILED "EXIT_CODE""#,
            "3 COMPLETED null"
        ]
    );
    // The log and the tail are those of the latest attempt; an earlier one can be asked for.
    assert_eq!(job["stdout"], "try 3\n");
    let id = job["id"].as_str().unwrap();
    let query = "query($id: ID!) { job(id: $id) {
        logs(filter: { attempt: 1, streams: [STDOUT] }) { nodes { message } }
    } }";
    let first = app.data(query, json!({ "id": id })).await;
    assert_eq!(first["job"]["logs"]["nodes"], json!([{ "message": "try 1" }]));
    assert_eq!(
        events(&app, id).await,
        [
            "CREATED 0",
            "STARTED 1",
            "RETRY_SCHEDULED 1",
            "STARTED 2",
            "RETRY_SCHEDULED 2",
            "STARTED 3",
            "COMPLETED 3",
        ]
    );
    app.stop().await;
}

async fn it_fails_once_no_attempt_is_left(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let id = app
        .run(request(
            shell("exit 9"),
            json!({ "maxAttempts": 2, "backoffMs": 0 }),
        ))
        .await;
    let job = app.ended(&id).await;
    assert_eq!(
        (&job["status"], &job["attempt"], &job["exitCode"]),
        (&json!("FAILED"), &json!(2), &json!(9))
    );
    assert_eq!(
        attempts(&job),
        [r#"1 FAILED "EXIT_CODE""#, r#"2 FAILED "EXIT_CODE""#]
    );
    assert_eq!(
        job["error"],
        json!({ "code": "EXIT_CODE", "message": "exited with code 9" })
    );
    app.stop().await;
}

async fn a_timeout_is_tried_again_and_a_cancelled_job_is_not(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let again = json!({ "maxAttempts": 2, "backoffMs": 0, "timeoutMs": 100 });
    let slow = app.run(request(shell("sleep 60"), again)).await;
    let cancelled = app
        .run(request(
            shell("sleep 60"),
            json!({ "maxAttempts": 2, "backoffMs": 0 }),
        ))
        .await;
    app.job_in(&cancelled, &["RUNNING"]).await;
    mutate(&app, "cancel", "job { id }", json!({ "id": cancelled })).await;
    let job = app.ended(&cancelled).await;
    assert_eq!(
        (&job["status"], &job["attempt"]),
        (&json!("CANCELLED"), &json!(1))
    );
    let job = app.ended(&slow).await;
    assert_eq!((&job["status"], &job["attempt"]), (&json!("TIMEOUT"), &json!(2)));
    assert_eq!(
        attempts(&job),
        [r#"1 TIMEOUT "TIMEOUT""#, r#"2 TIMEOUT "TIMEOUT""#]
    );
    app.nothing_left().await;
    app.stop().await;
}

async fn it_waits_out_its_backoff(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let id = app
        .run(request(
            shell("exit 1"),
            json!({ "maxAttempts": 2, "backoffMs": 3_600_000 }),
        ))
        .await;
    let job = crate::support::wait::until("the job waits", async || {
        let job = app.job(&id).await;
        if job["waitReason"] == "BACKOFF" {
            Ok(job)
        } else {
            Err(job)
        }
    })
    .await;
    assert_eq!((&job["status"], &job["attempt"]), (&json!("PENDING"), &json!(1)));
    assert_eq!(job["error"]["code"], "EXIT_CODE");
    assert_eq!(attempts(&job), [r#"1 FAILED "EXIT_CODE""#]);
    // Between a half and the whole of the pause.
    let pause = moment(&job["runAt"]) - moment(&job["updatedAt"]);
    assert!(
        pause >= TimeDelta::minutes(29) && pause <= TimeDelta::minutes(61),
        "{pause}"
    );
    let selection = "job { status waitReason error { code message } }";
    let payload = mutate(&app, "cancel", selection, json!({ "id": id })).await;
    let error = json!({ "code": "CANCELLED", "message": "cancelled before it was tried again" });
    assert_eq!(
        payload["job"],
        json!({ "status": "CANCELLED", "waitReason": null, "error": error })
    );
    assert_eq!(attempts(&app.job(&id).await), [r#"1 FAILED "EXIT_CODE""#]);
    app.stop().await;
}

async fn it_waits_for_its_moment(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let never = text_of(Utc::now() + TimeDelta::days(365));
    let soon = text_of(Utc::now() + TimeDelta::milliseconds(400));
    let later = app.run(request(shell("true"), json!({ "runAt": never }))).await;
    let job = app.job(&later).await;
    assert_eq!(
        (&job["status"], &job["waitReason"]),
        (&json!("PENDING"), &json!("SCHEDULED"))
    );
    assert_eq!(job["runAt"], json!(never));
    let job = app
        .completed(request(shell("true"), json!({ "runAt": soon })))
        .await;
    assert!(moment(&job["startedAt"]) >= moment(&json!(soon)), "{job:#}");
    // A moment that has passed, with an offset: at once.
    let job = app
        .completed(request(
            shell("true"),
            json!({ "runAt": "2001-01-01T00:00:00+02:00" }),
        ))
        .await;
    assert_eq!(job["attempt"], 1);
    assert_eq!(app.job(&later).await["status"], "PENDING");
    app.stop().await;
}

async fn it_waits_for_a_worker(db: TestDb) {
    let app = Setup::new(&db).flag("--workers", 1).start().await;
    let first = app.shell("sleep 60").await;
    app.job_in(&first, &["RUNNING"]).await;
    let second = app.shell("true").await;
    assert_eq!(app.job(&second).await["waitReason"], "QUEUED");
    assert_eq!(app.job(&first).await["waitReason"], json!(null));
    app.data("mutation { stopWorkers { errors { code } } }", json!({}))
        .await;
    assert_eq!(app.job(&second).await["waitReason"], "PAUSED");
    app.data("mutation { startWorkers { errors { code } } }", json!({}))
        .await;
    assert_eq!(app.job(&second).await["waitReason"], "QUEUED");
    mutate(&app, "cancel", "job { id }", json!({ "id": first })).await;
    assert_eq!(app.ended(&second).await["status"], "COMPLETED");
    app.stop().await;
}
