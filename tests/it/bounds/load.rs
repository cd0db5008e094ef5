//! Much at once: a full queue.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::size;
use crate::support::app::{Setup, TestApp};
use crate::support::both_stores;
use crate::support::db::TestDb;
use crate::support::machine::Memory;

both_stores!(a_full_queue_refuses_and_takes_no_memory);

/// What a server that is not optimized may use with a full queue, in KiB: the queue is not in memory.
const BOUND: u64 = 256 * 1024;

fn printing(bytes: usize) -> Value {
    json!({ "command": { "shell": { "command": format!("yes 'a line that is printed' | head -c {bytes}") } } })
}

/// Stores so many jobs, as many in a request as it takes.
async fn store(app: &TestApp, jobs: usize, job: &Value) {
    let query = "mutation($inputs: [RunInput!]!) { runMany(inputs: $inputs) { errors { code message } } }";
    let mut left = jobs;
    while left > 0 {
        let some = left.min(500);
        let inputs = vec![job.clone(); some];
        let data = app.data(query, json!({ "inputs": inputs })).await;
        assert_eq!(data["runMany"]["errors"], json!([]));
        left -= some;
    }
}

async fn a_full_queue_refuses_and_takes_no_memory(db: TestDb) {
    let limit = size(20_000, 100_000);
    let app = Setup::new(&db)
        .flag("--queue-limit", limit)
        .flag("--auto-start-workers", false)
        .start()
        .await;
    let job = printing(1);
    store(&app, limit, &job).await;
    let refused = join_all((0..200).map(|_| app.try_run(job.clone()))).await;
    for payload in refused {
        assert_eq!(payload["job"], Value::Null);
        assert_eq!(payload["errors"][0]["code"], "LIMIT_EXCEEDED", "{payload:#}");
    }
    let data = app
        .data("{ jobs(first: 1000) { nodes { id } totalCount } }", json!({}))
        .await;
    assert_eq!(data["jobs"]["nodes"].as_array().unwrap().len(), 1_000);
    let memory = Memory::of(&app);
    assert!(memory.peak < BOUND, "{memory:?}");
    app.stop().await;
}
