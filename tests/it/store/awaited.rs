//! Jobs that are told to wait for others in the very moment in which those end: none of them waits for ever.

use std::sync::Arc;

use futures_util::future::join_all;
use runql::domain::{Dependency, Job, JobId, JobStatus, NewJob};
use runql::store::EndResult;
use sea_orm::{ConnectionTrait, TransactionTrait};

use super::fixture::{at, claim, end, end_of, in_one_group, insert, new_job, stored};
use crate::support::db::{Node, TestDb, sql, texts};
use crate::support::wait::until;
use crate::support::{both_stores, on_postgres};

both_stores!(
    ends_of_one_group_each_get_their_own_answer,
    a_job_is_linked_in_the_group_in_which_the_other_ends,
);
on_postgres!(
    a_job_is_linked_at_one_node_while_the_other_ends_at_another,
    a_job_that_another_node_is_writing_is_waited_for,
);

fn waiting_for(ms: i64, awaited: &[JobId], on_end: bool) -> NewJob {
    NewJob {
        depends_on: awaited.iter().map(|&job| Dependency { job, on_end }).collect(),
        ..new_job(ms)
    }
}

/// So many jobs that run.
async fn running(node: &Node, count: usize) -> Vec<Arc<Job>> {
    let jobs = (0..count).map(|_| new_job(0)).collect();
    insert(node, jobs).await;
    claim(node, count, 1).await.into_iter().map(Arc::new).collect()
}

async fn ends_of_one_group_each_get_their_own_answer(db: TestDb) {
    let node = db.node().await;
    let jobs = running(&node, 4).await;
    let overtaken = Arc::new(Job {
        attempt: 2,
        ..Job::clone(&jobs[1])
    });
    let mut large = end_of(&jobs[2], JobStatus::Completed, 12);
    large.end.output = Some("x".repeat(100_000).into());
    let ends = [
        end_of(&jobs[0], JobStatus::Completed, 10),
        end_of(&jobs[0], JobStatus::Failed, 11),
        end_of(&overtaken, JobStatus::Failed, 11),
        large,
        end_of(&jobs[3], JobStatus::Failed, 13),
    ];
    let answers = in_one_group(&node, join_all(ends.into_iter().map(|end| node.write(end)))).await;
    assert_eq!(
        answers,
        [
            EndResult::Ended(JobStatus::Completed),
            EndResult::Stale,
            EndResult::Stale,
            EndResult::Ended(JobStatus::Completed),
            EndResult::Ended(JobStatus::Failed),
        ]
    );
    let [first, second, third, fourth] = [0, 1, 2, 3].map(|n| jobs[n].id);
    let first = stored(&node, first).await;
    assert_eq!(
        (first.status, first.finished_at, first.end.exit_code, first.fault),
        (JobStatus::Completed, Some(at(10)), Some(0), None)
    );
    assert_eq!(stored(&node, second).await.status, JobStatus::Running);
    let output = stored(&node, third).await.output.unwrap();
    assert_eq!(output.as_str().unwrap().len(), 100_000);
    let fourth = stored(&node, fourth).await;
    assert_eq!(
        (fourth.status, fourth.end.exit_code),
        (JobStatus::Failed, Some(1))
    );
    assert!(fourth.fault.is_some());
}

async fn a_job_is_linked_in_the_group_in_which_the_other_ends(db: TestDb) {
    let node = db.node().await;
    let jobs = running(&node, 40).await;
    let writes = jobs.iter().map(|job| {
        let (link, end) = (
            waiting_for(5, &[job.id], false),
            end_of(job, JobStatus::Completed, 10),
        );
        async { tokio::join!(insert(&node, vec![link]), node.write(end)) }
    });
    in_one_group(&node, join_all(writes)).await;
    assert_eq!(claim(&node, 100, 20).await.len(), 40);
}

async fn a_job_is_linked_at_one_node_while_the_other_ends_at_another(db: TestDb) {
    let (one, other) = tokio::join!(db.node(), db.node());
    for round in 0..20 {
        let jobs = running(&one, 12).await;
        // Each waits for two, which may end in two commits or in one.
        let ends = join_all(jobs.iter().map(async |job| {
            for _ in 0..fastrand::u32(..200) {
                tokio::task::yield_now().await;
            }
            end(&one, job, JobStatus::Completed, 10).await
        }));
        let links = join_all((0..12).map(async |n| {
            let pair = [jobs[n].id, jobs[(n + 5) % 12].id];
            for _ in 0..fastrand::u32(..200) {
                tokio::task::yield_now().await;
            }
            insert(&other, vec![waiting_for(5, &pair, n % 2 == 0)]).await
        }));
        let (ends, links) = tokio::join!(ends, links);
        assert!(
            ends.iter()
                .all(|end| *end == EndResult::Ended(JobStatus::Completed))
        );
        let mut waited: Vec<JobId> = links.iter().map(|inserted| inserted[0].id).collect();
        let mut claimed: Vec<JobId> = claim(&one, 100, 20).await.iter().map(|job| job.id).collect();
        waited.sort_unstable();
        claimed.sort_unstable();
        assert_eq!(claimed, waited, "round {round}");
    }
}

async fn a_job_that_another_node_is_writing_is_waited_for(db: TestDb) {
    let (node, raw) = (db.node().await, db.raw().await);
    let job = running(&node, 1).await.remove(0);
    let other = raw.begin().await.unwrap();
    let written = "UPDATE job SET status = 'COMPLETED', finished_at = 7, lease_until = NULL";
    other.execute_raw(sql(&raw, written)).await.unwrap();
    let watch = async {
        until("the link waits for the row", async || {
            let waiting = "SELECT CAST(pid AS TEXT) FROM pg_locks
                WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))";
            let found = texts(&other, waiting).await;
            if found.is_empty() { Err(found) } else { Ok(()) }
        })
        .await;
        other.commit().await.unwrap();
    };
    let (linked, ()) = tokio::join!(insert(&node, vec![waiting_for(5, &[job.id], false)]), watch);
    assert_eq!(claim(&node, 1, 20).await[0].id, linked[0].id);
}
