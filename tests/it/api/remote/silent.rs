//! Silence: of a worker, and of the server that it talks to.

use serde_json::{Value, json};

use super::{
    cancel, claim, claim_one, complete, heartbeat, join, report, shown, task, task_with, try_report,
    worker_becomes,
};
use crate::api::fixture::{Stored, moment, refusals};
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::{TestDb, texts};
use crate::support::socket::Socket;
use crate::support::wait::until;

both_stores!(
    a_silent_worker_loses_its_jobs,
    an_older_attempt_is_fenced_off,
    listeners_are_told_of_a_silent_worker,
    the_server_is_killed_and_the_worker_goes_on,
    no_worker_is_lost_by_the_servers_own_absence,
);

async fn a_silent_worker_loses_its_jobs(db: TestDb) {
    let app = Setup::new(&db).flag("--lease-ms", 2_000).start().await;
    let worker = join(&app, "worker-001-gpu", &["*"], 3).await;
    let once = app.run(task("t")).await;
    let twice = app
        .run(task_with("t", json!({ "maxAttempts": 2, "backoffMs": 0 })))
        .await;
    let unwanted = app.run(task("t")).await;
    assert_eq!(claim(&app, &worker, 3).await.len(), 3);
    cancel(&app, &unwanted).await;
    worker_becomes(&app, &worker, "OFFLINE").await;
    let job = app.ended(&once).await;
    assert_eq!(
        (&job["status"], &job["error"]),
        (
            &json!("FAILED"),
            &json!({ "code": "WORKER_LOST", "message": "the worker that ran it went silent" })
        )
    );
    let job = app.ended(&unwanted).await;
    assert_eq!(
        (&job["status"], &job["error"]["code"]),
        (&json!("CANCELLED"), &json!("CANCELLED"))
    );
    let job = app.job_in(&twice, &["PENDING"]).await;
    assert_eq!(job["waitReason"], "NO_WORKER", "{job:#}");
    assert_eq!(job["attempts"][0]["error"]["code"], "WORKER_LOST");
    assert_eq!(shown(&app, &worker).await["currentJobs"], json!([]));
    // It comes back, is told to stop what it still runs, and may claim again.
    let beat = heartbeat(&app, json!({ "workerId": worker, "jobIds": [once, twice] })).await;
    assert_eq!(beat["worker"]["status"], "IDLE");
    assert_eq!(beat["stopJobIds"].as_array().unwrap().len(), 2);
    assert_eq!(claim_one(&app, &worker).await, twice);
    complete(&app, &worker, &twice, 2).await;
    app.stop().await;
}

async fn an_older_attempt_is_fenced_off(db: TestDb) {
    let app = Setup::new(&db)
        .flag("--workers", 0)
        .flag("--lease-ms", 3_000)
        .start()
        .await;
    let silent = join(&app, "worker-001-gpu", &["t"], 1).await;
    let id = app
        .run(task_with("t", json!({ "maxAttempts": 3, "backoffMs": 0 })))
        .await;
    claim_one(&app, &silent).await;
    app.job_in(&id, &["PENDING"]).await;
    let second = join(&app, "worker-002-gpu", &["t"], 1).await;
    let again = claim(&app, &second, 1).await;
    assert_eq!((&again[0]["id"], &again[0]["attempt"]), (&json!(id), &json!(2)));
    complete(&app, &second, &id, 2).await;
    let before = Stored::now(&db).await;
    for (attempt, what) in [
        (1, json!({ "success": true, "output": "late" })),
        (2, json!({ "success": false })),
    ] {
        let input = json!({ "workerId": silent, "jobId": id, "attempt": attempt, "result": what,
            "logs": [{ "message": "late" }] });
        assert_eq!(refusals(&try_report(&app, input).await), ["CONFLICT input.jobId"]);
    }
    before.unchanged().await;
    assert_eq!(app.job(&id).await["output"], Value::Null);

    // While the later attempt still runs, in the hands of the very same worker.
    let id = app
        .run(task_with("t", json!({ "maxAttempts": 3, "backoffMs": 0 })))
        .await;
    claim_one(&app, &second).await;
    report(&app, &second, &id, 1, json!({ "result": { "success": false } })).await;
    claim_one(&app, &second).await;
    let late = try_report(
        &app,
        json!({ "workerId": second, "jobId": id, "attempt": 1, "result": { "success": true } }),
    );
    assert_eq!(refusals(&late.await), ["CONFLICT input.attempt"]);
    let job = app.job(&id).await;
    assert_ne!(job["status"], "COMPLETED", "{job:#}");
    app.stop().await;
}

async fn listeners_are_told_of_a_silent_worker(db: TestDb) {
    let app = Setup::new(&db).flag("--lease-ms", 2_000).start().await;
    let query = "subscription { workers { name status tasksCompleted } }";
    let mut socket = Socket::listen(&app, query, Value::Null).await;
    let worker = join(&app, "worker-001-gpu", &["*"], 1).await;
    // It signs off and on until the socket tells of it: then the socket listens.
    let heard = async { while socket.next("workers").await["name"] != "worker-001-gpu" {} };
    let restless = async {
        loop {
            for status in ["OFFLINE", "IDLE"] {
                heartbeat(&app, json!({ "workerId": worker, "status": status })).await;
            }
        }
    };
    tokio::select! {
        () = heard => {}
        () = restless => {}
    }
    let id = app.run(task("t")).await;
    claim_one(&app, &worker).await;
    complete(&app, &worker, &id, 1).await;
    let last = loop {
        let told = socket.next("workers").await;
        if told["name"] == "worker-001-gpu" && told["status"] == "OFFLINE" && told["tasksCompleted"] == 1 {
            break told;
        }
    };
    assert_eq!(shown(&app, &worker).await["status"], last["status"]);
    app.stop().await;
}

async fn the_server_is_killed_and_the_worker_goes_on(db: TestDb) {
    let mut app = Setup::new(&db).start().await;
    let worker = join(&app, "worker-001-gpu", &["*"], 2).await;
    let id = app.run(task("t")).await;
    let next = app.run(task("t")).await;
    claim_one(&app, &worker).await;
    report(
        &app,
        &worker,
        &id,
        1,
        json!({ "logs": [{ "message": "before" }], "progress": { "current": 1 } }),
    )
    .await;
    app.kill().await;
    app.restart().await;
    let job = app.job(&id).await;
    assert_eq!(
        (&job["status"], &job["attempt"]),
        (&json!("RUNNING"), &json!(1)),
        "{job:#}"
    );
    let beat = heartbeat(&app, json!({ "workerId": worker, "jobIds": [id] })).await;
    assert_eq!((&beat["errors"], &beat["stopJobIds"]), (&json!([]), &json!([])));
    let what = json!({ "logs": [{ "message": "after" }], "result": { "success": true, "output": 7 } });
    report(&app, &worker, &id, 1, what).await;
    let job = app.job(&id).await;
    assert_eq!(
        (&job["status"], &job["output"], &job["stdout"]),
        (&json!("COMPLETED"), &json!(7), &json!("before\nafter\n"))
    );
    assert_eq!(claim_one(&app, &worker).await, next);
    complete(&app, &worker, &next, 1).await;
    app.stop().await;
}

async fn no_worker_is_lost_by_the_servers_own_absence(db: TestDb) {
    let mut app = Setup::new(&db)
        .flag("--workers", 0)
        .flag("--lease-ms", 3_000)
        .start()
        .await;
    let worker = join(&app, "worker-001-gpu", &["*"], 1).await;
    let id = app.run(task("t")).await;
    claim_one(&app, &worker).await;
    let started = moment(&app.job(&id).await["startedAt"]);
    app.kill().await;
    // Nobody could renew the lease, and it runs out.
    let raw = db.raw().await;
    until("the lease is over", async || {
        let lease: i64 = texts(&raw, "SELECT CAST(lease_until AS TEXT) FROM job").await[0]
            .parse()
            .unwrap();
        let left = lease - chrono::Utc::now().timestamp_micros();
        if left < 0 { Ok(()) } else { Err(left) }
    })
    .await;
    drop(raw);
    app.restart().await;
    let beat = heartbeat(&app, json!({ "workerId": worker, "jobIds": [id] })).await;
    assert_eq!(beat["stopJobIds"], json!([]), "{beat:#}");
    complete(&app, &worker, &id, 1).await;
    assert_eq!(moment(&app.job(&id).await["startedAt"]), started);
    // A worker that stays away all the same is lost.
    let id = app.run(task("t")).await;
    claim_one(&app, &worker).await;
    app.kill().await;
    app.restart().await;
    assert_eq!(app.ended(&id).await["error"]["code"], "WORKER_LOST");
    app.stop().await;
}
