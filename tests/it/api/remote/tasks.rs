//! Tasks as they are asked for: what is filled in, what is refused, and as the steps of a plan.

use serde_json::{Value, json};

use super::{cancel, claim, claim_one, complete, heartbeat, join, report, task};
use crate::api::fixture::{Stored, refusals};
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    the_settings_fill_in_what_is_left_out,
    tasks_that_are_refused,
    a_plan_of_tasks,
    a_cancelled_plan_stops_its_tasks,
);

async fn the_settings_fill_in_what_is_left_out(db: TestDb) {
    let app = Setup::new(&db)
        .flag("--default-max-steps", 12)
        .flag("--default-timeout-minutes", 7)
        .start()
        .await;
    let worker = join(&app, "worker-001-gpu", &["*"], 2).await;
    app.run(task("t")).await;
    let own = json!({ "task": { "problemId": "t", "parameters": { "max_steps": 3, "other": null } } });
    app.run(json!({ "command": own, "timeoutMs": 1_000 })).await;
    let jobs = claim(&app, &worker, 2).await;
    assert_eq!(jobs[0]["command"]["parameters"], json!({ "max_steps": 12 }));
    assert_eq!(jobs[0]["timeoutMs"], 420_000);
    assert_eq!(
        jobs[1]["command"]["parameters"],
        json!({ "max_steps": 3, "other": null })
    );
    assert_eq!(jobs[1]["timeoutMs"], 1_000);
    app.stop().await;
}

async fn tasks_that_are_refused(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let before = Stored::now(&db).await;
    let steps = |steps: Value| json!({ "task": { "problemId": "t", "parameters": { "max_steps": steps } } });
    let named = |id: &str| json!({ "task": { "problemId": id } });
    let id = "INVALID input.command.task.problemId";
    let max = "INVALID input.command.task.parameters.max_steps";
    for (command, expected) in [
        (named(""), id),
        (named("a*"), id),
        (named("a\nb"), id),
        (named(&"x".repeat(256)), id),
        (steps(json!(0)), max),
        (steps(json!(-1)), max),
        (steps(json!(1.5)), max),
        (steps(json!("30")), max),
        (steps(Value::Null), max),
        (
            json!({ "agent": { "target": "a*" } }),
            "INVALID input.command.agent.target",
        ),
    ] {
        let payload = app.try_run(json!({ "command": command })).await;
        assert_eq!(refusals(&payload), [expected], "{command}");
    }
    before.unchanged().await;
    app.stop().await;
}

/// A plan of tasks, one after the other.
fn plan(problems: &[&str]) -> Value {
    let steps: Vec<Value> = problems
        .iter()
        .map(|problem| json!({ "key": problem, "run": task(problem) }))
        .collect();
    json!({ "command": { "plan": { "strategy": { "serial": {} }, "steps": steps } } })
}

async fn a_plan_of_tasks(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let worker = join(&app, "worker-001-gpu", &["*"], 2).await;
    let id = app.run(plan(&["one", "two"])).await;
    let first = claim(&app, &worker, 2).await;
    assert_eq!((first.len(), &first[0]["name"]), (1, &json!("one")));
    let first = first[0]["id"].as_str().unwrap();
    // The second task becomes ready with the report on the first, for a claim that waits.
    let waits = super::try_claim(&app, json!({ "workerId": worker, "waitMs": 60_000 }));
    let (second, ()) = tokio::join!(waits, complete(&app, &worker, first, 1));
    assert_eq!(second["jobs"][0]["name"], "two", "{second:#}");
    let second = second["jobs"][0]["id"].as_str().unwrap();
    assert_eq!(app.job(&id).await["progress"]["current"], 1);
    let failed = json!({ "result": { "success": false, "error": "no" } });
    report(&app, &worker, second, 1, failed).await;
    let ended = app.ended(&id).await;
    assert_eq!(
        (&ended["status"], &ended["error"]["code"]),
        (&json!("FAILED"), &json!("STEP_FAILED"))
    );
    app.stop().await;
}

async fn a_cancelled_plan_stops_its_tasks(db: TestDb) {
    let app = Setup::new(&db).flag("--lease-ms", 600_000).start().await;
    let worker = join(&app, "worker-001-gpu", &["*"], 2).await;
    let id = app.run(plan(&["one", "two"])).await;
    let step = claim_one(&app, &worker).await;
    let beats = heartbeat(
        &app,
        json!({ "workerId": worker, "jobIds": [step], "waitMs": 60_000 }),
    );
    let (beat, ()) = tokio::join!(beats, cancel(&app, &id));
    assert_eq!(beat["stopJobIds"], json!([step]));
    let stopped = report(&app, &worker, &step, 1, json!({ "result": { "success": false } })).await;
    assert_eq!(stopped["status"], "CANCELLED");
    assert_eq!(app.ended(&id).await["status"], "CANCELLED");
    assert_eq!(claim(&app, &worker, 1).await, Vec::<Value>::new());
    app.stop().await;
}
