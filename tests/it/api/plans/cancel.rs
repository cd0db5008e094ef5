//! Plans that are stopped: by somebody, by their time limit, or because the server went away.

use serde_json::{Value, json};

use super::{children, plan, run_plan, serial, statuses, step, steps_are, wait_for};
use crate::api::fixture::{mutate, request, shell};
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    cancelling_a_plan_cancels_all_below_it,
    a_plan_that_waits_is_cancelled_at_once,
    a_step_is_cancelled_before_its_plan_starts,
    a_plan_has_a_time_limit_of_its_own,
    a_plan_goes_on_after_its_server_was_killed,
    running_steps_of_a_plan_outlive_a_cleanup,
);

async fn cancelling_a_plan_cancels_all_below_it(db: TestDb) {
    let app = Setup::new(&db).flag("--cancel-grace-ms", 100).start().await;
    let inner = plan(
        json!({ "parallel": {} }),
        [step("x", "exec sleep 1000"), step("y", "exec sleep 1000")],
    );
    let steps = [
        json!({ "key": "inner", "run": { "command": inner } }),
        step("runs", "exec sleep 1000"),
        json!({ "key": "later", "run": request(shell("true"), json!({ "runAt": "2100-01-01T00:00:00Z" })) }),
    ];
    let id = run_plan(&app, json!({ "parallel": {} }), steps).await;
    steps_are(&app, &id, &["inner RUNNING", "runs RUNNING", "later PENDING"]).await;
    let inner = children(&app, &id).await[0]["id"].as_str().unwrap().to_owned();
    steps_are(&app, &inner, &["x RUNNING", "y RUNNING"]).await;
    let payload = mutate(
        &app,
        "cancel",
        "job { status }",
        json!({ "id": id, "reason": "enough" }),
    )
    .await;
    assert_eq!(payload["errors"], json!([]));
    let job = app.ended(&id).await;
    assert_eq!(job["status"], "CANCELLED");
    assert_eq!(
        job["error"],
        json!({ "code": "CANCELLED", "message": "cancelled: enough" })
    );
    assert_eq!(
        statuses(&app, &id).await,
        ["inner CANCELLED", "runs CANCELLED", "later CANCELLED"]
    );
    assert_eq!(statuses(&app, &inner).await, ["x CANCELLED", "y CANCELLED"]);
    app.nothing_left().await;
    let again = mutate(&app, "cancel", "job { status }", json!({ "id": id })).await;
    assert_eq!(again["errors"][0]["code"], "CONFLICT");
    app.stop().await;
}

/// Found by the properties of the store: the plan never heard of it, and waited for it for ever.
async fn a_step_is_cancelled_before_its_plan_starts(db: TestDb) {
    let app = Setup::new(&db).start().await;
    for (strategy, last) in [
        (json!({ "parallel": { "maxConcurrency": 1 } }), "y COMPLETED"),
        (json!({ "serial": { "stopOnError": true } }), "y CANCELLED"),
    ] {
        let go = last.replace(' ', "-");
        let inner = plan(strategy, [step("x", "true"), step("y", "true")]);
        let steps = [
            step("first", &wait_for(&app, &go)),
            json!({ "key": "inner", "run": { "command": inner } }),
        ];
        let id = run_plan(&app, serial(), steps).await;
        steps_are(&app, &id, &["first RUNNING", "inner PENDING"]).await;
        let inner = children(&app, &id).await[1]["id"].as_str().unwrap().to_owned();
        let cancelled = children(&app, &inner).await[0]["id"].clone();
        mutate(&app, "cancel", "job { status }", json!({ "id": cancelled })).await;
        super::open(&app, &go);
        let ended = app.ended(&inner).await;
        assert_eq!(ended["status"], "FAILED", "{ended:#}");
        assert_eq!(ended["progress"]["current"], 2, "{ended:#}");
        assert_eq!(statuses(&app, &inner).await, ["x CANCELLED", last]);
        assert_eq!(app.ended(&id).await["status"], "FAILED");
    }
    app.stop().await;
}

async fn a_plan_that_waits_is_cancelled_at_once(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let inner = plan(serial(), [step("x", "true")]);
    let steps = [
        json!({ "key": "inner", "run": { "command": inner } }),
        step("b", "true"),
    ];
    let later = json!({ "runAt": "2100-01-01T00:00:00Z" });
    let id = app.run(request(plan(serial(), steps), later)).await;
    let payload = mutate(&app, "cancel", "job { status finishedAt }", json!({ "id": id })).await;
    assert_eq!(payload["job"]["status"], "CANCELLED");
    assert_eq!(statuses(&app, &id).await, ["inner CANCELLED", "b CANCELLED"]);
    let inner = children(&app, &id).await[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(statuses(&app, &inner).await, ["x CANCELLED"]);
    let counts = app
        .data("{ stats { counts { total cancelled pending } } }", json!({}))
        .await;
    assert_eq!(
        counts["stats"]["counts"],
        json!({ "total": 4, "cancelled": 4, "pending": 0 })
    );
    app.stop().await;
}

async fn a_plan_has_a_time_limit_of_its_own(db: TestDb) {
    let app = Setup::new(&db).flag("--cancel-grace-ms", 100).start().await;
    let steps = [step("a", "exec sleep 1000"), step("b", "true")];
    let id = app
        .run(request(plan(serial(), steps), json!({ "timeoutMs": 300 })))
        .await;
    let job = app.ended(&id).await;
    assert_eq!(job["status"], "TIMEOUT", "{job:#}");
    assert_eq!(
        job["error"],
        json!({ "code": "TIMEOUT", "message": "ran longer than its timeout of 300 ms" })
    );
    assert_eq!(statuses(&app, &id).await, ["a CANCELLED", "b CANCELLED"]);
    app.nothing_left().await;
    app.stop().await;
}

async fn a_plan_goes_on_after_its_server_was_killed(db: TestDb) {
    let mut app = Setup::new(&db).flag("--lease-ms", 500).start().await;
    let retried = request(
        shell(&wait_for(&app, "go")),
        json!({ "maxAttempts": 2, "backoffMs": 0 }),
    );
    let steps = [
        step("a", "true"),
        json!({ "key": "b", "run": retried }),
        step("c", "true"),
    ];
    let id = run_plan(&app, serial(), steps).await;
    steps_are(&app, &id, &["a COMPLETED", "b RUNNING", "c PENDING"]).await;
    app.kill().await;
    app.restart().await;
    super::open(&app, "go");
    let job = app.ended(&id).await;
    assert_eq!(job["status"], "COMPLETED", "{job:#}");
    assert_eq!(children(&app, &id).await[1]["attempt"], 2);
    app.stop().await;
}

async fn running_steps_of_a_plan_outlive_a_cleanup(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let id = run_plan(
        &app,
        serial(),
        [step("a", "true"), step("b", &wait_for(&app, "go"))],
    )
    .await;
    steps_are(&app, &id, &["a COMPLETED", "b RUNNING"]).await;
    let clean = async |dry: bool| -> Value {
        mutate(&app, "cleanup", "deletedCount", json!({ "dryRun": dry })).await["deletedCount"].take()
    };
    assert_eq!((clean(true).await, clean(false).await), (json!(0), json!(0)));
    super::open(&app, "go");
    app.ended(&id).await;
    assert_eq!((clean(true).await, clean(false).await), (json!(3), json!(3)));
    app.stop().await;
}
