//! Server-sent events.

use super::*;

/// Reads a stream of events to its end, without the comments.
async fn events(request: reqwest::RequestBuilder) -> String {
    let response = timeout(BOUND, request.header("accept", "text/event-stream").send())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(response.status(), 200);
    assert!(
        response.headers()["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/event-stream")
    );
    let text = timeout(BOUND, response.text()).await.unwrap().unwrap();
    text.split_inclusive("\n\n")
        .filter(|event| !event.starts_with(':'))
        .collect()
}

fn post(server: &Server, query: &str) -> reqwest::RequestBuilder {
    reqwest::Client::new()
        .post(server.url())
        .json(&json!({ "query": query }))
}

#[tokio::test]
async fn a_subscription_is_a_stream_of_events_with_ids() {
    let server = Server::start(TransportConfig::default()).await;
    let expected = "event: next\nid: c1\ndata: {\"data\":{\"count\":{\"n\":1,\"cursor\":\"c1\"}}}\n\n\
                    event: next\nid: c2\ndata: {\"data\":{\"count\":{\"n\":2,\"cursor\":\"c2\"}}}\n\n\
                    event: complete\ndata:\n\n";
    let query = "subscription {count(to: 2) {n cursor}}";
    assert_eq!(events(post(&server, query)).await, expected);
    let get = reqwest::Client::new()
        .get(server.url())
        .query(&[("query", query)]);
    assert_eq!(events(get).await, expected);
    // A client that comes back goes on where it was.
    let resumed = events(post(&server, query).header("last-event-id", "c1")).await;
    assert!(resumed.starts_with("event: next\nid: c2\n"), "{resumed}");
    server.until_idle().await;
}

#[tokio::test]
async fn errors_come_as_events() {
    let server = Server::start(TransportConfig::default()).await;
    for (query, nexts, expected) in [
        ("subscription {nothing}", 1, "GRAPHQL_VALIDATION_FAILED"),
        ("subscription {", 1, "GRAPHQL_PARSE_FAILED"),
        ("subscription {expired}", 1, "CURSOR_EXPIRED"),
        ("subscription {panics(after: 2)}", 3, "INTERNAL"),
        ("subscription {breaks}", 2, "UNAVAILABLE"),
        ("{refused}", 1, "FORBIDDEN"),
    ] {
        let text = events(post(&server, query)).await;
        assert_eq!(text.matches("event: next").count(), nexts, "{text}");
        assert!(text.contains(expected) && !text.contains("1234"), "{text}");
        assert!(text.ends_with("event: complete\ndata:\n\n"), "{text}");
    }
    // A query is answered as JSON to a client that takes both.
    let both = post(&server, "{hello}").header("accept", "text/event-stream, application/json");
    assert_eq!(
        answered(both).await,
        (200, json!({ "data": { "hello": "world" } }))
    );
    server.until_idle().await;
}

#[tokio::test]
async fn subscriptions_are_limited_and_end_with_their_client() {
    let server = Server::start(TransportConfig {
        max_subscriptions: 1,
        ..TransportConfig::default()
    })
    .await;
    let mut open = post(&server, "subscription {endless}")
        .header("accept", "text/event-stream")
        .send()
        .await
        .unwrap();
    while !String::from_utf8_lossy(&open.chunk().await.unwrap().unwrap()).contains("event: next") {}
    assert_eq!(server.handle.open_subscriptions(), 1);
    assert!(
        events(post(&server, "subscription {endless}"))
            .await
            .contains("LIMIT_EXCEEDED")
    );
    drop(open);
    server.until_idle().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_loses_its_subscription() {
    let config = TransportConfig {
        send_timeout: Duration::from_millis(200),
        ..TransportConfig::default()
    };
    let server = Server::start(config).await;
    let open = post(&server, "subscription {flood}")
        .header("accept", "text/event-stream")
        .send()
        .await
        .unwrap();
    until(|| server.handle.open_subscriptions() == 0).await;
    drop(open);
}

#[tokio::test]
async fn comments_keep_a_quiet_stream_alive_and_a_shutdown_ends_it_without_complete() {
    let config = TransportConfig {
        keep_alive: Duration::from_millis(20),
        ..TransportConfig::default()
    };
    let server = Server::start(config).await;
    let mut open = post(&server, "subscription {endless}")
        .header("accept", "text/event-stream")
        .send()
        .await
        .unwrap();
    let mut text = String::new();
    while text.matches(":\n\n").count() < 5 {
        let chunk = timeout(BOUND, open.chunk()).await.unwrap().unwrap().unwrap();
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    server.shutdown.cancel();
    timeout(BOUND, server.handle.closed()).await.unwrap();
    while let Some(chunk) = timeout(BOUND, open.chunk()).await.unwrap().unwrap() {
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    assert!(
        text.contains("event: next") && !text.contains("complete"),
        "{text}"
    );
}
