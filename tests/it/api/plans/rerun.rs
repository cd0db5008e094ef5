//! Plans that are run once more, and plans that are asked for twice.

use serde_json::json;

use super::{children, graph, plan, run_plan, statuses, step, step_after};
use crate::api::fixture::{mutate, request};
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    a_plan_is_run_again_with_all_its_steps,
    a_plan_with_a_known_key_is_not_stored_again
);

async fn a_plan_is_run_again_with_all_its_steps(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let inner = plan(
        json!({ "serial": { "stopOnError": false } }),
        [step("x", "exit 1"), step("y", "echo y")],
    );
    let steps = [
        step_after("last", &["first"], "echo last"),
        step("first", "echo first"),
        json!({ "key": "inner", "run": { "command": inner } }),
    ];
    let id = run_plan(&app, graph(), steps).await;
    app.ended(&id).await;
    let again = mutate(&app, "rerun", "job { id }", json!({ "id": id })).await["job"]["id"].take();
    let again = again.as_str().unwrap();
    assert_ne!(again, id);
    app.ended(again).await;
    assert_eq!(
        statuses(&app, again).await,
        ["last COMPLETED", "first COMPLETED", "inner FAILED"]
    );
    let (before, after) = (children(&app, &id).await, children(&app, again).await);
    assert_eq!(after[0]["dependsOn"], before[0]["dependsOn"]);
    let inner = after[2]["id"].as_str().unwrap();
    assert_eq!(statuses(&app, inner).await, ["x FAILED", "y COMPLETED"]);
    // A step alone is run again as a job of its own.
    let alone = mutate(
        &app,
        "rerun",
        "job { id parent { id } }",
        json!({ "id": before[1]["id"] }),
    )
    .await;
    assert_eq!(alone["job"]["parent"], json!(null));
    let alone = app.ended(alone["job"]["id"].as_str().unwrap()).await;
    assert_eq!(alone["stdout"], "first\n");
    app.stop().await;
}

async fn a_plan_with_a_known_key_is_not_stored_again(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let input = request(
        plan(graph(), [step("a", "true"), step("b", "true")]),
        json!({ "idempotencyKey": "once" }),
    );
    let first = app.run(input.clone()).await;
    let second = app.try_run(input).await;
    assert_eq!(
        (&second["deduplicated"], &second["job"]["id"]),
        (&json!(true), &json!(first))
    );
    app.ended(&first).await;
    let data = app.data("{ jobs { totalCount } }", json!({})).await;
    assert_eq!(data["jobs"]["totalCount"], 3);
    app.stop().await;
}
