//! Plans that are none: each fault with its place, all of them at once, and nothing stored.

use serde_json::{Value, json};

use super::{graph, plan, serial, step, step_after};
use crate::api::fixture::{Stored, messages, refusals, request, shell};
use crate::support::app::{Setup, TestApp};
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    keys_and_circles_are_named,
    sizes_are_bounded,
    a_step_is_checked_as_any_job
);

async fn refused(app: &TestApp, command: Value) -> (Vec<String>, String) {
    let payload = app.try_run(request(command, json!({}))).await;
    assert_eq!(payload["job"], json!(null), "{payload:#}");
    (refusals(&payload), messages(&payload))
}

async fn keys_and_circles_are_named(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let before = Stored::now(&db).await;
    let steps = [
        step_after("a", &["c"], "true"),
        step_after("b", &["a"], "true"),
        step_after("c", &["b"], "true"),
        step("d", "true"),
    ];
    let (refusals, messages) = refused(&app, plan(graph(), steps)).await;
    assert_eq!(refusals, ["INVALID input.command.plan.steps.0.dependsOn"]);
    assert_eq!(
        messages,
        "the steps wait for each other in a circle: `a` → `c` → `b` → `a`"
    );
    let steps = [
        step("a", "true"),
        step_after("b", &["a", "nobody"], "true"),
        step("a", "true"),
        json!({ "run": { "command": shell("true") } }),
        step("3", "true"),
        step("", "true"),
    ];
    let (refusals, messages) = refused(&app, plan(graph(), steps)).await;
    assert_eq!(
        refusals,
        [
            "INVALID input.command.plan.steps.5.key",
            "INVALID input.command.plan.steps.2.key",
            "INVALID input.command.plan.steps.4.key",
            "INVALID input.command.plan.steps.1.dependsOn.1",
        ]
    );
    assert!(messages.contains("`3` is given twice") && messages.contains("no step `nobody`"));
    let steps = [step("a", "true"), step_after("b", &["a"], "true")];
    let (refusals, messages) = refused(&app, plan(serial(), steps)).await;
    assert_eq!(refusals, ["INVALID input.command.plan.steps.1.dependsOn"]);
    assert!(messages.contains("dependencyGraph"));
    before.unchanged().await;
    app.stop().await;
}

async fn sizes_are_bounded(db: TestDb) {
    let app = Setup::new(&db).flag("--max-plan-steps", 3).start().await;
    let before = Stored::now(&db).await;
    let (refusals, _) = refused(&app, plan(serial(), [])).await;
    assert_eq!(refusals, ["INVALID input.command.plan.steps"]);
    let four = ["a", "b", "c", "d"].map(|key| step(key, "true"));
    let (refusals, messages) = refused(&app, plan(serial(), four)).await;
    assert_eq!(refusals, ["LIMIT_EXCEEDED input.command.plan.steps"]);
    assert!(messages.contains("at most 3 steps"));
    let inner = plan(serial(), [step("x", "true"), step("y", "true")]);
    let outer = plan(
        serial(),
        [json!({ "run": { "command": inner } }), step("b", "true")],
    );
    let (refusals, _) = refused(&app, outer).await;
    assert_eq!(
        refusals,
        ["LIMIT_EXCEEDED input.command.plan.steps.0.run.command.plan.steps"]
    );
    before.unchanged().await;
    app.stop().await;

    let app = Setup::new(&db).start().await;
    let mut deep = plan(serial(), [step("a", "true")]);
    for _ in 0..8 {
        deep = plan(serial(), [json!({ "run": { "command": deep } })]);
    }
    let (refusals, messages) = refused(&app, deep).await;
    assert_eq!(refusals.len(), 1);
    assert!(
        refusals[0].starts_with("LIMIT_EXCEEDED input.command.plan.steps.0.run"),
        "{refusals:?}"
    );
    assert!(messages.contains("8 deep"));
    app.stop().await;
}

async fn a_step_is_checked_as_any_job(db: TestDb) {
    let app = Setup::new(&db).flag("--allow", "shell").start().await;
    let before = Stored::now(&db).await;
    let steps = [
        json!({ "run": request(shell(" "), json!({ "priority": 101 })) }),
        json!({ "run": request(shell("true"), json!({ "idempotencyKey": "k" })) }),
        json!({ "run": request(json!({ "exec": { "program": "true" } }), json!({})) }),
        json!({ "run": request(shell("true"), json!({ "timeoutMs": -1 })) }),
    ];
    let (found, _) = refused(&app, plan(serial(), steps[..3].iter().cloned())).await;
    assert_eq!(
        found,
        [
            "INVALID input.command.plan.steps.0.run.priority",
            "INVALID input.command.plan.steps.0.run.command.shell.command",
            "INVALID input.command.plan.steps.1.run.idempotencyKey",
            "NOT_ALLOWED input.command.plan.steps.2.run.command.exec",
        ]
    );
    let (found, _) = refused(&app, plan(serial(), steps[3..].iter().cloned())).await;
    assert_eq!(found, ["INVALID input.command.plan.steps.0.run.timeoutMs"]);
    let whole = request(
        plan(serial(), [step("a", "true")]),
        json!({ "maxAttempts": 2, "env": [{ "name": "A", "value": "b" }], "workingDir": "x" }),
    );
    let payload = app.try_run(whole).await;
    assert_eq!(
        refusals(&payload),
        [
            "INVALID input.maxAttempts",
            "INVALID input.env",
            "INVALID input.workingDir"
        ]
    );
    let none = json!({ "plan": { "strategy": { "parallel": { "maxConcurrency": 0 } }, "steps": [step("a", "true")] } });
    let (found, _) = refused(&app, none).await;
    assert_eq!(
        found,
        ["INVALID input.command.plan.strategy.parallel.maxConcurrency"]
    );
    before.unchanged().await;
    app.stop().await;
}
