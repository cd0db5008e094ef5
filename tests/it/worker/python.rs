//! `examples/worker.py`, as its reader would start it.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Remote, cancel, lines, printed, shown};
use crate::support::app::{Setup, TestApp};
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    the_example_works_stops_and_signs_off,
    the_example_outlives_the_server,
);

fn start(app: &TestApp) -> Remote {
    start_with(app, &[])
}

/// As [`start`], with variables.
pub(super) fn start_with(app: &TestApp, variables: &[(&str, &str)]) -> Remote {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/worker.py");
    let mut command = tokio::process::Command::new("python3");
    command
        .arg(file)
        .arg("worker-042-demo")
        .env("RUNQL_SERVER", app.url())
        .envs(variables.iter().copied());
    Remote::spawn(command, Arc::new(tempfile::tempdir().unwrap()))
}

fn demo(parameters: Value) -> Value {
    json!({ "command": { "task": { "problemId": "demo-sum", "parameters": parameters } } })
}

async fn the_example_works_stops_and_signs_off(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let mut worker = start(&app);
    let job = app.completed(demo(json!({ "steps": 4 }))).await;
    assert_eq!(job["output"], json!({ "problem": "demo-sum", "total": 10 }));
    assert_eq!(
        job["progress"],
        json!({ "current": 4, "total": 4, "percentage": 100.0, "step": "adding 4" })
    );
    let said: Vec<Value> = lines(&app, job["id"].as_str().unwrap())
        .await
        .iter()
        .map(|line| line["message"].clone())
        .collect();
    assert_eq!(said, ["step 1 of 4", "step 2 of 4", "step 3 of 4", "step 4 of 4"]);

    let failed = app.run(demo(json!({ "fail": "on purpose" }))).await;
    let job = app.ended(&failed).await;
    assert_eq!(
        (&job["status"], &job["error"]["message"]),
        (&json!("FAILED"), &json!("ValueError: on purpose"))
    );

    let endless = app.run(demo(json!({ "steps": 1_000_000, "pause": 0.01 }))).await;
    printed(&app, &endless, "step 5 of").await;
    cancel(&app, &endless).await;
    assert_eq!(app.ended(&endless).await["status"], "CANCELLED");
    let next = app.completed(demo(json!({ "steps": 1 }))).await;
    assert_eq!(next["output"]["total"], 1);

    let cut_short = app.run(demo(json!({ "steps": 1_000_000, "pause": 0.01 }))).await;
    printed(&app, &cut_short, "step 5 of").await;
    worker.signal("TERM");
    assert_eq!(worker.exit().await, Some(0));
    let job = app.ended(&cut_short).await;
    assert_eq!(job["error"]["message"], "the worker was shut down", "{job:#}");
    assert_eq!(shown(&app, "worker-042-demo").await["status"], "OFFLINE");
    app.stop().await;
}

async fn the_example_outlives_the_server(db: TestDb) {
    let mut app = Setup::new(&db).start().await;
    let worker = start(&app);
    let id = app.run(demo(json!({ "steps": 60, "pause": 0.02 }))).await;
    printed(&app, &id, "step 3 of").await;
    app.kill().await;
    worker.says("again in").await;
    app.restart_in_place().await;
    let job = app.ended(&id).await;
    assert_eq!(
        (&job["status"], &job["attempt"], &job["output"]["total"]),
        (&json!("COMPLETED"), &json!(1), &json!(1_830)),
        "{job:#}"
    );
    drop(worker);
    app.stop().await;
}
