//! The life of one socket, from its opening to its close, in one task.
//!
//! ```text
//!   opened ──connection_init──▶ the hook decides ──ack──▶ acknowledged ──shutdown──▶ draining ──▶ closed
//!      └────────────── 4408 after the init timeout ┘            │ subscribe, complete: `Operations`
//! ```
//!
//! The loop does one thing at a time: while a message is being written nothing is read, so that a client which does not
//! read is heard no longer, and is dropped after the send timeout. A peer that says nothing, not even to a ping, is
//! dropped as well.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_graphql::Executor;
use axum::Error;
use axum::extract::ws::{Message, WebSocket};
use futures_util::future::{BoxFuture, poll_immediate};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};
use tracing::{debug, info};

use super::super::config::{ConnectionInit, ConnectionRefused, OperationData};
use super::super::transport::Transport;
use super::message::{ClientMessage, Close, ServerMessage};
use super::operations::Operations;

/// How long a peer may take to answer a closing frame. All that matters has been sent by then, and a shutdown waits.
const CLOSING_HANDSHAKE: Duration = Duration::from_secs(1);

/// Serves a socket until it is closed.
pub(super) async fn serve<E: Executor>(
    transport: Arc<Transport<E>>,
    mut socket: WebSocket,
    init: ConnectionInit,
) {
    let ended = if socket.protocol().is_none() {
        Ended::Close(Close::SUBPROTOCOL)
    } else {
        let state = State::Opened(init);
        let mut session = Session {
            transport: Arc::clone(&transport),
            state,
            operations: Operations::default(),
        };
        session.run(&mut socket).await
        // The session, and with it every operation, is dropped here, before the client is waited for.
    };
    let handshake = async {
        if let Ended::Close(close) = &ended {
            debug!(ws.close_code = close.code, "closing a socket");
            if socket.send(close.clone().into()).await.is_err() {
                return;
            }
        }
        // Reading on writes the answer to the client's closing frame, or waits for that to ours.
        while let Some(Ok(_)) = socket.recv().await {}
    };
    if !matches!(ended, Ended::Gone) {
        // A client that does not take part is left without the rest of the handshake.
        let _ = timeout(CLOSING_HANDSHAKE, handshake).await;
    }
}

struct Session<E> {
    transport: Arc<Transport<E>>,
    state: State,
    operations: Operations,
}

enum State {
    Opened(ConnectionInit),
    Deciding(BoxFuture<'static, Result<OperationData, ConnectionRefused>>),
    Acknowledged(OperationData),
    /// The server shuts down: queries and mutations end, nothing new begins.
    Draining,
}

/// How the life of a socket ends.
enum Ended {
    /// The server closes it.
    Close(Close),
    /// The client closes it.
    Closed,
    /// The peer is gone, or does not read.
    Gone,
}

impl From<Close> for Ended {
    fn from(close: Close) -> Self {
        Self::Close(close)
    }
}

impl<E: Executor> Session<E> {
    async fn run(&mut self, socket: &mut WebSocket) -> Ended {
        match self.live(socket).await {
            Ok(never) => match never {},
            Err(ended) => ended,
        }
    }

    async fn live(&mut self, socket: &mut WebSocket) -> Result<std::convert::Infallible, Ended> {
        let transport = Arc::clone(&self.transport);
        let config = &transport.config;
        // What is waited for all along is made once: each is a place in a list that all sockets share.
        let mut shutdown = pin!(transport.shutdown.cancelled());
        let mut deadline = pin!(sleep(config.init_timeout));
        let mut over = OperationData::default().over();
        let mut heard = Instant::now();
        let mut keep_alive = interval_at(heard + config.keep_alive, config.keep_alive);
        keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut spoke = false;
        loop {
            let has_room = self.operations.have_room(config);
            let (opening, draining) = (self.state.is_opening(), self.state.is_draining());
            let (state, operations) = (&mut self.state, &mut self.operations);
            let other = async {
                tokio::select! {
                    received = socket.recv(), if has_room => Happened::Received(received),
                    decision = state.decision() => Happened::Decided(decision),
                    _ = keep_alive.tick() => Happened::Quiet,
                    () = &mut over => Happened::Over,
                    () = shutdown.as_mut(), if !draining => Happened::Shutdown,
                    () = deadline.as_mut(), if opening || draining => Happened::Late,
                }
            };
            let happened = first(operations, std::mem::take(&mut spoke), other).await;
            let outgoing = match happened {
                Happened::Said(message) => {
                    spoke = true;
                    Some(message)
                }
                Happened::Received(received) => {
                    heard = Instant::now();
                    self.received(received)?
                }
                Happened::Decided(decision) => {
                    let (answer, data) = decided(decision)?;
                    over = data.over();
                    self.state = State::Acknowledged(data);
                    Some(answer)
                }
                Happened::Quiet => {
                    if heard.elapsed() >= config.keep_alive * 2 {
                        debug!("dropped a socket whose peer is silent");
                        return Err(Ended::Gone);
                    }
                    Some(Message::Ping(Default::default()))
                }
                // What the connection was opened with has ceased to hold: a token can be revoked.
                Happened::Over => return Err(Close::FORBIDDEN.into()),
                Happened::Shutdown => {
                    self.state = State::Draining;
                    self.operations.stop_subscriptions();
                    deadline.as_mut().reset(Instant::now() + config.close_timeout);
                    None
                }
                Happened::Late if draining => return Err(Close::GOING_AWAY.into()),
                Happened::Late => return Err(Close::INIT_TIMEOUT.into()),
            };
            if let Some(message) = outgoing {
                send(socket, message, config.send_timeout).await?;
            }
            if self.state.is_draining() && self.operations.is_empty() {
                return Err(Close::GOING_AWAY.into());
            }
        }
    }

    /// Takes what came in, and says what is to be answered at once.
    fn received(&mut self, received: Option<Result<Message, Error>>) -> Result<Option<Message>, Ended> {
        match received {
            None => Err(Ended::Gone),
            Some(Ok(Message::Close(_))) => Err(Ended::Closed),
            Some(Err(error)) => Err(ended_by(error)),
            // Pings are answered by the socket itself.
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(None),
            Some(Ok(Message::Binary(_))) => {
                Err(Close::bad_request("binary messages are not part of the protocol").into())
            }
            Some(Ok(Message::Text(text))) => self.told(ClientMessage::read(&text)?),
        }
    }

    fn told(&mut self, message: ClientMessage) -> Result<Option<Message>, Ended> {
        match (message, &mut self.state) {
            (ClientMessage::ConnectionInit { payload }, State::Opened(init)) => {
                let init = ConnectionInit {
                    payload,
                    ..init.clone()
                };
                self.state = State::Deciding(self.transport.config.on_connect.decide(init));
                Ok(None)
            }
            (ClientMessage::ConnectionInit { .. }, _) => Err(Close::TOO_MANY_INITS.into()),
            (ClientMessage::Ping { payload }, _) => Ok(Some(
                ServerMessage::Pong {
                    payload: payload.as_ref(),
                }
                .write(),
            )),
            (ClientMessage::Pong {}, _) => Ok(None),
            (ClientMessage::Subscribe { id, payload }, State::Acknowledged(data)) => {
                self.operations.start(&self.transport, id, payload, data)?;
                Ok(None)
            }
            // The close that follows shortly tells the client to ask again elsewhere.
            (ClientMessage::Subscribe { .. }, State::Draining) => Ok(None),
            (ClientMessage::Subscribe { .. }, State::Opened(_) | State::Deciding(_)) => {
                Err(Close::UNAUTHORIZED.into())
            }
            (ClientMessage::Complete { id }, _) => {
                self.operations.stop(&id);
                Ok(None)
            }
        }
    }
}

/// What a socket waits for.
enum Happened {
    /// An operation has a message.
    Said(Message),
    Received(Option<Result<Message, Error>>),
    Decided(Result<OperationData, ConnectionRefused>),
    /// It is time for a ping.
    Quiet,
    Over,
    Shutdown,
    /// What was to be done by now is not.
    Late,
}

/// What happens first. Of ten thousand sockets that an event wakes each has a message and nothing else, so that is
/// looked for first; but after a message everything else is, and has its turn however much the operations have to say.
async fn first(
    operations: &mut Operations,
    mut others_first: bool,
    other: impl Future<Output = Happened>,
) -> Happened {
    let mut other = pin!(other);
    poll_fn(|context| {
        if others_first && let Poll::Ready(happened) = other.as_mut().poll(context) {
            return Poll::Ready(happened);
        }
        if let Poll::Ready(message) = operations.poll_next(context) {
            return Poll::Ready(Happened::Said(message));
        }
        if std::mem::take(&mut others_first) {
            return Poll::Pending;
        }
        other.as_mut().poll(context)
    })
    .await
}

/// Sends a message, to a peer that reads.
async fn send(socket: &mut WebSocket, message: Message, patience: Duration) -> Result<(), Ended> {
    let mut sent = pin!(socket.send(message));
    // Nearly all are taken at once, and need no timer.
    let outcome = match poll_immediate(sent.as_mut()).await {
        Some(outcome) => Ok(outcome),
        None => timeout(patience, sent).await,
    };
    match outcome {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Ended::Gone),
        Err(_) => {
            debug!("dropped a socket whose client does not read");
            Err(Ended::Gone)
        }
    }
}

fn decided(decision: Result<OperationData, ConnectionRefused>) -> Result<(Message, OperationData), Ended> {
    match decision {
        Ok(data) => Ok((ServerMessage::ConnectionAck.write(), data)),
        Err(refused) => {
            info!(error.message = %refused, "a connection was refused");
            Err(Close::FORBIDDEN.into())
        }
    }
}

impl State {
    fn is_opening(&self) -> bool {
        matches!(self, Self::Opened(_) | Self::Deciding(_))
    }

    fn is_draining(&self) -> bool {
        matches!(self, Self::Draining)
    }

    /// The hook's decision, once one was asked for. Safe to cancel: the future stays where it is.
    async fn decision(&mut self) -> Result<OperationData, ConnectionRefused> {
        match self {
            Self::Deciding(decision) => decision.await,
            _ => std::future::pending().await,
        }
    }
}

/// What a peer did wrong it is told by a code; one that is gone is told nothing.
fn ended_by(error: Error) -> Ended {
    use axum::extract::ws::close_code;
    use tungstenite::error::ProtocolError::{ResetWithoutClosingHandshake, SendAfterClosing};
    let fault = error.into_inner();
    match fault.downcast_ref::<tungstenite::Error>() {
        Some(tungstenite::Error::Capacity(_)) => Close::TOO_LARGE.into(),
        Some(tungstenite::Error::Utf8(_)) => Close::bad_request("text is not UTF-8").into(),
        Some(tungstenite::Error::Protocol(broken))
            if !matches!(broken, ResetWithoutClosingHandshake | SendAfterClosing) =>
        {
            Close::PROTOCOL.into()
        }
        _ => {
            debug!(error.message = %fault, ws.close_code = close_code::ABNORMAL, "a socket broke off");
            Ended::Gone
        }
    }
}
