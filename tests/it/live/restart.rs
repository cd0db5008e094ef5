//! Servers that end under their listeners, in order and not: what was missed comes after the restart.

use serde_json::{Value, json};

use super::{EVENTS, is_end, marker, replay, stories};
use crate::support::app::{Setup, TestApp};
use crate::support::both_stores;
use crate::support::db::TestDb;
use crate::support::socket::{Said, Socket};
use crate::support::wait::until;

both_stores!(a_listener_survives_restarts_and_crashes);

async fn a_listener_survives_restarts_and_crashes(db: TestDb) {
    let mut app = Setup::new(&db)
        .flag("--lease-ms", 1_000)
        .flag("--shutdown-grace-ms", 100)
        .start()
        .await;
    let start = marker(&app).await;
    let mut last = start.clone();
    let mut seen: Vec<Value> = Vec::new();
    let mut jobs = 0;
    for round in 0..4 {
        let mut socket = Socket::listen(&app, EVENTS, json!({ "after": last })).await;
        for _ in 0..10 {
            app.shell("true").await;
        }
        // One that is still at it when the server goes down.
        let id = app.shell("echo up; sleep 1000").await;
        until("it runs", async || match app.job(&id).await["stdout"].as_str() {
            Some("up\n") => Ok(()),
            other => Err(other.map(str::to_owned)),
        })
        .await;
        jobs += 11;
        // Some of it is heard before the end, some is not.
        for _ in 0..fastrand::usize(..20) {
            hear(&mut socket, &mut seen, &mut last).await;
        }
        if round % 2 == 0 {
            app.signal("TERM");
            assert_eq!(end_of(&mut socket, &mut seen, &mut last).await, Some(1001));
            assert_eq!(app.exit().await, Some(0));
        } else {
            app.kill().await;
            assert_eq!(end_of(&mut socket, &mut seen, &mut last).await, None);
        }
        app.nothing_left().await;
        app.restart().await;
    }
    let mut socket = Socket::listen(&app, EVENTS, json!({ "after": last })).await;
    while seen.iter().filter(|event| is_end(event)).count() < jobs {
        hear(&mut socket, &mut seen, &mut last).await;
    }
    assert_eq!(seen, replay(&app, &start, jobs).await);
    check(&app, &seen).await;
    app.stop().await;
}

async fn hear(socket: &mut Socket, seen: &mut Vec<Value>, last: &mut String) {
    let event = socket.next("jobEvents").await;
    event["cursor"].as_str().unwrap().clone_into(last);
    seen.push(event);
}

/// Hears what still comes, and gives the code with which the server closed the socket.
async fn end_of(socket: &mut Socket, seen: &mut Vec<Value>, last: &mut String) -> Option<u16> {
    loop {
        match socket.said().await {
            Said::Next(mut payload) => {
                let event = payload["data"]["jobEvents"].take();
                event["cursor"].as_str().unwrap().clone_into(last);
                seen.push(event);
            }
            Said::Closed(code) => return code,
            other => panic!("{other:?}"),
        }
    }
}

/// Every job began and ended once.
async fn check(app: &TestApp, seen: &[Value]) {
    let mut failed = 0;
    for (id, story) in stories(seen) {
        let end = story[story.len() - 1];
        failed += usize::from(end == "FAILED");
        let mut expected = vec!["CREATED"];
        // A job that waited when its server ended may have been claimed, given back and claimed again.
        expected.push("STARTED");
        expected.push(end);
        assert_eq!(story, expected, "{id}: {:#}", app.job(&id).await);
    }
    assert!(
        failed >= 4,
        "the long ones were lost with their servers: {failed}"
    );
}
