//! One question for many: what the objects of a page ask for one by one goes to the store as one query.
//!
//! Each kind of edge has a key type of its own. Nothing is cached: an answer is shared by those who wait for it and
//! then forgotten, so no client reads what another was told earlier.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_graphql::dataloader::{DataLoader, Loader};
use futures_util::future::BoxFuture;
use tokio::task::JoinSet;
use tracing::{error, trace};

use crate::domain::{Attempt, Job, JobId, JobKind, StatusCounts, Worker, WorkerId};
use crate::executor::Executor;
use crate::store::StoreError;
use crate::telemetry::chain;

/// The loaders, in the schema's data.
pub(super) type Loaders = DataLoader<StoreLoader>;

/// The attempts of a job before its latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct EarlierAttempts(pub(super) JobId);

/// The jobs that a worker holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct CurrentJobs(pub(super) WorkerId);

/// How many children of each status a job has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ChildCounts(pub(super) JobId);

/// The jobs that a job waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Dependencies(pub(super) JobId);

/// The latest job of this kind and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct LastJob {
    pub(super) kind: JobKind,
    pub(super) name: String,
}

/// Whether a registered worker that is there supports what stands under this route.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Supported(pub(super) String);

/// Asks the store, many keys at a time.
pub(super) struct StoreLoader {
    executor: Executor,
}

impl fmt::Debug for StoreLoader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreLoader")
    }
}

/// The loaders over an executor. Their tasks live at most as long as the schema.
pub(super) fn loaders(executor: Executor) -> Loaders {
    let tasks = Mutex::new(JoinSet::new());
    DataLoader::new(StoreLoader { executor }, move |batch| run(&tasks, batch))
}

/// Starts the task of a batch, and looks after those that have ended. One that panics answers nobody; whoever waits
/// for it fails by itself, and here it is told why.
fn run(tasks: &Mutex<JoinSet<()>>, batch: BoxFuture<'static, ()>) {
    let mut tasks = tasks.lock().unwrap_or_else(PoisonError::into_inner);
    while let Some(ended) = tasks.try_join_next() {
        if let Err(fault) = ended {
            error!(error = %chain(&fault), "a batch of loads failed");
        }
    }
    tasks.spawn(batch);
}

/// Tells of each question, for those who wonder how many there are.
fn asked(edge: &'static str, keys: usize) {
    trace!(edge, keys, "the store is asked for many at once");
}

type Loaded<K, V> = Result<HashMap<K, V>, Arc<StoreError>>;

impl Loader<JobId> for StoreLoader {
    type Value = Arc<Job>;
    type Error = Arc<StoreError>;

    async fn load(&self, keys: &[JobId]) -> Loaded<JobId, Arc<Job>> {
        asked("jobs", keys.len());
        let found = self.executor.reader().jobs(keys).await?;
        Ok(found.into_iter().map(|(id, job)| (id, Arc::new(job))).collect())
    }
}

impl Loader<WorkerId> for StoreLoader {
    type Value = Worker;
    type Error = Arc<StoreError>;

    async fn load(&self, keys: &[WorkerId]) -> Loaded<WorkerId, Worker> {
        let silent_since = self.executor.silent_since();
        asked("workers", keys.len());
        Ok(self.executor.reader().workers_by_id(keys, silent_since).await?)
    }
}

impl Loader<EarlierAttempts> for StoreLoader {
    type Value = Vec<Attempt>;
    type Error = Arc<StoreError>;

    async fn load(&self, keys: &[EarlierAttempts]) -> Loaded<EarlierAttempts, Vec<Attempt>> {
        let ids: Vec<JobId> = keys.iter().map(|key| key.0).collect();
        asked("attempts", keys.len());
        let found = self.executor.reader().earlier_attempts(&ids).await?;
        Ok(found
            .into_iter()
            .map(|(id, attempts)| (EarlierAttempts(id), attempts))
            .collect())
    }
}

impl Loader<CurrentJobs> for StoreLoader {
    type Value = Vec<JobId>;
    type Error = Arc<StoreError>;

    async fn load(&self, keys: &[CurrentJobs]) -> Loaded<CurrentJobs, Vec<JobId>> {
        let ids: Vec<WorkerId> = keys.iter().map(|key| key.0).collect();
        asked("current jobs", keys.len());
        let found = self.executor.reader().current_jobs(&ids).await?;
        Ok(found
            .into_iter()
            .map(|(id, jobs)| (CurrentJobs(id), jobs))
            .collect())
    }
}

impl Loader<ChildCounts> for StoreLoader {
    type Value = StatusCounts;
    type Error = Arc<StoreError>;

    async fn load(&self, keys: &[ChildCounts]) -> Loaded<ChildCounts, StatusCounts> {
        let ids: Vec<JobId> = keys.iter().map(|key| key.0).collect();
        asked("child counts", keys.len());
        let found = self.executor.reader().child_counts(&ids).await?;
        Ok(found
            .into_iter()
            .map(|(id, counts)| (ChildCounts(id), counts))
            .collect())
    }
}

impl Loader<Dependencies> for StoreLoader {
    type Value = Vec<JobId>;
    type Error = Arc<StoreError>;

    async fn load(&self, keys: &[Dependencies]) -> Loaded<Dependencies, Vec<JobId>> {
        let ids: Vec<JobId> = keys.iter().map(|key| key.0).collect();
        asked("dependencies", keys.len());
        let found = self.executor.reader().dependencies(&ids).await?;
        Ok(found
            .into_iter()
            .map(|(id, jobs)| (Dependencies(id), jobs))
            .collect())
    }
}

impl Loader<LastJob> for StoreLoader {
    type Value = Arc<Job>;
    type Error = Arc<StoreError>;

    async fn load(&self, keys: &[LastJob]) -> Loaded<LastJob, Arc<Job>> {
        asked("last jobs", keys.len());
        let named: Vec<_> = keys.iter().map(|key| (key.kind, key.name.clone())).collect();
        let found = self.executor.reader().last_jobs(&named).await?;
        Ok(found
            .into_iter()
            .map(|((kind, name), job)| (LastJob { kind, name }, Arc::new(job)))
            .collect())
    }
}

impl Loader<Supported> for StoreLoader {
    type Value = bool;
    type Error = Arc<StoreError>;

    async fn load(&self, keys: &[Supported]) -> Loaded<Supported, bool> {
        let silent_since = self.executor.silent_since();
        asked("supported routes", keys.len());
        let patterns = self.executor.reader().supported_patterns(silent_since).await?;
        let supports = |route: &str| patterns.iter().any(|pattern| pattern.matches(route));
        Ok(keys.iter().map(|key| (key.clone(), supports(&key.0))).collect())
    }
}
