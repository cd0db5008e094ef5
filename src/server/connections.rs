//! Accepts connections and serves each, within bounds: how many there are, how large the head of a request is, and how
//! long a client takes to send it.
//!
//! A client that opens a connection and says nothing, or says it byte by byte, would else hold memory for ever, and
//! enough of them all of it. Whoever comes beyond the bound is told so, with the code that every limit has.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderValue, Request, StatusCode, header};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::http::{ErrorCode, error_response};

/// Bytes that a connection may hold of a request's head, and of what it reads ahead. Beyond it the answer is 431.
const HEAD_BYTES: usize = 64 * 1024;

/// How many connections at a time are told that there are too many; the next ones find the door closed.
const REFUSED_AT_ONCE: usize = 64;

/// How long one of those may take to ask and hear its answer.
const REFUSAL_TIME: Duration = Duration::from_secs(2);

/// The pause after a failure to accept: where no file descriptor is left, the next try fails too.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a client may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Connections at a time.
    pub(super) connections: usize,
    /// From the moment at which a request is waited for until its head is there; then the connection is closed.
    pub(super) head_timeout: Duration,
}

/// Serves until `closing`; then accepts no more, and ends once every connection has.
pub(super) async fn serve(listener: TcpListener, app: Router, bounds: Bounds, closing: CancellationToken) {
    let room = Arc::new(Semaphore::new(bounds.connections));
    let doorstep = Arc::new(Semaphore::new(REFUSED_AT_ONCE));
    // Dropped with whoever waits here, so that no connection outlives the server.
    let mut connections = JoinSet::new();
    loop {
        let (stream, peer) = tokio::select! {
            () = closing.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) if is_the_peers(&error) => continue,
                Err(error) => {
                    tracing::warn!(error = %error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        // Events are small, and are to leave at once.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(error = %error, "TCP_NODELAY could not be set");
        }
        if let Ok(place) = Arc::clone(&room).try_acquire_owned() {
            let (app, closing) = (app.clone(), closing.clone());
            connections.spawn(async move {
                let answer = move |mut request: Request<Body>| {
                    request.extensions_mut().insert(ConnectInfo(peer));
                    app.clone().oneshot(request)
                };
                connection(stream, bounds.head_timeout, closing, answer).await;
                drop(place);
            });
        } else if let Ok(place) = Arc::clone(&doorstep).try_acquire_owned() {
            let most = bounds.connections;
            let closing = closing.clone();
            connections.spawn(async move {
                let refusal = connection(stream, REFUSAL_TIME, closing, move |_| {
                    std::future::ready(Ok(too_many(most)))
                });
                let _ = tokio::time::timeout(REFUSAL_TIME, refusal).await;
                drop(place);
            });
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Whether only this one connection is lost: its peer went away before it was accepted.
fn is_the_peers(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

/// Serves one connection, until it is closed or becomes a WebSocket: sockets have a bound of their own.
async fn connection<A, F>(stream: TcpStream, head_timeout: Duration, closing: CancellationToken, answer: A)
where
    A: Fn(Request<Body>) -> F + Clone,
    F: Future<Output = Result<Response, Infallible>> + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| answer(request.map(Body::new)));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_buf_size(HEAD_BYTES);
    let mut served = pin!(
        http.serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
    );
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = closing.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = %error, "a connection broke off");
    }
}

fn too_many(most: usize) -> Response {
    let message = format!("There are {most} connections already, and no more are taken.");
    let mut response = error_response(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::LimitExceeded, message);
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
    response
}
