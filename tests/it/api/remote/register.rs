//! Joining: a worker is known by its name, whatever becomes of its process.

use serde_json::{Value, json};

use super::{claim_one, complete, heartbeat, join, register, shown, task};
use crate::api::fixture::refusals;
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::{TestDb, rows_of};

both_stores!(
    a_worker_joins_and_is_listed,
    a_known_name_is_the_same_worker,
    what_cannot_join_changes_nothing,
);

async fn a_worker_joins_and_is_listed(db: TestDb) {
    let app = Setup::new(&db)
        .flag("--workers", 1)
        .flag("--lease-ms", 60_000)
        .start()
        .await;
    let payload = register(&app, json!({ "name": "worker-001-gpu", "backendType": "cuda" })).await;
    assert_eq!(payload["errors"], json!([]));
    assert_eq!(payload["leaseMs"], 60_000);
    let worker = &payload["worker"];
    assert_eq!(
        worker["capabilities"],
        json!({ "maxParallelTasks": 1, "supportedProblems": ["*"] })
    );
    assert_eq!(
        (&worker["status"], &worker["internal"]),
        (&json!("IDLE"), &json!(false))
    );
    let other = join(&app, "worker-1234-gpu-large", &["bench-*", "x"], 3).await;
    let listed = async |filter: Value| {
        let query = "query($f: WorkerFilter) { workers(filter: $f) { name backendType } }";
        let found = app.data(query, json!({ "f": filter })).await["workers"].take();
        let names: Vec<String> = found
            .as_array()
            .unwrap()
            .iter()
            .map(|worker| worker["name"].as_str().unwrap().to_owned())
            .collect();
        names
    };
    assert_eq!(
        listed(Value::Null).await,
        ["worker-001-gpu", "worker-001-local", "worker-1234-gpu-large"]
    );
    assert_eq!(listed(json!({ "backendType": "cuda" })).await, ["worker-001-gpu"]);
    let signed_off = heartbeat(&app, json!({ "workerId": other, "status": "OFFLINE" })).await;
    assert_eq!(signed_off["worker"]["status"], "OFFLINE");
    assert_eq!(
        listed(json!({ "statuses": ["OFFLINE"] })).await,
        ["worker-1234-gpu-large"]
    );
    app.stop().await;
}

async fn a_known_name_is_the_same_worker(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let first = join(&app, "worker-007-gpu", &["a"], 2).await;
    let held = app.run(task("a")).await;
    let done = app.run(task("a")).await;
    assert_eq!(claim_one(&app, &first).await, held);
    assert_eq!(claim_one(&app, &first).await, done);
    complete(&app, &first, &done, 1).await;
    heartbeat(&app, json!({ "workerId": first, "status": "OFFLINE" })).await;
    let payload = register(
        &app,
        json!({
            "name": "worker-007-gpu",
            "backendType": "other",
            "capabilities": { "maxParallelTasks": 5, "supportedProblems": ["b", "c-*"] },
        }),
    )
    .await;
    let again = &payload["worker"];
    assert_eq!(again["id"], json!(first));
    assert_eq!(
        (&again["status"], &again["backendType"], &again["tasksCompleted"]),
        (&json!("BUSY"), &json!("other"), &json!(1))
    );
    assert_eq!(
        again["capabilities"],
        json!({ "maxParallelTasks": 5, "supportedProblems": ["b", "c-*"] })
    );
    // What it held before it was started anew is still its own, and can be taken up again.
    assert_eq!(
        shown(&app, &first).await["currentJobs"],
        json!([{ "id": held, "attempt": 1 }])
    );
    complete(&app, &first, &held, 1).await;
    app.stop().await;
}

async fn what_cannot_join_changes_nothing(db: TestDb) {
    let app = Setup::new(&db).flag("--workers", 0).start().await;
    join(&app, "worker-001-gpu", &["*"], 1).await;
    let raw = db.raw().await;
    let before = rows_of(&raw, "worker").await;
    let able = |most: i32, supported: Vec<String>| {
        json!({ "name": "worker-002-gpu", "backendType": "b",
            "capabilities": { "maxParallelTasks": most, "supportedProblems": supported } })
    };
    let named = |name: &str| json!({ "name": name, "backendType": "b" });
    let patterns = "INVALID input.capabilities.supportedProblems";
    let mut table = vec![
        (named("worker-001-local"), "CONFLICT input.name"),
        (named("worker-999-local"), "CONFLICT input.name"),
        (
            json!({ "name": "worker-002-gpu", "backendType": "" }),
            "INVALID input.backendType",
        ),
        (
            json!({ "name": "worker-002-gpu", "backendType": "x".repeat(65) }),
            "INVALID input.backendType",
        ),
        (
            able(0, vec!["*".into()]),
            "INVALID input.capabilities.maxParallelTasks",
        ),
        (
            able(1_001, vec!["*".into()]),
            "INVALID input.capabilities.maxParallelTasks",
        ),
        (able(1, Vec::new()), patterns),
        (able(1, vec!["x".into(); 101]), patterns),
        (
            able(1, vec!["x".into(), String::new()]),
            "INVALID input.capabilities.supportedProblems.1",
        ),
        (
            able(1, vec!["a\nb".into()]),
            "INVALID input.capabilities.supportedProblems.0",
        ),
    ];
    for name in [
        "",
        "worker",
        "worker-001",
        "worker-001-",
        "worker-01-gpu",
        "worker-abc-gpu",
        "worker-001-GPU",
        "worker-001-gpu-",
        "worker-001--gpu",
        "worker-001-g pu",
        "Worker-001-gpu",
        "x-001-gpu",
        "worker-001-gpü",
        "worker-001-gpu-gpu-gpu-gpu-gpu-gpu-gpu-gpu-gpu-gpu-gpu-gpu-gpu-gpu",
    ] {
        table.push((named(name), "INVALID input.name"));
    }
    for (input, expected) in table {
        let payload = register(&app, input.clone()).await;
        assert_eq!(refusals(&payload), [expected], "{input}");
        assert!(payload["worker"].is_null() && payload["leaseMs"].is_null());
    }
    assert_eq!(rows_of(&raw, "worker").await, before);
    app.stop().await;
}
