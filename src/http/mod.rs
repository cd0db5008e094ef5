//! The transports of the GraphQL API, each after its specification, over any [`async_graphql::Executor`].
//!
//! ```text
//!  identify ─ guard ─ CORS ─▶ endpoint ──GET, POST──▶ reply     (one response, or one for a batch)
//!  (`with_outer_layers`)         ├──text/event-stream──▶ sse    (graphql-sse, distinct connections)
//!                                └──Upgrade: websocket─▶ ws     (graphql-transport-ws)
//!                                         all three: params ▶ operation (document) ▶ answer
//! ```
//!
//! Responsible for: the form of requests and responses, limits on them, the codes and the masking of errors, request
//! ids, how long an operation may take and who pays for it, who may talk to a server on loopback. Not for: who a token belongs to (an outer layer puts [`OperationData`]
//! into the request), what an operation costs or does (the schema), listening and TLS (the server).

mod accept;
mod answer;
mod code;
mod config;
mod document;
mod endpoint;
mod guard;
mod manifest;
mod meter;
mod operation;
mod params;
mod persisted;
mod rate;
mod reply;
mod request_id;
mod shape;
mod shared;
mod sse;
#[cfg(test)]
mod tests;
mod transport;
mod ws;

use std::sync::Arc;

use async_graphql::Executor;
use axum::Router;
use axum::routing::any;
use tokio_util::sync::CancellationToken;

pub use code::{ErrorCode, UnknownErrorCode};
pub use config::{
    ConnectionHook, ConnectionInit, ConnectionRefused, LastEventId, OperationData, TransportConfig,
};
pub use document::Validation;
pub use guard::{GuardConfig, with_outer_layers};
pub use manifest::{Manifest, ManifestError};
pub use meter::{Cost, Meter};
pub use rate::{Payer, RateLimit};
pub use reply::error_response;
pub use request_id::RequestId;
pub use shape::SchemaShape;
pub use shared::Sharing;
pub use transport::TransportHandle;

/// Serves `executor` at `/graphql`. When `shutdown` is cancelled, sockets are closed and event streams end;
/// [`TransportHandle::closed`] waits for that.
pub fn graphql_routes<E: Executor>(
    executor: E,
    config: TransportConfig,
    shutdown: CancellationToken,
) -> (Router, TransportHandle) {
    let transport = Arc::new(transport::Transport::new(executor, config, shutdown));
    let handle = transport.handle();
    (
        Router::new()
            .route("/graphql", any(endpoint::serve::<E>))
            .with_state(transport),
        handle,
    )
}
