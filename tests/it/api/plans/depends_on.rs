//! Jobs that wait for other jobs, wherever those come from.

use serde_json::{Value, json};

use super::{children, open, run_plan, serial, step, wait_for};
use crate::api::fixture::{Stored, messages, mutate, refusals, request, shell};
use crate::support::app::{Setup, TestApp};
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    a_job_waits_for_all_that_it_names,
    what_can_never_start_is_cancelled_with_all_behind_it,
    a_job_may_wait_for_a_plan_or_its_step,
    what_was_completed_before_is_not_waited_for,
    a_dependency_that_cannot_be_is_refused,
    jobs_that_wait_for_each_other_at_once_all_run,
);

async fn after(app: &TestApp, line: &str, ids: &[&str]) -> String {
    app.run(request(shell(line), json!({ "dependsOn": ids }))).await
}

async fn a_job_waits_for_all_that_it_names(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let one = app.shell(&wait_for(&app, "one")).await;
    let two = app.shell(&wait_for(&app, "two")).await;
    let last = after(&app, "echo last", &[&one, &two]).await;
    let query = "query($id: ID!) { job(id: $id) { status waitReason dependsOn { id } } }";
    let told = app.data(query, json!({ "id": last })).await["job"].take();
    assert_eq!(
        told,
        json!({ "status": "PENDING", "waitReason": "BLOCKED", "dependsOn": [{ "id": one }, { "id": two }] })
    );
    open(&app, "one");
    app.ended(&one).await;
    assert_eq!(app.job(&last).await["waitReason"], "BLOCKED");
    open(&app, "two");
    assert_eq!(app.ended(&last).await["stdout"], "last\n");
    app.stop().await;
}

async fn what_can_never_start_is_cancelled_with_all_behind_it(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let first = app.shell(&format!("{}; exit 1", wait_for(&app, "go"))).await;
    let second = after(&app, "true", &[&first]).await;
    let third = after(&app, "true", &[&second]).await;
    open(&app, "go");
    for id in [&second, &third] {
        let job = app.ended(id).await;
        assert_eq!(job["status"], "CANCELLED");
        assert_eq!(job["error"]["code"], "DEPENDENCY_FAILED");
    }
    let pending = app.shell("exec sleep 1000").await;
    let behind = after(&app, "true", &[&pending]).await;
    mutate(
        &app,
        "cancel",
        "job { id }",
        json!({ "id": pending, "graceMs": 0 }),
    )
    .await;
    assert_eq!(app.ended(&behind).await["error"]["code"], "DEPENDENCY_FAILED");
    app.stop().await;
}

async fn a_job_may_wait_for_a_plan_or_its_step(db: TestDb) {
    let app = Setup::new(&db).flag("--workers", 4).start().await;
    let plan = run_plan(
        &app,
        serial(),
        [step("a", &wait_for(&app, "a")), step("b", &wait_for(&app, "b"))],
    )
    .await;
    let a = children(&app, &plan).await[0]["id"].as_str().unwrap().to_owned();
    let after_a = after(&app, "true", &[&a]).await;
    let after_plan = after(&app, "true", &[&plan]).await;
    open(&app, "a");
    assert_eq!(app.ended(&after_a).await["status"], "COMPLETED");
    assert_eq!(app.job(&after_plan).await["waitReason"], "BLOCKED");
    // A step, too, may wait for a job that is none of its plan.
    let outer = request(shell("true"), json!({ "dependsOn": [plan] }));
    let other = run_plan(
        &app,
        json!({ "parallel": { "maxConcurrency": 1 } }),
        [json!({ "key": "waits", "run": outer }), step("does not", "true")],
    )
    .await;
    super::steps_are(&app, &other, &["waits PENDING", "does not COMPLETED"]).await;
    open(&app, "b");
    assert_eq!(app.ended(&after_plan).await["status"], "COMPLETED");
    assert_eq!(app.ended(&other).await["status"], "COMPLETED");
    app.stop().await;
}

async fn what_was_completed_before_is_not_waited_for(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let done = app.completed(request(shell("true"), json!({}))).await;
    let id = after(&app, "echo on", &[done["id"].as_str().unwrap()]).await;
    assert_eq!(app.ended(&id).await["stdout"], "on\n");
    app.stop().await;
}

async fn a_dependency_that_cannot_be_is_refused(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let failed = app.shell("exit 1").await;
    app.ended(&failed).await;
    let running = app.shell("exec sleep 1000").await;
    app.job_in(&running, &["RUNNING"]).await;
    let before = Stored::now(&db).await;
    let refused = async |ids: Value| -> Value {
        app.try_run(request(shell("true"), json!({ "dependsOn": ids })))
            .await
    };
    let nobody = "01890000-0000-7000-8000-000000000000";
    let payload = refused(json!([running, nobody])).await;
    assert_eq!(refusals(&payload), ["NOT_FOUND input.dependsOn.1"]);
    let payload = refused(json!([failed])).await;
    assert_eq!(refusals(&payload), ["CONFLICT input.dependsOn.0"]);
    assert!(messages(&payload).contains("is FAILED, so this one could never start"));
    assert_eq!(
        refusals(&refused(json!([running, running])).await),
        ["INVALID input.dependsOn.1"]
    );
    assert_eq!(
        refusals(&refused(json!(["no id"])).await),
        ["INVALID input.dependsOn.0"]
    );
    let inner = request(shell("true"), json!({ "dependsOn": [nobody] }));
    let plan = super::plan(serial(), [step("a", "true"), json!({ "run": inner })]);
    let payload = app.try_run(request(plan, json!({}))).await;
    assert_eq!(
        refusals(&payload),
        ["NOT_FOUND input.command.plan.steps.1.run.dependsOn.0"]
    );
    before.unchanged().await;
    app.stop().await;
}

/// Each job is asked for while the one before may be starting, running or ending.
async fn jobs_that_wait_for_each_other_at_once_all_run(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let mut last = app.shell("true").await;
    for _ in 0..40 {
        last = after(&app, "true", &[&last]).await;
    }
    assert_eq!(app.ended(&last).await["status"], "COMPLETED");
    app.stop().await;
}
