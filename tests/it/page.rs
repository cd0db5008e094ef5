//! GraphiQL on the real server in a real browser: the example that it opens with, a query and a subscription. What is
//! the page's own alone is tested in `tests/browser`.

use std::path::Path;

use serde_json::json;
use tokio::process::Command;

use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(the_first_example_works);

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
    let run = Command::new("node")
        .arg(root.join("tests/browser/graphiql.mjs"))
        .args(["--url", &format!("{}/", app.url()), "--example"])
        .args([
            "--query",
            "query Q { jobs(first: 1) { nodes { name status output } } }",
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
    app.stop().await;
}
