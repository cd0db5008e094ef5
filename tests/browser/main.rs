//! The page in a real browser, against a small schema of its own.
//!
//! Responsible for what is the page's: that it comes up, runs, subscribes and keeps no token. Not responsible for
//! RunQL's own schema and transports. Needs Node.js with the packages of `tests/browser/package-lock.json`, and
//! Chromium; `bash tests/run.sh` sees to both.

use std::convert::Infallible;
use std::path::Path;

use async_graphql::{EmptyMutation, Object, Schema, Subscription};
use async_graphql_axum::{GraphQLRequest, GraphQLResponse, GraphQLSubscription};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures_util::{Stream, StreamExt, stream};
use tokio::process::Command;
use tokio::task::JoinSet;

type Demo = Schema<Query, EmptyMutation, Count>;

struct Query;

#[Object]
impl Query {
    /// Greets whoever is named.
    async fn greeting(&self, name: String) -> String {
        format!("Good day, {name}")
    }
}

struct Count;

#[Subscription]
impl Count {
    /// Counts from 1 to a number.
    async fn count(&self, to: i32) -> impl Stream<Item = i32> {
        stream::iter(1..=to)
    }
}

/// Both HTTP transports that the two pages use: one response, or server-sent events where they are asked for.
async fn graphql(State(schema): State<Demo>, headers: HeaderMap, request: GraphQLRequest) -> Response {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if !accept.starts_with("text/event-stream") {
        return GraphQLResponse::from(schema.execute(request.into_inner()).await).into_response();
    }
    let events = schema
        .execute_stream(request.into_inner())
        .map(|response| {
            Event::default()
                .event("next")
                .json_data(response)
                .expect("a response is JSON")
        })
        .chain(stream::iter([Event::default().event("complete").data("")]))
        .map(Ok::<_, Infallible>);
    Sse::new(events).into_response()
}

/// Serves the page and the demo schema, runs the script against it, and wants it to end well.
async fn drive(arguments: &[&str]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
    assert!(
        folder.join("node_modules").is_dir(),
        "first run `npm ci` in {}, or tests/run.sh",
        folder.display()
    );
    let schema = Schema::new(Query, EmptyMutation, Count);
    let router = Router::new()
        .route(
            "/graphql",
            post(graphql).get_service(GraphQLSubscription::new(schema.clone())),
        )
        .with_state(schema)
        .merge(runql::graphiql::routes());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("no free port");
    let url = format!("http://{}/", listener.local_addr().expect("it is bound"));
    let mut server = JoinSet::new();
    server.spawn(async move { axum::serve(listener, router).await });
    let output = Command::new("node")
        .current_dir(&folder)
        .args(["graphiql.mjs", "--url", &url])
        .args([
            "--query",
            "query Hello { greeting(name: \"world\") }",
            "--response",
            "Good day, world",
        ])
        .args([
            "--subscription",
            "subscription Up { count(to: 7) }",
            "--event",
            "\"count\": 7",
        ])
        .args(arguments)
        .kill_on_drop(true)
        .output()
        .await
        .expect("node could not be started");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test]
async fn graphiql_queries_subscribes_and_documents() {
    let screenshot = Path::new(env!("CARGO_TARGET_TMPDIR")).join("graphiql.png");
    drive(&[
        "--docs",
        "Greets whoever is named",
        "--screenshot",
        screenshot.to_str().unwrap(),
    ])
    .await;
}

#[tokio::test]
async fn the_plain_page_queries_and_subscribes() {
    let screenshot = Path::new(env!("CARGO_TARGET_TMPDIR")).join("plain.png");
    drive(&["--plain", "--screenshot", screenshot.to_str().unwrap()]).await;
}
