//! Cancelling: before the start, while it runs, after the end, and just as it ends.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use runql::domain::{FaultCode, JobEventType, JobId, JobStatus};
use runql::store::{CancelJob, Cancelled, EndResult, ReleaseJob, RenewLeases};

use super::fixture::{
    LEASE, all_events, at, claim, claim_for, end, insert, new_job, retried_job, running, stored, worker,
};
use crate::support::db::{TestDb, rows_of};
use crate::support::{both_stores, on_postgres};

both_stores!(
    a_pending_job_ends_at_once,
    a_running_job_is_asked_to_stop,
    what_has_ended_stays_as_it_is,
    a_failing_end_is_not_tried_again,
    a_job_between_two_attempts_ends_at_once,
);
on_postgres!(racing_with_failing_ends, racing_with_claims);

fn cancel(id: JobId, ms: i64) -> CancelJob {
    CancelJob {
        id,
        reason: Some("because\0".to_owned()),
        grace: Some(Duration::from_millis(1_500)),
        now: at(ms),
    }
}

async fn a_pending_job_ends_at_once(db: TestDb) {
    let node = db.node().await;
    let id = insert(&node, vec![new_job(0)]).await[0].id;
    let Cancelled::Done(answered) = node.write(cancel(id, 5)).await else {
        panic!("it was pending")
    };
    let job = stored(&node, id).await;
    assert_eq!(
        format!("{answered:?}"),
        format!("{job:?}"),
        "the answer is what is stored"
    );
    assert_eq!(
        (job.status, job.finished_at, job.wait),
        (JobStatus::Cancelled, Some(at(5)), None)
    );
    let fault = job.fault.unwrap();
    assert_eq!(
        (fault.code, fault.message.as_str()),
        (FaultCode::Cancelled, "cancelled: because\u{fffd}")
    );
    let last = all_events(node.reader()).await.pop().unwrap();
    assert_eq!(
        (last.kind, last.previous, last.attempt),
        (JobEventType::Cancelled, Some(JobStatus::Pending), 0)
    );
    assert!(claim(&node, 1, 6).await.is_empty());
    let counts = node.reader().status_counts(None).await.unwrap();
    assert_eq!(
        (counts.of(JobStatus::Pending), counts.of(JobStatus::Cancelled)),
        (0, 1)
    );
    assert!(matches!(
        node.write(cancel(id, 7)).await,
        Cancelled::AlreadyEnded(_)
    ));
}

async fn a_running_job_is_asked_to_stop(db: TestDb) {
    let node = db.node().await;
    let job = running(&node, new_job(0), 1).await;
    node.take_commits();
    let Cancelled::Requested(answered) = node.write(cancel(job.id, 5)).await else {
        panic!("it runs")
    };
    assert!(node.take_commits()[0].cancels.contains(&job.id));
    assert_eq!(
        format!("{answered:?}"),
        format!("{:?}", stored(&node, job.id).await)
    );
    let second = CancelJob {
        reason: Some("again".to_owned()),
        grace: None,
        ..cancel(job.id, 9)
    };
    assert!(matches!(node.write(second).await, Cancelled::Requested(_)));
    let held = node
        .write(RenewLeases {
            workers: vec![job.worker.unwrap()],
            lease_until: at(10).after(LEASE),
            now: at(10),
        })
        .await;
    let request = held.held[0].cancel.clone().unwrap();
    assert_eq!(
        (request.at, request.reason.as_deref()),
        (at(5), Some("because\u{fffd}")),
        "the first reason stands"
    );
    assert_eq!(request.grace, None, "the latest grace counts");
    assert_eq!(all_events(node.reader()).await.len(), 2, "a wish is no event");

    let release = ReleaseJob {
        job: Arc::clone(&job),
        now: at(11),
    };
    assert!(!node.write(release).await, "it would run again");
    assert_eq!(
        end(&node, &job, JobStatus::Cancelled, 12).await,
        EndResult::Ended(JobStatus::Cancelled)
    );
}

async fn what_has_ended_stays_as_it_is(db: TestDb) {
    let node = db.node().await;
    let raw = db.raw().await;
    let job = running(&node, new_job(0), 1).await;
    let _ = end(&node, &job, JobStatus::Completed, 2).await;
    let before = rows_of(&raw, "job").await;
    let Cancelled::AlreadyEnded(answered) = node.write(cancel(job.id, 5)).await else {
        panic!("it had ended")
    };
    assert_eq!(answered.status, JobStatus::Completed);
    assert!(matches!(
        node.write(cancel(new_job(0).id, 5)).await,
        Cancelled::NotFound
    ));
    assert_eq!(rows_of(&raw, "job").await, before);
    assert_eq!(all_events(node.reader()).await.len(), 3);
}

async fn a_failing_end_is_not_tried_again(db: TestDb) {
    let node = db.node().await;
    for status in [JobStatus::Failed, JobStatus::Timeout] {
        let job = running(&node, retried_job(0, 5, Duration::ZERO), 1).await;
        node.write(cancel(job.id, 5)).await;
        assert_eq!(
            end(&node, &job, status, 6).await,
            EndResult::Ended(JobStatus::Cancelled)
        );
        let ended = stored(&node, job.id).await;
        assert_eq!(
            (ended.status, ended.fault.unwrap().code),
            (JobStatus::Cancelled, FaultCode::Cancelled)
        );
        assert_eq!(
            ended.end.exit_code,
            Some(1),
            "how the process ended is still told"
        );
        assert!(
            node.reader()
                .earlier_attempts(&[job.id])
                .await
                .unwrap()
                .is_empty()
        );
    }
    // What came to a good end came to a good end.
    let job = running(&node, new_job(0), 1).await;
    node.write(cancel(job.id, 5)).await;
    assert_eq!(
        end(&node, &job, JobStatus::Completed, 6).await,
        EndResult::Ended(JobStatus::Completed)
    );
}

async fn a_job_between_two_attempts_ends_at_once(db: TestDb) {
    let node = db.node().await;
    let job = running(&node, retried_job(0, 5, Duration::from_secs(9)), 1).await;
    assert!(matches!(
        end(&node, &job, JobStatus::Failed, 2).await,
        EndResult::Retried(_)
    ));
    assert!(matches!(node.write(cancel(job.id, 3)).await, Cancelled::Done(_)));
    let ended = stored(&node, job.id).await;
    assert_eq!((ended.status, ended.attempt), (JobStatus::Cancelled, 1));
    assert_eq!(node.reader().next_due().await.unwrap(), None);
}

/// Two nodes, one job each time: whoever comes first, it ends CANCELLED and is never tried again.
async fn racing_with_failing_ends(db: TestDb) {
    let (one, other) = tokio::join!(db.node(), db.node());
    let jobs: Vec<_> = (0..40).map(|n| retried_job(n, 3, Duration::ZERO)).collect();
    insert(&one, jobs).await;
    let claimed: Vec<_> = claim(&one, 40, 50).await.into_iter().map(Arc::new).collect();
    for job in &claimed {
        let ending = end(&one, job, JobStatus::Failed, 60);
        let (ended, cancelled) = tokio::join!(ending, other.write(cancel(job.id, 60)));
        match (ended, cancelled) {
            (EndResult::Ended(JobStatus::Cancelled), Cancelled::Requested(_))
            | (EndResult::Retried(_), Cancelled::Done(_)) => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(stored(&one, job.id).await.status, JobStatus::Cancelled);
    }
    assert!(claim(&one, 40, 70).await.is_empty());
    assert_eq!(
        one.reader()
            .status_counts(None)
            .await
            .unwrap()
            .of(JobStatus::Cancelled),
        40
    );
}

/// A job is either cancelled before it starts, or starts and is asked to stop: never both, never neither.
async fn racing_with_claims(db: TestDb) {
    let (one, other) = tokio::join!(db.node(), db.node());
    let ids: Vec<JobId> = insert(&one, (0..60).map(new_job).collect())
        .await
        .iter()
        .map(|job| job.id)
        .collect();
    let claims = join_all((0..20).map(|_| claim_for(&one, (0..3).map(|_| worker()).collect(), 70)));
    let cancels = join_all(ids.iter().map(|&id| other.write(cancel(id, 70))));
    let (claims, cancels) = tokio::join!(claims, cancels);
    let claimed: Vec<JobId> = claims.iter().flatten().map(|job| job.id).collect();
    for (id, cancelled) in ids.iter().zip(cancels) {
        let job = stored(&one, *id).await;
        match cancelled {
            Cancelled::Done(_) => assert!(!claimed.contains(id) && job.status == JobStatus::Cancelled),
            Cancelled::Requested(_) => assert!(claimed.contains(id) && job.cancel.is_some()),
            other => panic!("{other:?}"),
        }
    }
}
