//! Workers elsewhere, that know nothing but the API: what they are given, what they tell, and what becomes of it.

mod claim;
mod heartbeat;
mod nodes;
mod refused;
mod register;
mod report;
mod silent;
mod tasks;

use serde_json::{Value, json};

use super::fixture::mutate;
use crate::support::app::TestApp;
use crate::support::wait::until;

/// The input of `run` for a task.
fn task(problem: &str) -> Value {
    json!({ "command": { "task": { "problemId": problem } } })
}

/// As [`task`], with more fields of the input.
fn task_with(problem: &str, more: Value) -> Value {
    let mut input = task(problem);
    for (name, value) in more.as_object().unwrap() {
        input[name] = value.clone();
    }
    input
}

/// Registers a worker that must be taken, and gives its id.
async fn join(app: &TestApp, name: &str, supported: &[&str], most: i32) -> String {
    let payload = register(
        app,
        json!({
            "name": name,
            "backendType": "test",
            "capabilities": { "maxParallelTasks": most, "supportedProblems": supported },
        }),
    )
    .await;
    assert_eq!(payload["errors"], json!([]), "{payload:#}");
    payload["worker"]["id"].as_str().unwrap().to_owned()
}

async fn register(app: &TestApp, input: Value) -> Value {
    let selection = "worker { id name backendType status internal
        capabilities { maxParallelTasks supportedProblems } registeredAt tasksCompleted tasksFailed
        currentJobs { id } } stopJobIds leaseMs";
    mutate(app, "registerWorker", selection, input).await
}

async fn heartbeat(app: &TestApp, input: Value) -> Value {
    let selection = "worker { id status lastHeartbeat currentJobs { id } } stopJobIds leaseMs";
    mutate(app, "heartbeat", selection, input).await
}

async fn try_claim(app: &TestApp, input: Value) -> Value {
    let selection = "jobs { id name kind attempt timeoutMs status worker { id } command {
        __typename ... on TaskCommand { problemId parameters } ... on AgentCommand { target inputs config }
    } }";
    mutate(app, "claim", selection, input).await
}

/// Claims what must be given; gives the names of the jobs and their ids.
async fn claim(app: &TestApp, worker: &str, max: i32) -> Vec<Value> {
    let payload = try_claim(app, json!({ "workerId": worker, "max": max })).await;
    assert_eq!(payload["errors"], json!([]), "{payload:#}");
    payload["jobs"].as_array().unwrap().clone()
}

/// Claims the one job that there must be, and gives its id.
async fn claim_one(app: &TestApp, worker: &str) -> String {
    let jobs = claim(app, worker, 1).await;
    assert_eq!(jobs.len(), 1, "{jobs:#?}");
    jobs[0]["id"].as_str().unwrap().to_owned()
}

async fn try_report(app: &TestApp, input: Value) -> Value {
    mutate(
        app,
        "report",
        "job { id status attempt progress { current total step percentage } }",
        input,
    )
    .await
}

/// Reports on a job's attempt; the report must be taken. Gives the job.
async fn report(app: &TestApp, worker: &str, job: &str, attempt: i32, what: Value) -> Value {
    let mut input = json!({ "workerId": worker, "jobId": job, "attempt": attempt });
    for (name, value) in what.as_object().unwrap() {
        input[name] = value.clone();
    }
    let mut payload = try_report(app, input).await;
    assert_eq!(payload["errors"], json!([]), "{payload:#}");
    payload["job"].take()
}

/// Reports that a job completed.
async fn complete(app: &TestApp, worker: &str, job: &str, attempt: i32) {
    let job = report(
        app,
        worker,
        job,
        attempt,
        json!({ "result": { "success": true } }),
    )
    .await;
    assert_eq!(job["status"], "COMPLETED");
}

/// A worker as the API shows it.
async fn shown(app: &TestApp, id: &str) -> Value {
    let query = "query($id: ID!) { worker(id: $id) {
        id name status tasksCompleted tasksFailed currentJobs { id attempt }
    } }";
    app.data(query, json!({ "id": id })).await["worker"].take()
}

/// Waits until a worker has a status.
async fn worker_becomes(app: &TestApp, id: &str, status: &str) {
    until("the worker's status", async || {
        let worker = shown(app, id).await;
        if worker["status"] == status {
            Ok(())
        } else {
            Err(worker)
        }
    })
    .await;
}

/// All lines of a job's latest attempt.
async fn lines(app: &TestApp, id: &str) -> Vec<Value> {
    let query = "query($id: ID!) { job(id: $id) { logs(first: 1000) {
        nodes { number timestamp stream level message context }
    } } }";
    let data = app.data(query, json!({ "id": id })).await;
    data["job"]["logs"]["nodes"].as_array().unwrap().clone()
}

/// Asks for a running job to stop.
async fn cancel(app: &TestApp, id: &str) {
    let payload = mutate(
        app,
        "cancel",
        "job { status }",
        json!({ "id": id, "reason": "enough" }),
    )
    .await;
    assert_eq!(payload["errors"], json!([]), "{payload:#}");
}
