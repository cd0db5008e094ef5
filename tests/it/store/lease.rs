//! Leases: renewing what is held, and ending what nobody renewed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use runql::domain::{FaultCode, JobStatus, NewJob, Timestamp, WaitReason, WorkerId, WorkerStatus};
use runql::store::{CancelJob, EndResult, ExpireLeases, Expired, JoinPool, RenewLeases, Whose};

use super::fixture::{
    LEASE, at, claim, claim_for, end, insert, new_job, retried_job, running, stored, worker,
};
use crate::support::both_stores;
use crate::support::db::{Node, TestDb};

both_stores!(
    renewing_tells_exactly_what_is_held,
    what_nobody_renewed_ends,
    an_expired_lease_with_a_wish_to_stop,
    expiring_goes_in_portions,
    only_the_servers_own_workers,
);

async fn renew(node: &Node, workers: &[WorkerId], ms: i64) -> BTreeSet<(runql::domain::JobId, u32)> {
    let held = node
        .write(RenewLeases {
            workers: workers.to_vec(),
            lease_until: at(ms).after(LEASE),
            now: at(ms),
        })
        .await;
    let set: BTreeSet<_> = held.held.iter().map(|one| (one.job, one.attempt)).collect();
    assert_eq!(set.len(), held.held.len());
    set
}

fn expire(before: Timestamp, whose: Whose) -> ExpireLeases {
    ExpireLeases {
        before,
        whose,
        now: before,
        jitter: 1.0,
    }
}

async fn renewing_tells_exactly_what_is_held(db: TestDb) {
    let node = db.node().await;
    let (mine, theirs) = ([worker(), worker(), worker()], [worker()]);
    insert(&node, (0..5).map(new_job).collect()).await;
    let jobs = claim_for(&node, mine.to_vec(), 10).await;
    let other = claim_for(&node, theirs.to_vec(), 10).await.pop().unwrap();
    let all: BTreeSet<_> = jobs.iter().map(|job| (job.id, 1)).collect();
    assert_eq!(renew(&node, &mine, 1_000).await, all);
    assert!(renew(&node, &[], 1_000).await.is_empty());
    assert!(renew(&node, &[worker()], 1_000).await.is_empty());
    assert_eq!(
        stored(&node, jobs[0].id).await.lease_until,
        Some(at(1_000).after(LEASE))
    );
    assert_eq!(
        stored(&node, other.id).await.lease_until,
        Some(at(10).after(LEASE)),
        "nobody else's"
    );

    let _ = end(&node, &Arc::new(jobs[1].clone()), JobStatus::Completed, 1_001).await;
    let expected: BTreeSet<_> = [(jobs[0].id, 1), (jobs[2].id, 1)].into();
    assert_eq!(renew(&node, &mine, 1_002).await, expected);
    let held = node.reader().current_jobs(&mine).await.unwrap();
    assert_eq!(held.len(), 2);
    assert_eq!(held[&mine[0]], [jobs[0].id]);
}

async fn what_nobody_renewed_ends(db: TestDb) {
    let node = db.node().await;
    let last = running(&node, new_job(0), 1).await;
    let again = running(&node, retried_job(0, 2, Duration::from_secs(1)), 2).await;
    let kept = running(&node, new_job(0), 3).await;
    renew(&node, &[kept.worker.unwrap()], 20_000).await;
    let edge = at(2).after(LEASE);
    let expired = node.write(expire(edge, Whose::All)).await;
    assert_eq!(
        expired.jobs,
        [(last.id, EndResult::Ended(JobStatus::Failed))],
        "at its last moment it is still held"
    );
    let now = at(10_000).after(LEASE);
    let expired = node.write(expire(now, Whose::All)).await;
    let due = now.after(Duration::from_secs(1));
    assert_eq!(expired.jobs, [(again.id, EndResult::Retried(due))]);
    assert!(!expired.more);

    let ended = stored(&node, last.id).await;
    assert_eq!(
        (ended.status, ended.fault.unwrap().code),
        (JobStatus::Failed, FaultCode::WorkerLost)
    );
    let waiting = stored(&node, again.id).await;
    assert_eq!(
        (waiting.status, waiting.wait),
        (JobStatus::Pending, Some(WaitReason::Backoff))
    );
    let earlier = node.reader().earlier_attempts(&[again.id]).await.unwrap();
    assert_eq!(
        earlier[&again.id][0].fault.as_ref().unwrap().code,
        FaultCode::WorkerLost
    );
    assert_eq!(stored(&node, kept.id).await.status, JobStatus::Running);
}

async fn an_expired_lease_with_a_wish_to_stop(db: TestDb) {
    let node = db.node().await;
    let job = running(&node, retried_job(0, 5, Duration::ZERO), 1).await;
    node.write(CancelJob {
        id: job.id,
        reason: None,
        grace: None,
        now: at(2),
    })
    .await;
    let expired = node.write(expire(at(2).after(LEASE), Whose::All)).await;
    assert_eq!(expired.jobs, [(job.id, EndResult::Ended(JobStatus::Cancelled))]);
    assert_eq!(
        stored(&node, job.id).await.fault.unwrap().code,
        FaultCode::Cancelled
    );
}

async fn expiring_goes_in_portions(db: TestDb) {
    let node = db.node().await;
    insert(&node, (0..230).map(new_job).collect()).await;
    assert_eq!(claim(&node, 230, 1_000).await.len(), 230);
    let mut seen = BTreeSet::new();
    loop {
        let Expired { jobs, more } = node.write(expire(at(2_000).after(LEASE), Whose::All)).await;
        seen.extend(jobs.iter().map(|(id, _)| *id));
        if !more {
            break;
        }
    }
    assert_eq!(seen.len(), 230);
    assert_eq!(
        node.reader()
            .status_counts(None)
            .await
            .unwrap()
            .of(JobStatus::Failed),
        230
    );
}

async fn only_the_servers_own_workers(db: TestDb) {
    let node = db.node().await;
    let internal = worker();
    node.write(JoinPool {
        node: node.node(),
        ids: vec![internal],
        silent_since: at(0),
        now: at(1),
    })
    .await;
    insert(
        &node,
        vec![
            new_job(0),
            NewJob {
                priority: 1,
                ..new_job(0)
            },
        ],
    )
    .await;
    let jobs = claim_for(&node, vec![internal, worker()], 2).await;
    let workers = node.reader().workers(at(0)).await.unwrap();
    assert_eq!((workers.len(), workers[0].status), (1, WorkerStatus::Busy));
    let far = at(0).after(LEASE * 1_000);
    let expired = node.write(expire(far, Whose::Servers)).await;
    assert_eq!(expired.jobs, [(jobs[0].id, EndResult::Ended(JobStatus::Failed))]);
    let workers = node.reader().workers(at(0)).await.unwrap();
    assert_eq!(
        (workers[0].status, workers[0].tasks_failed),
        (WorkerStatus::Idle, 1)
    );
}
