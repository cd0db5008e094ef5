//! Workers of a server that asks for tokens.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{EVAL, Remote, line, python};
use crate::access::{closed, data, runql, token};
use crate::support::app::{Setup, TestApp};
use crate::support::both_stores;
use crate::support::db::TestDb;
use crate::support::machine::living_with;
use crate::support::wait::until;

both_stores!(
    a_token_lets_a_worker_work,
    a_worker_says_why_it_is_not_let_in,
    a_worker_whose_token_is_revoked_ends,
    a_worker_ends_when_its_token_expires_or_is_rotated,
);

/// A worker that shows a token, or none.
fn start(app: &TestApp, token: Option<&str>, supports: &str) -> Remote {
    let folder = Arc::new(
        tempfile::Builder::new()
            .prefix("runql-worker-")
            .tempdir()
            .unwrap(),
    );
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_runql"));
    command
        .args(["worker", "--server", &app.url(), "--log-format", "json"])
        .args(["--heartbeat-ms", "30000", "--supports", supports, "--"])
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
    let remote = start(&app, Some(&secret), "bench-*");
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
        let mut remote = start(&app, shown, "bench-*");
        assert_eq!(remote.exit().await, Some(1), "{why}");
        let said = remote.says(why).await;
        assert!(!shown.is_some_and(|shown| said.contains(&shown[20..])), "{said}");
    }
    app.stop().await;
}

/// One that waits for work and one that works, though both would wait for a long time yet.
async fn a_worker_whose_token_is_revoked_ends(db: TestDb) {
    let app = Setup::new(&db).flag("--lease-ms", 600_000).start().await;
    let admin = token(&app, "admin", "read,run,admin", &[]).await;
    let secret = token(&app, "worker", "worker", &[]).await;
    closed(&app).await;
    let mut idle = start(&app, Some(&secret), "other-*");
    let mut busy = start(&app, Some(&secret), "bench-*");
    idle.registered().await;
    busy.registered().await;
    let run = "mutation($input: RunInput!) { run(input: $input) { job { id } errors { message } } }";
    let input = json!({ "input": line("exec -a \"$PWD/busy\" sleep 1000") });
    let id = data(&app, &admin, run, input).await["run"]["job"]["id"].take();
    let query = "query($id: ID!) { job(id: $id) { status } tokens { id name } }";
    let found = until("the job runs", async || {
        let found = data(&app, &admin, query, json!({ "id": id })).await;
        let runs = found["job"]["status"] == "RUNNING" && !living(&busy).is_empty();
        if runs { Ok(found) } else { Err(found) }
    })
    .await;
    let mut tokens = found["tokens"].as_array().unwrap().iter();
    let worker = tokens.find(|token| token["name"] == "worker").unwrap();
    let revoke = "mutation($id: ID!) { revokeToken(input: { id: $id }) { errors { message } } }";
    data(&app, &admin, revoke, json!({ "id": worker["id"] })).await;
    for remote in [&mut idle, &mut busy] {
        assert_eq!(remote.exit().await, Some(1));
        remote.says("does not take this worker any more").await;
        assert!(living(remote).is_empty());
    }
    app.stop().await;
}

async fn a_worker_ends_when_its_token_expires_or_is_rotated(db: TestDb) {
    let app = Setup::new(&db).flag("--lease-ms", 600_000).start().await;
    let short = token(&app, "short", "worker", &["--expires", "15s"]).await;
    let old = token(&app, "long", "worker", &[]).await;
    closed(&app).await;
    let mut remotes = [
        start(&app, Some(&short), "other-*"),
        start(&app, Some(&old), "other-*"),
    ];
    for remote in &mut remotes {
        remote.registered().await;
    }
    runql(&app, &["token", "rotate", "long"]).await;
    for remote in &mut remotes {
        assert_eq!(remote.exit().await, Some(1));
        remote.says("does not take this worker any more").await;
    }
    app.stop().await;
}

/// The programs of a worker that live.
fn living(remote: &Remote) -> Vec<(u32, String)> {
    let mut found = living_with(remote.folder.path().as_os_str());
    found.retain(|(_, command)| command.contains("/busy"));
    found
}
