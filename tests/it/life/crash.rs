//! kill -9 of the server: no process is left, no answered job is lost, and the next start puts all in order.

use std::collections::BTreeSet;

use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{printed, process_with, shell, shell_with};
use crate::support::app::{Setup, TestApp};
use crate::support::both_stores;
use crate::support::db::TestDb;
use crate::support::wait::{until, within};

both_stores!(
    a_killed_server_leaves_no_process,
    a_killed_servers_jobs_are_told_lost_or_run_again,
    an_answered_job_outlives_every_crash,
    output_up_to_the_crash_is_kept,
);

/// Short leases, so that Postgres lets the next server take over soon.
fn setup(db: &TestDb) -> Setup {
    Setup::new(db).flag("--lease-ms", 1_000)
}

async fn a_killed_server_leaves_no_process(db: TestDb) {
    let mut app = setup(&db).flag("--workers", 4).start().await;
    app.shell(r#"exec -a "$PWD/plain" sleep 1000"#).await;
    app.shell(r#"setsid env -i bash -c 'exec -a "$0/escaped" sleep 1000' "$PWD" & wait"#)
        .await;
    app.shell(r#"trap '' TERM HUP INT; (exec -a "$PWD/stubborn" sleep 1000); :"#)
        .await;
    app.shell(r#"exec -a "$PWD/flooding" yes"#).await;
    for word in ["/plain", "/escaped", "/stubborn", "/flooding"] {
        process_with(&app, word).await;
    }
    app.kill().await;
    app.nothing_left().await;
}

async fn a_killed_servers_jobs_are_told_lost_or_run_again(db: TestDb) {
    let mut app = setup(&db).start().await;
    let once = app.shell("echo up; sleep 1000").await;
    let line = r#"echo "attempt $RUNQL_ATTEMPT"; [ "$RUNQL_ATTEMPT" = 2 ] || sleep 1000"#;
    let twice = app
        .run(shell_with(line, json!({ "maxAttempts": 2, "backoffMs": 0 })))
        .await;
    printed(&app, &once, "up").await;
    printed(&app, &twice, "attempt 1").await;
    app.kill().await;
    app.restart().await;

    let lost = app.ended(&once).await;
    assert_eq!(
        (&lost["status"], &lost["attempt"]),
        (&json!("FAILED"), &json!(1)),
        "{lost:#}"
    );
    assert_eq!(lost["error"]["code"], "WORKER_LOST");
    assert_eq!(lost["stdout"], "up\n");
    assert!(lost["finishedAt"].is_string());

    let again = app.ended(&twice).await;
    assert_eq!(
        (&again["status"], &again["attempt"]),
        (&json!("COMPLETED"), &json!(2)),
        "{again:#}"
    );
    assert_eq!(again["attempts"][0]["error"]["code"], "WORKER_LOST");
    assert_eq!(again["stdout"], "attempt 2\n");
    let first = super::lines(&app, &twice, json!({ "attempt": 1, "streams": ["STDOUT"] })).await;
    assert_eq!(first[0]["message"], "attempt 1");
    app.stop().await;
}

async fn output_up_to_the_crash_is_kept(db: TestDb) {
    let mut app = setup(&db).start().await;
    let id = app
        .shell("for n in $(seq 2000); do echo line $n; done; sleep 1000")
        .await;
    printed(&app, &id, "line 2000\n").await;
    app.kill().await;
    app.restart().await;
    app.ended(&id).await;
    let expected: String = (1..=2_000).map(|n| format!("line {n}\n")).collect();
    assert_eq!(app.bytes(&id, "stdout").await, expected.as_bytes());
    app.stop().await;
}

/// Clients run jobs as fast as they can while the server is killed at moments that nobody chose.
async fn an_answered_job_outlives_every_crash(db: TestDb) {
    let mut app = setup(&db).start().await;
    let mut answered = Vec::new();
    for _ in 0..5 {
        let (tell, mut told) = mpsc::unbounded_channel();
        let mut clients = JoinSet::new();
        for _ in 0..4 {
            clients.spawn(submit_until_refused(app.url(), tell.clone()));
        }
        drop(tell);
        for _ in 0..fastrand::usize(1..60) {
            answered.push(within("an answer", told.recv()).await.unwrap());
        }
        app.kill().await;
        while let Some(id) = told.recv().await {
            answered.push(id);
        }
        while clients.join_next().await.is_some() {}
        app.nothing_left().await;
        app.restart().await;
    }
    let wanted: BTreeSet<String> = answered.iter().cloned().collect();
    assert_eq!(wanted.len(), answered.len(), "an id was given twice");
    let all: Vec<String> = wanted.into_iter().collect();
    for ids in all.chunks(200) {
        all_ended(&app, ids).await;
    }
    app.nothing_left().await;
    app.stop().await;
}

async fn submit_until_refused(url: String, answered: mpsc::UnboundedSender<String>) {
    let http = reqwest::Client::new();
    let query = "mutation($input: RunInput!) { run(input: $input) { job { id } } }";
    loop {
        let body = json!({ "query": query, "variables": { "input": shell("echo ran") } });
        let sent = http.post(format!("{url}/graphql")).json(&body).send().await;
        let Ok(answer) = sent else { return };
        let Ok(answer) = answer.json::<serde_json::Value>().await else {
            return;
        };
        let id = answer["data"]["run"]["job"]["id"].as_str().unwrap().to_owned();
        answered.send(id).unwrap();
    }
}

/// Waits until each of these jobs has ended, one way that a crash allows.
async fn all_ended(app: &TestApp, ids: &[String]) {
    let query = "query($ids: [ID!]) { jobs(filter: { ids: $ids }, first: 1000) {
        nodes { id status error { code } stdout }
    } }";
    until("the jobs' ends", async || {
        let data = app.data(query, json!({ "ids": ids })).await;
        let jobs = data["jobs"]["nodes"].as_array().unwrap().clone();
        assert_eq!(jobs.len(), ids.len(), "an answered job is gone");
        let mut open = 0;
        for job in &jobs {
            match job["status"].as_str().unwrap() {
                "COMPLETED" => assert_eq!(job["stdout"], "ran\n", "{job:#}"),
                "FAILED" => assert_eq!(job["error"]["code"], "WORKER_LOST", "{job:#}"),
                _ => open += 1,
            }
        }
        if open == 0 { Ok(()) } else { Err(open) }
    })
    .await;
}
