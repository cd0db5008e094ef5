//! The worker pool: who is in it, more and fewer of them while jobs run, and a pool that stands still.

use serde_json::{Value, json};

use super::fixture::{ids, mutate, request, run_many, shell};
use crate::support::app::{Setup, TestApp};
use crate::support::both_stores;
use crate::support::db::TestDb;
use crate::support::wait::until;

both_stores!(
    workers_are_listed_with_what_they_do,
    the_pool_grows_and_shrinks_while_jobs_run,
    a_stopped_pool_takes_nothing,
    a_stop_can_cancel_what_runs,
);

async fn pool(app: &TestApp) -> Value {
    app.data(
        "{ workerPool { running size workers { id name status } } }",
        Value::Null,
    )
    .await["workerPool"]
        .take()
}

async fn scale(app: &TestApp, size: usize) -> Value {
    let payload = mutate(
        app,
        "scaleWorkers",
        "workerPool { size } previousSize",
        json!({ "size": size }),
    )
    .await;
    assert_eq!(
        (&payload["errors"], &payload["workerPool"]["size"]),
        (&json!([]), &json!(size))
    );
    payload["previousSize"].clone()
}

async fn running(app: &TestApp) -> usize {
    let jobs = app
        .data(
            "{ jobs(filter: { statuses: [RUNNING] }) { nodes { id } } }",
            Value::Null,
        )
        .await;
    ids(&jobs["jobs"]["nodes"]).len()
}

async fn running_becomes(app: &TestApp, wanted: usize) {
    until("the number of running jobs", async || {
        let found = running(app).await;
        if found == wanted { Ok(()) } else { Err(found) }
    })
    .await;
}

async fn members_become(app: &TestApp, wanted: usize) {
    until("the number of workers", async || {
        let found = pool(app).await;
        if found["workers"].as_array().unwrap().len() == wanted {
            Ok(())
        } else {
            Err(found)
        }
    })
    .await;
}

/// A job that runs until `open` is there.
fn gated(app: &TestApp) -> Value {
    let gate = app.folder().join("open");
    request(
        shell(&format!(
            "until test -e '{}'; do sleep 0.02; done",
            gate.display()
        )),
        json!({}),
    )
}

fn open(app: &TestApp) {
    std::fs::write(app.folder().join("open"), "").unwrap();
}

async fn workers_are_listed_with_what_they_do(db: TestDb) {
    let app = Setup::new(&db).flag("--workers", 2).start().await;
    let job = app.run(gated(&app)).await;
    app.job_in(&job, &["RUNNING"]).await;
    let query = "query($filter: WorkerFilter) { workers(filter: $filter) { id name backendType status internal
        capabilities { maxParallelTasks supportedProblems } registeredAt lastHeartbeat tasksCompleted tasksFailed
        currentJobs { id status } } }";
    let workers = async |filter: Value| app.data(query, json!({ "filter": filter })).await["workers"].take();
    let all = workers(Value::Null).await;
    let names: Vec<&str> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|worker| worker["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["worker-001-local", "worker-002-local"]);
    let busy = workers(json!({ "statuses": ["BUSY"] })).await;
    assert_eq!(busy.as_array().unwrap().len(), 1);
    assert_eq!(
        busy[0]["currentJobs"],
        json!([{ "id": job, "status": "RUNNING" }])
    );
    assert_eq!(
        (&busy[0]["internal"], &busy[0]["backendType"]),
        (&json!(true), &json!("local"))
    );
    let idle = workers(json!({ "statuses": ["IDLE"], "backendType": "local" })).await;
    assert_eq!(idle[0]["currentJobs"], json!([]));
    assert_ne!(idle[0]["id"], busy[0]["id"]);
    assert_eq!(workers(json!({ "backendType": "gpu" })).await, json!([]));
    assert_eq!(workers(json!({ "statuses": ["OFFLINE"] })).await, json!([]));
    open(&app);
    app.ended(&job).await;
    app.ended(&app.shell("exit 1").await).await;
    let after = workers(Value::Null).await;
    let sum = |field: &str| {
        after
            .as_array()
            .unwrap()
            .iter()
            .map(|worker| worker[field].as_i64().unwrap())
            .sum::<i64>()
    };
    assert_eq!((sum("tasksCompleted"), sum("tasksFailed")), (1, 1));
    app.stop().await;
}

async fn the_pool_grows_and_shrinks_while_jobs_run(db: TestDb) {
    let app = Setup::new(&db).flag("--workers", 1).start().await;
    let jobs = run_many(&app, &vec![gated(&app); 5]).await;
    running_becomes(&app, 1).await;
    assert_eq!(scale(&app, 3).await, 1);
    running_becomes(&app, 3).await;
    // Nobody is sent away in the middle of a job.
    assert_eq!(scale(&app, 1).await, 3);
    assert_eq!(running(&app).await, 3);
    members_become(&app, 3).await;
    // Wanted again before they have left.
    assert_eq!(scale(&app, 2).await, 1);
    open(&app);
    for job in &jobs {
        assert_eq!(app.ended(job).await["status"], "COMPLETED");
    }
    members_become(&app, 2).await;
    // None at all: jobs wait.
    assert_eq!(scale(&app, 0).await, 2);
    members_become(&app, 0).await;
    let waiting = app.shell("true").await;
    assert_eq!(app.job(&waiting).await["status"], "PENDING");
    assert_eq!(
        app.data("{ health { status } }", Value::Null).await["health"]["status"],
        "DEGRADED"
    );
    assert_eq!(scale(&app, 1).await, 0);
    assert_eq!(app.ended(&waiting).await["status"], "COMPLETED");
    app.nothing_left().await;
    app.stop().await;
}

async fn a_stopped_pool_takes_nothing(db: TestDb) {
    let app = Setup::new(&db).flag("--workers", 2).start().await;
    let under_way = app.run(gated(&app)).await;
    app.job_in(&under_way, &["RUNNING"]).await;
    let stopped = app
        .data(
            "mutation { stopWorkers { workerPool { running size } errors { code } } }",
            Value::Null,
        )
        .await;
    assert_eq!(
        stopped["stopWorkers"],
        json!({ "workerPool": { "running": false, "size": 2 }, "errors": [] })
    );
    let waiting = app.shell("true").await;
    let job = app.job(&waiting).await;
    assert_eq!(
        (&job["status"], &job["waitReason"]),
        (&json!("PENDING"), &json!("PAUSED"))
    );
    // What runs runs on to its end, and its worker takes nothing else.
    open(&app);
    assert_eq!(app.ended(&under_way).await["status"], "COMPLETED");
    assert_eq!(app.job(&waiting).await["status"], "PENDING");
    let started = app
        .data(
            "mutation { startWorkers { workerPool { running size } errors { code } } }",
            Value::Null,
        )
        .await;
    assert_eq!(
        started["startWorkers"],
        json!({ "workerPool": { "running": true, "size": 2 }, "errors": [] })
    );
    assert_eq!(app.ended(&waiting).await["status"], "COMPLETED");
    app.stop().await;
}

async fn a_stop_can_cancel_what_runs(db: TestDb) {
    let app = Setup::new(&db).flag("--workers", 2).start().await;
    let jobs = run_many(&app, &vec![gated(&app); 3]).await;
    running_becomes(&app, 2).await;
    let query =
        "mutation { stopWorkers(input: { cancelRunning: true }) { workerPool { running } errors { code } } }";
    app.data(query, Value::Null).await;
    for job in &jobs[..2] {
        let job = app.ended(job).await;
        assert_eq!(
            (&job["status"], &job["error"]["code"]),
            (&json!("CANCELLED"), &json!("CANCELLED"))
        );
        assert!(
            job["error"]["message"]
                .as_str()
                .unwrap()
                .contains("the workers were stopped"),
            "{job:#}"
        );
    }
    assert_eq!(app.job(&jobs[2]).await["waitReason"], "PAUSED");
    app.nothing_left().await;
    open(&app);
    app.data("mutation { startWorkers { errors { code } } }", Value::Null)
        .await;
    assert_eq!(app.ended(&jobs[2]).await["status"], "COMPLETED");
    app.stop().await;
}
