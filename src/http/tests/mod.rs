//! The transports over real sockets, with a schema that misbehaves on demand.

mod events;
mod outer;
mod requests;
mod shared;
mod sockets;
mod time;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use async_graphql::{
    Context, InputValueError, Object, Scalar, ScalarType, Schema, SimpleObject, Subscription, Value,
};
use axum::Router;
use axum::routing::get;
use futures_util::{Stream, StreamExt as _, stream};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;

/// Every wait of these tests has this bound; nothing waits as long unless it has failed.
const BOUND: Duration = Duration::from_secs(20);

/// A word that may not be `bad`.
struct Word(String);

#[Scalar]
impl ScalarType for Word {
    fn parse(value: Value) -> Result<Self, InputValueError<Self>> {
        match value {
            Value::String(word) if word != "bad" => Ok(Self(word)),
            other => Err(InputValueError::expected_type(other)),
        }
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.clone())
    }
}

/// What an outer layer or the connection hook says of the caller.
#[derive(Clone)]
struct Principal(String);

#[derive(SimpleObject)]
struct Tick {
    cursor: String,
    n: i32,
}

/// Whether it panics where it can.
struct Query(bool);

#[Object]
impl Query {
    async fn hello(&self) -> &'static str {
        "world"
    }

    async fn word(&self, word: Word) -> String {
        word.0
    }

    async fn number(&self, #[graphql(default = 1)] number: i32) -> i32 {
        number
    }

    async fn leak(&self) -> async_graphql::Result<Option<i32>> {
        Err(std::io::Error::other("the password is 1234").into())
    }

    async fn missing_data(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<i32>> {
        ctx.data::<std::time::Instant>().map(|_| None)
    }

    async fn refused(&self) -> async_graphql::Result<Option<i32>> {
        Err(ErrorCode::Forbidden.error("not for you"))
    }

    async fn panics(&self) -> Option<i32> {
        self.0.then(|| panic!("the password is 1234"))
    }

    async fn bad(&self) -> Option<Bad> {
        Some(Bad)
    }

    async fn request_id(&self, ctx: &Context<'_>) -> async_graphql::Result<String> {
        Ok(ctx.data::<RequestId>()?.to_string())
    }

    async fn principal(&self, ctx: &Context<'_>) -> Option<String> {
        ctx.data_opt::<Principal>().map(|principal| principal.0.clone())
    }

    /// Answers once `open` was called on the gate.
    async fn gated(&self, ctx: &Context<'_>) -> async_graphql::Result<bool> {
        ctx.data::<CancellationToken>()?.cancelled().await;
        Ok(true)
    }
}

struct Bad;

#[Object]
impl Bad {
    async fn fine(&self) -> i32 {
        1
    }

    async fn maybe(&self) -> async_graphql::Result<Option<i32>> {
        Err(ErrorCode::NotFound.error("not there"))
    }

    async fn sure(&self) -> async_graphql::Result<i32> {
        Err(ErrorCode::NotFound.error("not there"))
    }
}

struct Mutation;

#[Object]
impl Mutation {
    async fn bump(&self, ctx: &Context<'_>) -> async_graphql::Result<i32> {
        Ok(ctx.data::<Arc<AtomicI32>>()?.fetch_add(1, Ordering::SeqCst))
    }

    /// The same, whose answer waits for the gate.
    async fn gated_bump(&self, ctx: &Context<'_>) -> async_graphql::Result<i32> {
        let bumped = self.bump(ctx).await?;
        ctx.data::<CancellationToken>()?.cancelled().await;
        Ok(bumped)
    }

    /// Waits for the gate on purpose, for a minute at most.
    async fn waits(&self, ctx: &Context<'_>) -> async_graphql::Result<bool> {
        ctx.data::<Arc<Meter>>()?.allow(Duration::from_secs(60));
        ctx.data::<CancellationToken>()?.cancelled().await;
        Ok(true)
    }
}

struct Shown(i32);

#[Object]
impl Shown {
    async fn n(&self) -> i32 {
        self.0
    }

    /// How many were resolved before.
    async fn resolved(&self, ctx: &Context<'_>) -> async_graphql::Result<i32> {
        Ok(ctx.data::<Arc<AtomicI32>>()?.fetch_add(1, Ordering::SeqCst))
    }

    /// For whom it was resolved.
    async fn principal(&self, ctx: &Context<'_>) -> Option<String> {
        ctx.data_opt::<Principal>().map(|principal| principal.0.clone())
    }

    async fn times(&self, by: i32) -> i32 {
        self.0 * by
    }

    async fn odd(&self) -> async_graphql::Result<Option<i32>> {
        match self.0 % 2 {
            1 => Ok(Some(self.0)),
            _ => Err(ErrorCode::NotFound.error("not odd")),
        }
    }
}

struct Subscriptions;

#[Subscription(name = "Subscription")]
impl Subscriptions {
    /// Counts up and ends; after where the client was, if it says so.
    async fn count(&self, ctx: &Context<'_>, to: i32) -> impl Stream<Item = Tick> {
        let after = ctx
            .data_opt::<LastEventId>()
            .and_then(|last| last.0.strip_prefix('c')?.parse::<i32>().ok());
        stream::iter((after.unwrap_or(0) + 1)..=to).map(|n| Tick {
            cursor: format!("c{n}"),
            n,
        })
    }

    /// Items that equal operations share, numbered from one; below zero, one and then a fault, or a panic.
    async fn shared(&self, ctx: &Context<'_>, to: i32) -> impl Stream<Item = async_graphql::Result<Shown>> {
        let end = stream::iter((to == -1).then(|| Err(ErrorCode::Unavailable.error("later"))));
        let panic = stream::iter((to == -2).then_some(())).map(|()| panic!("the password is 1234"));
        let items = stream::iter(1..=to.max(1)).map(Ok).chain(end).chain(panic);
        let items = match ctx.data_opt::<Arc<Sharing>>() {
            Some(sharing) => sharing
                .each_once(items, |n| n.unsigned_abs().into())
                .left_stream(),
            None => items.right_stream(),
        };
        items.map(|item| item.map(Shown))
    }

    /// One, and then nothing for ever.
    async fn endless(&self) -> impl Stream<Item = i32> {
        stream::once(async { 1 }).chain(stream::pending())
    }

    /// More than any buffer holds.
    async fn flood(&self) -> impl Stream<Item = String> {
        stream::repeat_with(|| "x".repeat(64 * 1024))
    }

    async fn panics(&self, after: i32) -> impl Stream<Item = i32> {
        stream::iter(0..after).chain(stream::once(async { panic!("the password is 1234") }))
    }

    async fn expired(&self) -> async_graphql::Result<stream::Empty<i32>> {
        Err(ErrorCode::CursorExpired.error("too old"))
    }

    async fn breaks(&self) -> impl Stream<Item = async_graphql::Result<i32>> {
        stream::iter([Ok(1), Err(ErrorCode::Unavailable.error("later"))])
    }

    /// An event that fails, in a stream that goes on.
    async fn stumbles(&self) -> impl Stream<Item = async_graphql::Result<i32>> {
        stream::iter([Ok(1), Err(ErrorCode::NotFound.error("gone")), Ok(3)]).chain(stream::pending())
    }
}

/// A server on a port of its own, until it is dropped.
struct Server {
    address: SocketAddr,
    handle: TransportHandle,
    shutdown: CancellationToken,
    /// Lets the queries of `gated` answer.
    gate: CancellationToken,
    bumps: Arc<AtomicI32>,
    _stop: DropGuard,
    _serving: JoinSet<()>,
}

impl Server {
    async fn start(config: TransportConfig) -> Self {
        Self::start_with(config, GuardConfig::default(), "127.0.0.1:0").await
    }

    async fn start_with(config: TransportConfig, guard: GuardConfig, listen: &str) -> Self {
        let (gate, shutdown) = (CancellationToken::new(), CancellationToken::new());
        let bumps = Arc::new(AtomicI32::new(0));
        let schema = Schema::build(Query(true), Mutation, Subscriptions)
            .data(gate.clone())
            .data(Arc::clone(&bumps))
            .finish();
        let config = TransportConfig {
            shape: Arc::new(SchemaShape::from_sdl(&schema.sdl()).unwrap()),
            ..config
        };
        let (routes, handle) = graphql_routes(schema, config, shutdown.clone());
        let other = get(async || {
            error_response(
                axum::http::StatusCode::NOT_FOUND,
                ErrorCode::NotFound,
                "nothing here",
            )
        });
        let opened = gate.clone();
        let stop = get(async move || opened.cancel());
        let more = Router::new().route("/other", other).route("/stop", stop);
        let router = with_outer_layers(routes.merge(more), guard);
        let listener = TcpListener::bind(listen).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut serving = JoinSet::new();
        let stop = shutdown.clone();
        serving.spawn(async move {
            axum::serve(listener, router)
                .with_graceful_shutdown(stop.cancelled_owned())
                .await
                .unwrap();
        });
        let _stop = shutdown.clone().drop_guard();
        Self {
            address,
            handle,
            shutdown,
            gate,
            bumps,
            _stop,
            _serving: serving,
        }
    }

    fn url(&self) -> String {
        format!("http://{}/graphql", self.address)
    }

    async fn post(&self, body: serde_json::Value) -> (u16, serde_json::Value) {
        self.post_for("application/graphql-response+json", body).await
    }

    async fn post_for(&self, accept: &str, body: serde_json::Value) -> (u16, serde_json::Value) {
        let request = reqwest::Client::new()
            .post(self.url())
            .header("accept", accept)
            .json(&body);
        answered(request).await
    }

    async fn query(&self, query: &str) -> (u16, serde_json::Value) {
        self.post(json!({ "query": query })).await
    }

    async fn until_idle(&self) {
        until(|| self.handle.open_sockets() == 0 && self.handle.open_subscriptions() == 0).await;
    }
}

async fn answered(request: reqwest::RequestBuilder) -> (u16, serde_json::Value) {
    let response = timeout(BOUND, request.send()).await.unwrap().unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

/// Waits until `condition` holds.
async fn until(condition: impl Fn() -> bool) {
    let met = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(BOUND, met)
        .await
        .expect("the condition was not met in time");
}

fn code(body: &serde_json::Value) -> &str {
    body["errors"][0]["extensions"]["code"].as_str().unwrap_or("none")
}

/// Serves the schema for the clients of tests/clients, until a client asks for `/stop`:
/// `RUNQL_TEST_LISTEN=127.0.0.1:4400 cargo test -- --ignored serves_other_clients`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a server for clients to be tried on, not a test"]
async fn serves_other_clients() {
    let listen = std::env::var("RUNQL_TEST_LISTEN").unwrap_or_else(|_| "127.0.0.1:4400".to_owned());
    let guard = GuardConfig {
        check_host_and_origin: Arc::new(|| true),
        ..GuardConfig::default()
    };
    let server = Server::start_with(TransportConfig::default(), guard, &listen).await;
    let stopped = timeout(Duration::from_secs(600), server.gate.cancelled()).await;
    server.shutdown.cancel();
    server.handle.closed().await;
    stopped.unwrap();
}
