//! Plans: steps in their order, what a failure means for the others, how a plan is cancelled, and what is refused.

mod bad_input;
mod cancel;
mod depends_on;
mod failure;
mod large;
mod nodes;
mod order;
mod pipeline;
mod rerun;

use serde_json::{Value, json};

use super::fixture::{request, shell};
use crate::support::app::TestApp;
use crate::support::wait::until;

/// A step of a plan that runs a line of a shell.
pub(super) fn step(key: &str, line: &str) -> Value {
    json!({ "key": key, "run": request(shell(line), json!({})) })
}

/// A step that waits for others.
pub(super) fn step_after(key: &str, depends_on: &[&str], line: &str) -> Value {
    let mut step = step(key, line);
    step["dependsOn"] = json!(depends_on);
    step
}

/// The command of a plan.
pub(super) fn plan(strategy: Value, steps: impl IntoIterator<Item = Value>) -> Value {
    let steps: Vec<Value> = steps.into_iter().collect();
    json!({ "plan": { "strategy": strategy, "steps": steps } })
}

pub(super) fn serial() -> Value {
    json!({ "serial": {} })
}

pub(super) fn graph() -> Value {
    json!({ "dependencyGraph": {} })
}

/// Stores a plan that must be taken.
pub(super) async fn run_plan(
    app: &TestApp,
    strategy: Value,
    steps: impl IntoIterator<Item = Value>,
) -> String {
    app.run(request(plan(strategy, steps), json!({}))).await
}

/// The steps of a plan, in its order.
pub(super) async fn children(app: &TestApp, plan: &str) -> Vec<Value> {
    let query = "query($id: ID!) { job(id: $id) { children(first: 100) { nodes {
        id key kind status waitReason attempt startedAt finishedAt error { code message } stdout
        parent { id } dependsOn { key }
    } } } }";
    let data = app.data(query, json!({ "id": plan })).await;
    data["job"]["children"]["nodes"].as_array().unwrap().clone()
}

/// The keys of a plan's steps, each with its status.
pub(super) async fn statuses(app: &TestApp, plan: &str) -> Vec<String> {
    let children = children(app, plan).await;
    let text = |step: &Value| {
        format!(
            "{} {}",
            step["key"].as_str().unwrap(),
            step["status"].as_str().unwrap()
        )
    };
    children.iter().map(text).collect()
}

/// Waits until the steps of a plan stand so.
pub(super) async fn steps_are(app: &TestApp, plan: &str, expected: &[&str]) {
    until("the steps' statuses", async || {
        let found = statuses(app, plan).await;
        if found == expected { Ok(()) } else { Err(found) }
    })
    .await;
}

/// A line for a shell that waits until a file is there.
pub(super) fn wait_for(app: &TestApp, name: &str) -> String {
    format!(
        "until [ -e {} ]; do sleep 0.01; done",
        app.folder().join(name).display()
    )
}

/// Makes the file that [`wait_for`] waits for.
pub(super) fn open(app: &TestApp, name: &str) {
    std::fs::write(app.folder().join(name), "").unwrap();
}
