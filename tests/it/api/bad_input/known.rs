//! Jobs that are not there or not in the right status, and figures for the pool that cannot be.

use serde_json::{Value, json};

use crate::api::fixture::{Stored, mutate, operation_errors, refusals};
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    a_job_that_cannot_be_cancelled,
    pool_sizes_that_cannot_be,
    what_is_no_id_is_nothing_or_told,
    the_nul_character_is_told_or_made_readable,
);

const UNKNOWN: &str = "01981c6a-5ad1-7abc-8def-000000000000";

async fn a_job_that_cannot_be_cancelled(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let ended = app.shell("true").await;
    app.ended(&ended).await;
    let before = Stored::now(&db).await;
    for (input, expected) in [
        (json!({ "id": UNKNOWN }), "NOT_FOUND input.id"),
        (json!({ "id": "nonsense" }), "INVALID input.id"),
        (json!({ "id": "" }), "INVALID input.id"),
        (json!({ "id": ended }), "CONFLICT input.id"),
        (json!({ "id": ended, "graceMs": -1 }), "INVALID input.graceMs"),
    ] {
        let payload = mutate(&app, "cancel", "job { id status }", input.clone()).await;
        assert_eq!(refusals(&payload), [expected], "{input}");
        // With a conflict comes the job as it is, so that nobody has to ask again.
        let job = if expected.starts_with("CONFLICT") {
            json!({ "id": ended, "status": "COMPLETED" })
        } else {
            json!(null)
        };
        assert_eq!(payload["job"], job);
    }
    before.unchanged().await;
    app.stop().await;
}

async fn pool_sizes_that_cannot_be(db: TestDb) {
    let app = Setup::new(&db).flag("--workers", 2).start().await;
    for (size, expected) in [
        (-1, "INVALID input.size"),
        (1_025, "LIMIT_EXCEEDED input.size"),
        (i32::MAX, "LIMIT_EXCEEDED input.size"),
    ] {
        let payload = mutate(
            &app,
            "scaleWorkers",
            "workerPool { size } previousSize",
            json!({ "size": size }),
        )
        .await;
        assert_eq!(refusals(&payload), [expected], "{size}");
        assert_eq!(
            (&payload["workerPool"], &payload["previousSize"]),
            (&json!(null), &json!(null))
        );
    }
    let pool = app
        .data("{ workerPool { size workers { name } } }", Value::Null)
        .await;
    assert_eq!(pool["workerPool"]["size"], 2);
    app.stop().await;
}

async fn what_is_no_id_is_nothing_or_told(db: TestDb) {
    let app = Setup::new(&db).start().await;
    for id in [
        "nonsense",
        "",
        UNKNOWN,
        "\u{0}",
        "00000000-0000-0000-0000-000000000000",
        "d6a9e2b0-0000-5000-8000-000000000000",
    ] {
        let query = "query($id: ID!) { job(id: $id) { id } node(id: $id) { id } worker(id: $id) { id } }";
        let data = app.data(query, json!({ "id": id })).await;
        assert_eq!(
            data,
            json!({ "job": null, "node": null, "worker": null }),
            "{id:?}"
        );
    }
    assert_eq!(
        app.data("{ script(name: \"../x\") { id } }", Value::Null).await["script"],
        json!(null)
    );
    for filter in [
        json!({ "ids": ["nonsense"] }),
        json!({ "workerId": "x" }),
        json!({ "parentId": "x" }),
    ] {
        let query = "query($filter: JobFilter) { jobs(filter: $filter) { totalCount } }";
        let answer = app.answer(query, json!({ "filter": filter })).await;
        assert!(
            operation_errors(&answer)[0].starts_with("BAD_USER_INPUT "),
            "{answer:#}"
        );
    }
    app.stop().await;
}

/// Postgres takes no such text; that is told, and no fault of the server's.
async fn the_nul_character_is_told_or_made_readable(db: TestDb) {
    let app = Setup::new(&db).flag("--workers", 1).start().await;
    let running = app.shell("sleep 60").await;
    app.job_in(&running, &["RUNNING"]).await;
    for filter in [
        json!({ "name": "a\u{0}" }),
        json!({ "name": "a\u{0}*" }),
        json!({ "queues": ["default", "\u{0}"] }),
        json!({ "source": "\u{0}" }),
        json!({ "conversationId": "\u{0}" }),
        json!({ "tags": [{ "key": "\u{0}", "value": "x" }] }),
        json!({ "tags": [{ "key": "x", "value": "\u{0}" }] }),
    ] {
        let query = "query($filter: JobFilter) { jobs(filter: $filter) { totalCount } }";
        let answer = app.answer(query, json!({ "filter": filter })).await;
        let errors = operation_errors(&answer);
        let field = filter.as_object().unwrap().keys().next().unwrap();
        assert!(
            errors[0].starts_with(&format!("BAD_USER_INPUT `filter.{field}` ")),
            "{answer:#}"
        );
    }
    let stats = "{ stats(filter: { name: \"\\u0000\" }) { counts { total } } }";
    let answer = app.answer(stats, Value::Null).await;
    assert!(
        operation_errors(&answer)[0].starts_with("BAD_USER_INPUT "),
        "{answer:#}"
    );
    let search = "query($id: ID!, $search: String!) { job(id: $id) {
        logs(filter: { search: $search }) { nodes { message } }
    } }";
    let data = app
        .data(search, json!({ "id": running, "search": "\u{0}" }))
        .await;
    assert_eq!(data["job"]["logs"]["nodes"], json!([]));
    mutate(
        &app,
        "cancel",
        "job { id }",
        json!({ "id": running, "reason": "a\u{0}b" }),
    )
    .await;
    let job = app.ended(&running).await;
    assert_eq!(
        job["error"],
        json!({ "code": "CANCELLED", "message": "cancelled: a\u{fffd}b" })
    );
    app.stop().await;
}
