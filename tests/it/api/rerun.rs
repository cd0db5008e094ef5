//! Running an ended job once more.

use serde_json::{Value, json};

use super::fixture::{Stored, messages, mutate, refusals, request, script, shell};
use crate::support::app::{Setup, TestApp};
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    an_ended_job_runs_again_as_it_was_asked_for,
    what_has_not_ended_or_is_not_there_is_refused,
    what_no_longer_fits_is_refused,
);

async fn rerun(app: &TestApp, id: impl Into<Value>) -> Value {
    mutate(
        app,
        "rerun",
        "job { id } deduplicated",
        json!({ "id": id.into() }),
    )
    .await
}

async fn an_ended_job_runs_again_as_it_was_asked_for(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let rest = json!({
        "env": [{ "name": "WORD", "value": "hello" }], "workingDir": "kept", "queue": "q", "priority": 3,
        "timeoutMs": 5_000, "maxAttempts": 2, "backoffMs": 1, "idempotencyKey": "k",
        "metadata": { "source": "test", "conversationId": "c", "tags": [{ "key": "a", "value": "b" }] },
    });
    // It fails as long as its folder has fewer than two lines.
    let line = "echo $WORD >> lines; cat lines; test $(wc -l < lines) -gt 2";
    let first = app.run(request(shell(line), rest)).await;
    assert_eq!(app.ended(&first).await["status"], "FAILED");
    let payload = rerun(&app, first.as_str()).await;
    assert_eq!(
        (&payload["errors"], &payload["deduplicated"]),
        (&json!([]), &json!(false))
    );
    let second = payload["job"]["id"].as_str().unwrap();
    assert_ne!(second, first);
    let job = app.ended(second).await;
    assert_eq!(
        (&job["status"], &job["attempt"]),
        (&json!("COMPLETED"), &json!(1))
    );
    assert_eq!(job["stdout"], "hello\nhello\nhello\n");
    let query = "query($id: ID!) { job(id: $id) { queue priority timeoutMs maxAttempts
        command { ... on ShellCommand { command shell } }
        metadata { source conversationId tags { key value } } } }";
    let [of_first, of_second] = [
        app.data(query, json!({ "id": first })).await,
        app.data(query, json!({ "id": second })).await,
    ];
    assert_eq!(of_first, of_second);
    // The first one is as it was.
    assert_eq!(app.job(&first).await["status"], "FAILED");
    let third = rerun(&app, second).await;
    assert_eq!(
        app.ended(third["job"]["id"].as_str().unwrap()).await["status"],
        "COMPLETED"
    );
    app.stop().await;
}

async fn what_has_not_ended_or_is_not_there_is_refused(db: TestDb) {
    let app = Setup::new(&db).flag("--workers", 1).start().await;
    let running = app.shell("sleep 60").await;
    app.job_in(&running, &["RUNNING"]).await;
    let pending = app.shell("true").await;
    let before = Stored::now(&db).await;
    for (id, expected) in [
        (running.as_str(), "CONFLICT input.id"),
        (&pending, "CONFLICT input.id"),
        ("01981c6a-5ad1-7abc-8def-000000000000", "NOT_FOUND input.id"),
        ("nonsense", "INVALID input.id"),
    ] {
        let payload = rerun(&app, id).await;
        assert_eq!(refusals(&payload), [expected], "{id}");
        assert_eq!(payload["job"], json!(null));
    }
    before.unchanged().await;
    mutate(&app, "cancel", "job { id }", json!({ "id": running })).await;
    app.ended(&pending).await;
    app.stop().await;
}

/// The job is at fault then, not an input that this mutation does not have.
async fn what_no_longer_fits_is_refused(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let file = app.script("passing.sh", "echo hi");
    let job = app.completed(request(script("passing.sh"), json!({}))).await;
    std::fs::remove_file(file).unwrap();
    let before = Stored::now(&db).await;
    let payload = rerun(&app, job["id"].clone()).await;
    assert_eq!(refusals(&payload), ["NOT_FOUND input.id"]);
    assert!(
        messages(&payload).contains("there is no such script"),
        "{payload:#}"
    );
    before.unchanged().await;
    app.stop().await;
}
