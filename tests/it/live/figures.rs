//! `stats` and `workers`: figures at intervals, and each worker that changes.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use serde_json::json;

use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;
use crate::support::socket::Socket;

both_stores!(
    figures_come_at_once_and_then_follow,
    a_worker_that_changes_is_told
);

async fn figures_come_at_once_and_then_follow(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let stats =
        "subscription($ms: Int) { stats(intervalMs: $ms) { counts { total completed failed } successRate } }";
    let mut socket = Socket::listen(&app, stats, json!({ "ms": 100 })).await;
    let first = socket.next("stats").await;
    let expected = json!({ "counts": { "total": 0, "completed": 0, "failed": 0 }, "successRate": null });
    assert_eq!(first, expected);
    app.completed(json!({ "command": { "shell": { "command": "true" } } }))
        .await;
    app.ended(&app.shell("false").await).await;
    loop {
        let now = socket.next("stats").await;
        if now["counts"]["failed"] == 1 {
            assert_eq!(now["counts"], json!({ "total": 2, "completed": 1, "failed": 1 }));
            assert_eq!(now["successRate"], 0.5);
            break;
        }
    }
    for ms in [0, -1, 99] {
        let mut socket = Socket::listen(&app, stats, json!({ "ms": ms })).await;
        assert_eq!(socket.refusal().await, "BAD_USER_INPUT", "{ms}");
    }
    app.stop().await;
}

async fn a_worker_that_changes_is_told(db: TestDb) {
    let app = Setup::new(&db).flag("--workers", 1).start().await;
    let workers = "subscription { workers { id name status tasksCompleted currentJobs { id } } }";
    // Many, so that some would have their first look after the change.
    let mut sockets = join_all((0..50).map(|_| Socket::connect(&app))).await;
    join_all(sockets.iter_mut().map(async |socket| {
        socket.subscribe(workers, json!({})).await;
        socket.settled().await;
    }))
    .await;
    app.data(
        "mutation { scaleWorkers(input: { size: 3 }) { errors { code } } }",
        json!({}),
    )
    .await;
    for socket in &mut sockets {
        let mut names = BTreeSet::new();
        while names.len() < 2 {
            names.insert(socket.next("workers").await["name"].to_string());
        }
    }
    let mut socket = sockets.remove(0);
    drop(sockets);
    app.data(
        "mutation { scaleWorkers(input: { size: 1 }) { errors { code } } }",
        json!({}),
    )
    .await;
    let id = app.shell(r#"until [ -e "$HOME/go" ]; do sleep 0.01; done"#).await;
    let busy = loop {
        let worker = socket.next("workers").await;
        if worker["status"] == "BUSY" {
            break worker;
        }
    };
    assert_eq!(busy["currentJobs"], json!([{ "id": id }]));
    std::fs::write(app.folder().join("go"), "").unwrap();
    let idle = loop {
        let worker = socket.next("workers").await;
        if worker["status"] == "IDLE" && worker["tasksCompleted"] == 1 {
            break worker;
        }
    };
    assert_eq!((&idle["id"], &idle["currentJobs"]), (&busy["id"], &json!([])));
    app.stop().await;
}
