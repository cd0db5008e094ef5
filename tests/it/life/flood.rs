//! Jobs that print without end: the server's memory stays flat, and the log says what it does not hold.

use serde_json::json;

use super::{shell, system};
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;
use crate::support::machine::Memory;

both_stores!(
    a_flood_leaves_memory_flat_and_its_beginning_in_the_log,
    one_endless_line_is_kept_whole,
);

/// What a server may grow by, in KiB, whatever its jobs print.
const ROOM: u64 = 48 * 1024;

async fn a_flood_leaves_memory_flat_and_its_beginning_in_the_log(db: TestDb) {
    const LIMIT: usize = 1 << 20;
    const FLOOD: usize = 256 << 20;
    let app = Setup::new(&db).flag("--log-bytes-per-job", LIMIT).start().await;
    app.completed(shell("echo warm")).await;
    let before = Memory::forget_peak(&app);
    let line = "the quick brown fox jumps over the lazy dog, ".repeat(22);
    let id = app.shell(&format!("yes '{line}' | head -c {FLOOD}")).await;
    let job = app.ended(&id).await;
    let after = Memory::of(&app);
    assert_eq!(job["status"], "COMPLETED", "{job:#}");
    assert!(after.peak < before.now + ROOM, "{before:?} {after:?}");
    let expected: Vec<u8> = format!("{line}\n").bytes().cycle().take(LIMIT).collect();
    assert!(app.bytes(&id, "stdout").await == expected, "not the first bytes");
    let said = system(&app, &id).await;
    assert!(
        said.iter()
            .any(|line| line.contains("its limit of 1048576 bytes")),
        "{said:?}"
    );
    let cut = format!("{} more bytes were printed and not kept", FLOOD - LIMIT);
    assert!(said.contains(&cut), "{said:?}");
    app.stop().await;
}

async fn one_endless_line_is_kept_whole(db: TestDb) {
    const LENGTH: usize = 20_000_000;
    let app = Setup::new(&db).start().await;
    app.completed(shell("echo warm")).await;
    let before = Memory::forget_peak(&app);
    let id = app
        .shell(&format!("yes 0123456789 | tr -d '\\n' | head -c {LENGTH}"))
        .await;
    let job = app.ended(&id).await;
    let after = Memory::of(&app);
    assert_eq!(job["status"], "COMPLETED", "{job:#}");
    assert!(after.peak < before.now + ROOM, "{before:?} {after:?}");
    let expected: Vec<u8> = (*b"0123456789").into_iter().cycle().take(LENGTH).collect();
    assert!(
        app.bytes(&id, "stdout").await == expected,
        "not the bytes that were printed"
    );
    let tail = "query($id: ID!) { job(id: $id) { stdout(lastBytes: 10) } }";
    let data = app.data(tail, json!({ "id": id })).await;
    assert_eq!(data["job"]["stdout"], "0123456789");
    app.stop().await;
}
