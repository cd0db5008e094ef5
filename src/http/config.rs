//! The settings of the transports, and the values that pass between them and their neighbours: what an outer layer
//! hands to every operation, who may open a connection, where a client wants to resume.

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_graphql::Data;
use axum::http::{Extensions, HeaderMap};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};

use super::manifest::Manifest;
use super::rate::{Payer, RateLimit};
use super::shape::SchemaShape;

/// What the transports allow. Each limit bounds memory, so none of them can be switched off.
#[derive(Debug, Clone)]
pub struct TransportConfig {
    /// Bytes of a request's body, and of a message on a socket; above it, 413 or close code 1009.
    pub max_request_bytes: usize,
    /// How long a request's body may take to come in; then 408.
    pub body_timeout: Duration,
    /// Operations in one batch.
    pub max_batch: usize,
    /// Tokens of a document: parsing takes memory in proportion to them.
    pub max_tokens: usize,
    /// Fields, fragments and directives of a document, counted as often as fragments repeat them: what is bounded is
    /// the work of validation, which would else grow exponentially with the document.
    pub max_selections: usize,
    /// Operations kept for automatic persisted queries; 0 switches them off.
    pub max_persisted_queries: usize,
    /// Bytes of all the documents kept for automatic persisted queries.
    pub max_persisted_bytes: usize,
    /// The only operations that are executed, where there is such a list; then nothing is kept for automatic persisted
    /// queries.
    pub manifest: Option<Arc<Manifest>>,
    /// What one payer may ask for in a time; none is no limit.
    pub rate_limit: Option<RateLimit>,
    /// How long a query or a mutation may take, beyond what it waits for on purpose; then UNAVAILABLE.
    pub max_execution: Duration,
    /// Sockets open at a time; above it, 503.
    pub max_sockets: usize,
    /// Subscriptions at a time, over all sockets and event streams.
    pub max_subscriptions: usize,
    /// Operations of any kind at a time on one socket.
    pub max_subscriptions_per_connection: usize,
    /// How long a socket may take from its opening to the acknowledgement; then close code 4408.
    pub init_timeout: Duration,
    /// How often a quiet peer is pinged; one that stays silent for twice as long is dropped.
    pub keep_alive: Duration,
    /// How long a peer may take to make room for one message; then it is dropped.
    pub send_timeout: Duration,
    /// How long a shutdown waits for queries and mutations that run on sockets.
    pub close_timeout: Duration,
    /// The types of the schema that is served, by which results with errors are put into shape.
    pub shape: Arc<SchemaShape>,
    /// Decides who may open a connection over WebSocket.
    pub on_connect: ConnectionHook,
}

impl Default for TransportConfig {
    fn default() -> Self {
        Self {
            max_request_bytes: 1 << 20,
            body_timeout: Duration::from_secs(30),
            max_batch: 20,
            max_tokens: 15_000,
            max_selections: 5_000,
            max_persisted_queries: 1_000,
            max_persisted_bytes: 8 << 20,
            manifest: None,
            rate_limit: None,
            max_execution: Duration::from_secs(30),
            max_sockets: 10_000,
            max_subscriptions: 20_000,
            max_subscriptions_per_connection: 200,
            init_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(12),
            send_timeout: Duration::from_secs(15),
            close_timeout: Duration::from_secs(5),
            shape: Arc::default(),
            on_connect: ConnectionHook::default(),
        }
    }
}

/// Where a client that reconnects to an event stream wants to go on: the `Last-Event-ID` header, in the data of the
/// operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastEventId(pub String);

/// Values for the data of every operation of a request or connection, such as who signed it. An outer layer puts it
/// into the request's extensions.
#[derive(Clone, Default)]
pub struct OperationData {
    inserts: Vec<Arc<Insert>>,
    payer: Payer,
    /// All of it that an answer may depend on, where that is known.
    rights: Option<Arc<[u8]>>,
    /// Done once whatever is open with this data has to be closed.
    over: Option<Shared<BoxFuture<'static, ()>>>,
}

type Insert = dyn Fn(&mut Data) + Send + Sync;

impl OperationData {
    /// The same data with one more value.
    #[must_use]
    pub fn with<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.inserts
            .push(Arc::new(move |data| data.insert(value.clone())));
        self
    }

    /// The same data, for operations that `payer` is charged for.
    #[must_use]
    pub fn paid_by(mut self, payer: Payer) -> Self {
        self.payer = payer;
        self
    }

    /// The same data, of which no answer to a subscription depends on more than `rights` tell: operations of the same
    /// rights may be given the same answer. Without this, each is answered by itself.
    #[must_use]
    pub fn with_rights(mut self, rights: impl Into<Arc<[u8]>>) -> Self {
        self.rights = Some(rights.into());
        self
    }

    /// The same data, which holds until `over` is done: sockets and streams that were opened with it are then closed.
    #[must_use]
    pub fn until(mut self, over: impl Future<Output = ()> + Send + 'static) -> Self {
        self.over = Some(over.boxed().shared());
        self
    }

    /// Waits until it does not hold any more, which may be for ever.
    pub(super) fn over(&self) -> impl Future<Output = ()> + Send + Unpin + use<> {
        match &self.over {
            Some(over) => over.clone().left_future(),
            None => std::future::pending().right_future(),
        }
    }

    /// Who is charged for the operations.
    pub(super) const fn payer(&self) -> Payer {
        self.payer
    }

    /// What of it answers may depend on, where that is known.
    pub(super) fn rights(&self) -> Option<&[u8]> {
        self.rights.as_deref()
    }

    pub(super) fn fill(&self, data: &mut Data) {
        for insert in &self.inserts {
            insert(data);
        }
    }
}

impl fmt::Debug for OperationData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OperationData").field(&self.inserts.len()).finish()
    }
}

/// What a client and its request say when a connection over WebSocket is to be opened.
#[derive(Debug, Clone)]
pub struct ConnectionInit {
    /// The payload of `connection_init`.
    pub payload: Option<serde_json::Map<String, serde_json::Value>>,
    /// The headers of the request that was upgraded.
    pub headers: HeaderMap,
    /// The extensions of that request.
    pub extensions: Extensions,
    /// What outer layers gave that request; the hook returns it, with more or less in it.
    pub data: OperationData,
}

/// The connection is refused: the socket is closed with 4403. The reason is for the log, clients are not told.
#[derive(Debug, Clone, thiserror::Error)]
#[error("connection refused: {0}")]
pub struct ConnectionRefused(pub String);

type Hook =
    dyn Fn(ConnectionInit) -> BoxFuture<'static, Result<OperationData, ConnectionRefused>> + Send + Sync;

/// Decides, from its `connection_init`, whether a connection may be opened, and what its operations are given. The
/// default lets everybody in, with what outer layers gave the request.
#[derive(Clone)]
pub struct ConnectionHook(Arc<Hook>);

impl ConnectionHook {
    /// A hook that asks `decide`.
    pub fn new<F, D>(decide: F) -> Self
    where
        F: Fn(ConnectionInit) -> D + Send + Sync + 'static,
        D: Future<Output = Result<OperationData, ConnectionRefused>> + Send + 'static,
    {
        Self(Arc::new(move |init| decide(init).boxed()))
    }

    pub(super) fn decide(
        &self,
        init: ConnectionInit,
    ) -> BoxFuture<'static, Result<OperationData, ConnectionRefused>> {
        // A hook that panics lets nobody in; the panic itself was reported where it happened.
        let decision = AssertUnwindSafe((self.0)(init)).catch_unwind();
        decision
            .map(|decided| decided.unwrap_or_else(|_| Err(ConnectionRefused("the hook panicked".to_owned()))))
            .boxed()
    }
}

impl Default for ConnectionHook {
    fn default() -> Self {
        Self::new(async |init| Ok(init.data))
    }
}

impl fmt::Debug for ConnectionHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConnectionHook")
    }
}
