//! The messages of graphql-transport-ws, and the codes a socket is closed with.

use std::borrow::Cow;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::super::params::Params;

/// An id is kept while its operation lives and is repeated in each of its messages.
const MAX_ID_BYTES: usize = 256;

/// What clients say.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ClientMessage {
    ConnectionInit { payload: Option<Map<String, Value>> },
    Ping { payload: Option<Map<String, Value>> },
    Pong {},
    Subscribe { id: String, payload: Params },
    Complete { id: String },
}

impl ClientMessage {
    /// Reads a message, or tells what is wrong with it.
    pub(super) fn read(text: &str) -> Result<Self, Close> {
        let message: Self =
            serde_json::from_str(text).map_err(|fault| Close::bad_request(&fault.to_string()))?;
        if let Self::Subscribe { id, payload } = &message {
            if id.is_empty() || id.len() > MAX_ID_BYTES {
                return Err(Close::bad_request("an operation's id has 1 to 256 bytes"));
            }
            if !payload.names_document() {
                return Err(Close::bad_request("missing field `query`"));
            }
        }
        Ok(message)
    }
}

/// What the server says.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ServerMessage<'a> {
    ConnectionAck,
    Pong {
        #[serde(skip_serializing_if = "Option::is_none")]
        payload: Option<&'a Map<String, Value>>,
    },
    Next {
        id: &'a str,
        payload: &'a RawValue,
    },
    Error {
        id: &'a str,
        payload: &'a [async_graphql::ServerError],
    },
    Complete {
        id: &'a str,
    },
}

impl ServerMessage<'_> {
    pub(super) fn write(&self) -> Message {
        match serde_json::to_string(self) {
            Ok(text) => Message::Text(text.into()),
            Err(fault) => {
                // Only a value whose own serialisation fails comes here; no type of ours does.
                tracing::error!(error.message = %fault, "a message could not be written as JSON");
                Close::new(4500, "Internal server error").into()
            }
        }
    }
}

/// A code and a reason to close a socket with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Close {
    pub(super) code: u16,
    reason: Cow<'static, str>,
}

impl Close {
    /// The server goes down: clients try again, elsewhere or later.
    pub(super) const GOING_AWAY: Self = Self::new(1001, "Going away");
    pub(super) const PROTOCOL: Self = Self::new(1002, "Protocol error");
    pub(super) const TOO_LARGE: Self = Self::new(1009, "Message too large");
    pub(super) const UNAUTHORIZED: Self = Self::new(4401, "Unauthorized");
    pub(super) const FORBIDDEN: Self = Self::new(4403, "Forbidden");
    pub(super) const SUBPROTOCOL: Self = Self::new(4406, "Subprotocol not acceptable");
    pub(super) const INIT_TIMEOUT: Self = Self::new(4408, "Connection initialisation timeout");
    pub(super) const TOO_MANY_INITS: Self = Self::new(4429, "Too many initialisation requests");

    const fn new(code: u16, reason: &'static str) -> Self {
        Self {
            code,
            reason: Cow::Borrowed(reason),
        }
    }

    pub(super) fn bad_request(fault: &str) -> Self {
        Self {
            code: 4400,
            reason: Cow::Owned(format!("Invalid message: {fault}")),
        }
    }

    pub(super) fn duplicate(id: &str) -> Self {
        Self {
            code: 4409,
            reason: Cow::Owned(format!("Subscriber for {id} already exists")),
        }
    }
}

impl From<Close> for Message {
    fn from(close: Close) -> Self {
        // A control frame holds 125 bytes, two of which are the code.
        let mut end = close.reason.len().min(123);
        while !close.reason.is_char_boundary(end) {
            end -= 1;
        }
        let reason = Utf8Bytes::from(&close.reason[..end]);
        Self::Close(Some(CloseFrame {
            code: close.code,
            reason,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_out_of_the_protocol_are_refused() {
        for text in [
            "",
            "[]",
            "null",
            "{}",
            r#"{"type":"nope"}"#,
            r#"{"type":"next","id":"1","payload":{}}"#,
            r#"{"type":"connection_init","payload":"x"}"#,
            r#"{"type":"ping","payload":[]}"#,
            r#"{"type":"subscribe","id":"1"}"#,
            r#"{"type":"subscribe","id":1,"payload":{"query":"{a}"}}"#,
            r#"{"type":"subscribe","id":"","payload":{"query":"{a}"}}"#,
            r#"{"type":"subscribe","id":"1","payload":{}}"#,
            r#"{"type":"subscribe","id":"1","payload":["{a}"]}"#,
            r#"{"type":"subscribe","id":"1","payload":{"query":"{a}","variables":[]}}"#,
            r#"{"type":"complete"}"#,
        ] {
            assert_eq!(
                ClientMessage::read(text).map_err(|close| close.code).err(),
                Some(4400),
                "{text}"
            );
        }
        for text in [
            r#"{"type":"connection_init"}"#,
            r#"{"type":"connection_init","payload":null}"#,
            r#"{"type":"pong","payload":{"a":1}}"#,
            r#"{"id":"1","payload":{"query":"{a}","variables":null},"type":"subscribe","more":1}"#,
            r#"{"type":"complete","id":"never started"}"#,
        ] {
            assert!(ClientMessage::read(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_reason_is_cut_between_characters() {
        let Message::Close(Some(frame)) = Message::from(Close::bad_request(&"ü".repeat(100))) else {
            panic!()
        };
        assert!(frame.reason.len() <= 123 && frame.reason.ends_with('ü'));
    }
}
