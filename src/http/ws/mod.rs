//! GraphQL over WebSocket, after the graphql-transport-ws protocol. Here is the way in: the upgrade; `message` has the
//! words of the protocol, `socket` the life of one socket, `operations` what runs on it.

mod message;
mod operations;
mod socket;

use std::sync::Arc;

use async_graphql::Executor;
use axum::extract::FromRequestParts as _;
use axum::extract::ws::WebSocketUpgrade;
use axum::http::header::{RETRY_AFTER, UPGRADE};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::Response;
use tracing::{Instrument as _, Span, debug};

use super::code::ErrorCode;
use super::config::{ConnectionInit, OperationData};
use super::reply::error_response;
use super::transport::Transport;

const SUBPROTOCOL: &str = "graphql-transport-ws";

/// Bytes that a socket reads at a time. Each socket has such a buffer for as long as it is open, and the messages of
/// clients are small: with the 128 KiB that are usual, the buffers would be nearly all that an idle listener costs. It is
/// cleared before each try to read, too, of which every message sent brings one.
const READ_BUFFER: usize = 1024;

/// Whether the request asks for a socket instead of a response.
pub(super) fn is_upgrade(parts: &Parts) -> bool {
    parts.method == Method::GET
        && parts
            .headers
            .get(UPGRADE)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Opens a socket. One whose client offers no subprotocol that is spoken here is opened too, to be closed with the
/// code that says so: a refused upgrade would tell a browser nothing.
pub(super) async fn upgrade<E: Executor>(transport: Arc<Transport<E>>, mut parts: Parts) -> Response {
    if transport.shutdown.is_cancelled() {
        return busy("The server is shutting down.");
    }
    let Ok(permit) = Arc::clone(&transport.sockets).try_acquire_owned() else {
        return busy(&format!(
            "The server has its {} sockets.",
            transport.config.max_sockets
        ));
    };
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade,
        Err(rejection) => {
            return error_response(rejection.status(), ErrorCode::BadRequest, rejection.body_text());
        }
    };
    let init = ConnectionInit {
        payload: None,
        data: parts
            .extensions
            .get::<OperationData>()
            .cloned()
            .unwrap_or_default(),
        headers: parts.headers,
        extensions: parts.extensions,
    };
    let limit = transport.config.max_request_bytes;
    let span = Span::current();
    upgrade
        .protocols([SUBPROTOCOL])
        .read_buffer_size(READ_BUFFER)
        // Each message is written out at once: nothing is held back, and nothing is kept allocated.
        .write_buffer_size(0)
        .max_message_size(limit)
        .max_frame_size(limit)
        .on_failed_upgrade(|error| debug!(error.message = %error, "a socket did not open"))
        .on_upgrade(move |socket| {
            let tracker = transport.tracker.clone();
            let life = async move {
                let _permit = permit;
                socket::serve(transport, socket, init).await;
            };
            tracker.track_future(life.instrument(span))
        })
}

fn busy(message: &str) -> Response {
    let mut response = error_response(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable, message);
    response
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}
