//! Listening: events, jobs, logs and figures as they happen, over WebSocket and over server-sent events.
//!
//! What a listener must see is never guessed from time: it begins at the cursor of a job that has ended.

mod alike;
mod cursors;
mod cutoff;
mod events;
mod figures;
mod job;
mod logs;
mod nodes;
mod restart;
mod sent_events;
mod slow;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::app::TestApp;
use crate::support::socket::Socket;

/// Everything that is told of an event.
const EVENTS: &str = "subscription($filter: JobFilter, $types: [JobEventType!], $after: String) {
    jobEvents(filter: $filter, types: $types, after: $after) {
        cursor type at status previousStatus attempt progress { current total step } error { code } job { id name }
    }
}";

/// Runs a job to its end, and gives the cursor of the last event so far. Nothing else may run.
async fn marker(app: &TestApp) -> String {
    let job = app
        .completed(json!({ "command": { "shell": { "command": "true" } } }))
        .await;
    cursors(app, job["id"].as_str().unwrap()).await.pop().unwrap()
}

/// The cursors of a job's events.
async fn cursors(app: &TestApp, id: &str) -> Vec<String> {
    let query =
        "query($id: ID!) { job(id: $id) { events(first: 100) { edges { cursor node { cursor } } } } }";
    let data = app.data(query, json!({ "id": id })).await;
    let edges = data["job"]["events"]["edges"].as_array().unwrap();
    edges
        .iter()
        .map(|edge| {
            assert_eq!(edge["cursor"], edge["node"]["cursor"]);
            edge["cursor"].as_str().unwrap().to_owned()
        })
        .collect()
}

/// Whether it is a job's last event.
fn is_end(event: &Value) -> bool {
    let kind = event["type"].as_str().unwrap();
    ["COMPLETED", "FAILED", "TIMED_OUT", "CANCELLED"].contains(&kind)
}

/// Reads until so many jobs have ended.
async fn until_ended(socket: &mut Socket, jobs: usize) -> Vec<Value> {
    let mut events = Vec::new();
    let mut ended = 0;
    while ended < jobs {
        let event = socket.next("jobEvents").await;
        ended += usize::from(is_end(&event));
        events.push(event);
    }
    events
}

/// All events after a cursor until so many jobs have ended, by a listener that nothing disturbs.
async fn replay(app: &TestApp, after: &str, jobs: usize) -> Vec<Value> {
    let mut socket = Socket::listen(app, EVENTS, json!({ "after": after })).await;
    until_ended(&mut socket, jobs).await
}

/// The types of each job's events, in the order in which they came.
fn stories(events: &[Value]) -> BTreeMap<String, Vec<&str>> {
    let mut stories: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for event in events {
        let id = event["job"]["id"].as_str().unwrap().to_owned();
        stories
            .entry(id)
            .or_default()
            .push(event["type"].as_str().unwrap());
    }
    stories
}

/// The lines of a batch of `jobLogs`.
fn batch_lines(batch: &Value) -> Vec<Value> {
    batch["lines"].as_array().unwrap().clone()
}
