//! Cursors that are not good: each is refused with its code, and a listener never has a gap that it does not know of.

use runql::store::Backend;
use serde_json::json;

use super::{EVENTS, cursors, marker};
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::{TestDb, with_db};
use crate::support::socket::Socket;

both_stores!(
    an_expired_cursor_is_refused,
    a_made_up_cursor_is_refused,
    a_cursor_from_elsewhere_is_refused,
);

async fn an_expired_cursor_is_refused(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let job = app
        .completed(json!({ "command": { "shell": { "command": "true" } } }))
        .await;
    let places = cursors(&app, job["id"].as_str().unwrap()).await;
    let last = marker(&app).await;
    let deleted = app
        .data(
            "mutation { cleanup(input: {}) { deletedCount errors { code } } }",
            json!({}),
        )
        .await;
    assert_eq!(deleted["cleanup"]["deletedCount"], 2, "{deleted:#}");
    for place in &places {
        let mut socket = Socket::listen(&app, EVENTS, json!({ "after": place })).await;
        assert_eq!(socket.refusal().await, "CURSOR_EXPIRED");
    }
    // Who has seen all that was deleted misses nothing.
    let mut socket = Socket::listen(&app, EVENTS, json!({ "after": last })).await;
    let id = app.shell("true").await;
    let event = socket.next("jobEvents").await;
    assert_eq!(
        (&event["type"], &event["job"]["id"]),
        (&json!("CREATED"), &json!(id))
    );
    app.stop().await;
}

async fn a_made_up_cursor_is_refused(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let good = marker(&app).await;
    let mut mangled = good.clone().into_bytes();
    mangled[5] = if mangled[5] == b'A' { b'B' } else { b'A' };
    let listing = app
        .data("{ jobs(first: 1) { pageInfo { endCursor } } }", json!({}))
        .await;
    let of_jobs = listing["jobs"]["pageInfo"]["endCursor"].as_str().unwrap();
    for after in [
        "",
        "nonsense",
        "AAAA",
        of_jobs,
        &String::from_utf8(mangled).unwrap(),
        &good[1..],
    ] {
        let mut socket = Socket::listen(&app, EVENTS, json!({ "after": after })).await;
        assert_eq!(socket.refusal().await, "BAD_USER_INPUT", "{after:?}");
    }
    app.stop().await;
}

/// Its place is beyond the last event of this store: to wait for it would be to miss all until then.
async fn a_cursor_from_elsewhere_is_refused(db: TestDb) {
    let backend: Backend = db.backend();
    let app = Setup::new(&db).start().await;
    with_db(backend, async |elsewhere: TestDb| {
        let other = Setup::new(&elsewhere).start().await;
        let after = marker(&other).await;
        let mut socket = Socket::listen(&app, EVENTS, json!({ "after": after })).await;
        assert_eq!(socket.refusal().await, "BAD_USER_INPUT");
        other.stop().await;
    })
    .await;
    app.stop().await;
}
