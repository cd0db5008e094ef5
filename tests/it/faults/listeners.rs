//! Listeners that come back wherever there is a server, each time with the last cursor that they saw.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;

use super::world::{PAUSE, Shared};

/// What one listener heard, in its order.
pub(super) type Heard = Vec<Value>;

/// What is told of an event. Of the job only what never changes: its state is that of the moment of the sending.
pub(super) const EVENTS: &str = "subscription($after: String) { jobEvents(after: $after) {
    cursor type at status previousStatus attempt progress { current } error { code } job { id }
} }";

/// Without a word for so long a listener asks another server.
const SILENCE: Duration = Duration::from_secs(2);

/// A listener's place.
#[derive(Debug)]
struct Listener {
    shared: Arc<Shared>,
    last: String,
    heard: Heard,
}

impl Listener {
    fn new(shared: Arc<Shared>, start: String) -> Self {
        Self {
            shared,
            last: start,
            heard: Vec::new(),
        }
    }

    /// Takes a result. None where the server had to end the stream.
    fn hear(&mut self, mut payload: Value) -> Option<()> {
        if let Some(errors) = payload.get("errors") {
            self.check_refusal(errors);
            return None;
        }
        let event = payload["data"]["jobEvents"].take();
        event["cursor"].as_str().unwrap().clone_into(&mut self.last);
        self.heard.push(event);
        Some(())
    }

    fn check_refusal(&self, errors: &Value) {
        let code = errors[0]["extensions"]["code"].as_str().unwrap_or_default();
        assert!(
            ["UNAVAILABLE", "SHUTTING_DOWN"].contains(&code),
            "{errors:#} after {}",
            self.last
        );
    }

    /// Whether it has heard all that there is to hear.
    fn is_done(&self) -> bool {
        let Some(job) = self.shared.last_job.get() else {
            return false;
        };
        let is_end = |event: &Value| event["type"] == "COMPLETED" && event["job"]["id"] == job.as_str();
        self.heard.iter().rev().take(50).any(is_end)
    }
}

/// Listens over graphql-transport-ws.
pub(super) async fn by_socket(shared: Arc<Shared>, start: String) -> Heard {
    let mut listener = Listener::new(shared, start);
    while !listener.is_done() {
        let place = listener.shared.place();
        let _ = socket(&mut listener, &place).await;
        tokio::time::sleep(PAUSE).await;
    }
    listener.heard
}

/// One connection, until it is cut off or all was heard.
async fn socket(listener: &mut Listener, place: &str) -> Option<()> {
    let mut request = format!("ws://{place}/graphql").into_client_request().unwrap();
    let protocol = HeaderValue::from_static("graphql-transport-ws");
    request.headers_mut().insert("sec-websocket-protocol", protocol);
    let (mut stream, _) = tokio::time::timeout(SILENCE, connect_async(request))
        .await
        .ok()?
        .ok()?;
    let payload = json!({ "query": EVENTS, "variables": { "after": listener.last } });
    for message in [
        json!({ "type": "connection_init" }),
        json!({ "type": "subscribe", "id": "1", "payload": payload }),
    ] {
        stream.send(Message::text(message.to_string())).await.ok()?;
    }
    while !listener.is_done() {
        let message = tokio::time::timeout(SILENCE, stream.next()).await.ok()??.ok()?;
        let Message::Text(text) = message else { continue };
        let mut message: Value = serde_json::from_str(&text).unwrap();
        match message["type"].as_str().unwrap() {
            "next" => listener.hear(message["payload"].take())?,
            "error" => {
                listener.check_refusal(&message["payload"]);
                return None;
            }
            "complete" => return None,
            _ => {}
        }
    }
    Some(())
}

/// Listens over server-sent events, as a browser does.
pub(super) async fn by_sent_events(shared: Arc<Shared>, start: String) -> Heard {
    let mut listener = Listener::new(shared, start);
    while !listener.is_done() {
        let place = listener.shared.place();
        let _ = sent_events(&mut listener, &place).await;
        tokio::time::sleep(PAUSE).await;
    }
    listener.heard
}

async fn sent_events(listener: &mut Listener, place: &str) -> Option<()> {
    // The bound of other requests is one for the whole answer, which here has no end.
    let request = reqwest::Client::new()
        .post(format!("http://{place}/graphql"))
        .header("accept", "text/event-stream")
        .header("last-event-id", &listener.last)
        .json(&json!({ "query": EVENTS }));
    let mut response = tokio::time::timeout(SILENCE, request.send()).await.ok()?.ok()?;
    if !response.status().is_success() {
        return None;
    }
    let mut text = Vec::new();
    while !listener.is_done() {
        let chunk = tokio::time::timeout(SILENCE, response.chunk())
            .await
            .ok()?
            .ok()??;
        text.extend_from_slice(&chunk);
        while let Some(end) = memchr::memmem::find(&text, b"\n\n") {
            let block: Vec<u8> = text.drain(..end + 2).collect();
            let block = String::from_utf8(block).unwrap();
            let field = |name: &str| {
                block
                    .lines()
                    .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            };
            match field("event") {
                Some("next") => {
                    listener.hear(serde_json::from_str(field("data").unwrap()).unwrap())?;
                    assert_eq!(field("id"), Some(&*listener.last));
                }
                Some("complete") => return None,
                _ => {}
            }
        }
    }
    Some(())
}
