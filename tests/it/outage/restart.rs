//! A Postgres that is stopped, killed, frozen and started again under a running server.

use std::time::Duration;

use serde_json::{Value, json};

use super::{in_trouble, runs, under_load, well};
use crate::life::{printed, shell, shell_with};
use crate::support::app::{Setup, TestApp};
use crate::support::postgres::OwnPostgres;
use crate::support::socket::Socket;
use crate::support::wait::until;

const EVENTS: &str = "subscription { jobEvents { cursor type job { id } } }";
const JOB: &str = "subscription($id: ID!) { job(id: $id) { id status } }";
const LOGS: &str = "subscription($id: ID!) { jobLogs(id: $id) { lines { message stream } } }";

/// A job that prints, waits for the file `go`, and prints a lot.
async fn talker(app: &TestApp) -> String {
    let line = r#"echo before; while [ ! -e "$HOLD/go" ]; do sleep 0.01; done
        for n in $(seq 3000); do echo "line $n"; done; echo '{"sum": 7}' > "$RUNQL_OUTPUT"; touch "$HOLD/talked""#;
    let env = json!({ "env": [{ "name": "HOLD", "value": app.folder() }] });
    let id = app.run(shell_with(line, env)).await;
    printed(app, &id, "before").await;
    id
}

async fn has_talked(app: &TestApp) {
    until("the job ran to its end", async || {
        if app.folder().join("talked").exists() {
            Ok(())
        } else {
            Err(())
        }
    })
    .await;
    app.nothing_left().await;
}

async fn talked(app: &TestApp, id: &str) {
    let job = app.ended(id).await;
    assert_eq!(
        (&job["status"], &job["attempt"], &job["output"]),
        (&json!("COMPLETED"), &json!(1), &json!({ "sum": 7 })),
        "{job:#}"
    );
    let expected: String = (1..=3_000).map(|n| format!("line {n}\n")).collect();
    let stdout = app.bytes(id, "stdout").await;
    assert_eq!(String::from_utf8(stdout).unwrap(), format!("before\n{expected}"));
}

/// Everything at once: a job that ends while there is no database, listeners of each kind, and requests.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_postgres_is_waited_for() {
    let mut postgres = OwnPostgres::start().await;
    let db = postgres.db();
    let app = Setup::new(&db).start().await;
    let id = talker(&app).await;
    let mut events = Socket::listen(&app, EVENTS, Value::Null).await;
    let mut job = Socket::listen(&app, JOB, json!({ "id": id })).await;
    let mut logs = Socket::listen(&app, LOGS, json!({ "id": id })).await;
    assert_eq!(job.next("job").await["status"], "RUNNING");
    assert!(!logs.next("jobLogs").await["lines"].as_array().unwrap().is_empty());
    events.settled().await;

    postgres.stop("INT").await;
    std::fs::write(app.folder().join("go"), "").unwrap();
    has_talked(&app).await;
    in_trouble(&app, &["UNREACHABLE", "NO_ANSWER"]).await;
    runs(&app, false, 2).await;

    postgres.start_again().await;
    well(&app).await;
    talked(&app, &id).await;
    // Those who listened all the while have missed nothing.
    let mut types = Vec::new();
    while types.last().is_none_or(|last| last != "COMPLETED") {
        let event = events.next("jobEvents").await;
        if event["job"]["id"] == json!(id) {
            types.push(event["type"].as_str().unwrap().to_owned());
        }
    }
    let mut last = Value::Null;
    while let Some(state) = job.next_or_end("job").await {
        last = state;
    }
    assert_eq!(last["status"], "COMPLETED");
    let mut lines = 0;
    while let Some(batch) = logs.next_or_end("jobLogs").await {
        let batch = batch["lines"].as_array().unwrap().clone();
        lines += batch.iter().filter(|line| line["stream"] == "STDOUT").count();
    }
    assert_eq!(lines, 3_000);
    app.completed(shell("echo as if nothing had been")).await;
    app.stop().await;
}

/// What is under way when it is killed is stored or not, and the answer says which, or that it cannot tell.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_postgres_loses_nothing_that_was_answered() {
    let mut postgres = OwnPostgres::start().await;
    let db = postgres.db();
    let app = Setup::new(&db).start().await;
    let (stored, ..) = under_load(&app, &db, async {
        for signal in ["KILL", "QUIT", "INT"] {
            runs(&app, true, 3).await;
            if signal == "KILL" {
                // Its processes notice by themselves, and hold the port and the data until then.
                postgres.crash().await;
            } else {
                postgres.stop(signal).await;
            }
            runs(&app, false, 1).await;
            postgres.start_again().await;
            runs(&app, true, 3).await;
        }
    })
    .await;
    assert!(stored > 0);
    well(&app).await;
    app.completed(shell("true")).await;
    app.stop().await;
}

/// It takes connections, since the system does that for it, and answers nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_postgres_is_given_up_in_time() {
    let postgres = OwnPostgres::start().await;
    let db = postgres.db();
    let app = Setup::new(&db).start().await;
    let id = talker(&app).await;
    let (stored, refused, open) = under_load(&app, &db, async {
        runs(&app, true, 3).await;
        postgres.signal_all("STOP");
        std::fs::write(app.folder().join("go"), "").unwrap();
        in_trouble(&app, &["NO_ANSWER", "UNREACHABLE"]).await;
        runs(&app, false, 1).await;
        postgres.signal_all("CONT");
        runs(&app, true, 3).await;
    })
    .await;
    assert!(stored > 0 && refused + open > 0, "{stored} {refused} {open}");
    talked(&app, &id).await;
    well(&app).await;
    app.stop().await;
}

/// What ends every connection there is, as an operator or a failover does.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_ended_are_opened_again() {
    let postgres = OwnPostgres::start().await;
    let db = postgres.db();
    let app = Setup::new(&db).start().await;
    let raw = db.raw().await;
    let (stored, ..) = under_load(&app, &db, async {
        for _ in 0..20 {
            runs(&app, true, 1).await;
            let others = "SELECT count(pg_terminate_backend(pid))::text FROM pg_stat_activity
                WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
            crate::support::db::texts(&raw, others).await;
            tokio::time::sleep(Duration::from_millis(fastrand::u64(..30))).await;
        }
    })
    .await;
    assert!(stored > 20);
    well(&app).await;
    app.stop().await;
}
