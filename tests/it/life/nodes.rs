//! Many servers, one database: on Postgres they share the work; on SQLite the second one is told why not.

use std::collections::BTreeSet;

use runql::store::Backend;
use serde_json::json;

use super::cancel::cancel;
use super::{printed, shell_with};
use crate::support::app::{Setup, TestApp};
use crate::support::db::{TestDb, with_db};
use crate::support::on_postgres;
use crate::support::wait::until;

on_postgres!(
    two_servers_share_the_jobs_and_run_each_once,
    a_cancel_reaches_the_server_that_runs_the_job,
    the_jobs_of_a_killed_server_are_taken_over,
);

const HOLD: &str = r#"while [ ! -e "$HOLD/go" ]; do sleep 0.01; done"#;

async fn stop_workers(app: &TestApp) {
    let payload = app
        .data("mutation { stopWorkers { errors { message } } }", json!({}))
        .await;
    assert_eq!(payload["stopWorkers"]["errors"], json!([]));
}

async fn two_servers_share_the_jobs_and_run_each_once(db: TestDb) {
    let shared = tempfile::tempdir().unwrap();
    let setup = || Setup::new(&db).flag("--job-write", shared.path().display());
    let (one, two) = tokio::join!(setup().start(), setup().start());
    let env = json!({ "env": [{ "name": "HOLD", "value": shared.path() }] });
    // All six workers have to take one before any of these ends.
    let mut ids = BTreeSet::new();
    for _ in 0..6 {
        let line = format!(r#"echo "$RUNQL_JOB_ID" >> "$HOLD/ran"; {HOLD}"#);
        ids.insert(one.run(shell_with(&line, env.clone())).await);
    }
    let ran = shared.path().join("ran");
    let lines = || std::fs::read_to_string(&ran).unwrap_or_default();
    until("both servers take jobs", async || {
        let taken = lines().lines().count();
        if taken == 6 { Ok(()) } else { Err(taken) }
    })
    .await;
    std::fs::write(shared.path().join("go"), "").unwrap();
    for n in 0..40 {
        let app = if n % 2 == 0 { &one } else { &two };
        let line = r#"echo "$RUNQL_JOB_ID" >> "$HOLD/ran""#;
        ids.insert(app.run(shell_with(line, env.clone())).await);
    }
    let mut workers = BTreeSet::new();
    for id in &ids {
        let job = two.ended(id).await;
        assert_eq!(
            (&job["status"], &job["attempt"]),
            (&json!("COMPLETED"), &json!(1)),
            "{job:#}"
        );
        workers.insert(job["attempts"][0]["worker"]["name"].as_str().unwrap().to_owned());
    }
    assert_eq!(workers.len(), 6, "{workers:?}");
    let text = lines();
    let started: Vec<&str> = text.lines().collect();
    assert_eq!(started.len(), ids.len(), "a job ran twice, or not at all");
    assert_eq!(
        started.into_iter().map(str::to_owned).collect::<BTreeSet<_>>(),
        ids
    );
    one.stop().await;
    two.stop().await;
}

async fn a_cancel_reaches_the_server_that_runs_the_job(db: TestDb) {
    // With such a lease a heartbeat would take ten seconds to tell.
    let setup = || Setup::new(&db).flag("--lease-ms", 30_000);
    let (one, two) = tokio::join!(setup().start(), setup().start());
    stop_workers(&two).await;
    let id = two.shell("echo up; sleep 1000").await;
    printed(&two, &id, "up").await;
    let asked = std::time::Instant::now();
    cancel(&two, json!({ "id": id })).await;
    let job = two.ended(&id).await;
    assert!(asked.elapsed().as_secs() < 5, "took {:?}", asked.elapsed());
    assert_eq!(job["status"], "CANCELLED", "{job:#}");
    one.nothing_left().await;
    one.stop().await;
    two.stop().await;
}

async fn the_jobs_of_a_killed_server_are_taken_over(db: TestDb) {
    let setup = || Setup::new(&db).flag("--lease-ms", 1_000);
    let (mut one, two) = tokio::join!(setup().start(), setup().start());
    stop_workers(&two).await;
    let once = two.shell("echo up; sleep 1000").await;
    let line = r#"echo up; [ "$RUNQL_ATTEMPT" = 2 ] || sleep 1000"#;
    let twice = two
        .run(shell_with(line, json!({ "maxAttempts": 2, "backoffMs": 0 })))
        .await;
    printed(&two, &once, "up").await;
    printed(&two, &twice, "up").await;
    let before = two.job(&twice).await;
    two.data("mutation { startWorkers { errors { message } } }", json!({}))
        .await;
    one.kill().await;
    one.nothing_left().await;
    let lost = two.ended(&once).await;
    assert_eq!(
        (&lost["status"], &lost["error"]["code"]),
        (&json!("FAILED"), &json!("WORKER_LOST"))
    );
    let again = two.ended(&twice).await;
    assert_eq!(
        (&again["status"], &again["attempt"]),
        (&json!("COMPLETED"), &json!(2)),
        "{again:#}"
    );
    assert_ne!(again["attempts"][1]["worker"], before["attempts"][0]["worker"]);
    until("the dead server's workers are offline", async || {
        let data = two
            .data("{ workers { status } health { workers { offline } } }", json!({}))
            .await;
        if data["health"]["workers"]["offline"] == 3 {
            Ok(())
        } else {
            Err(data)
        }
    })
    .await;
    two.stop().await;
}

#[tokio::test]
async fn a_second_server_on_one_sqlite_file_is_refused() {
    with_db(Backend::Sqlite, async |db: TestDb| {
        let one = Setup::new(&db).start().await;
        let mut two = Setup::new(&db).launch().await;
        assert_eq!(two.exit().await, Some(1));
        let told = two.told().join("\n");
        assert!(told.contains("another server uses"), "{told}");
        assert!(told.contains("use Postgres for many nodes"), "{told}");
        one.completed(super::shell("echo unharmed")).await;
        one.stop().await;
    })
    .await;
}
