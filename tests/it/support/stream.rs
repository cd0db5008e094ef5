//! A client of server-sent events, graphql-sse's distinct connections mode, that reads one event after the other.

use serde_json::{Value, json};

use super::app::TestApp;
use super::wait::within;

/// An event as it came over the wire.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SentEvent {
    /// `next` or `complete`.
    pub(crate) kind: String,
    pub(crate) id: Option<String>,
    pub(crate) data: String,
}

impl SentEvent {
    /// The root field of the result.
    pub(crate) fn field(&self, field: &str) -> Value {
        let mut payload: Value = serde_json::from_str(&self.data).unwrap();
        assert!(payload.get("errors").is_none(), "{payload:#}");
        payload["data"][field].take()
    }
}

/// One operation over one response.
#[derive(Debug)]
pub(crate) struct SentEvents {
    response: reqwest::Response,
    text: Vec<u8>,
}

impl SentEvents {
    /// Subscribes; `last` is what a browser sends when it comes back.
    pub(crate) async fn listen(app: &TestApp, query: &str, variables: Value, last: Option<&str>) -> Self {
        let mut request = app
            .http()
            .post(format!("{}/graphql", app.url()))
            .header("accept", "text/event-stream")
            .json(&json!({ "query": query, "variables": variables }));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = within("the headers of a stream", request.send()).await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(
            response.headers()["content-type"]
                .to_str()
                .unwrap()
                .starts_with("text/event-stream")
        );
        Self {
            response,
            text: Vec::new(),
        }
    }

    /// The next event; none where the response has ended, in order or not.
    pub(crate) async fn next(&mut self) -> Option<SentEvent> {
        within("an event", async {
            loop {
                while let Some(end) = memchr::memmem::find(&self.text, b"\n\n") {
                    let block: Vec<u8> = self.text.drain(..end + 2).collect();
                    if let Some(event) = parse(&String::from_utf8(block).unwrap()) {
                        return Some(event);
                    }
                }
                match self.response.chunk().await {
                    Ok(Some(chunk)) => self.text.extend_from_slice(&chunk),
                    Ok(None) | Err(_) => return None,
                }
            }
        })
        .await
    }
}

/// An event, or none where the block is a comment.
fn parse(block: &str) -> Option<SentEvent> {
    let mut event = SentEvent {
        kind: String::new(),
        id: None,
        data: String::new(),
    };
    for line in block.lines() {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => value.clone_into(&mut event.kind),
            "id" => event.id = Some(value.to_owned()),
            "data" => event.data.push_str(value),
            _ => {}
        }
    }
    (!event.kind.is_empty()).then_some(event)
}
