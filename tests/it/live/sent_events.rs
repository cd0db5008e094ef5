//! Server-sent events: the cursor is the event's id, so a browser resumes by itself.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{EVENTS, is_end, marker, replay};
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;
use crate::support::stream::SentEvents;

both_stores!(
    a_stream_that_breaks_resumes_by_the_last_id,
    who_has_the_headers_is_told_what_comes_next,
    a_stream_of_a_job_ends_with_it,
    a_refusal_is_an_event_too,
    a_restart_is_a_pause,
);

async fn a_stream_that_breaks_resumes_by_the_last_id(db: TestDb) {
    const JOBS: usize = 20;
    let app = Setup::new(&db).start().await;
    let start = marker(&app).await;
    let (mut last, mut seen, mut ended) = (start.clone(), Vec::new(), 0);
    for _ in 0..JOBS {
        app.shell("true").await;
    }
    while ended < JOBS {
        let mut stream = SentEvents::listen(&app, EVENTS, json!({}), Some(&last)).await;
        for _ in 0..fastrand::usize(1..=8) {
            if ended == JOBS {
                break;
            }
            let sent = stream.next().await.unwrap();
            assert_eq!(sent.kind, "next");
            let event = sent.field("jobEvents");
            assert_eq!(sent.id.as_deref(), event["cursor"].as_str());
            last = sent.id.unwrap();
            ended += usize::from(is_end(&event));
            seen.push(event);
        }
    }
    assert_eq!(seen, replay(&app, &start, JOBS).await);
    // What the browser remembers wins over the URL, which still says where the page began.
    let mut stream = SentEvents::listen(&app, EVENTS, json!({ "after": start }), Some(&last)).await;
    let next = app.shell("true").await;
    let event = stream.next().await.unwrap().field("jobEvents");
    assert_eq!(
        (event["type"].as_str(), event["job"]["id"].as_str()),
        (Some("CREATED"), Some(next.as_str()))
    );
    app.stop().await;
}

async fn who_has_the_headers_is_told_what_comes_next(db: TestDb) {
    const LISTENERS: usize = 50;
    let app = Setup::new(&db).start().await;
    let variables = json!({ "types": ["CREATED"] });
    let listen = || SentEvents::listen(&app, EVENTS, variables.clone(), None);
    let mut streams = join_all((0..LISTENERS).map(|_| listen())).await;
    let id = app.shell("true").await;
    for stream in &mut streams {
        let event = stream.next().await.unwrap().field("jobEvents");
        assert_eq!(event["job"]["id"], *id);
    }
    app.stop().await;
}

async fn a_stream_of_a_job_ends_with_it(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let id = app.shell("seq 100").await;
    let logs = "subscription($id: ID!) { jobLogs(id: $id) { cursor lines { message } } }";
    let mut stream = SentEvents::listen(&app, logs, json!({ "id": id }), None).await;
    let mut lines: Vec<Value> = Vec::new();
    let over = loop {
        let sent = stream.next().await.unwrap();
        if sent.kind == "complete" {
            break sent;
        }
        assert!(sent.id.is_some());
        lines.extend(super::batch_lines(&sent.field("jobLogs")));
    };
    assert_eq!(over.data, "");
    assert_eq!(stream.next().await, None);
    assert_eq!(lines.len(), 102);

    let watch = "subscription($id: ID!) { job(id: $id) { status } }";
    let mut stream = SentEvents::listen(&app, watch, json!({ "id": id }), None).await;
    assert_eq!(
        stream.next().await.unwrap().field("job"),
        json!({ "status": "COMPLETED" })
    );
    assert_eq!(stream.next().await.unwrap().kind, "complete");
    assert_eq!(stream.next().await, None);
    app.stop().await;
}

async fn a_refusal_is_an_event_too(db: TestDb) {
    let app = Setup::new(&db).start().await;
    for (query, variables, last, code) in [
        (EVENTS, json!({}), Some("nonsense"), "BAD_USER_INPUT"),
        (EVENTS, json!({ "after": "nonsense" }), None, "BAD_USER_INPUT"),
        (
            "subscription { job(id: \"nonsense\") { id } }",
            json!({}),
            None,
            "NOT_FOUND",
        ),
        (
            "subscription { nothing }",
            json!({}),
            None,
            "GRAPHQL_VALIDATION_FAILED",
        ),
    ] {
        let mut stream = SentEvents::listen(&app, query, variables, last).await;
        let sent = stream.next().await.unwrap();
        let payload: Value = serde_json::from_str(&sent.data).unwrap();
        assert_eq!(payload["errors"][0]["extensions"]["code"], code, "{payload:#}");
        assert_eq!(stream.next().await.unwrap().kind, "complete");
        assert_eq!(stream.next().await, None);
    }
    app.stop().await;
}

async fn a_restart_is_a_pause(db: TestDb) {
    let mut app = Setup::new(&db).start().await;
    let start = marker(&app).await;
    let mut stream = SentEvents::listen(&app, EVENTS, json!({}), Some(&start)).await;
    app.shell("true").await;
    let mut seen = Vec::new();
    let mut last = start.clone();
    while seen.last().is_none_or(|event| !is_end(event)) {
        let sent = stream.next().await.unwrap();
        last = sent.id.clone().unwrap();
        seen.push(sent.field("jobEvents"));
    }
    app.signal("TERM");
    // It is not over, only cut: a browser comes back by itself.
    assert_eq!(stream.next().await, None);
    assert_eq!(app.exit().await, Some(0));
    app.restart().await;
    app.completed(json!({ "command": { "shell": { "command": "true" } } }))
        .await;
    let mut stream = SentEvents::listen(&app, EVENTS, json!({}), Some(&last)).await;
    for _ in 0..3 {
        seen.push(stream.next().await.unwrap().field("jobEvents"));
    }
    assert_eq!(seen, replay(&app, &start, 2).await);
    app.stop().await;
}
