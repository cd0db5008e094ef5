//! Servers that are killed, connections that are cut, answers that are lost: nothing is lost or done twice.

use sea_orm::ConnectionTrait;
use serde_json::json;

use super::{Remote, line, lines, printed};
use crate::support::app::{Setup, TestApp};
use crate::support::both_stores;
use crate::support::db::TestDb;
use crate::support::forwarder::Forwarder;
use crate::support::wait::until;

both_stores!(
    a_servers_restart_loses_nothing_of_a_task,
    a_task_that_ends_while_the_server_is_away_is_told_afterwards,
    a_server_that_comes_later_is_waited_for,
    lines_whose_report_had_no_answer_arrive_once,
    a_claim_whose_answer_was_lost_is_run_once,
    a_result_whose_answer_was_lost_is_no_failure,
    a_worker_that_is_cut_off_stops_before_others_begin,
    a_worker_that_the_server_forgot_registers_again,
);

/// Prints lines one after the other, until there is a file of this name; then its last line.
fn counting(go: &std::path::Path) -> String {
    format!(
        "echo began >> {0}.ran; n=0; while [ ! -e {0} ]; do n=$((n+1)); echo line $n; sleep 0.01; done; echo last $n",
        go.display()
    )
}

/// Insists that each line is there once and in order.
async fn counted(app: &TestApp, id: &str) {
    let text = String::from_utf8(app.bytes(id, "stdout").await).unwrap();
    let all: Vec<&str> = text.lines().collect();
    let (last, counted) = all.split_last().unwrap();
    for (index, line) in counted.iter().enumerate() {
        assert_eq!(*line, format!("line {}", index + 1), "{text}");
    }
    assert_eq!(*last, format!("last {}", counted.len()), "{text}");
}

async fn length(app: &TestApp, id: &str) -> usize {
    app.job(id).await["stdout"].as_str().unwrap().len()
}

/// Waits until the log is longer than it was.
async fn longer(app: &TestApp, id: &str, before: usize) {
    until("more lines", async || {
        let now = length(app, id).await;
        if now > before { Ok(()) } else { Err(now) }
    })
    .await;
}

async fn grows(app: &TestApp, id: &str) {
    longer(app, id, length(app, id).await).await;
}

async fn a_servers_restart_loses_nothing_of_a_task(db: TestDb) {
    let mut app = Setup::new(&db).start().await;
    let remote = Remote::start(&app.url(), &[]);
    let go = remote.folder.path().join("go");
    let id = app.run(line(&counting(&go))).await;
    for _ in 0..3 {
        grows(&app, &id).await;
        app.kill().await;
        app.restart_in_place().await;
    }
    grows(&app, &id).await;
    std::fs::write(&go, "").unwrap();
    let job = app.ended(&id).await;
    assert_eq!(
        (&job["status"], &job["attempt"]),
        (&json!("COMPLETED"), &json!(1)),
        "{job:#}"
    );
    counted(&app, &id).await;
    remote.stop().await;
    app.stop().await;
}

async fn a_task_that_ends_while_the_server_is_away_is_told_afterwards(db: TestDb) {
    let mut app = Setup::new(&db).start().await;
    let remote = Remote::start(&app.url(), &[]);
    let (go, gone) = (remote.folder.path().join("go"), remote.folder.path().join("gone"));
    let text = format!(
        r#"echo up; while [ ! -e {} ]; do sleep 0.01; done; seq 3000; echo '[1]' > "$RUNQL_OUTPUT"; touch {}"#,
        go.display(),
        gone.display()
    );
    let id = app.run(line(&text)).await;
    printed(&app, &id, "up").await;
    app.kill().await;
    std::fs::write(go, "").unwrap();
    until(
        "the program's end",
        async || if gone.exists() { Ok(()) } else { Err(()) },
    )
    .await;
    app.restart_in_place().await;
    let job = app.ended(&id).await;
    assert_eq!(
        (&job["status"], &job["attempt"], &job["output"]),
        (&json!("COMPLETED"), &json!(1), &json!([1])),
        "{job:#}"
    );
    let expected: String = (1..=3_000).map(|n| format!("{n}\n")).collect();
    assert_eq!(
        app.bytes(&id, "stdout").await,
        format!("up\n{expected}").as_bytes()
    );
    remote.stop().await;
    app.stop().await;
}

async fn a_server_that_comes_later_is_waited_for(db: TestDb) {
    let mut app = Setup::new(&db).start().await;
    app.kill().await;
    let remote = Remote::start(&app.url(), &[]);
    remote.says("waiting for the server").await;
    app.restart_in_place().await;
    let job = app.completed(line("echo here")).await;
    assert_eq!(job["stdout"], "here\n");
    remote.stop().await;
    app.stop().await;
}

async fn lines_whose_report_had_no_answer_arrive_once(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let wire = Forwarder::to(app.address()).await;
    let remote = Remote::start(wire.url(), &[]);
    let go = remote.folder.path().join("go");
    let id = app.run(line(&counting(&go))).await;
    for round in 0..6 {
        grows(&app, &id).await;
        let before = length(&app, &id).await;
        remote.told.lock().unwrap().clear();
        if round % 2 == 0 {
            wire.lose_answers();
        } else {
            wire.cut();
        }
        if round == 0 {
            // The server has what it cannot answer for. Later the first thing that is lost may be a question.
            longer(&app, &id, before).await;
        }
        remote.says("a report waits for the server").await;
        wire.mend();
    }
    grows(&app, &id).await;
    std::fs::write(&go, "").unwrap();
    let job = app.ended(&id).await;
    assert_eq!(
        (&job["status"], &job["attempt"]),
        (&json!("COMPLETED"), &json!(1))
    );
    counted(&app, &id).await;
    remote.stop().await;
    app.stop().await;
}

async fn a_claim_whose_answer_was_lost_is_run_once(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let wire = Forwarder::to(app.address()).await;
    let remote = Remote::start(wire.url(), &["--parallel", "3"]);
    remote.registered().await;
    let go = remote.folder.path().join("go");
    std::fs::write(&go, "").unwrap();
    wire.lose_answers();
    let id = app.run(line(&counting(&go))).await;
    app.job_in(&id, &["RUNNING"]).await;
    remote.says("no jobs could be claimed").await;
    wire.mend();
    let job = app.ended(&id).await;
    assert_eq!(
        (&job["status"], &job["attempt"]),
        (&json!("COMPLETED"), &json!(1)),
        "{job:#}"
    );
    let ran = std::fs::read_to_string(go.with_extension("ran")).unwrap();
    assert_eq!(ran, "began\n", "it ran twice");
    remote.stop().await;
    app.stop().await;
}

async fn a_result_whose_answer_was_lost_is_no_failure(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let wire = Forwarder::to(app.address()).await;
    let remote = Remote::start(wire.url(), &[]);
    let go = remote.folder.path().join("go");
    let text = format!(
        "echo up; while [ ! -e {} ]; do sleep 0.01; done; echo done",
        go.display()
    );
    let id = app.run(line(&text)).await;
    printed(&app, &id, "up").await;
    wire.lose_answers();
    std::fs::write(&go, "").unwrap();
    let job = app.ended(&id).await;
    assert_eq!(job["status"], "COMPLETED", "{job:#}");
    wire.mend();
    let next = app.completed(line("echo next")).await;
    assert_eq!(next["stdout"], "next\n");
    let messages: Vec<_> = lines(&app, &id)
        .await
        .iter()
        .map(|line| line["message"].clone())
        .collect();
    assert_eq!(messages, ["up", "done"]);
    remote.stop().await;
    app.stop().await;
}

async fn a_worker_that_is_cut_off_stops_before_others_begin(db: TestDb) {
    let app = Setup::new(&db).flag("--lease-ms", 1_500).start().await;
    let wire = Forwarder::to(app.address()).await;
    let first = Remote::start(wire.url(), &[]);
    let alive = first.folder.path().join("alive");
    let text = format!(
        r#"if [ "$RUNQL_ATTEMPT" = 2 ]; then [ -e {0} ] && pgrep -F {0} && exit 9; echo alone; exit 0; fi
           echo $$ > {0}; echo up; sleep 1000"#,
        alive.display()
    );
    let input = super::line_with(&text, json!({ "maxAttempts": 2, "backoffMs": 0 }));
    let id = app.run(input).await;
    printed(&app, &id, "up").await;
    wire.cut();
    let second = Remote::start(&app.url(), &[]);
    let job = app.ended(&id).await;
    assert_eq!(
        (&job["status"], &job["attempt"]),
        (&json!("COMPLETED"), &json!(2)),
        "{job:#}"
    );
    assert_eq!(job["stdout"], "alone\n");
    assert_eq!(job["attempts"][0]["error"]["code"], "WORKER_LOST");
    first.nothing_left().await;
    wire.mend();
    first.stop().await;
    second.stop().await;
    app.stop().await;
}

async fn a_worker_that_the_server_forgot_registers_again(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let remote = Remote::start(&app.url(), &[]);
    let name = remote.registered().await;
    let raw = db.raw().await;
    raw.execute_unprepared("DELETE FROM worker WHERE node_id IS NULL")
        .await
        .unwrap();
    // The claim that waits looks at the queue once there is something in it.
    let job = app.completed(line("echo here")).await;
    assert_eq!(
        (&job["stdout"], &job["worker"]["name"]),
        (&json!("here\n"), &json!(name))
    );
    remote.says("registers anew").await;
    remote.stop().await;
    app.stop().await;
}
