//! kill -9 of a spawner: the processes it supervised are gone, its job says so, and the next job gets another one.

use serde_json::json;

use super::{process_with, shell, shell_with};
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;
use crate::support::machine::{signal, spawners};

both_stores!(a_killed_spawner_takes_its_job_along_and_nothing_else);

async fn a_killed_spawner_takes_its_job_along_and_nothing_else(db: TestDb) {
    let app = Setup::new(&db).flag("--workers", 1).start().await;
    let once = app
        .shell(r#"setsid env -i bash -c 'exec -a "$0/escaped" sleep 1000' "$PWD" & wait"#)
        .await;
    process_with(&app, "/escaped").await;
    for spawner in spawners(&app) {
        signal(spawner, "KILL");
    }
    let job = app.ended(&once).await;
    assert_eq!(job["status"], "FAILED", "{job:#}");
    assert_eq!(job["error"]["code"], "WORKER_LOST");
    app.nothing_left().await;

    let line = r#"[ "$RUNQL_ATTEMPT" = 2 ] || exec -a "$PWD/first" sleep 1000"#;
    let twice = app
        .run(shell_with(line, json!({ "maxAttempts": 2, "backoffMs": 0 })))
        .await;
    process_with(&app, "/first").await;
    for spawner in spawners(&app) {
        signal(spawner, "KILL");
    }
    let job = app.ended(&twice).await;
    assert_eq!(
        (&job["status"], &job["attempt"]),
        (&json!("COMPLETED"), &json!(2)),
        "{job:#}"
    );
    app.completed(shell("echo on and on")).await;
    app.nothing_left().await;
    app.stop().await;
}
