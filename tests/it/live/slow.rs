//! Listeners that do not read: the server's memory stays flat, and nobody else waits for them.

use serde_json::{Value, json};

use super::{EVENTS, batch_lines, marker, until_ended};
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;
use crate::support::machine::Memory;
use crate::support::socket::Socket;

both_stores!(who_does_not_read_costs_nobody_anything);

/// What a server may grow by, in KiB, for all the listeners of this test: a batch or two for each. What they do not
/// read is nearly twice as much.
const ROOM: u64 = 48 * 1024;

const DEAF: usize = 4;
const LINES: usize = 20_000;

async fn who_does_not_read_costs_nobody_anything(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let start = marker(&app).await;
    let before = Memory::forget_peak(&app);
    // 20 MB of log, for each of four who ask for it and never read.
    let text = "x".repeat(990);
    let id = app.shell(&format!("yes '{text}' | head -n {LINES}")).await;
    let logs = "subscription($id: ID!) { jobLogs(id: $id) { cursor lines { number message } } }";
    let mut deaf = Vec::new();
    for _ in 0..DEAF {
        deaf.push(Socket::listen(&app, logs, json!({ "id": id })).await);
        deaf.push(Socket::listen(&app, EVENTS, json!({ "after": start })).await);
    }
    assert_eq!(app.ended(&id).await["status"], "COMPLETED");
    // Who reads gets everything meanwhile.
    let other = app.shell("seq 2000").await;
    let mut socket = Socket::listen(&app, logs, json!({ "id": other })).await;
    let mut numbers = Vec::new();
    while let Some(batch) = socket.next_or_end("jobLogs").await {
        numbers.extend(batch_lines(&batch).iter().map(|line| line["number"].clone()));
    }
    assert_eq!(numbers, (1..=2_002).map(Value::from).collect::<Vec<_>>());
    let mut events = Socket::listen(&app, EVENTS, json!({ "after": start })).await;
    for _ in 0..50 {
        app.shell("true").await;
    }
    until_ended(&mut events, 52).await;
    let after = Memory::of(&app);
    assert!(after.peak < before.now + ROOM, "{before:?} {after:?}");
    drop(deaf);
    app.stop().await;
}
