//! `jobLogs`: lines as they are written, from any place, over all attempts, until the job has ended.

use serde_json::{Value, json};

use super::batch_lines;
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;
use crate::support::socket::Socket;

both_stores!(
    lines_come_as_they_are_written,
    a_listener_that_comes_back_goes_on_where_it_was,
    a_job_that_is_tried_again_is_followed_from_its_first_line,
    filters_pick_lines,
    a_cursor_of_another_log_is_refused,
);

const LOGS: &str = "subscription($id: ID!, $filter: LogFilter, $after: String) {
    jobLogs(id: $id, filter: $filter, after: $after) { cursor lines { number stream level message } }
}";

fn messages(lines: &[Value]) -> Vec<&str> {
    lines
        .iter()
        .map(|line| line["message"].as_str().unwrap())
        .collect()
}

/// All that comes until the end.
async fn rest(socket: &mut Socket) -> Vec<Value> {
    let mut lines = Vec::new();
    while let Some(batch) = socket.next_or_end("jobLogs").await {
        lines.extend(batch_lines(&batch));
    }
    lines
}

async fn lines_come_as_they_are_written(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let line =
        r#"for n in 1 2 3; do echo "line $n"; until [ -e "$HOME/seen-$n" ]; do sleep 0.01; done; done"#;
    let id = app.shell(line).await;
    let mut socket = Socket::listen(
        &app,
        LOGS,
        json!({ "id": id, "filter": { "streams": ["STDOUT"] } }),
    )
    .await;
    for n in 1..=3 {
        let batch = socket.next("jobLogs").await;
        assert_eq!(messages(&batch_lines(&batch)), [format!("line {n}")]);
        // Only now does the job go on.
        std::fs::write(app.folder().join(format!("seen-{n}")), "").unwrap();
    }
    assert_eq!(socket.next_or_end("jobLogs").await, None);
    assert_eq!(app.job(&id).await["status"], "COMPLETED");
    app.stop().await;
}

async fn a_listener_that_comes_back_goes_on_where_it_was(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let id = app
        .shell("for n in $(seq 3000); do echo $n; [ $((n % 300)) = 0 ] && sleep 0.06; done; true")
        .await;
    let (mut after, mut seen, mut times) = (Value::Null, Vec::new(), 0);
    loop {
        let mut socket = Socket::listen(&app, LOGS, json!({ "id": id, "after": after })).await;
        // One batch, and then the wire is cut.
        let Some(batch) = socket.next_or_end("jobLogs").await else {
            break;
        };
        after = batch["cursor"].clone();
        seen.extend(batch_lines(&batch));
        times += 1;
    }
    assert!(times > 3, "all came in {times} batches");
    let numbers: Vec<i64> = seen.iter().map(|line| line["number"].as_i64().unwrap()).collect();
    assert_eq!(numbers, (1..=3_002).collect::<Vec<_>>());
    let printed: Vec<String> = (1..=3_000).map(|n| n.to_string()).collect();
    assert_eq!(messages(&seen[1..3_001]), printed);
    // The whole once more, by one that nothing disturbs.
    let mut socket = Socket::listen(&app, LOGS, json!({ "id": id })).await;
    assert_eq!(rest(&mut socket).await, seen);
    app.stop().await;
}

async fn a_job_that_is_tried_again_is_followed_from_its_first_line(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let line = r#"echo "a $RUNQL_ATTEMPT"; until [ -e "$HOME/go" ]; do sleep 0.01; done
        echo "b $RUNQL_ATTEMPT"; [ "$RUNQL_ATTEMPT" = 3 ]"#;
    let input = json!({ "command": { "shell": { "command": line } }, "maxAttempts": 3, "backoffMs": 0 });
    let id = app.run(input).await;
    let filter = json!({ "streams": ["STDOUT"] });
    let mut socket = Socket::listen(&app, LOGS, json!({ "id": id, "filter": filter })).await;
    let first = socket.next("jobLogs").await;
    // Only now does it fail: the listener was there before.
    std::fs::write(app.folder().join("go"), "").unwrap();
    let mut lines = batch_lines(&first);
    lines.extend(rest(&mut socket).await);
    assert_eq!(messages(&lines), ["a 1", "b 1", "a 2", "b 2", "a 3", "b 3"]);
    // One that comes back from the first attempt goes on through the others.
    let back = json!({ "id": id, "filter": filter, "after": first["cursor"] });
    let mut socket = Socket::listen(&app, LOGS, back).await;
    assert_eq!(rest(&mut socket).await, lines[1..]);

    // Who comes after the end, and names an attempt, gets that one; who names none gets the last.
    for (attempt, expected) in [(json!(2), ["a 2", "b 2"]), (Value::Null, ["a 3", "b 3"])] {
        let filter = json!({ "streams": ["STDOUT"], "attempt": attempt });
        let mut socket = Socket::listen(&app, LOGS, json!({ "id": id, "filter": filter })).await;
        assert_eq!(messages(&rest(&mut socket).await), expected);
    }
    app.stop().await;
}

async fn filters_pick_lines(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let line =
        r#"for n in $(seq 1000); do echo "::debug::noise $n"; done; echo '::error::it Broke'; echo quiet"#;
    let id = app.shell(line).await;
    let filter = json!({ "minLevel": "WARNING", "search": "broke" });
    let mut socket = Socket::listen(&app, LOGS, json!({ "id": id, "filter": filter })).await;
    assert_eq!(messages(&rest(&mut socket).await), ["it Broke"]);
    app.stop().await;
}

async fn a_cursor_of_another_log_is_refused(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let (one, two) = (app.shell("echo one").await, app.shell("echo two").await);
    let mut socket = Socket::listen(&app, LOGS, json!({ "id": one })).await;
    let cursor = socket.next("jobLogs").await["cursor"].clone();
    for after in [cursor, json!("nonsense"), json!("")] {
        let mut socket = Socket::listen(&app, LOGS, json!({ "id": two, "after": after })).await;
        assert_eq!(socket.refusal().await, "BAD_USER_INPUT", "{after}");
    }
    app.stop().await;
}
