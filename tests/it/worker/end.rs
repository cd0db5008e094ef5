//! The end of a worker: by a signal, by two, and by kill -9.

use serde_json::json;

use super::{Remote, line, line_with, printed, shown};
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    a_killed_worker_leaves_no_process_and_its_job_is_told_lost,
    the_job_of_a_killed_worker_is_tried_again_elsewhere,
    a_worker_that_was_killed_comes_back_under_its_name,
    a_signal_lets_programs_end,
    a_signal_stops_what_does_not_end_and_it_is_tried_again,
    a_second_signal_is_quick,
    an_idle_worker_ends_at_once,
);

async fn a_killed_worker_leaves_no_process_and_its_job_is_told_lost(db: TestDb) {
    let app = Setup::new(&db).flag("--lease-ms", 1_000).start().await;
    let mut remote = Remote::start(&app.url(), &["--parallel", "2"]);
    let name = remote.registered().await;
    let text = r#"setsid env -i bash -c 'exec -a "$0/escaped" sleep 1000' "$PWD" & trap '' TERM; echo up; while :; do sleep 1; done"#;
    let ids = [app.run(line(text)).await, app.run(line(text)).await];
    for id in &ids {
        printed(&app, id, "up").await;
    }
    remote.kill().await;
    remote.nothing_left().await;
    for id in &ids {
        let job = app.ended(id).await;
        assert_eq!(
            (&job["status"], &job["error"]["code"]),
            (&json!("FAILED"), &json!("WORKER_LOST")),
            "{job:#}"
        );
        assert_eq!(job["stdout"], "up\n");
    }
    assert_eq!(shown(&app, &name).await["status"], "OFFLINE");
    app.stop().await;
}

async fn the_job_of_a_killed_worker_is_tried_again_elsewhere(db: TestDb) {
    let app = Setup::new(&db).flag("--lease-ms", 1_000).start().await;
    let mut first = Remote::start(&app.url(), &[]);
    let text = r#"echo "attempt $RUNQL_ATTEMPT"; [ "$RUNQL_ATTEMPT" = 2 ] || sleep 1000"#;
    let id = app
        .run(line_with(text, json!({ "maxAttempts": 2, "backoffMs": 0 })))
        .await;
    printed(&app, &id, "attempt 1").await;
    let second = Remote::start(&app.url(), &[]);
    let name = second.registered().await;
    first.kill().await;
    first.nothing_left().await;
    let job = app.ended(&id).await;
    assert_eq!(
        (&job["status"], &job["attempt"], &job["worker"]["name"]),
        (&json!("COMPLETED"), &json!(2), &json!(name)),
        "{job:#}"
    );
    second.stop().await;
    app.stop().await;
}

async fn a_worker_that_was_killed_comes_back_under_its_name(db: TestDb) {
    let app = Setup::new(&db).flag("--lease-ms", 1_000).start().await;
    let mut remote = Remote::start(&app.url(), &[]);
    let name = remote.registered().await;
    let id = app
        .run(line_with("echo $$; sleep 1000", json!({ "maxAttempts": 1 })))
        .await;
    printed(&app, &id, "\n").await;
    remote.kill().await;
    let again = Remote::in_folder(remote.folder.clone(), &app.url(), &[], &super::EVAL);
    assert_eq!(again.registered().await, name);
    // What the killed one had begun is not begun again.
    let job = app.ended(&id).await;
    assert_eq!(
        (&job["status"], &job["error"]["code"]),
        (&json!("FAILED"), &json!("WORKER_LOST")),
        "{job:#}"
    );
    assert_eq!(job["stdout"].as_str().unwrap().lines().count(), 1, "{job:#}");
    let next = app.completed(line("echo next")).await;
    assert_eq!(next["worker"]["name"], json!(name));
    again.stop().await;
    app.stop().await;
}

async fn a_signal_lets_programs_end(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let mut remote = Remote::start(&app.url(), &["--parallel", "2"]);
    let name = remote.registered().await;
    let go = remote.folder.path().join("go");
    let text = format!(
        "echo up; while [ ! -e {} ]; do sleep 0.01; done; echo done",
        go.display()
    );
    let id = app.run(line(&text)).await;
    printed(&app, &id, "up").await;
    remote.signal("TERM");
    remote.says("shutting down").await;
    let late = app.run(line("echo late")).await;
    std::fs::write(go, "").unwrap();
    let job = app.ended(&id).await;
    assert_eq!(
        (&job["status"], &job["stdout"]),
        (&json!("COMPLETED"), &json!("up\ndone\n"))
    );
    assert_eq!(remote.exit().await, Some(0));
    let worker = shown(&app, &name).await;
    assert_eq!(
        (&worker["status"], &worker["currentJobs"]),
        (&json!("OFFLINE"), &json!([]))
    );
    assert_eq!(
        app.job(&late).await["status"],
        "PENDING",
        "taken after the signal"
    );
    remote.nothing_left().await;
    app.stop().await;
}

async fn a_signal_stops_what_does_not_end_and_it_is_tried_again(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let mut first = Remote::start(&app.url(), &["--shutdown-grace-ms", "100"]);
    let text = r#"echo "attempt $RUNQL_ATTEMPT"; [ "$RUNQL_ATTEMPT" = 2 ] || sleep 1000"#;
    let id = app
        .run(line_with(text, json!({ "maxAttempts": 2, "backoffMs": 0 })))
        .await;
    printed(&app, &id, "attempt 1").await;
    first.signal("INT");
    assert_eq!(first.exit().await, Some(0));
    first.nothing_left().await;
    let job = app.job(&id).await;
    assert_eq!(
        (&job["status"], &job["waitReason"]),
        (&json!("PENDING"), &json!("NO_WORKER")),
        "{job:#}"
    );
    let message = job["attempts"][0]["error"]["code"].as_str();
    assert_eq!(message, Some("REPORTED"), "{job:#}");
    let second = Remote::start(&app.url(), &[]);
    assert_eq!(app.ended(&id).await["status"], "COMPLETED");
    second.stop().await;
    app.stop().await;
}

async fn a_second_signal_is_quick(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let mut remote = Remote::start(&app.url(), &["--shutdown-grace-ms", "3600000"]);
    let id = app
        .run(line("trap '' TERM INT; echo up; while :; do sleep 0.05; done"))
        .await;
    printed(&app, &id, "up").await;
    remote.signal("TERM");
    remote.says("shutting down").await;
    remote.signal("TERM");
    assert_eq!(remote.exit().await, Some(0));
    remote.nothing_left().await;
    let job = app.ended(&id).await;
    assert_eq!(job["error"]["code"], "REPORTED", "{job:#}");
    let message = job["error"]["message"].as_str().unwrap();
    assert!(message.contains("shut down"), "{message}");
    app.stop().await;
}

async fn an_idle_worker_ends_at_once(db: TestDb) {
    let app = Setup::new(&db).start().await;
    // Its grace would outlast the test.
    let mut remote = Remote::start(&app.url(), &["--shutdown-grace-ms", "3600000"]);
    let name = remote.registered().await;
    remote.signal("TERM");
    assert_eq!(remote.exit().await, Some(0));
    assert_eq!(shown(&app, &name).await["status"], "OFFLINE");
    app.stop().await;
}
