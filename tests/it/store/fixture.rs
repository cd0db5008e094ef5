//! Jobs, moments and the common moves, so that a test says only what it is about.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use runql::domain::{
    Command, EventSeq, Fault, FaultCode, Job, JobEvent, JobId, JobStatus, Metadata, NewJob, ProcessEnd,
    RetryPolicy, Shell, Timestamp, WorkerId,
};
use runql::store::{
    AttemptEnd, ClaimJobs, EndJob, EndResult, EventFilter, InsertJobs, Operation, Reader, StoreError, Tx,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::db::Node;

/// A moment that no test depends on.
const BASE_MS: i64 = 1_700_000_000_000;

/// How long a claim lasts in these tests.
pub(super) const LEASE: Duration = Duration::from_secs(30);

/// More than any test stores.
pub(super) const NO_LIMIT: u64 = 1_000_000;

/// So many milliseconds after the base.
pub(super) fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(BASE_MS + ms)
}

/// An id of this moment. Those of one moment sort in the order of their making.
fn id_at(ms: i64) -> Uuid {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let millis = u64::try_from(BASE_MS + ms).unwrap();
    let mut rest = [0; 10];
    rest[2..].copy_from_slice(&MADE.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    uuid::Builder::from_unix_timestamp_millis(millis, &rest).into_uuid()
}

/// A worker that nobody else uses.
pub(super) fn worker() -> WorkerId {
    WorkerId::from_uuid(id_at(0))
}

/// A job asked for at this moment, with nothing special about it.
pub(super) fn new_job(ms: i64) -> NewJob {
    NewJob {
        id: JobId::from_uuid(id_at(ms)),
        command: Command::Shell(Shell {
            command: "true".to_owned(),
            shell: "sh".to_owned(),
        }),
        queue: "default".to_owned(),
        priority: 0,
        retry: RetryPolicy {
            max_attempts: 1,
            backoff: Duration::ZERO,
        },
        timeout: Duration::from_secs(60),
        created_at: at(ms),
        run_at: None,
        env: Vec::new(),
        working_dir: None,
        idempotency_key: None,
        metadata: Metadata::default(),
        step: None,
        depends_on: Vec::new(),
        route: None,
        plan: None,
    }
}

/// A job that may be tried so often, with this pause.
pub(super) fn retried_job(ms: i64, max_attempts: u32, backoff: Duration) -> NewJob {
    NewJob {
        retry: RetryPolicy {
            max_attempts,
            backoff,
        },
        ..new_job(ms)
    }
}

/// Stores jobs, far below any limit.
pub(super) async fn insert(node: &Node, jobs: Vec<NewJob>) -> Vec<Job> {
    let inserted = node
        .write(InsertJobs {
            jobs,
            queue_limit: NO_LIMIT,
        })
        .await
        .unwrap();
    inserted.into_iter().map(|one| one.job).collect()
}

/// Claims for these workers.
pub(super) async fn claim_for(node: &Node, workers: Vec<WorkerId>, ms: i64) -> Vec<Job> {
    let claimed = node.write(ClaimJobs {
        workers: workers.into_iter().collect(),
        lease_until: at(ms).after(LEASE),
        now: at(ms),
    });
    let claimed = claimed.await;
    // A claim is answered before its commit is told of; whoever is next comes after that.
    let open = Gate::default();
    open.opened.cancel();
    node.write(open).await;
    claimed
}

/// Claims for so many new workers.
pub(super) async fn claim(node: &Node, count: usize, ms: i64) -> Vec<Job> {
    claim_for(node, (0..count).map(|_| worker()).collect(), ms).await
}

/// Stores one job and claims it.
pub(super) async fn running(node: &Node, new: NewJob, ms: i64) -> Arc<Job> {
    let id = new.id;
    insert(node, vec![new]).await;
    let job = claim(node, 1, ms).await.pop().unwrap();
    assert_eq!(job.id, id, "another job was first in line");
    Arc::new(job)
}

/// An end of this kind, with what belongs to it.
pub(super) fn ending(status: JobStatus) -> AttemptEnd {
    let code = match status {
        JobStatus::Failed => Some(FaultCode::ExitCode),
        JobStatus::Timeout => Some(FaultCode::Timeout),
        JobStatus::Cancelled => Some(FaultCode::Cancelled),
        _ => None,
    };
    AttemptEnd {
        status,
        end: ProcessEnd {
            exit_code: Some(i32::from(code.is_some())),
            signal: None,
        },
        output: None,
        fault: code.map(|code| Fault::new(code, "it was asked to")),
    }
}

/// Ends a job's attempt, without a log.
pub(super) fn end_of(job: &Arc<Job>, status: JobStatus, ms: i64) -> EndJob {
    EndJob {
        job: Arc::clone(job),
        end: ending(status),
        log: Vec::new(),
        now: at(ms),
        jitter: 1.0,
    }
}

/// Ends a job's attempt.
pub(super) async fn end(node: &Node, job: &Arc<Job>, status: JobStatus, ms: i64) -> EndResult {
    node.write(end_of(job, status, ms)).await
}

/// The job as it is stored.
pub(super) async fn stored(node: &Node, id: JobId) -> Job {
    node.reader().job(id).await.unwrap().unwrap()
}

/// Every event there is, oldest first.
pub(super) async fn all_events(reader: &Reader) -> Vec<JobEvent> {
    let every = EventFilter::default();
    reader.events_after(EventSeq(0), &every, 1_000_000).await.unwrap()
}

/// Makes all that `writes` hands over when it is first polled go into one group: the writer is kept busy meanwhile.
pub(super) async fn in_one_group<T>(node: &Node, writes: impl Future<Output = T>) -> T {
    let gate = Gate::default();
    let meanwhile = async {
        gate.entered.cancelled().await;
        futures_util::future::join(writes, async { gate.opened.cancel() })
            .await
            .0
    };
    futures_util::future::join(node.write(gate.clone()), meanwhile)
        .await
        .1
}

/// Keeps a writer busy until it is opened.
#[derive(Debug, Default, Clone)]
struct Gate {
    entered: CancellationToken,
    opened: CancellationToken,
}

impl Operation for Gate {
    type Output = ();

    fn apply<'t>(&'t self, _tx: &'t mut Tx) -> BoxFuture<'t, Result<(), StoreError>> {
        Box::pin(async {
            self.entered.cancel();
            self.opened.cancelled().await;
            Ok(())
        })
    }
}
