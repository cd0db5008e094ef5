//! Claims: in the right order, never more than asked, each job once.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use runql::domain::{JobId, JobStatus, NewJob, WorkerId};

use runql::store::{ClaimJobs, InsertJobs};

use super::fixture::{NO_LIMIT, all_events, at, claim, claim_for, in_one_group, insert, new_job, worker};
use crate::support::db::{Node, TestDb};
use crate::support::{both_stores, on_postgres};

both_stores!(
    the_most_urgent_then_the_oldest,
    never_more_than_asked,
    jobs_stored_and_claimed_in_one_group,
    jobs_that_a_claim_of_their_group_took_are_told_to_no_pool,
    many_callers_claim_each_job_once,
);
on_postgres!(two_nodes_claim_each_job_once);

async fn the_most_urgent_then_the_oldest(db: TestDb) {
    let node = db.node().await;
    let mut jobs: Vec<NewJob> = [(3, 0), (1, 0), (2, 5), (4, 5), (0, -100), (5, 100)]
        .into_iter()
        .map(|(ms, priority)| NewJob {
            priority,
            ..new_job(ms)
        })
        .collect();
    insert(&node, jobs.clone()).await;
    jobs.sort_by_key(|job| (std::cmp::Reverse(job.priority), job.id));
    let mut claimed = Vec::new();
    for count in [1, 2, 3] {
        claimed.extend(claim(&node, count, 10).await.into_iter().map(|job| job.id));
    }
    assert_eq!(claimed, jobs.iter().map(|job| job.id).collect::<Vec<_>>());
}

async fn never_more_than_asked(db: TestDb) {
    let node = db.node().await;
    insert(&node, (0..7).map(new_job).collect()).await;
    assert!(claim(&node, 0, 10).await.is_empty());
    let workers: Vec<WorkerId> = (0..3).map(|_| worker()).collect();
    let claimed = claim_for(&node, workers.clone(), 10).await;
    assert_eq!(
        claimed.iter().filter_map(|job| job.worker).collect::<Vec<_>>(),
        workers
    );
    assert_eq!(claim(&node, 3, 11).await.len(), 3);
    assert_eq!(claim(&node, 3, 12).await.len(), 1, "only one was left");
    assert!(claim(&node, 3, 13).await.is_empty());
    let started = all_events(node.reader()).await;
    assert_eq!(started.len(), 14);
}

/// Each pool that is told looks, and all but the first would find nothing.
async fn jobs_that_a_claim_of_their_group_took_are_told_to_no_pool(db: TestDb) {
    let node = db.node().await;
    let routed = NewJob {
        route: Some("nobody's".to_owned()),
        ..new_job(3)
    };
    let none = Vec::new;
    // What is stored before a claim for two, and what after it; whether any of it is left to be told of.
    let table = [
        (vec![new_job(1)], none(), false),
        (vec![new_job(1), new_job(2)], none(), true),
        (vec![new_job(1), new_job(2), new_job(3)], none(), true),
        (vec![new_job(1)], vec![new_job(2)], true),
        (vec![new_job(1), routed], none(), true),
        (none(), vec![new_job(1)], true),
    ];
    for (number, (before, after, told)) in table.into_iter().enumerate() {
        node.take_commits();
        let store = |jobs| InsertJobs {
            jobs,
            queue_limit: NO_LIMIT,
        };
        let workers = || [worker(), worker()].into_iter().collect();
        let claim_now = |ms| ClaimJobs {
            workers: workers(),
            lease_until: at(99),
            now: at(ms),
        };
        let writes = async {
            tokio::join!(
                node.write(store(before)),
                node.write(claim_now(9)),
                node.write(store(after)),
            )
        };
        let (stored, _, also_stored) = in_one_group(&node, writes).await;
        assert!(stored.is_ok() && also_stored.is_ok());
        let queued = node.take_commits().iter().any(|commit| commit.queued);
        assert_eq!(queued, told, "row {number}");
        node.write(claim_now(10)).await;
    }
}

/// A claim that is committed together with the insert before it must see the job.
async fn jobs_stored_and_claimed_in_one_group(db: TestDb) {
    let node = db.node().await;
    let pairs = join_all((0..40).map(|n| {
        let node = &node;
        async move {
            tokio::join!(insert(node, vec![new_job(n)]), claim(node, 1, 100))
                .1
                .len()
        }
    }));
    let claimed: usize = pairs.await.into_iter().sum();
    let running = node
        .reader()
        .status_counts(None)
        .await
        .unwrap()
        .of(JobStatus::Running);
    assert_eq!(i64::try_from(claimed).unwrap(), running);
    assert_eq!(claimed + claim(&node, 40, 101).await.len(), 40);
}

const JOBS: usize = 1_000;
const CALLERS: usize = 8;

async fn many_callers_claim_each_job_once(db: TestDb) {
    let node = db.node().await;
    insert(&node, (0..1_000).map(new_job).collect()).await;
    let callers: Vec<&Node> = vec![&node; CALLERS];
    each_once(&callers).await;
}

async fn two_nodes_claim_each_job_once(db: TestDb) {
    let (one, other) = tokio::join!(db.node(), db.node());
    insert(&one, (0..1_000).map(new_job).collect()).await;
    let callers: Vec<&Node> = (0..CALLERS)
        .map(|n| if n % 2 == 0 { &one } else { &other })
        .collect();
    each_once(&callers).await;
}

/// Every caller claims until nothing is left; together they have each job once, at its first attempt.
async fn each_once(callers: &[&Node]) {
    let claims = join_all(callers.iter().enumerate().map(|(caller, node)| async move {
        let mut mine = Vec::new();
        loop {
            // An uneven count, so that the callers do not march in step.
            let claimed = claim(node, 3 + caller, 2_000).await;
            if claimed.is_empty() {
                return mine;
            }
            assert!(claimed.len() <= 3 + caller);
            mine.extend(claimed);
        }
    }))
    .await;
    let mut times: BTreeMap<JobId, usize> = BTreeMap::new();
    for job in claims.iter().flatten() {
        assert_eq!((job.attempt, job.status), (1, JobStatus::Running));
        *times.entry(job.id).or_default() += 1;
    }
    assert_eq!(times.len(), JOBS);
    assert!(times.values().all(|&times| times == 1));
    let counts = callers[0].reader().status_counts(None).await.unwrap();
    assert_eq!(counts.of(JobStatus::Running), i64::try_from(JOBS).unwrap());
}
