//! Workers of a server that asks for tokens.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{EVAL, Remote, line, python};
use crate::access::{closed, data, token};
use crate::support::app::{Setup, TestApp};
use crate::support::both_stores;
use crate::support::db::TestDb;
use crate::support::wait::until;

both_stores!(a_token_lets_a_worker_work, a_worker_says_why_it_is_not_let_in);

/// A worker that shows a token, or none.
fn start(app: &TestApp, token: Option<&str>) -> Remote {
    let folder = Arc::new(
        tempfile::Builder::new()
            .prefix("runql-worker-")
            .tempdir()
            .unwrap(),
    );
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_runql"));
    command
        .args(["worker", "--server", &app.url(), "--log-format", "json"])
        .args(["--heartbeat-ms", "200", "--supports", "bench-*", "--"])
        .args(EVAL)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .envs(token.map(|token| ("RUNQL_TOKEN", token)));
    Remote::spawn(command, folder)
}

/// Runs a job in the name of a token, and waits until it has completed.
async fn completed(app: &TestApp, token: &str, input: Value) -> Value {
    let run = "mutation($input: RunInput!) { run(input: $input) { job { id } errors { message } } }";
    let id = data(app, token, run, json!({ "input": input })).await["run"]["job"]["id"].take();
    let query = "query($id: ID!) { job(id: $id) { status stdout output } }";
    until("the job's end", async || {
        let mut found = data(app, token, query, json!({ "id": id })).await;
        if found["job"]["status"] == "COMPLETED" {
            Ok(found["job"].take())
        } else {
            Err(found)
        }
    })
    .await
}

async fn a_token_lets_a_worker_work(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let client = token(&app, "client", "read,run", &[]).await;
    let secret = token(&app, "worker", "worker", &[]).await;
    closed(&app).await;
    let remote = start(&app, Some(&secret));
    remote.registered().await;
    let job = completed(&app, &client, line("echo \"here: ${RUNQL_TOKEN:-no token}\"")).await;
    assert_eq!(
        job["stdout"], "here: no token\n",
        "a program does not get the token"
    );
    let example = python::start_with(&app, &[("RUNQL_TOKEN", &secret)]);
    let sum = json!({ "command": { "task": { "problemId": "demo-sum", "parameters": { "steps": 2 } } } });
    assert_eq!(completed(&app, &client, sum).await["output"]["total"], 3);
    example.stop().await;
    remote.stop().await;
    app.stop().await;
}

async fn a_worker_says_why_it_is_not_let_in(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let reader = token(&app, "reader", "read", &[]).await;
    closed(&app).await;
    let unknown = format!("runql_{}", "A".repeat(64));
    for (shown, why) in [
        (
            None,
            "this server asks for a token: send `Authorization: Bearer …` (the token is taken from RUNQL_TOKEN)",
        ),
        (
            Some(unknown.as_str()),
            "this token is not known here (the token is taken from RUNQL_TOKEN)",
        ),
        (Some(reader.as_str()), "WORKER"),
    ] {
        let mut remote = start(&app, shown);
        assert_eq!(remote.exit().await, Some(1), "{why}");
        let said = remote.says(why).await;
        assert!(!shown.is_some_and(|shown| said.contains(&shown[20..])), "{said}");
    }
    app.stop().await;
}
