//! Two servers on one Postgres: what happens on one is heard on the other, soon and in order.

use std::time::Instant;

use serde_json::json;

use super::{EVENTS, batch_lines, is_end, marker, replay, stories};
use crate::support::app::Setup;
use crate::support::db::TestDb;
use crate::support::on_postgres;
use crate::support::socket::Socket;

on_postgres!(
    events_of_the_other_server_arrive,
    a_job_of_the_other_server_is_followed
);

const JOBS: u64 = 12;

/// Between two looks that no hint asked for, a server waits for two seconds, and each job would wait for one.
const WITHOUT_HINTS: u64 = JOBS * 2 - 4;

async fn events_of_the_other_server_arrive(db: TestDb) {
    let (here, there) = tokio::join!(Setup::new(&db).start(), Setup::new(&db).start());
    here.data("mutation { stopWorkers { errors { code } } }", json!({}))
        .await;
    let start = marker(&here).await;
    let mut socket = Socket::listen(&here, EVENTS, json!({ "after": start })).await;
    let began = Instant::now();
    let mut seen = Vec::new();
    for _ in 0..JOBS {
        there.shell("true").await;
        while seen.last().is_none_or(|event| !is_end(event)) {
            seen.push(socket.next("jobEvents").await);
        }
        let end = seen.len();
        assert!(is_end(&seen[end - 1]));
        seen.push(json!({ "type": "MARK", "job": { "id": "mark" } }));
    }
    let took = began.elapsed();
    assert!(
        took.as_secs() < WITHOUT_HINTS,
        "{took:?}: the hints of the other server did not come"
    );
    seen.retain(|event| event["type"] != "MARK");
    assert_eq!(seen, replay(&there, &start, usize::try_from(JOBS).unwrap()).await);
    assert!(
        stories(&seen)
            .values()
            .all(|story| *story == ["CREATED", "STARTED", "COMPLETED"])
    );
    here.stop().await;
    there.stop().await;
}

async fn a_job_of_the_other_server_is_followed(db: TestDb) {
    let (here, there) = tokio::join!(Setup::new(&db).start(), Setup::new(&db).start());
    here.data("mutation { stopWorkers { errors { code } } }", json!({}))
        .await;
    let line =
        r#"for n in 1 2 3 4 5; do echo "line $n"; until [ -e "$HOLD/seen-$n" ]; do sleep 0.01; done; done"#;
    let env = json!([{ "name": "HOLD", "value": here.folder() }]);
    let id = here
        .run(json!({ "command": { "shell": { "command": line } }, "env": env }))
        .await;
    let logs =
        "subscription($id: ID!) { jobLogs(id: $id, filter: { streams: [STDOUT] }) { lines { message } } }";
    let mut lines = Socket::listen(&here, logs, json!({ "id": id })).await;
    let watch = "subscription($id: ID!) { job(id: $id) { status } }";
    let mut job = Socket::listen(&here, watch, json!({ "id": id })).await;
    for n in 1..=5 {
        let batch = lines.next("jobLogs").await;
        assert_eq!(batch_lines(&batch), [json!({ "message": format!("line {n}") })]);
        std::fs::write(here.folder().join(format!("seen-{n}")), "").unwrap();
    }
    assert_eq!(lines.next_or_end("jobLogs").await, None);
    let mut last = json!(null);
    while let Some(now) = job.next_or_end("job").await {
        last = now;
    }
    assert_eq!(last["status"], "COMPLETED");
    there.nothing_left().await;
    here.stop().await;
    there.stop().await;
}
