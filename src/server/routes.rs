//! The routes that are there from the first moment, and the gate to those that need the store.

use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::Shared;
use super::access::may_not_read;
use crate::domain::{JobStatus, Scope};
use crate::executor::Condition;
use crate::http::{ErrorCode, error_response};
use crate::store::Trouble;
use crate::telemetry::chain;
use crate::telemetry::metrics::{set_jobs, set_listeners, set_store_bytes};
use crate::{graphiql, graphql};

/// How long `/metrics` waits for the store's figures.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) fn routes(shared: Shared) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/schema.graphql", get(schema))
        .route("/graphql", any(gate))
        // Parameters of both routers reach the handler, which goes by their names: this one must not be an `id`.
        .route("/jobs/{any}/log", any(gate))
        .with_state(shared)
        .merge(graphiql::routes())
        .fallback(async || {
            error_response(
                StatusCode::NOT_FOUND,
                ErrorCode::NotFound,
                "there is nothing at this address",
            )
        })
}

/// Lets a request through once the store is open.
async fn gate(State(shared): State<Shared>, mut request: Request) -> Response {
    match shared.live.get() {
        Some(live) => match live.doorman.admit(&mut request).await {
            Err(refusal) => refusal,
            // What a field of the API needs is for the schema to say; beside it there is only reading.
            Ok(Some(caller)) if request.uri().path() != "/graphql" && !caller.scopes.has(Scope::Read) => {
                may_not_read()
            }
            Ok(_) => match live.routes.clone().oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            },
        },
        None => {
            let message = "the server waits for its store; /ready tells when it is there";
            error_response(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable, message)
        }
    }
}

/// Whether the process lives and its store can be used, with the figures that a person looks at first.
async fn health(State(shared): State<Shared>) -> Response {
    let version = env!("CARGO_PKG_VERSION");
    let Some(live) = shared.live.get() else {
        let body = json!({
            "status": Condition::Unhealthy.as_str(),
            "version": version,
            "database": { "connected": false, "problem": shared.trouble().map(Trouble::as_str) },
        });
        return answer(StatusCode::SERVICE_UNAVAILABLE, body);
    };
    let executor = &live.executor;
    let found = executor.examine().await;
    let pool = executor.pool();
    let status = match found.condition {
        Condition::Healthy | Condition::Degraded => StatusCode::OK,
        Condition::Unhealthy => StatusCode::SERVICE_UNAVAILABLE,
    };
    let body = json!({
        "status": found.condition.as_str(),
        "version": version,
        "uptimeMs": u64::try_from(executor.uptime().as_millis()).unwrap_or(u64::MAX),
        "database": {
            "connected": found.database.is_ok(),
            "latencyMs": found.database.ok().map(|latency| latency.as_secs_f64() * 1e3),
            "problem": found.database.err().map(Trouble::as_str),
        },
        "workers": { "running": pool.running, "size": pool.size },
        "queue": {
            "pending": found.queue.of(JobStatus::Pending),
            "running": found.queue.of(JobStatus::Running),
        },
    });
    answer(status, body)
}

/// Whether to send requests here.
async fn ready(State(shared): State<Shared>) -> Response {
    let not_ready = |reason: String| {
        answer(
            StatusCode::SERVICE_UNAVAILABLE,
            json!({ "ready": false, "reason": reason }),
        )
    };
    if shared.closing.is_cancelled() {
        return not_ready("the server is shutting down".to_owned());
    }
    let Some(live) = shared.live.get() else {
        return not_ready(match shared.trouble() {
            Some(trouble) => format!("the store is not open yet: {trouble}"),
            None => "the store is not open yet".to_owned(),
        });
    };
    match live.executor.check_database().await {
        Ok(_) => answer(StatusCode::OK, json!({ "ready": true })),
        Err(trouble) => not_ready(trouble.to_string()),
    }
}

async fn metrics(State(shared): State<Shared>, mut request: Request) -> Response {
    if let Some(live) = shared.live.get() {
        match live.doorman.admit(&mut request).await {
            Err(refusal) => return refusal,
            Ok(Some(caller)) if caller.scopes.has(Scope::Read) => {}
            Ok(_) => return may_not_read(),
        }
        set_listeners(live.transport.open_sockets(), live.transport.open_subscriptions());
        let reader = live.executor.reader();
        let figures = async { tokio::try_join!(reader.status_counts(None), reader.size_bytes()) };
        // What this server counts by itself is worth showing all the more where the store does not answer.
        match tokio::time::timeout(PATIENCE, figures).await {
            Ok(Ok((counts, bytes))) => {
                set_jobs(&counts);
                set_store_bytes(bytes);
            }
            Ok(Err(error)) => {
                tracing::warn!(error = %chain(&error), "the store's figures cannot be read")
            }
            Err(_) => tracing::warn!("the store's figures take too long"),
        }
    }
    let content_type = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (content_type, shared.metrics.render()).into_response()
}

async fn schema() -> Response {
    (
        [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
        graphql::sdl(),
    )
        .into_response()
}

fn answer(status: StatusCode, body: Value) -> Response {
    (status, [(header::CACHE_CONTROL, "no-store")], axum::Json(body)).into_response()
}
