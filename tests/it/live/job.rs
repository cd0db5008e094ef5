//! `job(id)`: as it is now, then at each change, until it has ended.

use serde_json::json;

use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;
use crate::support::socket::Socket;

both_stores!(
    a_job_is_watched_from_the_queue_to_its_end,
    an_ended_job_is_told_once,
    a_job_that_is_not_there_is_an_error,
    a_job_that_is_tried_again_is_watched_on,
);

const JOB: &str = "subscription($id: ID!) { job(id: $id) { id status attempt exitCode output } }";

async fn a_job_is_watched_from_the_queue_to_its_end(db: TestDb) {
    let app = Setup::new(&db).start().await;
    app.data("mutation { stopWorkers { errors { code } } }", json!({}))
        .await;
    let line = r#"until [ -e "$HOME/go" ]; do sleep 0.01; done; echo '[1,2]' > "$RUNQL_OUTPUT""#;
    let id = app.shell(line).await;
    let mut socket = Socket::listen(&app, JOB, json!({ "id": id })).await;
    let now = socket.next("job").await;
    assert_eq!((&now["status"], &now["attempt"]), (&json!("PENDING"), &json!(0)));
    app.data("mutation { startWorkers { errors { code } } }", json!({}))
        .await;
    let now = socket.next("job").await;
    assert_eq!((&now["status"], &now["attempt"]), (&json!("RUNNING"), &json!(1)));
    std::fs::write(app.folder().join("go"), "").unwrap();
    let now = socket.next("job").await;
    assert_eq!(
        (&now["status"], &now["output"]),
        (&json!("COMPLETED"), &json!([1, 2]))
    );
    assert_eq!(socket.next_or_end("job").await, None);
    app.stop().await;
}

async fn an_ended_job_is_told_once(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let id = app.shell("exit 4").await;
    app.ended(&id).await;
    let mut socket = Socket::listen(&app, JOB, json!({ "id": id })).await;
    let now = socket.next("job").await;
    assert_eq!((&now["status"], &now["exitCode"]), (&json!("FAILED"), &json!(4)));
    assert_eq!(socket.next_or_end("job").await, None);
    app.stop().await;
}

async fn a_job_that_is_not_there_is_an_error(db: TestDb) {
    let app = Setup::new(&db).start().await;
    for id in ["01980000-0000-7000-8000-000000000000", "nonsense", ""] {
        let mut socket = Socket::listen(&app, JOB, json!({ "id": id })).await;
        assert_eq!(socket.refusal().await, "NOT_FOUND", "{id}");
        let logs = "subscription($id: ID!) { jobLogs(id: $id) { cursor } }";
        let mut socket = Socket::listen(&app, logs, json!({ "id": id })).await;
        assert_eq!(socket.refusal().await, "NOT_FOUND", "{id}");
    }
    app.stop().await;
}

async fn a_job_that_is_tried_again_is_watched_on(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let line = r#"until [ -e "$HOME/go" ]; do sleep 0.01; done; [ "$RUNQL_ATTEMPT" = 3 ]"#;
    let input = json!({
        "command": { "shell": { "command": line } }, "maxAttempts": 3, "backoffMs": 0,
    });
    let id = app.run(input).await;
    let mut socket = Socket::listen(&app, JOB, json!({ "id": id })).await;
    socket.next("job").await;
    std::fs::write(app.folder().join("go"), "").unwrap();
    let mut seen = Vec::new();
    while let Some(now) = socket.next_or_end("job").await {
        seen.push((
            now["attempt"].as_i64().unwrap(),
            now["status"].as_str().unwrap().to_owned(),
        ));
    }
    // States that pass quickly may be passed over, but never the last one, and never backwards.
    assert_eq!(seen.last().unwrap(), &(3, "COMPLETED".to_owned()));
    assert!(seen.is_sorted_by_key(|(attempt, _)| *attempt), "{seen:?}");
    app.stop().await;
}
