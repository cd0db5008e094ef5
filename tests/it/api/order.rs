//! Which job is first: the higher priority, then the older one.

use serde_json::{Value, json};

use super::fixture::{ids, moment, request, run_many, shell};
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(higher_priorities_run_first_and_equals_in_their_order);

async fn higher_priorities_run_first_and_equals_in_their_order(db: TestDb) {
    let app = Setup::new(&db)
        .flag("--workers", 1)
        .flag("--auto-start-workers", "false")
        .start()
        .await;
    let priorities = [0, 5, -100, 5, 100, 0, -1, 5];
    let inputs: Vec<Value> = priorities
        .iter()
        .map(|priority| request(shell("true"), json!({ "priority": priority })))
        .collect();
    let stored = run_many(&app, &inputs).await;
    app.data("mutation { startWorkers { errors { code } } }", json!({}))
        .await;
    for id in &stored {
        app.ended(id).await;
    }
    let query =
        "{ jobs(orderBy: { field: STARTED_AT, direction: ASC }) { nodes { id startedAt finishedAt } } }";
    let nodes = app.data(query, json!({})).await["jobs"]["nodes"].take();
    let expected: Vec<String> = [4, 1, 3, 7, 0, 5, 6, 2].map(|n: usize| stored[n].clone()).into();
    assert_eq!(ids(&nodes), expected);
    for pair in nodes.as_array().unwrap().windows(2) {
        assert!(moment(&pair[0]["startedAt"]) <= moment(&pair[1]["startedAt"]));
    }
    app.stop().await;
}
