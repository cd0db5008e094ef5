//! The rows of a server's own workers: names, taking over, leaving.

use std::collections::BTreeSet;

use runql::domain::{Timestamp, WorkerId, WorkerStatus};
use runql::store::{JoinPool, LeavePool, PoolMember, RenewLeases};
use sea_orm::ConnectionTrait;
use uuid::Uuid;

use super::fixture::{LEASE, at, claim_for, insert, new_job, worker};
use crate::support::db::{Node, TestDb};
use crate::support::{both_stores, on_postgres};

both_stores!(
    workers_have_names_and_keep_them,
    a_silent_row_is_taken_over,
    who_left_in_order_is_replaced_at_once,
    a_row_that_still_holds_a_job_is_left_alone,
);
on_postgres!(two_nodes_join_at_once, a_frozen_node_finds_its_workers_gone);

async fn join(
    node: &Node,
    server: Uuid,
    count: usize,
    silent_since: Timestamp,
    now: Timestamp,
) -> Vec<PoolMember> {
    node.write(JoinPool {
        node: server,
        ids: (0..count).map(|_| worker()).collect(),
        silent_since,
        now,
    })
    .await
}

fn names(members: &[PoolMember]) -> Vec<&str> {
    members.iter().map(|member| member.name.as_str()).collect()
}

fn ids(members: &[PoolMember]) -> Vec<WorkerId> {
    members.iter().map(|member| member.id).collect()
}

async fn workers_have_names_and_keep_them(db: TestDb) {
    let node = db.node().await;
    let first = join(&node, node.node(), 2, at(0), at(1)).await;
    assert_eq!(names(&first), ["worker-001-local", "worker-002-local"]);
    let more = join(&node, node.node(), 1, at(0), at(2)).await;
    assert_eq!(names(&more), ["worker-003-local"], "its own rows are in use");
    let known = node.reader().workers(at(0)).await.unwrap();
    assert_eq!(known.len(), 3);
    assert!(
        known
            .iter()
            .all(|one| one.status == WorkerStatus::Idle && one.internal)
    );
    assert_eq!((known[0].id, known[0].registered_at), (first[0].id, at(1)));
    let silent = node.reader().workers(at(2)).await.unwrap();
    assert_eq!(
        silent
            .iter()
            .filter(|one| one.status == WorkerStatus::Offline)
            .count(),
        2
    );
    let some = node.reader().workers_by_id(&ids(&more), at(0)).await.unwrap();
    assert_eq!(
        (some.len(), some[&more[0].id].name.as_str()),
        (1, "worker-003-local")
    );
}

async fn a_silent_row_is_taken_over(db: TestDb) {
    let node = db.node().await;
    let first = join(&node, node.node(), 3, at(0), at(1)).await;
    node.write(RenewLeases {
        workers: vec![first[1].id],
        lease_until: at(9),
        now: at(50),
    })
    .await;
    let next = join(&node, Uuid::from_u128(2), 3, at(50), at(60)).await;
    assert_eq!(
        names(&next),
        ["worker-001-local", "worker-003-local", "worker-004-local"]
    );
    assert_eq!(ids(&next)[..2], [first[0].id, first[2].id]);
    let known = node.reader().workers(at(60)).await.unwrap();
    assert_eq!(known.len(), 4);
    assert_eq!(known[1].status, WorkerStatus::Offline, "not heard of since 50");
}

async fn who_left_in_order_is_replaced_at_once(db: TestDb) {
    let node = db.node().await;
    let first = join(&node, Uuid::from_u128(1), 2, at(0), at(1)).await;
    let leave = |server| LeavePool {
        node: Uuid::from_u128(server),
        workers: ids(&first),
    };
    node.write(leave(7)).await;
    assert_eq!(
        node.reader().workers(at(0)).await.unwrap()[0].status,
        WorkerStatus::Idle,
        "not his to take away"
    );
    node.write(leave(1)).await;
    assert_eq!(
        node.reader().workers(at(0)).await.unwrap()[0].status,
        WorkerStatus::Offline
    );
    let next = join(&node, Uuid::from_u128(2), 2, at(0), at(2)).await;
    assert_eq!(ids(&next), ids(&first));
    assert_eq!(
        node.reader().workers(at(0)).await.unwrap()[0].status,
        WorkerStatus::Idle
    );
}

/// Its lease has not been ended yet: who took the row over would renew it without running the job.
async fn a_row_that_still_holds_a_job_is_left_alone(db: TestDb) {
    let node = db.node().await;
    let first = join(&node, node.node(), 2, at(0), at(1)).await;
    insert(&node, vec![new_job(0)]).await;
    claim_for(&node, vec![first[0].id], 2).await;
    let later = at(0).after(LEASE * 2);
    let next = join(&node, Uuid::from_u128(2), 2, later, later).await;
    assert_eq!(names(&next), ["worker-002-local", "worker-003-local"]);
}

async fn two_nodes_join_at_once(db: TestDb) {
    let (one, other) = tokio::join!(db.node(), db.node());
    let old = join(&one, Uuid::from_u128(1), 4, at(0), at(1)).await;
    // Each round finds every row silent: again and again, so that the two meet in every way.
    for round in 1..=12 {
        let (silent, now) = (at(round * 10 - 5), at(round * 10));
        let (a, b) = tokio::join!(
            join(&one, Uuid::from_u128(100), 5, silent, now),
            join(&other, Uuid::from_u128(200), 5, silent, now),
        );
        let all: BTreeSet<_> = ids(&a).into_iter().chain(ids(&b)).collect();
        assert_eq!(all.len(), 10, "round {round}");
        assert!(ids(&old).iter().all(|id| all.contains(id)));
        // They are gone without a word, and the next two find their rows.
        let raw = "UPDATE worker SET node_id = NULL";
        db.raw().await.execute_unprepared(raw).await.unwrap();
    }
    assert_eq!(one.reader().workers(at(0)).await.unwrap().len(), 10);
}

/// A node that was frozen for longer than a lease must neither renew nor claim in the name of workers that another
/// one has taken over meanwhile: both would run the same job.
async fn a_frozen_node_finds_its_workers_gone(db: TestDb) {
    let (frozen, other) = tokio::join!(db.node(), db.node());
    let old = join(&frozen, frozen.node(), 3, at(0), at(1)).await;
    let taken = join(&other, other.node(), 2, at(50), at(60)).await;
    assert_eq!(ids(&taken)[..2], ids(&old)[..2]);
    insert(&other, vec![new_job(0), new_job(1), new_job(2)]).await;
    let theirs = claim_for(&other, ids(&taken), 61).await;
    assert_eq!(theirs.len(), 2);

    let renewed = frozen
        .write(RenewLeases {
            workers: ids(&old),
            lease_until: at(900),
            now: at(62),
        })
        .await;
    assert_eq!(renewed.lost, ids(&taken));
    assert!(renewed.held.is_empty(), "these jobs are the other node's");
    let now = other
        .reader()
        .jobs(&theirs.iter().map(|job| job.id).collect::<Vec<_>>())
        .await
        .unwrap();
    assert!(
        theirs
            .iter()
            .all(|job| now[&job.id].lease_until == job.lease_until),
        "not his to renew"
    );

    let claimed = claim_for(&frozen, ids(&old), 63).await;
    assert_eq!(claimed.len(), 1, "one job is left");
    assert_eq!(
        claimed[0].worker,
        Some(old[2].id),
        "only in the name that is still his"
    );
}
