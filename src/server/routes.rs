//! The routes that are there from the first moment, and the gate to those that need the store.

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
use crate::http::{ErrorCode, error_response};
use crate::telemetry::chain;
use crate::telemetry::metrics::{set_jobs, set_listeners, set_store_bytes};
use crate::{graphiql, graphql};

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
            let mut response =
                error_response(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable, message);
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, header::HeaderValue::from_static("2"));
            response
        }
    }
}

/// Whether the process lives and its store answers, with the figures that a person looks at first.
async fn health(State(shared): State<Shared>) -> Response {
    let version = env!("CARGO_PKG_VERSION");
    let Some(live) = shared.live.get() else {
        let body = json!({ "status": "UNHEALTHY", "version": version, "database": { "connected": false } });
        return answer(StatusCode::SERVICE_UNAVAILABLE, body);
    };
    let executor = &live.executor;
    let pool = executor.pool();
    let checked = async {
        let latency = executor.reader().ping().await?;
        let counts = executor.reader().status_counts(None).await?;
        Ok::<_, crate::store::StoreError>((latency, counts))
    };
    match checked.await {
        Ok((latency, counts)) => answer(
            StatusCode::OK,
            json!({
                "status": "HEALTHY",
                "version": version,
                "uptimeMs": u64::try_from(executor.uptime().as_millis()).unwrap_or(u64::MAX),
                "database": { "connected": true, "latencyMs": latency.as_secs_f64() * 1e3 },
                "workers": { "running": pool.running, "size": pool.size },
                "queue": {
                    "pending": counts.of(JobStatus::Pending),
                    "running": counts.of(JobStatus::Running),
                },
            }),
        ),
        Err(error) => {
            tracing::warn!(error = %chain(&error), "the store does not answer");
            let body =
                json!({ "status": "UNHEALTHY", "version": version, "database": { "connected": false } });
            answer(StatusCode::SERVICE_UNAVAILABLE, body)
        }
    }
}

/// Whether to send requests here.
async fn ready(State(shared): State<Shared>) -> Response {
    let not_ready = |reason: &str| {
        answer(
            StatusCode::SERVICE_UNAVAILABLE,
            json!({ "ready": false, "reason": reason }),
        )
    };
    if shared.closing.is_cancelled() {
        return not_ready("the server is shutting down");
    }
    let Some(live) = shared.live.get() else {
        return not_ready("the store is not open yet");
    };
    match live.executor.reader().ping().await {
        Ok(_) => answer(StatusCode::OK, json!({ "ready": true })),
        Err(error) => {
            tracing::warn!(error = %chain(&error), "the store does not answer");
            not_ready("the store does not answer")
        }
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
        match tokio::try_join!(reader.status_counts(None), reader.size_bytes()) {
            Ok((counts, bytes)) => {
                set_jobs(&counts);
                set_store_bytes(bytes);
            }
            // What this server counts by itself is worth showing all the more.
            Err(error) => tracing::warn!(error = %chain(&error), "the store's figures cannot be read"),
        }
    }
    let content_type = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (content_type, shared.metrics.render()).into_response()
}

async fn schema(State(shared): State<Shared>) -> Response {
    if !shared.introspection {
        let message = "this server does not tell its schema; `runql schema` prints it";
        return error_response(StatusCode::NOT_FOUND, ErrorCode::NotFound, message);
    }
    (
        [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
        graphql::sdl(),
    )
        .into_response()
}

fn answer(status: StatusCode, body: Value) -> Response {
    (status, [(header::CACHE_CONTROL, "no-store")], axum::Json(body)).into_response()
}
