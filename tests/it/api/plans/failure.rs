//! What a step that fails means for the others and for the plan.

use serde_json::{Value, json};

use super::{children, graph, open, plan, run_plan, serial, statuses, step, step_after, steps_are, wait_for};
use crate::api::fixture::{request, shell};
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    a_serial_plan_stops_at_its_first_error,
    a_serial_plan_may_go_on_after_errors,
    a_parallel_plan_goes_on_and_fails,
    a_graph_cancels_only_what_waits_for_the_failed_one,
    a_graph_may_stop_as_a_whole,
    a_failed_plan_within_a_plan_is_a_failed_step,
    a_step_that_somebody_cancels_is_a_failed_step,
);

fn code(step: &Value) -> &str {
    step["error"]["code"].as_str().unwrap_or("none")
}

async fn a_serial_plan_stops_at_its_first_error(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let steps = [
        step("a", "true"),
        step("b", "exit 3"),
        step("c", "true"),
        step("d", "true"),
    ];
    let id = run_plan(&app, serial(), steps).await;
    let job = app.ended(&id).await;
    assert_eq!(job["status"], "FAILED");
    assert_eq!(job["error"]["code"], "STEP_FAILED");
    assert_eq!(job["error"]["message"], "step `b` is FAILED: exited with code 3");
    assert_eq!(job["progress"]["current"], 4);
    assert_eq!(
        statuses(&app, &id).await,
        ["a COMPLETED", "b FAILED", "c CANCELLED", "d CANCELLED"]
    );
    for step in &children(&app, &id).await[2..] {
        assert_eq!(code(step), "DEPENDENCY_FAILED");
        assert_eq!((&step["startedAt"], &step["attempt"]), (&json!(null), &json!(0)));
    }
    app.stop().await;
}

async fn a_serial_plan_may_go_on_after_errors(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let steps = [step("a", "exit 1"), step("b", "true"), step("c", "kill -9 $$")];
    let id = run_plan(&app, json!({ "serial": { "stopOnError": false } }), steps).await;
    let job = app.ended(&id).await;
    assert_eq!(job["error"]["message"], "step `a` is FAILED: exited with code 1");
    assert_eq!(statuses(&app, &id).await, ["a FAILED", "b COMPLETED", "c FAILED"]);
    app.stop().await;
}

async fn a_parallel_plan_goes_on_and_fails(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let steps = [step("a", "exit 1"), step("b", &wait_for(&app, "go"))];
    let id = run_plan(&app, json!({ "parallel": {} }), steps).await;
    steps_are(&app, &id, &["a FAILED", "b RUNNING"]).await;
    let job = app.job(&id).await;
    assert_eq!((&job["status"], &job["error"]), (&json!("RUNNING"), &json!(null)));
    assert_eq!(job["attempts"][0]["error"], json!(null));
    open(&app, "go");
    assert_eq!(app.ended(&id).await["status"], "FAILED");
    assert_eq!(statuses(&app, &id).await, ["a FAILED", "b COMPLETED"]);
    app.stop().await;
}

async fn a_graph_cancels_only_what_waits_for_the_failed_one(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let steps = [
        step("bad", "exit 1"),
        step("good", "true"),
        step_after("after bad", &["bad"], "true"),
        step_after("after both", &["bad", "good"], "true"),
        step_after("far after bad", &["after bad"], "true"),
        step_after("after good", &["good"], "true"),
    ];
    let id = run_plan(&app, graph(), steps).await;
    assert_eq!(app.ended(&id).await["error"]["code"], "STEP_FAILED");
    let all = children(&app, &id).await;
    assert_eq!(
        statuses(&app, &id).await,
        [
            "bad FAILED",
            "good COMPLETED",
            "after bad CANCELLED",
            "after both CANCELLED",
            "far after bad CANCELLED",
            "after good COMPLETED",
        ]
    );
    assert_eq!(
        [code(&all[2]), code(&all[3]), code(&all[4])],
        ["DEPENDENCY_FAILED"; 3]
    );
    app.stop().await;
}

async fn a_graph_may_stop_as_a_whole(db: TestDb) {
    let app = Setup::new(&db).flag("--cancel-grace-ms", 100).start().await;
    let steps = [
        step("runs", "exec sleep 1000"),
        step("bad", &format!("{}; exit 1", wait_for(&app, "go"))),
        step_after("waits", &["runs"], "true"),
    ];
    let id = run_plan(
        &app,
        json!({ "dependencyGraph": { "continueOnError": false } }),
        steps,
    )
    .await;
    steps_are(&app, &id, &["runs RUNNING", "bad RUNNING", "waits PENDING"]).await;
    open(&app, "go");
    let job = app.ended(&id).await;
    assert_eq!(
        job["error"]["message"],
        "step `bad` is FAILED: exited with code 1"
    );
    let all = children(&app, &id).await;
    assert_eq!(
        statuses(&app, &id).await,
        ["runs CANCELLED", "bad FAILED", "waits CANCELLED"]
    );
    assert_eq!(code(&all[2]), "DEPENDENCY_FAILED");
    app.nothing_left().await;
    app.stop().await;
}

async fn a_failed_plan_within_a_plan_is_a_failed_step(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let inner = plan(serial(), [step("x", "exit 7"), step("y", "true")]);
    let last = plan(serial(), [step("z", "true")]);
    let steps = [
        json!({ "key": "inner", "run": { "command": inner } }),
        json!({ "key": "never", "run": { "command": last } }),
    ];
    let id = run_plan(&app, serial(), steps).await;
    let job = app.ended(&id).await;
    let message = "step `inner` is FAILED: step `x` is FAILED: exited with code 7";
    assert_eq!(job["error"]["message"], message);
    let all = children(&app, &id).await;
    assert_eq!(statuses(&app, &id).await, ["inner FAILED", "never CANCELLED"]);
    let never = children(&app, all[1]["id"].as_str().unwrap()).await;
    assert_eq!(
        (&never[0]["status"], code(&never[0])),
        (&json!("CANCELLED"), "DEPENDENCY_FAILED")
    );
    app.stop().await;
}

async fn a_step_that_somebody_cancels_is_a_failed_step(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let first = request(shell("exec sleep 1000"), json!({}));
    let steps = [json!({ "key": "a", "run": first }), step("b", "true")];
    let id = run_plan(&app, serial(), steps).await;
    steps_are(&app, &id, &["a RUNNING", "b PENDING"]).await;
    let a = children(&app, &id).await[0]["id"].clone();
    let cancel = "mutation($id: ID!) { cancel(input: { id: $id, graceMs: 0 }) { errors { message } } }";
    app.data(cancel, json!({ "id": a })).await;
    let job = app.ended(&id).await;
    assert_eq!(
        (&job["status"], &job["error"]["code"]),
        (&json!("FAILED"), &json!("STEP_FAILED"))
    );
    assert_eq!(statuses(&app, &id).await, ["a CANCELLED", "b CANCELLED"]);
    app.stop().await;
}
