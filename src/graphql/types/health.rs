//! How the server is, and who asks.

use std::time::Duration;

use async_graphql::SimpleObject;
use tokio::time::timeout;
use tracing::warn;

use super::stats::StatusCounts;
use crate::domain::Caller;
use crate::domain::{self, WorkerStatus};
use crate::executor::Executor;
use crate::graphql::scalar::{DateTime, SafeInt};
use crate::graphql::words::{DatabaseBackend, HealthStatus, Scope};
use crate::store::StoreError;
use crate::telemetry::chain;

/// How long the database may take to answer before it counts as away.
const PATIENCE: Duration = Duration::from_secs(3);

/// How the server is.
#[derive(SimpleObject)]
pub(in crate::graphql) struct Health {
    /// In one word.
    status: HealthStatus,
    /// The server's version.
    version: &'static str,
    /// When this was found out.
    timestamp: DateTime,
    /// How long the server has been up.
    uptime_ms: SafeInt,
    /// Where it keeps its data.
    database: DatabaseHealth,
    /// The workers of all servers that share the database; all 0 where it cannot be reached.
    workers: WorkerCounts,
    /// How many jobs of each status there are; all 0 where the database cannot be reached.
    queue: StatusCounts,
}

/// How the database is.
#[derive(SimpleObject)]
pub(in crate::graphql) struct DatabaseHealth {
    /// Which kind of database it is.
    backend: DatabaseBackend,
    /// Whether it answers.
    connected: bool,
    /// How long it takes to answer the smallest question; null where it does not.
    latency_ms: Option<f64>,
}

/// How many workers there are.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, SimpleObject)]
pub(in crate::graphql) struct WorkerCounts {
    /// In any state.
    total: u32,
    /// Ready for a job.
    idle: u32,
    /// Running at least one.
    busy: u32,
    /// Not heard of for longer than a lease.
    offline: u32,
}

impl WorkerCounts {
    fn of(workers: &[domain::Worker]) -> Self {
        let mut counts = Self::default();
        for worker in workers {
            counts.total += 1;
            *match worker.status {
                WorkerStatus::Idle => &mut counts.idle,
                WorkerStatus::Busy => &mut counts.busy,
                WorkerStatus::Offline => &mut counts.offline,
            } += 1;
        }
        counts
    }
}

/// What the database says of itself and of the rest.
struct Found {
    latency: Duration,
    workers: WorkerCounts,
    queue: domain::StatusCounts,
}

impl Health {
    /// Finds out. A database that fails is a finding, not an error.
    pub(in crate::graphql) async fn examine(executor: &Executor) -> Self {
        let found = match timeout(PATIENCE, ask(executor)).await {
            Ok(Ok(found)) => Some(found),
            Ok(Err(fault)) => {
                warn!(error = %chain(&fault), "the database is not healthy");
                None
            }
            Err(_) => {
                warn!(
                    patience_ms = crate::telemetry::millis(PATIENCE),
                    "the database does not answer"
                );
                None
            }
        };
        let pool = executor.pool();
        let status = match &found {
            None => HealthStatus::Unhealthy,
            Some(_) if !pool.running || pool.size == 0 => HealthStatus::Degraded,
            Some(_) => HealthStatus::Healthy,
        };
        Self {
            status,
            version: env!("CARGO_PKG_VERSION"),
            timestamp: executor.now().into(),
            uptime_ms: SafeInt::millis(executor.uptime()),
            database: DatabaseHealth {
                backend: executor.backend().into(),
                connected: found.is_some(),
                latency_ms: found.as_ref().map(|found| found.latency.as_secs_f64() * 1e3),
            },
            workers: found.as_ref().map(|found| found.workers).unwrap_or_default(),
            queue: StatusCounts(found.map(|found| found.queue).unwrap_or_default()),
        }
    }
}

async fn ask(executor: &Executor) -> Result<Found, StoreError> {
    let reader = executor.reader();
    Ok(Found {
        latency: reader.ping().await?,
        workers: WorkerCounts::of(&reader.workers(executor.silent_since()).await?),
        queue: reader.status_counts(None).await?,
    })
}

/// The caller, as the server sees it.
#[derive(SimpleObject)]
pub(in crate::graphql) struct Viewer {
    /// The name of the token that signed the request, or `oidc:HOST/SUBJECT` for whom an identity provider vouches; null
    /// where the server runs without authentication.
    token_name: Option<String>,
    /// What the caller may do.
    scopes: Vec<Scope>,
}

impl Viewer {
    pub(in crate::graphql) fn of(caller: &Caller) -> Self {
        Self {
            token_name: caller.authenticated.then(|| caller.actor.name.clone()),
            scopes: caller.scopes.iter().map(Into::into).collect(),
        }
    }
}
