//! Processes that try to outlive their job. None does, and none holds its job open.

use serde_json::json;

use super::{printed, process_with, shell_with, system};
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    a_grandchild_does_not_outlive_its_job,
    a_grandchild_with_the_pipe_does_not_hold_its_job_open,
    a_process_that_left_group_and_environment_is_found,
    a_daemon_is_found,
    who_ignores_the_term_signal_is_killed_after_the_grace,
);

/// Ends once the test says so.
const UNTIL_TOLD: &str = r#"while [ ! -e "$HOLD/go" ]; do sleep 0.01; done"#;

fn env(app: &crate::support::app::TestApp) -> serde_json::Value {
    json!({ "env": [{ "name": "HOLD", "value": app.folder() }] })
}

async fn a_grandchild_does_not_outlive_its_job(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let job = app
        .completed(super::shell("sleep 1000 >/dev/null 2>&1 & echo started"))
        .await;
    assert_eq!(job["stdout"], "started\n");
    app.nothing_left().await;
    let said = system(&app, job["id"].as_str().unwrap()).await;
    assert!(said.iter().any(|line| line.starts_with("1 process")), "{said:?}");
    app.stop().await;
}

async fn a_grandchild_with_the_pipe_does_not_hold_its_job_open(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let job = app
        .completed(super::shell("sleep 1000 & echo first; echo second >&2"))
        .await;
    assert_eq!(
        (&job["stdout"], &job["stderr"]),
        (&json!("first\n"), &json!("second\n"))
    );
    assert!(job["durationMs"].as_u64().unwrap() < 10_000, "{job:#}");
    app.nothing_left().await;
    app.stop().await;
}

async fn a_process_that_left_group_and_environment_is_found(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let line = format!(
        r#"setsid env -i bash -c 'exec -a "$0/escaped" sleep 1000' "$PWD" >/dev/null 2>&1 & {UNTIL_TOLD}"#
    );
    let id = app.run(shell_with(&line, env(&app))).await;
    process_with(&app, "/escaped").await;
    std::fs::write(app.folder().join("go"), "").unwrap();
    assert_eq!(app.ended(&id).await["status"], "COMPLETED");
    app.nothing_left().await;
    app.stop().await;
}

/// It forks twice, with a session of its own, and its parents are gone long before the job ends.
async fn a_daemon_is_found(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let line = format!(
        r#"( setsid env -i bash -c '( cd / && exec -a "$0/daemon" sleep 1000 </dev/null >/dev/null 2>&1 ) & exit' "$PWD" & )
        {UNTIL_TOLD}"#
    );
    let id = app.run(shell_with(&line, env(&app))).await;
    process_with(&app, "/daemon").await;
    std::fs::write(app.folder().join("go"), "").unwrap();
    assert_eq!(app.ended(&id).await["status"], "COMPLETED");
    app.nothing_left().await;
    app.stop().await;
}

async fn who_ignores_the_term_signal_is_killed_after_the_grace(db: TestDb) {
    let app = Setup::new(&db).flag("--cancel-grace-ms", 400).start().await;
    let id = app
        .shell("trap 'echo heard' TERM; echo up; (trap '' TERM; sleep 1000) & while :; do wait; done")
        .await;
    printed(&app, &id, "up").await;
    let cancelled = std::time::Instant::now();
    super::cancel::cancel(&app, json!({ "id": id })).await;
    let job = app.ended(&id).await;
    let took = cancelled.elapsed().as_millis();
    assert!((400..5_400).contains(&took), "ended after {took} ms");
    assert_eq!(
        (&job["status"], &job["signal"]),
        (&json!("CANCELLED"), &json!("SIGKILL"))
    );
    assert_eq!(job["stdout"], "up\nheard\n");
    app.nothing_left().await;
    app.stop().await;
}
