//! Ending in order: running jobs get their time, a second signal gives them none, and nothing stays RUNNING.

use serde_json::json;

use super::{printed, process_with, shell, shell_with};
use crate::support::app::{Setup, TestApp};
use crate::support::both_stores;
use crate::support::db::TestDb;
use crate::support::socket::Socket;
use crate::support::wait::until;

both_stores!(
    a_job_that_ends_within_the_grace_completes,
    a_job_that_does_not_end_is_ended,
    a_second_signal_waits_for_nobody,
    a_pending_job_waits_for_the_next_start,
    a_server_that_ends_takes_no_more_jobs,
);

async fn refuses(app: &TestApp) {
    until("no new connections", async || {
        let answer = reqwest::get(format!("{}/ready", app.url())).await;
        match answer {
            Ok(answer) if answer.status().is_success() => Err("still ready"),
            _ => Ok(()),
        }
    })
    .await;
}

async fn none_running(app: &TestApp) {
    let counts = app.data("{ stats { counts { running } } }", json!({})).await;
    assert_eq!(counts["stats"]["counts"]["running"], 0);
}

async fn a_job_that_ends_within_the_grace_completes(db: TestDb) {
    let mut app = Setup::new(&db).flag("--shutdown-grace-ms", 60_000).start().await;
    let line = r#"echo up; while [ ! -e "$HOLD/go" ]; do sleep 0.01; done; echo over"#;
    let hold = json!({ "env": [{ "name": "HOLD", "value": app.folder() }] });
    let id = app.run(shell_with(line, hold)).await;
    printed(&app, &id, "up").await;
    app.signal("TERM");
    refuses(&app).await;
    std::fs::write(app.folder().join("go"), "").unwrap();
    assert_eq!(app.exit().await, Some(0));
    app.nothing_left().await;
    app.restart().await;
    let job = app.job(&id).await;
    assert_eq!(
        (&job["status"], &job["stdout"]),
        (&json!("COMPLETED"), &json!("up\nover\n"))
    );
    none_running(&app).await;
    app.stop().await;
}

async fn a_job_that_does_not_end_is_ended(db: TestDb) {
    let setup = Setup::new(&db)
        .flag("--shutdown-grace-ms", 200)
        .flag("--cancel-grace-ms", 300);
    let mut app = setup.start().await;
    let gentle = app
        .shell("trap 'echo heard; exit 0' TERM; echo up; while :; do sleep 0.02; done")
        .await;
    let stubborn = app
        .shell("trap '' TERM; echo up; while :; do sleep 0.02; done")
        .await;
    let line = r#"echo up; [ "$RUNQL_ATTEMPT" = 2 ] || sleep 1000"#;
    let twice = app
        .run(shell_with(line, json!({ "maxAttempts": 2, "backoffMs": 0 })))
        .await;
    for id in [&gentle, &stubborn, &twice] {
        printed(&app, id, "up").await;
    }
    app.signal("TERM");
    assert_eq!(app.exit().await, Some(0));
    app.nothing_left().await;
    app.restart().await;
    let job = app.job(&gentle).await;
    assert_eq!(
        (&job["status"], &job["error"]["code"]),
        (&json!("FAILED"), &json!("WORKER_LOST"))
    );
    assert_eq!(job["stdout"], "up\nheard\n");
    let job = app.job(&stubborn).await;
    assert_eq!(
        (&job["status"], &job["error"]["code"]),
        (&json!("FAILED"), &json!("WORKER_LOST"))
    );
    assert_eq!(job["signal"], "SIGKILL");
    let job = app.ended(&twice).await;
    assert_eq!(
        (&job["status"], &job["attempt"]),
        (&json!("COMPLETED"), &json!(2)),
        "{job:#}"
    );
    // Only now: the second attempt may have run since the restart.
    none_running(&app).await;
    app.stop().await;
}

async fn a_second_signal_waits_for_nobody(db: TestDb) {
    let mut app = Setup::new(&db).flag("--shutdown-grace-ms", 600_000).start().await;
    let id = app
        .shell(r#"trap '' TERM; (exec -a "$PWD/stubborn" sleep 1000); :"#)
        .await;
    process_with(&app, "/stubborn").await;
    app.signal("TERM");
    refuses(&app).await;
    app.signal("TERM");
    assert_eq!(app.exit().await, Some(0));
    app.nothing_left().await;
    app.restart().await;
    let job = app.job(&id).await;
    assert_eq!(
        (&job["status"], &job["error"]["code"]),
        (&json!("FAILED"), &json!("WORKER_LOST")),
        "{job:#}"
    );
    app.stop().await;
}

async fn a_pending_job_waits_for_the_next_start(db: TestDb) {
    let setup = Setup::new(&db)
        .flag("--workers", 1)
        .flag("--shutdown-grace-ms", 100);
    let mut app = setup.start().await;
    let first = app.shell("echo up; sleep 1000").await;
    printed(&app, &first, "up").await;
    let second = app.run(shell("echo at last")).await;
    app.signal("TERM");
    assert_eq!(app.exit().await, Some(0));
    app.restart().await;
    let job = app.ended(&second).await;
    assert_eq!(
        (&job["status"], &job["attempt"]),
        (&json!("COMPLETED"), &json!(1)),
        "{job:#}"
    );
    app.stop().await;
}

/// Not even while it waits for a listener that does not answer.
async fn a_server_that_ends_takes_no_more_jobs(db: TestDb) {
    let setup = Setup::new(&db)
        .flag("--workers", 1)
        .flag("--shutdown-grace-ms", 60_000);
    let mut app = setup.start().await;
    let deaf = Socket::listen(&app, "subscription { stats { counts { total } } }", json!({})).await;
    let first = app
        .shell(r#"echo up; until [ -e "$HOME/go" ]; do sleep 0.01; done"#)
        .await;
    printed(&app, &first, "up").await;
    let second = app.run(shell(r#"touch "$HOME/second"; sleep 1000"#)).await;
    app.signal("TERM");
    refuses(&app).await;
    std::fs::write(app.folder().join("go"), "").unwrap();
    assert_eq!(app.exit().await, Some(0));
    drop(deaf);
    assert!(
        !app.folder().join("second").exists(),
        "a job was started after the signal"
    );
    app.restart().await;
    assert_eq!(app.job(&first).await["status"], "COMPLETED");
    assert_eq!(app.job(&second).await["attempt"], 1);
    super::cancel::cancel(&app, json!({ "id": second })).await;
    app.ended(&second).await;
    app.stop().await;
}
