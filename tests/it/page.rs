//! GraphiQL on the real server in a real browser: the example that it opens with, a query and a subscription. What is
//! the page's own alone is tested in `tests/browser`.

use std::path::Path;

use serde_json::json;
use tokio::process::Command;

use crate::access::{closed, token};
use crate::support::app::{Setup, TestApp};
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(the_first_example_works, a_token_opens_what_the_page_shows);

/// What the documentation says of a field: it is there once the schema could be read.
const DOCS: &str = "One job by its id; null where no job has it.";

async fn the_first_example_works(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    app.script(
        "hello.sh",
        &std::fs::read_to_string(root.join("scripts/hello.sh")).unwrap(),
    );
    // The first of the example's operations lists the scripts; what a job gave back is asked for as a person would.
    app.completed(json!({ "command": { "script": { "name": "hello.sh" } } }))
        .await;
    drive(&app, &["--example"]).await;
    app.stop().await;
}

async fn a_token_opens_what_the_page_shows(db: TestDb) {
    let app = Setup::new(&db).start().await;
    app.completed(json!({ "command": { "shell": { "command": "echo 'Hello, Ada'" } } }))
        .await;
    let secret = token(&app, "person", "read", &[]).await;
    closed(&app).await;
    for more in [&["--docs", DOCS][..], &["--plain"]] {
        drive(&app, &[&["--token", &secret], more].concat()).await;
    }
    app.stop().await;
}

/// Uses the page as a person would.
async fn drive(app: &TestApp, more: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/graphiql.mjs");
    let run = Command::new("node")
        .arg(script)
        .args(["--url", &format!("{}/", app.url())])
        .args(more)
        .args([
            "--query",
            "query Q { jobs(first: 1) { nodes { name status stdout } } }",
        ])
        .args(["--response", "Hello, "])
        .args([
            "--subscription",
            "subscription S { stats { counts { total } } }",
            "--event",
            "\"total\"",
        ])
        .kill_on_drop(true)
        .output();
    // A browser takes its time to start on a busy machine, more than one condition of the server may.
    let output = tokio::time::timeout(std::time::Duration::from_secs(100), run)
        .await
        .unwrap()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}
