//! Listeners that ask for the same are answered together; nobody gets what is another one's.

use serde_json::{Value, json};

use super::{EVENTS, is_end, marker, replay};
use crate::access::{closed, runql, token};
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;
use crate::support::socket::{Said, Socket};
use crate::support::stream::SentEvents;

both_stores!(
    equal_listeners_get_the_same_under_their_own_ids,
    what_differs_is_answered_for_itself,
    what_is_told_to_one_stays_with_it,
    a_token_that_ends_takes_its_own_listener,
);

async fn equal_listeners_get_the_same_under_their_own_ids(db: TestDb) {
    const SOCKETS: usize = 20;
    const JOBS: usize = 10;
    let app = Setup::new(&db).start().await;
    let start = marker(&app).await;
    let after = json!({ "after": start });
    let mut sockets = Vec::new();
    for number in 0..SOCKETS {
        let mut socket = Socket::connect(&app).await;
        for side in ["left", "right"] {
            // Which events, and from where on, is for each to say; what is told of one does not depend on it.
            let variables = match number % 3 {
                0 => after.clone(),
                1 => json!({ "after": start, "filter": { "kinds": ["SHELL"] } }),
                _ => json!({ "after": start, "types": ["CREATED", "STARTED", "COMPLETED"] }),
            };
            let payload = json!({ "query": EVENTS, "variables": variables });
            socket.ask_as(&format!("{side} \"{number}\""), payload).await;
        }
        socket.settled().await;
        sockets.push(socket);
    }
    let mut stream = SentEvents::listen(&app, EVENTS, after.clone(), None).await;
    for _ in 0..JOBS {
        app.shell("true").await;
    }
    // Of another text, so that it is answered for itself.
    let mut alone = Socket::listen(&app, &format!("{EVENTS} "), after).await;
    let expected = super::until_ended(&mut alone, JOBS).await;
    assert_eq!(expected.len(), 3 * JOBS);
    for (number, socket) in sockets.iter_mut().enumerate() {
        let mut sides = [Vec::new(), Vec::new()];
        while sides.iter().any(|side| side.len() < expected.len()) {
            let (id, mut payload) = socket.next_of().await;
            let side = usize::from(id == format!("right \"{number}\""));
            assert!(side == 1 || id == format!("left \"{number}\""), "{id}");
            assert_eq!(payload.as_object().unwrap().len(), 1, "{payload}");
            sides[side].push(payload["data"]["jobEvents"].take());
        }
        socket.settled().await;
        assert!(socket.heard_nothing(), "an event came twice");
        assert!(sides.iter().all(|side| *side == expected), "{number}");
    }
    for event in &expected {
        let sent = stream.next().await.unwrap();
        assert_eq!(sent.id.as_deref(), event["cursor"].as_str());
        assert_eq!(sent.field("jobEvents"), *event);
    }
    // Who comes later is told the same, too.
    assert_eq!(replay(&app, &start, JOBS).await, expected);
    app.stop().await;
}

async fn what_differs_is_answered_for_itself(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let start = marker(&app).await;
    let query = "subscription End($after: String, $bytes: Int, $named: Boolean = false) {
            jobEvents(after: $after, types: [COMPLETED]) {
                type job { kind @include(if: $named) stdout(lastBytes: $bytes) }
            }
        }
        subscription Place($after: String) { jobEvents(after: $after, types: [COMPLETED]) { cursor } }";
    let asked = [
        ("End", json!({ "after": start, "bytes": 4 })),
        ("End", json!({ "after": start, "bytes": 8 })),
        ("End", json!({ "after": start, "bytes": 4, "named": true })),
        ("Place", json!({ "after": start })),
    ];
    let mut sockets = Vec::new();
    for _ in 0..3 {
        for (operation, variables) in &asked {
            let mut socket = Socket::connect(&app).await;
            let payload = json!({ "query": query, "variables": variables, "operationName": operation });
            socket.ask(payload).await;
            socket.settled().await;
            sockets.push(socket);
        }
    }
    app.shell("echo one; echo two").await;
    let cursor = replay(&app, &start, 1).await.pop().unwrap()["cursor"].take();
    let of = |job: Value| json!({ "type": "COMPLETED", "job": job });
    let expected = [
        of(json!({ "stdout": "two\n" })),
        of(json!({ "stdout": "one\ntwo\n" })),
        of(json!({ "kind": "SHELL", "stdout": "two\n" })),
        json!({ "cursor": cursor }),
    ];
    for (number, socket) in sockets.iter_mut().enumerate() {
        let event = socket.next("jobEvents").await;
        assert_eq!(event, expected[number % expected.len()]);
    }
    app.stop().await;
}

async fn what_is_told_to_one_stays_with_it(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let start = marker(&app).await;
    let payload = json!({ "query": EVENTS, "variables": { "after": start } });
    let mut wants_cost = payload.clone();
    wants_cost["extensions"] = json!({ "cost": true });
    let mut sockets = Vec::new();
    for wants in [false, true, false, true] {
        let mut socket = Socket::connect(&app).await;
        socket
            .ask(if wants {
                wants_cost.clone()
            } else {
                payload.clone()
            })
            .await;
        socket.settled().await;
        sockets.push((wants, socket));
    }
    app.shell("true").await;
    let mut events = Vec::new();
    for (wants, socket) in &mut sockets {
        let mut seen: Vec<Value> = Vec::new();
        while seen.last().is_none_or(|event| !is_end(event)) {
            let Said::Next(mut payload) = socket.said().await else {
                panic!("instead of a result")
            };
            // The first answer is the one that tells.
            assert_eq!(payload.get("extensions").is_some(), *wants && seen.is_empty());
            seen.push(payload["data"]["jobEvents"].take());
        }
        events.push(seen);
    }
    assert!(events.iter().all(|seen| *seen == events[0]));

    // One that fails ends for itself; the code is in an answer of its own.
    let mut expired = Socket::connect(&app).await;
    let variables = json!({ "after": "nonsense" });
    expired
        .ask(json!({ "query": EVENTS, "variables": variables }))
        .await;
    assert_eq!(expired.refusal().await, "BAD_USER_INPUT");
    app.stop().await;
}

async fn a_token_that_ends_takes_its_own_listener(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let start = marker(&app).await;
    let mut tokens = Vec::new();
    for (name, scopes) in [
        ("ada", "read"),
        ("eve", "read"),
        ("max", "read,run"),
        ("ron", "run"),
    ] {
        tokens.push(token(&app, name, scopes, &[]).await);
    }
    closed(&app).await;
    let mut sockets = Vec::new();
    for secret in &tokens {
        let init = json!({ "type": "connection_init" });
        let mut socket = Socket::open(&app, init, Some(secret)).await.unwrap();
        socket.subscribe(EVENTS, json!({ "after": start })).await;
        sockets.push(socket);
    }
    let run = async || {
        let query = "mutation { run(input: { command: { shell: { command: \"true\" } } }) { job { id } } }";
        let (_, answer) = crate::access::ask(&app, Some(&tokens[2]), query, json!({})).await;
        answer["data"]["run"]["job"]["id"].as_str().unwrap().to_owned()
    };
    let first = run().await;
    // Whoever may not listen hears nothing of what the others are told.
    assert_eq!(sockets.pop().unwrap().refusal().await, "FORBIDDEN");
    let mut stories = Vec::new();
    for socket in &mut sockets {
        stories.push(super::until_ended(socket, 1).await);
    }
    assert!(stories.iter().all(|story| *story == stories[0]));
    assert_eq!(stories[0][0]["job"]["id"], *first);

    assert_eq!(runql(&app, &["token", "revoke", "ada"]).await.0, 0);
    assert_eq!(sockets.remove(0).said().await, Said::Closed(Some(4403)));
    let second = run().await;
    for socket in &mut sockets {
        let story = super::until_ended(socket, 1).await;
        assert_eq!(story[0]["job"]["id"], *second);
    }
    app.stop().await;
}
