//! How the server is, and who asks.

use async_graphql::SimpleObject;

use super::stats::StatusCounts;
use crate::domain::Caller;
use crate::domain::{self, WorkerStatus};
use crate::executor::Executor;
use crate::graphql::scalar::{DateTime, SafeInt};
use crate::graphql::words::{DatabaseBackend, DatabaseProblem, HealthStatus, Scope};

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
    /// The workers of all servers that share the database; all 0 where it cannot be used.
    workers: WorkerCounts,
    /// How many jobs of each status there are; all 0 where the database cannot be used.
    queue: StatusCounts,
}

/// How the database is.
#[derive(SimpleObject)]
pub(in crate::graphql) struct DatabaseHealth {
    /// Which kind of database it is.
    backend: DatabaseBackend,
    /// Whether it can be read and written.
    connected: bool,
    /// How long it takes to answer the smallest question; null where it does not.
    latency_ms: Option<f64>,
    /// What keeps it from being used; null where nothing does.
    problem: Option<DatabaseProblem>,
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

impl Health {
    /// Finds out. A database that fails is a finding, not an error.
    pub(in crate::graphql) async fn examine(executor: &Executor) -> Self {
        let found = executor.examine().await;
        Self {
            status: found.condition.into(),
            version: env!("CARGO_PKG_VERSION"),
            timestamp: executor.now().into(),
            uptime_ms: SafeInt::millis(executor.uptime()),
            database: DatabaseHealth {
                backend: executor.backend().into(),
                connected: found.database.is_ok(),
                latency_ms: found.database.ok().map(|latency| latency.as_secs_f64() * 1e3),
                problem: found.database.err().map(Into::into),
            },
            workers: WorkerCounts::of(&found.workers),
            queue: StatusCounts(found.queue),
        }
    }
}

/// The caller, as the server sees it.
#[derive(SimpleObject)]
pub(in crate::graphql) struct Viewer {
    /// The name of the token that signed the request; null where the server runs without authentication.
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
