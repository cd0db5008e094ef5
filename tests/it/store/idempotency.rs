//! Idempotency keys: however often and wherever it is asked, one key is one job.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use runql::domain::{JobId, JobStatus, NewJob};
use runql::store::{InsertJobs, InsertRefused, Inserted};

use super::fixture::{NO_LIMIT, all_events, claim, end, new_job};
use crate::support::db::{Node, TestDb};
use crate::support::{both_stores, on_postgres};

both_stores!(
    many_callers_with_one_key,
    one_request_with_a_key_twice,
    a_known_key_takes_no_room_in_the_queue,
    a_key_outlives_the_end_of_its_job,
);
on_postgres!(two_nodes_with_one_key, two_nodes_with_keys_in_different_order);

fn keyed(ms: i64, key: &str) -> NewJob {
    NewJob {
        idempotency_key: Some(key.to_owned()),
        ..new_job(ms)
    }
}

async fn insert(node: &Node, jobs: Vec<NewJob>, queue_limit: u64) -> Result<Vec<Inserted>, InsertRefused> {
    node.write(InsertJobs { jobs, queue_limit }).await
}

fn ids(inserted: &[Inserted]) -> Vec<JobId> {
    inserted.iter().map(|one| one.job.id).collect()
}

async fn fifty_callers(nodes: &[&Node]) {
    let answers = join_all((0..50).map(|n| {
        let node = nodes[n % nodes.len()];
        insert(node, vec![keyed(i64::try_from(n).unwrap(), "the key")], NO_LIMIT)
    }))
    .await;
    let answers: Vec<Inserted> = answers.into_iter().flat_map(Result::unwrap).collect();
    let jobs: BTreeSet<JobId> = ids(&answers).into_iter().collect();
    assert_eq!(jobs.len(), 1);
    assert_eq!(answers.iter().filter(|one| !one.deduplicated).count(), 1);
    assert_eq!(nodes[0].reader().status_counts(None).await.unwrap().total(), 1);
    assert_eq!(all_events(nodes[0].reader()).await.len(), 1);
}

async fn many_callers_with_one_key(db: TestDb) {
    let node = db.node().await;
    fifty_callers(&[&node]).await;
}

async fn two_nodes_with_one_key(db: TestDb) {
    let (one, other) = tokio::join!(db.node(), db.node());
    fifty_callers(&[&one, &other]).await;
    // Again and again, to meet every way in which the two transactions can overlap.
    for round in 0..40 {
        let (a, b) = tokio::join!(
            insert(&one, vec![keyed(round, &format!("round {round}"))], NO_LIMIT),
            insert(&other, vec![keyed(round, &format!("round {round}"))], NO_LIMIT),
        );
        let (a, b) = (a.unwrap(), b.unwrap());
        assert_eq!(ids(&a), ids(&b));
        assert_ne!(a[0].deduplicated, b[0].deduplicated);
    }
}

/// Each request's keys are locked in order; requests of one group may still come crosswise.
async fn two_nodes_with_keys_in_different_order(db: TestDb) {
    let (one, other) = tokio::join!(db.node(), db.node());
    let up = join_all((0..40).map(|n| insert(&one, vec![keyed(n, &n.to_string())], NO_LIMIT)));
    let down = join_all(
        (0..40)
            .rev()
            .map(|n| insert(&other, vec![keyed(n, &n.to_string())], NO_LIMIT)),
    );
    let (up, mut down) = tokio::join!(up, down);
    down.reverse();
    for (a, b) in up.into_iter().zip(down) {
        assert_eq!(ids(&a.unwrap()), ids(&b.unwrap()));
    }
    assert_eq!(one.reader().status_counts(None).await.unwrap().total(), 40);
}

async fn one_request_with_a_key_twice(db: TestDb) {
    let node = db.node().await;
    let jobs = vec![keyed(0, "a"), keyed(1, "b"), keyed(2, "a"), new_job(3)];
    let first = jobs[0].id;
    let answers = insert(&node, jobs, NO_LIMIT).await.unwrap();
    let deduplicated: Vec<bool> = answers.iter().map(|one| one.deduplicated).collect();
    assert_eq!(deduplicated, [false, false, true, false]);
    assert_eq!(answers[2].job.id, first);
    assert_eq!(node.reader().status_counts(None).await.unwrap().total(), 3);
}

async fn a_known_key_takes_no_room_in_the_queue(db: TestDb) {
    let node = db.node().await;
    let first = insert(&node, vec![keyed(0, "a")], 1).await.unwrap();
    let again = insert(&node, vec![keyed(1, "a"), keyed(2, "a")], 1)
        .await
        .unwrap();
    assert_eq!(ids(&again), [first[0].job.id; 2]);
    let full = insert(&node, vec![keyed(3, "a"), keyed(4, "b")], 1)
        .await
        .unwrap_err();
    assert_eq!(full, InsertRefused::QueueFull { pending: 1, limit: 1 });
    let twice = insert(&node, vec![keyed(5, "b"), keyed(6, "b")], 2)
        .await
        .unwrap();
    assert!(twice[1].deduplicated, "one job, so it fits");
    assert_eq!(node.reader().status_counts(None).await.unwrap().total(), 2);
}

async fn a_key_outlives_the_end_of_its_job(db: TestDb) {
    let node = db.node().await;
    insert(&node, vec![keyed(0, "a")], NO_LIMIT).await.unwrap();
    let job = std::sync::Arc::new(claim(&node, 1, 1).await.pop().unwrap());
    let _ = end(&node, &job, JobStatus::Completed, 2).await;
    let again = insert(&node, vec![keyed(3, "a")], NO_LIMIT).await.unwrap();
    assert!(again[0].deduplicated);
    assert_eq!(
        (again[0].job.id, again[0].job.status),
        (job.id, JobStatus::Completed)
    );
}
