//! Server-sent events, after the distinct connections mode of graphql-sse: one request, one operation, one stream.
//!
//! ```text
//!  operation's steps ──▶ producer (a tracked task) ──▶ channel of one ──▶ body ──▶ client
//! ```
//!
//! The producer is a task of its own because a body is polled only while the client reads: a client that stops would
//! keep its subscription for ever. With one event in the channel and one in its hands the producer's memory is
//! bounded; it gives up after the send timeout. It ends with its client, too. At a shutdown the stream ends without
//! `complete`, which tells clients to connect again; the `id` of the last event tells the server where they were.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;

use async_graphql::Executor;
use async_graphql::parser::types::OperationType;
use axum::body::{Body, Bytes};
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, VARY};
use axum::response::Response;
use futures_util::stream::{self, Stream};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::debug;

use super::answer::Answer;
use super::code::ErrorCode;
use super::config::OperationData;
use super::operation::{Caller, Operation, Step};
use super::request_id::RequestId;
use super::shared::Payload;
use super::transport::Transport;

/// A comment, which clients skip: it shows that the connection lives, and to a proxy that it is in use.
const COMMENT: Bytes = Bytes::from_static(b":\n\n");

/// The end of an operation. The empty data is for browsers, whose `EventSource` drops an event without any.
const COMPLETE: &[u8] = b"event: complete\ndata:\n\n";

/// The response that streams what an operation gives.
pub(super) fn stream<E: Executor>(
    transport: &Arc<Transport<E>>,
    operation: Operation<E>,
    caller: &Caller,
) -> Response {
    let permit = if operation.kind == OperationType::Subscription {
        match Arc::clone(&transport.subscriptions).try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(_) => {
                let message = format!(
                    "The server has its {} subscriptions.",
                    transport.config.max_subscriptions
                );
                let error = ErrorCode::LimitExceeded.server_error(message, None);
                return failure(&Answer::refused(error, &caller.id));
            }
        }
    } else {
        None
    };
    let (events, mut body) = mpsc::channel::<Bytes>(1);
    let shared = Arc::clone(transport);
    let (data, id) = (caller.data.clone(), caller.id.clone());
    let standing = operation.standing();
    let mut producer = Box::pin(async move {
        let _permit = permit;
        shared.produce(operation.steps(), data, id, events).await;
    });
    // It begins before the client is answered: who has the headers is told of all that happens from then on.
    if producer.as_mut().now_or_never().is_none() {
        transport.tracker.spawn(producer);
    }
    let body = stream::poll_fn(move |context| body.poll_recv(context));
    let mut response = event_stream(Body::from_stream(body.map(Ok::<_, Infallible>)));
    if let Some(standing) = standing {
        standing.write(response.headers_mut());
    }
    response
}

/// The response of an operation that failed before it could stream.
pub(super) fn failure(answer: &Answer) -> Response {
    let mut response = event_stream(Body::from(last(answer)));
    if let Some(standing) = answer.standing {
        standing.write(response.headers_mut());
    }
    response
}

fn event_stream(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(VARY, HeaderValue::from_static("accept"));
    // Asks proxies of the nginx family not to hold events back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

impl<E: Executor> Transport<E> {
    async fn produce(
        &self,
        steps: impl Stream<Item = Step>,
        data: OperationData,
        id: RequestId,
        events: mpsc::Sender<Bytes>,
    ) {
        let mut steps = pin!(steps);
        // Kept from one event to the next: each is a place in a list that all streams share.
        let (mut over, mut shutdown) = (data.over(), pin!(self.shutdown.cancelled()));
        // The first tick comes at once, and so do the headers for the client.
        let mut keep_alive = interval(self.config.keep_alive);
        keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let (event, over) = tokio::select! {
                biased;
                () = events.closed() => return,
                () = shutdown.as_mut() => return,
                () = &mut over => {
                    let message = "What the stream was opened with does not hold any more.";
                    let error = ErrorCode::Unauthenticated.server_error(message, None);
                    (last(&Answer::refused(error, &id)).into(), true)
                }
                // Before the first tick, which comes at once and would have the headers sent.
                step = steps.next() => match step {
                    Some(Step::Next(payload)) => (next(&payload).into(), false),
                    Some(Step::Failed(answer)) => (last(&answer).into(), true),
                    None => (Bytes::from_static(COMPLETE), true),
                },
                _ = keep_alive.tick() => (COMMENT, false),
            };
            match timeout(self.config.send_timeout, events.send(event)).await {
                Ok(Ok(())) if !over => {}
                Ok(_) => return,
                Err(_) => {
                    debug!("dropped an event stream whose client does not read");
                    return;
                }
            }
        }
    }
}

fn next(payload: &Payload) -> Vec<u8> {
    let json = payload.json.get();
    let mut event = Vec::with_capacity(json.len() + 64);
    event.extend_from_slice(b"event: next\n");
    if let Some(cursor) = &payload.cursor {
        event.extend_from_slice(b"id: ");
        event.extend_from_slice(cursor.as_bytes());
        event.push(b'\n');
    }
    event.extend_from_slice(b"data: ");
    // JSON has no line breaks of its own, so that one line of data holds it.
    event.extend_from_slice(json.as_bytes());
    event.extend_from_slice(b"\n\n");
    event
}

fn last(answer: &Answer) -> Vec<u8> {
    let mut event = next(&Payload::of(answer));
    event.extend_from_slice(COMPLETE);
    event
}
