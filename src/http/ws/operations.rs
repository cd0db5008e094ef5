//! The operations that run on one socket: each a stream of messages, all of them polled by the socket's own task.
//!
//! They are polled only when the message before was written, so a client that reads slowly slows its streams down, and
//! one message at a time is held. Nothing here knows of other sockets.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_graphql::Executor;
use async_graphql::parser::types::OperationType;
use async_stream::stream;
use axum::extract::ws::Message;
use futures_util::StreamExt as _;
use futures_util::stream::{AbortHandle, Abortable, BoxStream, SelectAll, abortable};

use super::super::answer::Answer;
use super::super::code::ErrorCode;
use super::super::config::{OperationData, TransportConfig};
use super::super::operation::{Caller, Step};
use super::super::params::Params;
use super::super::request_id::RequestId;
use super::super::shared::Payload;
use super::super::transport::Transport;
use super::message::{Close, ServerMessage};

/// A message of an operation.
pub(super) struct Outgoing {
    id: Arc<str>,
    /// Whether the operation is over with it.
    last: bool,
    message: Message,
}

/// The operations of a socket.
#[derive(Default)]
pub(super) struct Operations {
    live: HashMap<Arc<str>, Live>,
    streams: SelectAll<Abortable<BoxStream<'static, Outgoing>>>,
}

struct Live {
    kind: OperationType,
    abort: AbortHandle,
}

impl Operations {
    /// Starts an operation. What comes of it, be it a refusal, comes out of [`Operations::poll_next`].
    pub(super) fn start<E: Executor>(
        &mut self,
        transport: &Arc<Transport<E>>,
        id: String,
        params: Params,
        data: &OperationData,
    ) -> Result<(), Close> {
        if self.live.contains_key(id.as_str()) {
            return Err(Close::duplicate(&id));
        }
        let id: Arc<str> = id.into();
        let caller = Caller {
            id: RequestId::new(),
            data: data.clone(),
            last_event_id: None,
        };
        let limited = |message: String| {
            let error = ErrorCode::LimitExceeded.server_error(message, None);
            Box::new(Answer::refused(error, &caller.id))
        };

        let max = transport.config.max_subscriptions_per_connection;
        let operation = if self.live.len() >= max {
            Err(limited(format!("The connection has its {max} operations.")))
        } else {
            transport.operation(params, &caller)
        };
        let started = operation.and_then(|operation| {
            if operation.kind != OperationType::Subscription {
                return Ok((operation, None));
            }
            let max = transport.config.max_subscriptions;
            let permit = Arc::clone(&transport.subscriptions).try_acquire_owned();
            let permit = permit.map_err(|_| limited(format!("The server has its {max} subscriptions.")))?;
            Ok((operation, Some(permit)))
        });
        let (kind, messages) = match started {
            Err(answer) => {
                let refusal = Outgoing::error(&id, &answer);
                (
                    OperationType::Query,
                    futures_util::stream::once(async { refusal }).boxed(),
                )
            }
            Ok((operation, permit)) => {
                let kind = operation.kind;
                let id = Arc::clone(&id);
                let messages = stream! {
                    let _permit = permit;
                    let mut steps = std::pin::pin!(operation.steps());
                    while let Some(step) = steps.next().await {
                        match step {
                            Step::Next(payload) => yield Outgoing::next(&id, &payload),
                            Step::Failed(answer) => {
                                yield Outgoing::error(&id, &answer);
                                return;
                            }
                        }
                    }
                    yield Outgoing::complete(&id);
                };
                (kind, messages.boxed())
            }
        };
        let (messages, abort) = abortable(messages);
        self.streams.push(messages);
        self.live.insert(id, Live { kind, abort });
        Ok(())
    }

    /// Ends an operation without a word, as its client asked for. An id that is not known is one that has ended.
    pub(super) fn stop(&mut self, id: &str) {
        if let Some(live) = self.live.remove(id) {
            live.abort.abort();
        }
    }

    /// Ends all subscriptions without a word; queries and mutations go on.
    pub(super) fn stop_subscriptions(&mut self) {
        self.live.retain(|_, live| {
            let goes_on = live.kind != OperationType::Subscription;
            if !goes_on {
                live.abort.abort();
            }
            goes_on
        });
    }

    /// Whether another message may be read. Above the limit an operation is refused, and the refusal has to be written
    /// before the next is made: else a client could pile them up here.
    pub(super) fn have_room(&self, config: &TransportConfig) -> bool {
        self.live.len() <= config.max_subscriptions_per_connection
    }

    /// Whether nothing runs any more.
    pub(super) fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// The next message of any operation; pending while there is none.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Message> {
        match self.streams.poll_next_unpin(context) {
            Poll::Ready(Some(outgoing)) => {
                if outgoing.last {
                    self.live.remove(&outgoing.id);
                }
                Poll::Ready(outgoing.message)
            }
            // Every operation ends with a message or by being stopped; so where none is left there is nothing to wait for.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

impl Outgoing {
    fn next(id: &Arc<str>, payload: &Payload) -> Self {
        let payload = &payload.json;
        let message = ServerMessage::Next { id, payload }.write();
        Self {
            id: Arc::clone(id),
            last: false,
            message,
        }
    }

    fn error(id: &Arc<str>, answer: &Answer) -> Self {
        let message = ServerMessage::Error {
            id,
            payload: &answer.errors,
        }
        .write();
        Self {
            id: Arc::clone(id),
            last: true,
            message,
        }
    }

    fn complete(id: &Arc<str>) -> Self {
        Self {
            id: Arc::clone(id),
            last: true,
            message: ServerMessage::Complete { id }.write(),
        }
    }
}
