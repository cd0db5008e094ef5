//! Those who run jobs.

use async_graphql::{Context, ID, Object, SimpleObject};

use super::job::Job;
use crate::domain::{self, WorkerId};
use crate::executor::PoolState;
use crate::graphql::context::{ContextExt as _, list_cost};
use crate::graphql::error::ApiResult;
use crate::graphql::loader::CurrentJobs;
use crate::graphql::scalar::{DateTime, SafeInt};
use crate::graphql::words::WorkerStatus;

/// A worker, as it was when it was read.
#[derive(Debug, Clone)]
pub(in crate::graphql) struct Worker(pub(in crate::graphql) domain::Worker);

impl Worker {
    /// The worker of this id, together with the others that are asked for at the same time.
    pub(in crate::graphql) async fn load(ctx: &Context<'_>, id: Option<WorkerId>) -> ApiResult<Option<Self>> {
        let Some(id) = id else { return Ok(None) };
        Ok(ctx.loaders().load_one(id).await?.map(Self))
    }
}

/// Who runs jobs: a place in a server's own pool, or a program that registered through this API.
#[Object]
impl Worker {
    /// A UUID, unique across all types.
    pub(super) async fn id(&self) -> ID {
        self.0.id.into()
    }

    /// Such as `worker-001-local`: its number, of at least three digits, and its kind of backend.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// The kind of machine or service that it runs on; `local` for a server's own.
    async fn backend_type(&self) -> &str {
        &self.0.backend_type
    }

    /// What it is doing.
    async fn status(&self) -> WorkerStatus {
        self.0.status.into()
    }

    /// Whether it belongs to a server's own pool; false for one that registered through this API.
    async fn internal(&self) -> bool {
        self.0.internal
    }

    /// What it can take.
    async fn capabilities(&self) -> WorkerCapabilities {
        WorkerCapabilities {
            max_parallel_tasks: self.0.max_parallel_tasks,
            supported_problems: self.0.supported_problems.clone(),
        }
    }

    /// When it was first known.
    async fn registered_at(&self) -> DateTime {
        self.0.registered_at.into()
    }

    /// When it was last heard of.
    async fn last_heartbeat(&self) -> DateTime {
        self.0.last_heartbeat.into()
    }

    /// Jobs that it completed.
    async fn tasks_completed(&self) -> SafeInt {
        SafeInt(self.0.tasks_completed)
    }

    /// Jobs that ended otherwise with it.
    async fn tasks_failed(&self) -> SafeInt {
        SafeInt(self.0.tasks_failed)
    }

    /// What it runs now.
    #[graphql(complexity = "list_cost(child_complexity)")]
    async fn current_jobs(&self, ctx: &Context<'_>) -> ApiResult<Vec<Job>> {
        let ids = ctx
            .loaders()
            .load_one(CurrentJobs(self.0.id))
            .await?
            .unwrap_or_default();
        let mut found = ctx.loaders().load_many(ids.iter().copied()).await?;
        // A job that was deleted in between is left out.
        Ok(ids.iter().filter_map(|id| found.remove(id)).map(Job).collect())
    }
}

/// What a worker can take.
#[derive(SimpleObject)]
pub(in crate::graphql) struct WorkerCapabilities {
    /// The most that it runs at once.
    max_parallel_tasks: u32,
    /// Which problem ids and targets it takes, as patterns in which * stands for any characters.
    supported_problems: Vec<String>,
}

/// The pool, as it was when it was asked for.
pub(in crate::graphql) struct WorkerPool(pub(in crate::graphql) PoolState);

/// The workers that this server runs itself.
#[Object]
impl WorkerPool {
    /// Whether they take jobs. `stopWorkers` and `startWorkers` change it.
    async fn running(&self) -> bool {
        self.0.running
    }

    /// How many jobs run at once. `scaleWorkers` changes it.
    async fn size(&self) -> usize {
        self.0.size
    }

    /// The workers, by name.
    #[graphql(complexity = "list_cost(child_complexity)")]
    async fn workers(&self, ctx: &Context<'_>) -> ApiResult<Vec<Worker>> {
        let found = ctx.loaders().load_many(self.0.workers.iter().copied()).await?;
        let mut workers: Vec<Worker> = found.into_values().map(Worker).collect();
        workers.sort_by(|one, other| one.0.name.cmp(&other.0.name));
        Ok(workers)
    }
}
