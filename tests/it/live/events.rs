//! `jobEvents`: the whole story of each job, in order, from now on or from a cursor, and only what was asked for.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{EVENTS, is_end, marker, replay, stories, until_ended};
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;
use crate::support::socket::Socket;

both_stores!(
    each_job_tells_its_whole_story_in_order,
    without_a_cursor_it_begins_now,
    now_is_before_what_the_client_says_next,
    filters_and_types_pick_events,
    what_does_not_match_is_silence,
);

const STEPS: &str = "echo '::progress current=1 total=2::first'; echo '::progress current=2 total=2::second'";

async fn each_job_tells_its_whole_story_in_order(db: TestDb) {
    const JOBS: usize = 30;
    let app = Setup::new(&db).start().await;
    let start = marker(&app).await;
    let mut socket = Socket::listen(&app, EVENTS, json!({ "after": start })).await;
    let mut ids = BTreeSet::new();
    for _ in 0..JOBS {
        ids.insert(app.shell(STEPS).await);
    }
    let events = until_ended(&mut socket, JOBS).await;

    let stories = stories(&events);
    assert_eq!(stories.keys().cloned().collect::<BTreeSet<_>>(), ids);
    for (id, story) in &stories {
        let steps = story.len() - 3;
        assert!((1..=2).contains(&steps), "{story:?}");
        let mut expected = vec!["CREATED", "STARTED"];
        expected.extend(vec!["PROGRESSED"; steps]);
        expected.push("COMPLETED");
        assert_eq!(*story, expected);

        let mine: Vec<&Value> = events.iter().filter(|event| event["job"]["id"] == **id).collect();
        let moves: Vec<_> = mine
            .iter()
            .filter(|event| event["type"] != "PROGRESSED")
            .map(|event| {
                (
                    event["previousStatus"].as_str(),
                    event["status"].as_str(),
                    event["attempt"].as_i64(),
                )
            })
            .collect();
        assert_eq!(
            moves,
            [
                (None, Some("PENDING"), Some(0)),
                (Some("PENDING"), Some("RUNNING"), Some(1)),
                (Some("RUNNING"), Some("COMPLETED"), Some(1)),
            ]
        );
        let last_step = mine[mine.len() - 2];
        assert_eq!(
            last_step["progress"],
            json!({ "current": 2, "total": 2, "step": "second" })
        );
        assert_eq!(last_step["status"], "RUNNING");
        // The job's own list of events is the same one.
        let of_job: Vec<Value> = mine.iter().map(|event| event["cursor"].clone()).collect();
        assert_eq!(super::cursors(&app, id).await, of_job);
    }

    // Whoever comes later gets the same, from any place in it.
    assert_eq!(replay(&app, &start, JOBS).await, events);
    for place in [0, events.len() / 2, events.len() - 2] {
        let rest = &events[place + 1..];
        let ends = rest.iter().filter(|event| is_end(event)).count();
        let cursor = events[place]["cursor"].as_str().unwrap();
        assert_eq!(replay(&app, cursor, ends).await, rest);
    }
    app.stop().await;
}

async fn without_a_cursor_it_begins_now(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let before: BTreeSet<String> = [app.shell("true").await, app.shell("true").await].into();
    for id in &before {
        app.ended(id).await;
    }
    let mut socket = Socket::listen(&app, EVENTS, json!({})).await;
    socket.settled().await;
    let id = app.shell("exit 3").await;
    assert!(!before.contains(&id));
    let events = until_ended(&mut socket, 1).await;
    assert!(events.iter().all(|event| event["job"]["id"] == *id));
    assert_eq!(stories(&events)[&id], ["CREATED", "STARTED", "FAILED"]);
    assert_eq!(events[2]["error"]["code"], "EXIT_CODE");
    app.stop().await;
}

/// However many begin at once, and however long the database would take to answer all of them.
async fn now_is_before_what_the_client_says_next(db: TestDb) {
    const LISTENERS: usize = 100;
    let app = Setup::new(&db).start().await;
    let created = json!({ "types": ["CREATED"] });
    let mut sockets = join_all((0..LISTENERS).map(|_| Socket::connect(&app))).await;
    join_all(sockets.iter_mut().map(async |socket| {
        socket.subscribe(EVENTS, created.clone()).await;
        socket.settled().await;
    }))
    .await;
    let id = app.shell("true").await;
    for socket in &mut sockets {
        assert_eq!(socket.next("jobEvents").await["job"]["id"], *id);
    }
    // Over the same socket nothing is to be waited for.
    let run = "mutation($input: RunInput!) { run(input: $input) { job { id } } }";
    let input = json!({ "command": { "shell": { "command": "true" } } });
    let mut socket = Socket::connect(&app).await;
    let events = json!({ "query": EVENTS, "variables": created });
    socket.ask_as("events", events).await;
    socket
        .ask_as("run", json!({ "query": run, "variables": { "input": input } }))
        .await;
    let mut said = BTreeMap::new();
    while said.len() < 2 {
        said.extend([socket.next_of().await]);
    }
    assert_eq!(
        said["events"]["data"]["jobEvents"]["job"]["id"],
        said["run"]["data"]["run"]["job"]["id"]
    );
    app.stop().await;
}

async fn filters_and_types_pick_events(db: TestDb) {
    let app = Setup::new(&db).start().await;
    app.script("report.sh", "#!/bin/sh\ntrue\n");
    app.script("repair.sh", "#!/bin/sh\nexit 1\n");
    let start = marker(&app).await;
    let script = |name: &str, tag: &str, queue: &str| {
        json!({
            "command": { "script": { "name": name } }, "queue": queue,
            "metadata": { "source": "test", "tags": [{ "key": "team", "value": tag }] },
        })
    };
    let report = app.run(script("report.sh", "blue", "fast")).await;
    let repair = app.run(script("repair.sh", "red", "slow")).await;
    let other = app.shell("true").await;
    for id in [&report, &repair, &other] {
        app.ended(id).await;
    }
    let all = replay(&app, &start, 3).await;
    let expect = |pick: &dyn Fn(&Value) -> bool| -> Vec<Value> {
        all.iter().filter(|event| pick(event)).cloned().collect()
    };
    let of = |ids: &[&String]| {
        let ids: Vec<Value> = ids.iter().map(|id| json!(id)).collect();
        expect(&|event| ids.contains(&event["job"]["id"]))
    };
    let table = [
        (json!({ "ids": [report] }), Value::Null, of(&[&report])),
        (json!({ "name": "rep*" }), Value::Null, of(&[&report, &repair])),
        (json!({ "kinds": ["SHELL"] }), Value::Null, of(&[&other])),
        (json!({ "queues": ["slow"] }), Value::Null, of(&[&repair])),
        (
            json!({ "tags": [{ "key": "team", "value": "blue" }] }),
            Value::Null,
            of(&[&report]),
        ),
        (json!({ "source": "test" }), Value::Null, of(&[&report, &repair])),
        (
            json!(null),
            json!(["FAILED", "CREATED"]),
            expect(&|event| event["type"] == "FAILED" || event["type"] == "CREATED"),
        ),
        (
            json!({ "name": "report.sh" }),
            json!(["STARTED"]),
            expect(&|event| event["job"]["id"] == *report && event["type"] == "STARTED"),
        ),
    ];
    for (filter, types, expected) in table {
        let variables = json!({ "filter": filter, "types": types, "after": start });
        let mut socket = Socket::listen(&app, EVENTS, variables.clone()).await;
        let mut seen = Vec::new();
        for _ in &expected {
            seen.push(socket.next("jobEvents").await);
        }
        assert_eq!(seen, expected, "{variables}");
    }
    app.stop().await;
}

async fn what_does_not_match_is_silence(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let start = marker(&app).await;
    let never = json!({ "filter": { "name": "no such name" }, "after": start });
    let mut silent = Socket::listen(&app, EVENTS, never).await;
    for _ in 0..5 {
        app.completed(json!({ "command": { "shell": { "command": "true" } } }))
            .await;
    }
    assert_eq!(replay(&app, &start, 5).await.len(), 15);
    silent.settled().await;
    assert!(silent.heard_nothing(), "what does not match was sent");
    app.stop().await;
}
