//! The life of jobs and servers: real processes that misbehave, crashes, outages, and what is left afterwards.

mod awscli;
mod cancel;
mod crash;
mod flood;
mod lost;
mod nodes;
mod output;
mod pages;
mod shutdown;
mod stray;
mod structured;
mod timeout;

use serde_json::{Value, json};

use crate::support::app::TestApp;
use crate::support::wait::until;

/// The lines of a job's log that match a filter, as the API shows them.
pub(crate) async fn lines(app: &TestApp, id: &str, filter: Value) -> Vec<Value> {
    let query = "query($id: ID!, $filter: LogFilter) { job(id: $id) { logs(filter: $filter, first: 1000) {
        nodes { number stream level message context } pageInfo { hasNextPage }
    } } }";
    let data = app.data(query, json!({ "id": id, "filter": filter })).await;
    let logs = &data["job"]["logs"];
    assert_eq!(logs["pageInfo"]["hasNextPage"], false, "more than a page");
    logs["nodes"].as_array().unwrap().clone()
}

/// What the server itself says in a job's log.
pub(crate) async fn system(app: &TestApp, id: &str) -> Vec<String> {
    lines(app, id, json!({ "streams": ["SYSTEM"] }))
        .await
        .iter()
        .map(|line| line["message"].as_str().unwrap().to_owned())
        .collect()
}

/// Waits until a process with this word in its command line runs for one of the server's jobs.
async fn process_with(app: &TestApp, word: &str) {
    until("the job's process", async || {
        let all = app.job_processes();
        if all.iter().any(|(_, command)| command.contains(word)) {
            Ok(())
        } else {
            Err(all)
        }
    })
    .await;
}

/// Waits until a job has printed this.
pub(crate) async fn printed(app: &TestApp, id: &str, text: &str) {
    until("the job's output", async || {
        let stdout = app.job(id).await["stdout"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        if stdout.contains(text) {
            Ok(())
        } else {
            Err(stdout)
        }
    })
    .await;
}

/// The id that `run` would give, without waiting for anything else.
pub(crate) fn shell(line: &str) -> Value {
    json!({ "command": { "shell": { "command": line } } })
}

/// As [`shell`], with more fields of the input.
pub(crate) fn shell_with(line: &str, more: Value) -> Value {
    let mut input = shell(line);
    for (name, value) in more.as_object().unwrap() {
        input[name] = value.clone();
    }
    input
}
