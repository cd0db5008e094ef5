//! The queue's limit: a request is stored whole or not at all.

use std::sync::Arc;

use runql::domain::{JobStatus, NewJob};
use runql::store::{ClaimJobs, FreeWorkers, InsertJobs, InsertRefused};

use super::fixture::{at, claim, end, in_one_group, new_job, worker};
use crate::support::both_stores;
use crate::support::db::{TestDb, rows_of};

both_stores!(
    all_or_none,
    only_pending_jobs_count,
    room_made_within_a_group_counts
);

fn request(jobs: i64, queue_limit: u64) -> InsertJobs {
    let jobs: Vec<NewJob> = (0..jobs).map(new_job).collect();
    InsertJobs { jobs, queue_limit }
}

async fn all_or_none(db: TestDb) {
    let node = db.node().await;
    let raw = db.raw().await;
    assert_eq!(node.write(request(6, 10)).await.unwrap().len(), 6);
    let before = (
        rows_of(&raw, "job").await,
        rows_of(&raw, "job_event").await,
        rows_of(&raw, "stat").await,
    );
    node.take_commits();
    let full = node.write(request(5, 10)).await.unwrap_err();
    assert_eq!(
        full,
        InsertRefused::QueueFull {
            pending: 6,
            limit: 10
        }
    );
    let after = (
        rows_of(&raw, "job").await,
        rows_of(&raw, "job_event").await,
        rows_of(&raw, "stat").await,
    );
    assert_eq!(before, after);
    assert!(
        node.take_commits().is_empty(),
        "nothing happened, so nobody is told"
    );
    assert_eq!(node.write(request(4, 10)).await.unwrap().len(), 4);
    assert!(node.write(request(1, 10)).await.is_err());
    assert_eq!(node.write(request(0, 10)).await.unwrap().len(), 0);
}

async fn only_pending_jobs_count(db: TestDb) {
    let node = db.node().await;
    node.write(request(2, 2)).await.unwrap();
    let jobs: Vec<_> = claim(&node, 2, 5).await.into_iter().map(Arc::new).collect();
    node.write(request(2, 2)).await.unwrap();
    assert_eq!(
        end(&node, &jobs[0], JobStatus::Completed, 6).await,
        runql::store::EndResult::Ended(JobStatus::Completed)
    );
    assert!(node.write(request(1, 2)).await.is_err());
}

/// A refusal and a claim before it in the same transaction do not stand in the way.
async fn room_made_within_a_group_counts(db: TestDb) {
    let node = db.node().await;
    node.write(request(3, 3)).await.unwrap();
    let claim = ClaimJobs {
        workers: FreeWorkers::from_iter([worker(), worker()]),
        lease_until: at(99),
        now: at(9),
    };
    let writes = async {
        tokio::join!(
            node.write(request(1, 3)),
            node.write(claim),
            node.write(request(2, 3)),
            node.write(request(1, 3)),
        )
    };
    let (refused, claimed, taken, full) = in_one_group(&node, writes).await;
    let full_queue = InsertRefused::QueueFull { pending: 3, limit: 3 };
    assert_eq!(refused.unwrap_err(), full_queue);
    assert_eq!(claimed.len(), 2);
    assert_eq!(taken.unwrap().len(), 2);
    assert_eq!(full.unwrap_err(), full_queue);
}
