//! Operations that take longer than they may.

use super::sockets::Client;
use super::*;

async fn impatient() -> Server {
    let config = TransportConfig {
        max_execution: Duration::from_millis(50),
        ..TransportConfig::default()
    };
    Server::start(config).await
}

#[tokio::test]
async fn a_query_that_takes_too_long_is_given_up_over_each_transport() {
    let server = impatient().await;
    let (status, body) = server.query("{gated}").await;
    assert_eq!((status, code(&body)), (503, "UNAVAILABLE"), "{body}");
    let message = body["errors"][0]["message"].as_str().unwrap();
    assert!(
        message.starts_with("The query took longer than 50 ms, which is the limit, and was given up."),
        "{message}"
    );

    let streamed = reqwest::Client::new()
        .post(server.url())
        .header("accept", "text/event-stream")
        .json(&json!({ "query": "{gated}" }));
    let streamed = timeout(BOUND, async {
        streamed.send().await.unwrap().text().await.unwrap()
    })
    .await;
    let streamed = streamed.unwrap();
    assert!(
        streamed.contains("UNAVAILABLE") && streamed.contains("event: complete"),
        "{streamed}"
    );

    let mut client = Client::connect(&server).await;
    client.subscribe("1", "{gated}").await;
    let said = client.hear().await;
    assert_eq!(said["type"], "error", "{said}");
    assert_eq!(said["payload"][0]["extensions"]["code"], "UNAVAILABLE");
    // The socket goes on.
    client.subscribe("2", "{hello}").await;
    assert_eq!(client.hear().await["type"], "next");
}

#[tokio::test]
async fn a_mutation_that_is_given_up_says_that_it_may_be_done() {
    let server = impatient().await;
    let (status, body) = server.query("mutation {gatedBump}").await;
    assert_eq!((status, code(&body)), (503, "UNAVAILABLE"), "{body}");
    let message = body["errors"][0]["message"].as_str().unwrap();
    assert!(
        message.contains("may be changed, in whole or in part"),
        "{message}"
    );
    assert_eq!(server.bumps.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_waits_on_purpose_and_what_streams_is_not_given_up() {
    let server = impatient().await;
    let mut client = Client::connect(&server).await;
    client.subscribe("1", "subscription {endless}").await;
    assert_eq!(client.hear().await["type"], "next");
    let waiting = async {
        let waited = server.query("mutation {waits}").await;
        assert_eq!(waited, (200, json!({ "data": { "waits": true } })));
    };
    let opening = async {
        // Many times as long as an operation may take.
        tokio::time::sleep(Duration::from_millis(500)).await;
        server.gate.cancel();
    };
    tokio::join!(waiting, opening);
    client.subscribe("2", "{hello}").await;
    assert_eq!(
        client.hear().await["id"],
        "2",
        "the stream goes on without a word"
    );
}
