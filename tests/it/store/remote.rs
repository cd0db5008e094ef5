//! Registered workers, where a race or a bound is easier to reach than through the API.

use std::time::Duration;

use runql::domain::{JobId, JobStatus, NewJob, Pattern, Timestamp, WorkerId};
use runql::store::{
    BackAgain, ClaimTasks, EndResult, Heartbeat, MOST_REMOTE_WORKERS, RegisterWorker, RemoteFault, Report,
    ReportedResult,
};
use sea_orm::ConnectionTrait;
use tokio_util::sync::CancellationToken;

use super::fixture::{LEASE, at, in_one_group, insert, new_job, stored, worker};
use crate::support::both_stores;
use crate::support::db::{Node, TestDb, sql};

both_stores!(
    a_caller_that_went_away_is_given_nothing,
    claims_of_one_transaction_see_each_other,
    there_is_a_bound_to_workers,
    the_end_of_time_is_never_moved,
);

fn registration(name: &str, most: u32) -> RegisterWorker {
    RegisterWorker {
        id: worker(),
        name: name.to_owned(),
        backend_type: "test".to_owned(),
        max_parallel_tasks: most,
        supported_problems: vec!["*".parse::<Pattern>().unwrap()],
        now: at(0),
    }
}

fn task(ms: i64) -> NewJob {
    NewJob {
        route: Some("t".to_owned()),
        ..new_job(ms)
    }
}

fn claim(worker: WorkerId, max: u32, ms: i64) -> ClaimTasks {
    ClaimTasks {
        worker,
        max,
        lease: LEASE,
        gone: CancellationToken::new(),
        now: at(ms),
    }
}

fn done(worker: WorkerId, job: JobId, success: bool, ms: i64) -> Report {
    Report {
        worker,
        job,
        attempt: 1,
        lines: Vec::new(),
        progress: None,
        result: Some(ReportedResult {
            success,
            exit_code: None,
            output: None,
            error: None,
        }),
        log_limit: 1_000,
        lease: LEASE,
        now: at(ms),
        jitter: 1.0,
    }
}

async fn lease_of(node: &Node, job: JobId) -> Option<Timestamp> {
    stored(node, job).await.lease_until
}

async fn a_caller_that_went_away_is_given_nothing(db: TestDb) {
    let node = db.node().await;
    let id = node.write(registration("worker-001-gpu", 1)).await.unwrap();
    let job = insert(&node, vec![task(0)]).await.remove(0);
    let left = claim(id, 1, 1);
    let gone = left.gone.clone();
    // The claim waits for its turn when its caller hangs up.
    let writing = node.writer().write(left);
    let hangs_up = async { gone.cancel() };
    let (taken, ()) = in_one_group(&node, futures_util::future::join(writing, hangs_up)).await;
    assert!(taken.unwrap().unwrap().is_empty());
    assert_eq!(stored(&node, job.id).await.status, JobStatus::Pending);
    let taken = node.write(claim(id, 1, 2)).await.unwrap();
    assert_eq!(taken[0].id, job.id);
}

async fn claims_of_one_transaction_see_each_other(db: TestDb) {
    let node = db.node().await;
    let id = node.write(registration("worker-001-gpu", 3)).await.unwrap();
    insert(&node, (0..9).map(task).collect()).await;
    let claims = futures_util::future::join_all((0..4).map(|_| node.writer().write(claim(id, 2, 20))));
    let taken: Vec<_> = in_one_group(&node, claims).await;
    let sizes: Vec<_> = taken
        .into_iter()
        .map(|claimed| claimed.unwrap().map(|jobs| jobs.len()))
        .collect();
    let full = Err(RemoteFault::NoRoom { running: 3, limit: 3 });
    assert_eq!(sizes, [Ok(2), Ok(1), full.clone(), full]);
}

async fn there_is_a_bound_to_workers(db: TestDb) {
    let node = db.node().await;
    let known = node.write(registration("worker-001-gpu", 1)).await.unwrap();
    let raw = db.raw().await;
    let id = match raw.get_database_backend() {
        sea_orm::DbBackend::Postgres => "gen_random_uuid()",
        _ => "randomblob(16)",
    };
    let others = format!(
        "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < {MOST_REMOTE_WORKERS})
         INSERT INTO worker (id, name, backend_type, internal, online, max_parallel_tasks, supported_problems,
            registered_at, last_heartbeat, tasks_completed, tasks_failed)
         SELECT {id}, 'worker-' || (10000 + i) || '-x', 'x', FALSE, FALSE, 1, '[\"*\"]', 0, 0, 0, 0 FROM n"
    );
    raw.execute_raw(sql(&raw, others)).await.unwrap();
    let refused = node.write(registration("worker-002-gpu", 1)).await;
    assert_eq!(refused, Err(RemoteFault::TooMany));
    // One that is known is welcome.
    assert_eq!(node.write(registration("worker-001-gpu", 5)).await, Ok(known));
}

async fn the_end_of_time_is_never_moved(db: TestDb) {
    let node = db.node().await;
    let id = node.write(registration("worker-001-gpu", 9)).await.unwrap();
    let short = NewJob {
        timeout: Duration::from_secs(40),
        ..task(0)
    };
    insert(&node, vec![short]).await;
    let job = node.write(claim(id, 1, 0)).await.unwrap().remove(0);
    assert_eq!(job.lease_until, Some(at(0).after(LEASE)));
    let beat = |ms| Heartbeat {
        worker: id,
        online: true,
        jobs: vec![job.id],
        lease: LEASE,
        now: at(ms),
    };
    assert!(node.write(beat(5_000)).await.unwrap().stop.is_empty());
    assert_eq!(lease_of(&node, job.id).await, Some(at(35_000)));
    assert!(node.write(beat(20_000)).await.unwrap().stop.is_empty());
    assert_eq!(lease_of(&node, job.id).await, Some(at(40_000)));
    let back = BackAgain {
        lease: LEASE,
        now: at(39_000),
    };
    node.write(back).await;
    assert_eq!(lease_of(&node, job.id).await, Some(at(40_000)));
    assert_eq!(node.write(beat(40_000)).await.unwrap().stop, [job.id]);
    // What failed at that moment failed by it; what completed did.
    let (ended, result) = node.write(done(id, job.id, false, 40_000)).await.unwrap();
    assert_eq!(result, Some(EndResult::Ended(JobStatus::Timeout)));
    assert_eq!(ended.status, JobStatus::Timeout);
    insert(&node, vec![task(50_000)]).await;
    let job = node.write(claim(id, 1, 50_000)).await.unwrap().remove(0);
    let (ended, _) = node.write(done(id, job.id, true, 999_000)).await.unwrap();
    assert_eq!(ended.status, JobStatus::Completed);
}
