//! A client of graphql-transport-ws that does what a test says, no more: it neither reconnects nor resumes by itself.

use std::collections::VecDeque;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Message, http::HeaderValue};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::app::TestApp;
use super::wait::within;

/// What the server says about the one operation of the socket.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Said {
    /// A result.
    Next(Value),
    /// The operation was refused, or came to an end by a fault.
    Error(Value),
    /// The operation is over.
    Complete,
    /// The server closed the socket, with this code.
    Closed(Option<u16>),
}

/// A socket with one operation.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    early: VecDeque<Said>,
}

impl Socket {
    /// Connects, and waits until the server has agreed.
    pub(crate) async fn connect(app: &TestApp) -> Self {
        let opened = Self::open(app, json!({ "type": "connection_init" }), None).await;
        opened.unwrap_or_else(|code| panic!("the server closed the socket with {code:?}"))
    }

    /// Connects with this first message and this Authorization header; or gives the code with which the server closed.
    pub(crate) async fn open(app: &TestApp, init: Value, bearer: Option<&str>) -> Result<Self, Option<u16>> {
        let mut request = format!("ws://{}/graphql", app.address())
            .into_client_request()
            .unwrap();
        let protocol = HeaderValue::from_static("graphql-transport-ws");
        request.headers_mut().insert("sec-websocket-protocol", protocol);
        if let Some(bearer) = bearer {
            let value = HeaderValue::from_str(&format!("Bearer {bearer}")).unwrap();
            request.headers_mut().insert("authorization", value);
        }
        let (stream, _) = within("a socket", connect_async(request)).await.unwrap();
        let mut socket = Self {
            stream,
            early: VecDeque::new(),
        };
        socket.send(init).await;
        let answer = within("the server's agreement", socket.stream.next()).await;
        let answer = match answer.unwrap().unwrap() {
            Message::Close(frame) => return Err(frame.map(|frame| frame.code.into())),
            message => message,
        };
        let answer: Value = serde_json::from_str(answer.to_text().unwrap()).unwrap();
        assert_eq!(answer["type"], "connection_ack");
        Ok(socket)
    }

    /// Connects and subscribes.
    pub(crate) async fn listen(app: &TestApp, query: &str, variables: Value) -> Self {
        let mut socket = Self::connect(app).await;
        socket.subscribe(query, variables).await;
        socket
    }

    /// Starts the operation.
    pub(crate) async fn subscribe(&mut self, query: &str, variables: Value) {
        self.ask(json!({ "query": query, "variables": variables })).await;
    }

    /// Starts an operation by whatever parameters; only one runs at a time.
    pub(crate) async fn ask(&mut self, payload: Value) {
        self.send(json!({ "type": "subscribe", "id": "1", "payload": payload }))
            .await;
    }

    /// Starts an operation under an id of its own, beside others.
    pub(crate) async fn ask_as(&mut self, id: &str, payload: Value) {
        self.send(json!({ "type": "subscribe", "id": id, "payload": payload }))
            .await;
    }

    /// The next result of any operation, with its id. An operation may end in order meanwhile; nothing else may come.
    pub(crate) async fn next_of(&mut self) -> (String, Value) {
        within("a result", async {
            loop {
                let message = self.stream.next().await.unwrap().unwrap();
                let Message::Text(text) = message else { continue };
                let mut message: Value = serde_json::from_str(&text).unwrap();
                if message["type"] == "complete" {
                    continue;
                }
                assert_eq!(message["type"], "next", "{message}");
                let id = message["id"].as_str().unwrap().to_owned();
                return (id, message["payload"].take());
            }
        })
        .await
    }

    async fn send(&mut self, message: Value) {
        let message = Message::text(message.to_string());
        within("a message's way", self.stream.send(message))
            .await
            .unwrap();
    }

    /// What the server says next.
    pub(crate) async fn said(&mut self) -> Said {
        match self.early.pop_front() {
            Some(said) => said,
            None => within("the server's word", self.hear()).await,
        }
    }

    async fn hear(&mut self) -> Said {
        loop {
            let Some(Ok(message)) = self.stream.next().await else {
                return Said::Closed(None);
            };
            let text = match message {
                Message::Text(text) => text,
                Message::Close(frame) => {
                    // The answer to it, which the server waits for; it may be gone already.
                    let _ = self.stream.flush().await;
                    return Said::Closed(frame.map(|frame| frame.code.into()));
                }
                _ => continue,
            };
            let mut message: Value = serde_json::from_str(&text).unwrap();
            match message["type"].as_str().unwrap() {
                "next" => return Said::Next(message["payload"].take()),
                "error" => return Said::Error(message["payload"].take()),
                "complete" => return Said::Complete,
                "ping" => self.send(json!({ "type": "pong" })).await,
                _ => {}
            }
        }
    }

    /// Waits until the server answers a ping: it has then read all that was sent before, and what that asks for has begun.
    pub(crate) async fn settled(&mut self) {
        self.send(json!({ "type": "ping" })).await;
        within("the answer to a ping", async {
            loop {
                let message = self.stream.next().await.unwrap().unwrap();
                let Message::Text(text) = message else { continue };
                let mut message: Value = serde_json::from_str(&text).unwrap();
                match message["type"].as_str().unwrap() {
                    "pong" => return,
                    "next" => self.early.push_back(Said::Next(message["payload"].take())),
                    "error" => self.early.push_back(Said::Error(message["payload"].take())),
                    "complete" => self.early.push_back(Said::Complete),
                    _ => {}
                }
            }
        })
        .await;
    }

    /// Whether nothing has come before the last answer to a ping.
    pub(crate) fn heard_nothing(&self) -> bool {
        self.early.is_empty()
    }

    /// The next result's root field, which must be there and whole.
    pub(crate) async fn next(&mut self, field: &str) -> Value {
        match self.said().await {
            Said::Next(mut payload) if payload.get("errors").is_none() => payload["data"][field].take(),
            other => panic!("instead of a result: {other:?}"),
        }
    }

    /// The next result, or none where the operation is over in order.
    pub(crate) async fn next_or_end(&mut self, field: &str) -> Option<Value> {
        match self.said().await {
            Said::Next(mut payload) if payload.get("errors").is_none() => Some(payload["data"][field].take()),
            Said::Complete => None,
            other => panic!("instead of a result or the end: {other:?}"),
        }
    }

    /// The code of the error with which the operation must end.
    pub(crate) async fn refusal(&mut self) -> String {
        match self.said().await {
            Said::Error(errors) => errors[0]["extensions"]["code"].as_str().unwrap().to_owned(),
            other => panic!("instead of an error: {other:?}"),
        }
    }
}
