//! A database that is away, at the start and in the middle: the server says so, waits, and loses nothing.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{lines, printed, shell_with, system};
use crate::support::app::{Setup, TestApp};
use crate::support::db::TestDb;
use crate::support::forwarder::Forwarder;
use crate::support::on_postgres;
use crate::support::wait::until;

on_postgres!(
    a_database_that_is_away_at_the_start_is_waited_for,
    what_ends_while_the_database_is_away_is_stored_when_it_is_back,
    a_lease_that_ran_out_while_the_database_was_away_stops_the_job,
);

async fn get(app: &TestApp, path: &str) -> (StatusCode, Value) {
    let answer = app
        .http()
        .get(format!("{}{path}", app.url()))
        .send()
        .await
        .unwrap();
    (answer.status(), answer.json().await.unwrap())
}

async fn a_database_that_is_away_at_the_start_is_waited_for(db: TestDb) {
    let wire = Forwarder::cut_off(&db).await;
    let app = Setup::new(&db).through(wire.url()).launch().await;
    let (status, body) = get(&app, "/ready").await;
    assert_eq!(
        (status, &body["ready"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!(false))
    );
    let (status, body) = get(&app, "/health").await;
    assert_eq!(
        (status, &body["status"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!("UNHEALTHY"))
    );
    assert_eq!(body["database"]["connected"], false);
    let answer = app.answer("{ health { status } }", json!({})).await;
    assert_eq!(
        answer["errors"][0]["extensions"]["code"], "UNAVAILABLE",
        "{answer:#}"
    );
    until("the server says what it waits for", async || {
        let told = app.told();
        if told.iter().any(|line| line.contains("the store is away")) {
            Ok(())
        } else {
            Err(told)
        }
    })
    .await;
    wire.mend();
    app.ready().await;
    assert_eq!(get(&app, "/health").await.0, StatusCode::OK);
    app.completed(super::shell("echo late but here")).await;
    app.stop().await;
}

async fn what_ends_while_the_database_is_away_is_stored_when_it_is_back(db: TestDb) {
    let wire = Forwarder::cut_off(&db).await;
    wire.mend();
    let app = Setup::new(&db).through(wire.url()).start().await;
    let env = json!({ "env": [{ "name": "HOLD", "value": app.folder() }] });
    let hold = r#"while [ ! -e "$HOLD/cut" ]; do sleep 0.01; done"#;
    let talks = format!(
        r#"echo before; {hold}; for n in $(seq 3000); do echo "line $n"; done; echo '{{"sum": 7}}' > "$RUNQL_OUTPUT"; touch "$HOLD/talked""#
    );
    let fails = format!(r#"echo before; {hold}; echo oh no >&2; touch "$HOLD/failed"; exit 9"#);
    let (talks, fails) = (
        app.run(shell_with(&talks, env.clone())).await,
        app.run(shell_with(&fails, env)).await,
    );
    printed(&app, &talks, "before").await;
    printed(&app, &fails, "before").await;

    wire.cut();
    std::fs::write(app.folder().join("cut"), "").unwrap();
    for name in ["talked", "failed"] {
        until("the jobs ran to their ends without the database", async || {
            if app.folder().join(name).exists() {
                Ok(())
            } else {
                Err(name)
            }
        })
        .await;
    }
    app.nothing_left().await;
    until("the server is not ready", async || {
        match get(&app, "/ready").await {
            (StatusCode::SERVICE_UNAVAILABLE, _) => Ok(()),
            other => Err(other),
        }
    })
    .await;
    let answer = app.answer("{ stats { counts { total } } }", json!({})).await;
    assert_eq!(
        answer["errors"][0]["extensions"]["code"], "UNAVAILABLE",
        "{answer:#}"
    );

    wire.mend();
    app.ready().await;
    let job = app.ended(&talks).await;
    assert_eq!(
        (&job["status"], &job["output"]),
        (&json!("COMPLETED"), &json!({ "sum": 7 })),
        "{job:#}"
    );
    let expected: String = (1..=3_000).map(|n| format!("line {n}\n")).collect();
    let stdout = app.bytes(&talks, "stdout").await;
    assert_eq!(String::from_utf8(stdout).unwrap(), format!("before\n{expected}"));
    let job = app.ended(&fails).await;
    assert_eq!((&job["status"], &job["exitCode"]), (&json!("FAILED"), &json!(9)));
    assert_eq!((&job["attempt"], &job["stderr"]), (&json!(1), &json!("oh no\n")));
    app.completed(super::shell("echo as if nothing had been")).await;
    app.stop().await;
}

/// Nobody may run it twice: the server that cannot renew its lease stops before another may start.
async fn a_lease_that_ran_out_while_the_database_was_away_stops_the_job(db: TestDb) {
    let wire = Forwarder::cut_off(&db).await;
    wire.mend();
    let lease = Duration::from_millis(1_500);
    let far = Setup::new(&db)
        .through(wire.url())
        .flag("--lease-ms", lease.as_millis())
        .start()
        .await;
    // The second attempt fails where the first one's process still lives.
    let line = r#"if [ "$RUNQL_ATTEMPT" = 2 ]; then ! kill -0 "$(cat "$HOLD/first")"; exit; fi
        echo $$ > "$HOLD/first"; echo "attempt $RUNQL_ATTEMPT"; exec sleep 1000"#;
    let env = json!([{ "name": "HOLD", "value": far.folder() }]);
    let more = json!({ "maxAttempts": 2, "backoffMs": 0, "env": env });
    let id = far.run(shell_with(line, more)).await;
    printed(&far, &id, "attempt 1").await;
    let near = Setup::new(&db)
        .flag("--lease-ms", lease.as_millis())
        .start()
        .await;
    wire.cut();
    let job = near.ended(&id).await;
    assert_eq!(
        (&job["status"], &job["attempt"]),
        (&json!("COMPLETED"), &json!(2)),
        "{job:#}"
    );
    assert_eq!(job["attempts"][0]["error"]["code"], "WORKER_LOST");
    far.nothing_left().await;
    wire.mend();
    far.ready().await;
    // The node that came back late changes nothing.
    far.completed(super::shell("echo back")).await;
    assert_eq!(far.job(&id).await, job);
    let first = lines(&far, &id, json!({ "attempt": 1, "streams": ["STDOUT"] })).await;
    assert_eq!(first.len(), 1, "{first:?}");
    assert!(!system(&far, &id).await.is_empty());
    far.stop().await;
    near.stop().await;
}
