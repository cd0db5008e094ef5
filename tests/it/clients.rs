//! Clients as published on npm against the real server. Needs Node.js and the packages of
//! `tests/clients/package-lock.json`; `bash tests/run.sh` sees to them.

mod apps;
mod docs;
mod node;
mod schema;

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use self::node::folder;
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;
use crate::support::wait::within;

both_stores!(
    every_audit_of_graphql_over_http_passes,
    graphql_ws_queries_and_subscribes,
    graphql_sse_queries_and_subscribes,
);

/// A client at work.
struct Client {
    node: Child,
    results: Lines<BufReader<ChildStdout>>,
    told: Lines<BufReader<ChildStderr>>,
}

impl Client {
    fn start(script: &str, url: &str, arguments: &[&str]) -> Self {
        let mut node = Command::new("node")
            .current_dir(folder())
            .args([script, url])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("node ({error}): run the tests by tests/run.sh"));
        let results = BufReader::new(node.stdout.take().unwrap()).lines();
        let told = BufReader::new(node.stderr.take().unwrap()).lines();
        Self { node, results, told }
    }

    /// The next result.
    async fn result(&mut self) -> Value {
        let line = within("a client's result", self.results.next_line())
            .await
            .unwrap();
        serde_json::from_str(&line.expect("the client ended")).unwrap()
    }

    /// Waits until the client tells this of its connection.
    async fn tells(&mut self, word: &str) {
        within(word, async {
            loop {
                let line = self.told.next_line().await.unwrap().expect("the client ended");
                if line.starts_with(word) {
                    return;
                }
            }
        })
        .await;
    }

    /// Whether it ended well, and all that it told.
    async fn end(mut self) -> (bool, String) {
        let mut told = String::new();
        while let Some(line) = within("a client's word", self.told.next_line()).await.unwrap() {
            told.push_str(&line);
            told.push('\n');
        }
        let status = within("a client's end", self.node.wait()).await.unwrap();
        (status.success(), told)
    }
}

async fn every_audit_of_graphql_over_http_passes(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let output = Command::new("node")
        .current_dir(folder())
        .args(["audit.mjs", &format!("{}/graphql", app.url())])
        .kill_on_drop(true)
        .output();
    let output = within("the audits", output).await.unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}{failed}");
    assert_eq!(told.trim(), "61 passed, 0 failed");
    app.stop().await;
}

async fn graphql_ws_queries_and_subscribes(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let url = format!("{}/graphql", app.url());
    let mut client = Client::start("websocket.mjs", &url, &["{ health { status } }"]);
    assert_eq!(
        client.result().await,
        json!({ "data": { "health": { "status": "HEALTHY" } } })
    );
    assert!(client.end().await.0);

    let run = "mutation { run(input: { command: { shell: { command: \"seq 3\" } } }) { job { id } } }";
    let mut client = Client::start("websocket.mjs", &url, &[run]);
    let id = client.result().await["data"]["run"]["job"]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(client.end().await.0);
    app.ended(&id).await;

    let logs = format!(
        "subscription {{ jobLogs(id: \"{id}\", filter: {{ streams: [STDOUT] }}) {{ lines {{ message }} }} }}"
    );
    let mut client = Client::start("websocket.mjs", &url, &[&logs]);
    let expected = json!([{ "message": "1" }, { "message": "2" }, { "message": "3" }]);
    assert_eq!(client.result().await["data"]["jobLogs"]["lines"], expected);
    assert!(client.end().await.0, "it completes by itself");

    let client = Client::start(
        "websocket.mjs",
        &url,
        &["subscription { job(id: \"none\") { id } }"],
    );
    let (well, told) = client.end().await;
    assert!(!well && told.contains("NOT_FOUND"), "{told}");

    let mut client = Client::start(
        "websocket.mjs",
        &url,
        &[
            "subscription { stats(intervalMs: 100) { counts { total } } }",
            "3",
        ],
    );
    client.tells("connected").await;
    for _ in 0..3 {
        assert_eq!(client.result().await["data"]["stats"]["counts"]["total"], 1);
    }
    assert!(client.end().await.0);
    app.stop().await;
}

async fn graphql_sse_queries_and_subscribes(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let url = format!("{}/graphql", app.url());
    let mut client = Client::start("events.mjs", &url, &["{ health { status } }"]);
    assert_eq!(
        client.result().await,
        json!({ "data": { "health": { "status": "HEALTHY" } } })
    );
    assert!(client.end().await.0);

    let id = app.shell("echo one; sleep 0.2; echo two").await;
    let watch = format!("subscription {{ job(id: \"{id}\") {{ status }} }}");
    let mut client = Client::start("events.mjs", &url, &[&watch]);
    let mut last = Value::Null;
    while let Some(line) = within("a client's result", client.results.next_line())
        .await
        .unwrap()
    {
        last = serde_json::from_str(&line).unwrap();
    }
    assert_eq!(last, json!({ "data": { "job": { "status": "COMPLETED" } } }));
    assert!(client.end().await.0, "it completes by itself");
    app.stop().await;
}
