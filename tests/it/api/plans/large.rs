//! Plans of many steps.

use serde_json::{Value, json};

use super::{plan, serial, step};
use crate::api::fixture::{mutate, refusals, request};
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    ten_thousand_steps_are_stored_and_cancelled,
    hundreds_of_steps_run_to_their_end
);

const MANY: usize = 10_000;

async fn ten_thousand_steps_are_stored_and_cancelled(db: TestDb) {
    let app = Setup::new(&db).flag("--workers", 0).start().await;
    let steps = || (0..MANY).map(|n| step(&n.to_string(), "true"));
    let id = app.run(request(plan(serial(), steps()), json!({}))).await;
    let query =
        "query($id: ID!) { job(id: $id) { progress { current total } childStats { total pending } } }";
    let told = app.data(query, json!({ "id": id })).await["job"].take();
    assert_eq!(
        told,
        json!({ "progress": { "current": 0, "total": MANY }, "childStats": { "total": MANY, "pending": MANY } })
    );
    // The first fails, and with it all that wait for it, each for the one before.
    let first = super::children(&app, &id).await[0]["id"].clone();
    mutate(&app, "cancel", "job { status }", json!({ "id": first })).await;
    let job = app.ended(&id).await;
    assert_eq!(
        (&job["status"], &job["progress"]["current"]),
        (&json!("FAILED"), &json!(MANY))
    );
    let stats = app
        .data("{ stats { counts { cancelled failed total } } }", json!({}))
        .await;
    assert_eq!(
        stats["stats"]["counts"],
        json!({ "cancelled": MANY, "failed": 1, "total": MANY + 1 })
    );
    let id = app
        .run(request(plan(json!({ "parallel": {} }), steps()), json!({})))
        .await;
    mutate(&app, "cancel", "job { status }", json!({ "id": id })).await;
    assert_eq!(app.ended(&id).await["status"], "CANCELLED");
    let more = app
        .try_run(request(
            plan(serial(), (0..=MANY).map(|n| step(&n.to_string(), "true"))),
            json!({}),
        ))
        .await;
    assert_eq!(refusals(&more), ["LIMIT_EXCEEDED input.command.plan.steps"]);
    app.stop().await;
}

async fn hundreds_of_steps_run_to_their_end(db: TestDb) {
    let app = Setup::new(&db).start().await;
    // Each tenth fails; the others that wait for it do not run.
    let steps: Vec<Value> = (0..300)
        .map(|n: usize| {
            let mut step = step(&n.to_string(), if n % 10 == 5 { "exit 1" } else { "true" });
            step["dependsOn"] = if n.is_multiple_of(10) {
                json!([])
            } else {
                json!([(n - 1).to_string()])
            };
            step
        })
        .collect();
    let id = app.run(request(plan(super::graph(), steps), json!({}))).await;
    let job = app.ended(&id).await;
    assert_eq!(
        (&job["status"], &job["progress"]["current"]),
        (&json!("FAILED"), &json!(300))
    );
    let query = "query($id: ID!) { job(id: $id) { childStats { total completed failed cancelled } } }";
    let told = app.data(query, json!({ "id": id })).await["job"]["childStats"].take();
    assert_eq!(
        told,
        json!({ "total": 300, "completed": 150, "failed": 30, "cancelled": 120 })
    );
    app.stop().await;
}
