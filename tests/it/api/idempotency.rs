//! Idempotency keys: a request that is sent again is answered with the first one's job.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::fixture::{mutate, request, run_many, shell};
use crate::support::app::{Setup, TestApp};
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    one_key_is_one_job_however_many_ask,
    a_key_stands_for_the_first_request,
    a_key_within_one_request,
);

fn keyed(line: &str, key: &str) -> Value {
    request(shell(line), json!({ "idempotencyKey": key }))
}

async fn total(app: &TestApp) -> Value {
    app.data("{ stats { counts { total } } }", json!({})).await["stats"]["counts"]["total"].take()
}

async fn one_key_is_one_job_however_many_ask(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let payloads =
        join_all((0..40).map(|n| app.try_run(keyed("echo once", &format!("key-{}", n % 2))))).await;
    for payload in &payloads {
        assert_eq!(payload["errors"], json!([]));
    }
    let jobs: BTreeSet<&str> = payloads
        .iter()
        .map(|payload| payload["job"]["id"].as_str().unwrap())
        .collect();
    assert_eq!(jobs.len(), 2);
    assert_eq!(
        payloads
            .iter()
            .filter(|payload| payload["deduplicated"] == false)
            .count(),
        2
    );
    assert_eq!(total(&app).await, 2);
    for id in jobs {
        assert_eq!(app.ended(id).await["attempt"], 1);
    }
    app.stop().await;
}

async fn a_key_stands_for_the_first_request(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let first = app.completed(keyed("echo first", "k")).await;
    // Also after its end, and whatever the second request asks for.
    let again = app.try_run(keyed("echo second", "k")).await;
    assert_eq!(again["deduplicated"], true);
    assert_eq!(again["job"], json!({ "id": first["id"], "status": "COMPLETED" }));
    // A bad request is refused, known key or not.
    let bad = app
        .try_run(request(shell(""), json!({ "idempotencyKey": "k" })))
        .await;
    assert_eq!(bad["job"], json!(null));
    // A rerun is a job of its own.
    let payload = mutate(
        &app,
        "rerun",
        "job { id } deduplicated",
        json!({ "id": first["id"] }),
    )
    .await;
    assert_eq!(payload["deduplicated"], false);
    assert_ne!(payload["job"]["id"], first["id"]);
    app.ended(payload["job"]["id"].as_str().unwrap()).await;
    // Once the job is deleted, its key is free.
    mutate(&app, "cleanup", "deletedCount", json!({})).await;
    let anew = app.try_run(keyed("echo third", "k")).await;
    assert_eq!(anew["deduplicated"], false);
    app.stop().await;
}

async fn a_key_within_one_request(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let ids = run_many(
        &app,
        &[keyed("echo a", "a"), keyed("echo b", "b"), keyed("echo c", "a")],
    )
    .await;
    assert_eq!(ids[0], ids[2]);
    assert_ne!(ids[0], ids[1]);
    assert_eq!(total(&app).await, 2);
    app.stop().await;
}
