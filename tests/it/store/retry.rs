//! Attempts after the first: the pause, the promotion, and what is told of each attempt.

use std::sync::Arc;
use std::time::Duration;

use runql::domain::{FaultCode, JobEventType, JobStatus, NewJob, WaitReason};
use runql::store::{EndResult, PromoteDue};

use super::fixture::{all_events, at, claim, end, end_of, insert, new_job, retried_job, running, stored};
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    a_failure_waits_out_its_pause,
    without_a_pause_it_is_next_at_once,
    only_failures_are_tried_again,
    scheduled_jobs_come_at_their_moment,
);

async fn a_failure_waits_out_its_pause(db: TestDb) {
    let node = db.node().await;
    let job = running(&node, retried_job(0, 3, Duration::from_millis(100)), 10).await;
    node.take_commits();
    assert_eq!(
        end(&node, &job, JobStatus::Failed, 20).await,
        EndResult::Retried(at(120))
    );
    assert!(
        node.take_commits()[0].queued,
        "whoever waits for the next moment must learn of this one"
    );
    let waiting = stored(&node, job.id).await;
    assert_eq!(
        (waiting.status, waiting.wait),
        (JobStatus::Pending, Some(WaitReason::Backoff))
    );
    assert_eq!((waiting.attempt, waiting.run_at), (1, at(120)));
    assert_eq!(
        (waiting.worker, waiting.lease_until, waiting.started_at),
        (None, None, None)
    );
    assert_eq!(waiting.fault.as_ref().unwrap().code, FaultCode::ExitCode);
    assert!(waiting.latest_attempt().is_none());
    assert_eq!(node.reader().next_due().await.unwrap(), Some(at(120)));

    assert!(claim(&node, 1, 119).await.is_empty());
    assert_eq!(node.write(PromoteDue { now: at(119) }).await, 0);
    node.take_commits();
    assert_eq!(node.write(PromoteDue { now: at(120) }).await, 1);
    assert!(node.take_commits()[0].queued);
    assert_eq!(node.reader().next_due().await.unwrap(), None);

    let second = Arc::new(claim(&node, 1, 125).await.pop().unwrap());
    assert_eq!((second.attempt, second.started_at), (2, Some(at(125))));
    assert!(
        second.fault.is_none(),
        "what was wrong is told by the attempt before"
    );
    let mut halved = end_of(&second, JobStatus::Timeout, 130);
    halved.jitter = 0.0;
    assert_eq!(
        node.write(halved).await,
        EndResult::Retried(at(230)),
        "200 ms, halved by the jitter"
    );
    node.write(PromoteDue { now: at(500) }).await;
    let third = Arc::new(claim(&node, 1, 500).await.pop().unwrap());
    assert_eq!(
        end(&node, &third, JobStatus::Failed, 510).await,
        EndResult::Ended(JobStatus::Failed)
    );

    let earlier = node
        .reader()
        .earlier_attempts(&[job.id])
        .await
        .unwrap()
        .remove(&job.id)
        .unwrap();
    let told: Vec<_> = earlier
        .iter()
        .map(|one| {
            (
                one.number,
                one.status,
                one.started_at,
                one.finished_at,
                one.worker,
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (1, JobStatus::Failed, at(10), Some(at(20)), job.worker),
            (2, JobStatus::Timeout, at(125), Some(at(130)), second.worker),
        ]
    );
    assert_eq!(earlier[1].fault.as_ref().unwrap().code, FaultCode::Timeout);
    assert_eq!(earlier[0].end.exit_code, Some(1));
    let last = stored(&node, job.id).await.latest_attempt().unwrap();
    assert_eq!(
        (last.number, last.status, last.started_at),
        (3, JobStatus::Failed, at(500))
    );

    use JobEventType::{Created, Failed, RetryScheduled, Started};
    let events = all_events(node.reader()).await;
    let kinds: Vec<_> = events.iter().map(|event| (event.kind, event.attempt)).collect();
    assert_eq!(
        kinds,
        [
            (Created, 0),
            (Started, 1),
            (RetryScheduled, 1),
            (Started, 2),
            (RetryScheduled, 2),
            (Started, 3),
            (Failed, 3),
        ]
    );
    assert_eq!(events[2].fault, earlier[0].fault);
    assert_eq!(
        node.reader()
            .status_counts(None)
            .await
            .unwrap()
            .of(JobStatus::Failed),
        1
    );
}

async fn without_a_pause_it_is_next_at_once(db: TestDb) {
    let node = db.node().await;
    let job = running(&node, retried_job(0, 2, Duration::ZERO), 10).await;
    assert_eq!(
        end(&node, &job, JobStatus::Failed, 20).await,
        EndResult::Retried(at(20))
    );
    assert_eq!(stored(&node, job.id).await.wait, Some(WaitReason::Queued));
    assert_eq!(node.reader().next_due().await.unwrap(), None);
    assert_eq!(claim(&node, 1, 20).await[0].attempt, 2);
}

async fn only_failures_are_tried_again(db: TestDb) {
    let node = db.node().await;
    for status in [JobStatus::Completed, JobStatus::Cancelled] {
        let job = running(&node, retried_job(0, 9, Duration::ZERO), 1).await;
        assert_eq!(end(&node, &job, status, 2).await, EndResult::Ended(status));
        assert!(
            node.reader()
                .earlier_attempts(&[job.id])
                .await
                .unwrap()
                .is_empty()
        );
    }
}

async fn scheduled_jobs_come_at_their_moment(db: TestDb) {
    let node = db.node().await;
    let scheduled = |run_at| NewJob {
        run_at: Some(at(run_at)),
        ..new_job(0)
    };
    let jobs = insert(
        &node,
        vec![scheduled(300), scheduled(200), scheduled(-5), scheduled(0)],
    )
    .await;
    let waits: Vec<_> = jobs.iter().map(|job| job.wait.unwrap()).collect();
    use WaitReason::{Queued, Scheduled};
    assert_eq!(
        waits,
        [Scheduled, Scheduled, Queued, Queued],
        "what is over is now"
    );
    assert_eq!(jobs[2].run_at, at(0));
    assert_eq!(node.reader().next_due().await.unwrap(), Some(at(200)));
    assert_eq!(claim(&node, 9, 1).await.len(), 2);
    assert_eq!(node.write(PromoteDue { now: at(250) }).await, 1);
    assert_eq!(claim(&node, 9, 250).await[0].id, jobs[1].id);
    assert_eq!(node.reader().next_due().await.unwrap(), Some(at(300)));
}
