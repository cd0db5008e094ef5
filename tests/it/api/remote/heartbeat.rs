//! Heartbeats: what they keep, and what they tell the worker to stop.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{
    cancel, claim, claim_one, complete, heartbeat, join, lines, report, task, task_with, try_report,
    worker_becomes,
};
use crate::api::fixture::refusals;
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::{TestDb, texts};
use crate::support::wait::{until, within};

both_stores!(
    only_the_jobs_that_are_named_are_renewed,
    it_says_what_to_stop,
    a_cancel_reaches_a_waiting_heartbeat_at_once,
    a_worker_that_ignores_a_cancel_loses_the_job,
    the_end_of_its_time_reaches_the_worker,
);

async fn only_the_jobs_that_are_named_are_renewed(db: TestDb) {
    let app = Setup::new(&db)
        .flag("--workers", 0)
        .flag("--lease-ms", 60_000)
        .start()
        .await;
    let worker = join(&app, "worker-001-gpu", &["*"], 4).await;
    for _ in 0..2 {
        app.run(task("t")).await;
    }
    let short = app.run(task_with("t", json!({ "timeoutMs": 30_000 }))).await;
    let ids: Vec<String> = claim(&app, &worker, 3)
        .await
        .iter()
        .map(|job| job["id"].as_str().unwrap().to_owned())
        .collect();
    let raw = db.raw().await;
    let leases = async || {
        let query = "SELECT CAST(lease_until - started_at AS TEXT) FROM job ORDER BY id";
        let found: Vec<i64> = texts(&raw, query)
            .await
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        found
    };
    // Nobody holds a job for longer than it may run.
    assert_eq!(leases().await, [60_000_000, 60_000_000, 30_000_000]);
    let beat = heartbeat(&app, json!({ "workerId": worker, "jobIds": [ids[0], short] })).await;
    assert_eq!(
        (&beat["stopJobIds"], &beat["leaseMs"]),
        (&json!([]), &json!(60_000))
    );
    assert_eq!(beat["worker"]["status"], "BUSY");
    let after = leases().await;
    assert!(after[0] > 60_000_000, "{after:?}");
    assert_eq!(after[1..], [60_000_000, 30_000_000]);
    app.stop().await;
}

async fn it_says_what_to_stop(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let worker = join(&app, "worker-001-gpu", &["*"], 9).await;
    let other = join(&app, "worker-002-gpu", &["*"], 9).await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(app.run(task("t")).await);
    }
    assert_eq!(claim(&app, &worker, 3).await.len(), 3);
    let theirs = claim_one(&app, &other).await;
    complete(&app, &worker, &ids[1], 1).await;
    cancel(&app, &ids[2]).await;
    let unknown = "01981c6a-5ad1-7abc-8def-000000000000";
    let beat = heartbeat(
        &app,
        json!({ "workerId": worker, "jobIds": [unknown, theirs, ids[0], ids[1], ids[2], ids[2]], "waitMs": 60_000 }),
    )
    .await;
    let mut expected = [unknown, &theirs, &ids[1], &ids[2]];
    expected.sort_unstable();
    assert_eq!(beat["stopJobIds"], json!(expected), "{beat:#}");
    // What it holds and does not name is left to its lease, and nobody is told of it.
    let beat = heartbeat(&app, json!({ "workerId": worker })).await;
    assert_eq!(beat["stopJobIds"], json!([]));
    assert_eq!(beat["worker"]["currentJobs"].as_array().unwrap().len(), 2);
    app.stop().await;
}

async fn a_cancel_reaches_a_waiting_heartbeat_at_once(db: TestDb) {
    // A third of the lease is the longest that a heartbeat waits.
    let app = Setup::new(&db).flag("--lease-ms", 600_000).start().await;
    let worker = join(&app, "worker-001-gpu", &["*"], 2).await;
    app.run(task("t")).await;
    app.run(task("t")).await;
    let (one, two) = (claim_one(&app, &worker).await, claim_one(&app, &worker).await);
    let asked = Instant::now();
    let beats = heartbeat(
        &app,
        json!({ "workerId": worker, "jobIds": [one, two], "waitMs": 60_000 }),
    );
    let (beat, ()) = tokio::join!(beats, cancel(&app, &two));
    assert!(asked.elapsed() < Duration::from_secs(20));
    assert_eq!(beat["stopJobIds"], json!([two]));
    let job = report(
        &app,
        &worker,
        &two,
        1,
        json!({ "result": { "success": false, "exitCode": 143, "error": "was told to" } }),
    )
    .await;
    assert_eq!(job["status"], "CANCELLED");
    let job = app.job(&two).await;
    assert_eq!(
        (&job["error"]["code"], &job["error"]["message"], &job["exitCode"]),
        (&json!("CANCELLED"), &json!("cancelled: enough"), &json!(143))
    );
    let last = lines(&app, &two).await.pop().unwrap();
    assert_eq!(last["message"], "cancelled: enough (exit code 143)");
    // Work that was done before the worker heard of it is done.
    cancel(&app, &one).await;
    complete(&app, &worker, &one, 1).await;
    app.stop().await;
}

async fn a_worker_that_ignores_a_cancel_loses_the_job(db: TestDb) {
    let app = Setup::new(&db).flag("--lease-ms", 1_000).start().await;
    let worker = join(&app, "worker-001-gpu", &["*"], 1).await;
    let id = app
        .run(task_with("t", json!({ "maxAttempts": 5, "backoffMs": 0 })))
        .await;
    claim_one(&app, &worker).await;
    cancel(&app, &id).await;
    let job = until("the job's end", async || {
        let beat = heartbeat(&app, json!({ "workerId": worker, "jobIds": [id] })).await;
        assert_eq!(beat["stopJobIds"], json!([id]));
        let job = app.job(&id).await;
        if job["status"] == "RUNNING" {
            Err(job)
        } else {
            Ok(job)
        }
    })
    .await;
    assert_eq!(
        (&job["status"], &job["error"]["code"], &job["attempt"]),
        (&json!("CANCELLED"), &json!("CANCELLED"), &json!(1))
    );
    let late = try_report(
        &app,
        json!({ "workerId": worker, "jobId": id, "attempt": 1, "result": { "success": true } }),
    )
    .await;
    assert_eq!(refusals(&late), ["CONFLICT input.jobId"]);
    worker_becomes(&app, &worker, "IDLE").await;
    app.stop().await;
}

async fn the_end_of_its_time_reaches_the_worker(db: TestDb) {
    let app = Setup::new(&db).flag("--lease-ms", 600_000).start().await;
    let worker = join(&app, "worker-001-gpu", &["*"], 2).await;
    let once = app.run(task_with("t", json!({ "timeoutMs": 300 }))).await;
    let twice = json!({ "timeoutMs": 300, "maxAttempts": 2, "backoffMs": 0 });
    let twice = app.run(task_with("t", twice)).await;
    assert_eq!(claim(&app, &worker, 2).await.len(), 2);
    let beats = heartbeat(
        &app,
        json!({ "workerId": worker, "jobIds": [once, twice], "waitMs": 60_000 }),
    );
    let beat = within("the answer", beats).await;
    assert!(!beat["stopJobIds"].as_array().unwrap().is_empty(), "{beat:#}");
    let job = app.ended(&once).await;
    assert_eq!(
        (&job["status"], &job["error"]["code"], &job["error"]["message"]),
        (
            &json!("TIMEOUT"),
            &json!("TIMEOUT"),
            &json!("ran longer than its timeout of 300 ms")
        )
    );
    let job = app.job_in(&twice, &["PENDING"]).await;
    assert_eq!(job["attempts"][0]["status"], "TIMEOUT", "{job:#}");
    let again = claim(&app, &worker, 1).await;
    assert_eq!(
        (&again[0]["id"], &again[0]["attempt"]),
        (&json!(twice), &json!(2))
    );
    let worker = app
        .data(
            "query($id: ID!) { worker(id: $id) { tasksFailed } }",
            json!({ "id": worker }),
        )
        .await;
    assert_ne!(worker["worker"]["tasksFailed"], Value::from(0));
    app.stop().await;
}
