//! Scripts that attack the server which runs them: its files, its memory, its other jobs and the machine.

mod bombs;
mod folders;
mod open_files;
mod reach;
mod start;

use serde_json::{Value, json};

use crate::support::app::TestApp;

/// A line of bash with further fields of the input.
fn shell_with(line: &str, more: Value) -> Value {
    let mut input = json!({ "command": { "shell": { "command": line } } });
    let members = more.as_object().unwrap().clone();
    input.as_object_mut().unwrap().extend(members);
    input
}

/// Insists that the server still runs jobs.
async fn healthy(app: &TestApp) {
    let job = app.completed(shell_with("echo well", json!({}))).await;
    assert_eq!(job["stdout"], "well\n");
}
