//! Cancels, timeouts, and jobs that are no longer the worker's: each stops the program, and nothing of it is left.

use serde_json::json;

use super::{Remote, cancel, line, line_with, printed};
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    a_cancel_stops_the_program_within_moments,
    a_cancel_reaches_a_worker_that_has_just_begun_others,
    who_ignores_the_signal_is_killed_after_the_grace,
    a_timeout_stops_the_program,
);

/// Starts a program with a child that has left its group and environment, and ends only by a signal.
const ESCAPING: &str = r#"setsid env -i bash -c 'exec -a "$0/escaped" sleep 1000' "$PWD" >/dev/null 2>&1 &
    trap 'echo heard; exit 3' TERM; echo up; while :; do sleep 0.05; done"#;

async fn a_cancel_stops_the_program_within_moments(db: TestDb) {
    // Long enough for no heartbeat but the one that waits to tell of it.
    let app = Setup::new(&db).flag("--lease-ms", 60_000).start().await;
    let remote = Remote::start(&app.url(), &[]);
    let id = app.run(line(ESCAPING)).await;
    printed(&app, &id, "up").await;
    cancel(&app, &id).await;
    let job = app.ended(&id).await;
    assert_eq!(
        (&job["status"], &job["exitCode"]),
        (&json!("CANCELLED"), &json!(3)),
        "{job:#}"
    );
    assert_eq!(job["stdout"], "up\nheard\n");
    remote.nothing_left().await;
    remote.stop().await;
    app.stop().await;
}

async fn a_cancel_reaches_a_worker_that_has_just_begun_others(db: TestDb) {
    let app = Setup::new(&db).flag("--lease-ms", 60_000).start().await;
    let remote = Remote::start(&app.url(), &["--parallel", "8"]);
    let mut ids = Vec::new();
    for _ in 0..8 {
        let id = app.run(line("echo up; sleep 1000")).await;
        printed(&app, &id, "up").await;
        ids.push(id);
    }
    for id in &ids {
        cancel(&app, id).await;
    }
    for id in &ids {
        assert_eq!(app.ended(id).await["status"], "CANCELLED");
    }
    remote.nothing_left().await;
    remote.stop().await;
    app.stop().await;
}

async fn who_ignores_the_signal_is_killed_after_the_grace(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let remote = Remote::start(&app.url(), &[]);
    let id = app
        .run(line("trap '' TERM; echo up; while :; do sleep 0.05; done"))
        .await;
    printed(&app, &id, "up").await;
    cancel(&app, &id).await;
    assert_eq!(app.ended(&id).await["status"], "CANCELLED");
    remote.nothing_left().await;
    remote.stop().await;
    app.stop().await;
}

async fn a_timeout_stops_the_program(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let remote = Remote::start(&app.url(), &[]);
    let id = app
        .run(line_with("echo up; sleep 1000", json!({ "timeoutMs": 700 })))
        .await;
    let job = app.ended(&id).await;
    assert_eq!(
        (&job["status"], &job["error"]["code"]),
        (&json!("TIMEOUT"), &json!("TIMEOUT")),
        "{job:#}"
    );
    assert_eq!(job["stdout"], "up\n");
    remote.nothing_left().await;
    // There is room again.
    let next = app.completed(line("echo next")).await;
    assert_eq!(next["stdout"], "next\n");
    remote.stop().await;
    app.stop().await;
}
