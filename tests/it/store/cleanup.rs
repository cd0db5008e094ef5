//! Deleting ended jobs, with all that belongs to them and nothing else.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use runql::domain::{EventSeq, JobId, JobStatus, LogLevel, LogStream, Metadata, NewJob, Tag, WaitReason};
use runql::store::{CleanupBatch, CleanupFilter, EndJob, EndResult, LogEncoder, Place};

use super::fixture::{all_events, at, claim, end, ending, insert, new_job, retried_job, running, stored};
use crate::support::db::{Node, TestDb, rows_of};
use crate::support::{both_stores, on_postgres};

both_stores!(
    only_what_is_named,
    all_that_belongs_to_a_job,
    cursors_below_the_deleted_are_known,
    in_portions
);
on_postgres!(two_nodes_clean_at_once);

fn filter(statuses: &[JobStatus], finished_before: Option<i64>) -> CleanupFilter {
    CleanupFilter {
        finished_before: finished_before.map(at),
        statuses: statuses.to_vec(),
    }
}

/// Cleans until nothing is left, after asking how much it will be.
async fn clean(node: &Node, filter: CleanupFilter) -> u64 {
    let expected = node.reader().count_cleanup(&filter).await.unwrap();
    let deleted = clean_in(node, filter, 250).await;
    assert_eq!(deleted, expected);
    deleted
}

/// Cleans in batches of this size.
async fn clean_in(node: &Node, filter: CleanupFilter, most: usize) -> u64 {
    let mut deleted = 0;
    let mut after = Some(Place::default());
    while let Some(place) = after {
        let batch = CleanupBatch {
            filter: filter.clone(),
            after: place,
            most,
        };
        let done = node.write(batch).await;
        assert!(done.deleted <= most as u64);
        deleted += done.deleted;
        after = done.next;
    }
    deleted
}

async fn ended(node: &Node, status: JobStatus, ms: i64) -> JobId {
    let job = running(node, new_job(0), 1).await;
    assert_eq!(end(node, &job, status, ms).await, EndResult::Ended(status));
    job.id
}

async fn left(node: &Node, ids: &[JobId]) -> BTreeSet<JobId> {
    node.reader().jobs(ids).await.unwrap().into_keys().collect()
}

async fn only_what_is_named(db: TestDb) {
    let node = db.node().await;
    use JobStatus::{Completed, Failed, Pending, Running, Timeout};
    let mut ids = Vec::new();
    for (status, ms) in [(Completed, 10), (Completed, 20), (Failed, 10), (Timeout, 30)] {
        ids.push(ended(&node, status, ms).await);
    }
    ids.push(running(&node, new_job(0), 1).await.id);
    ids.push(insert(&node, vec![new_job(0)]).await[0].id);
    assert_eq!(clean(&node, filter(&[], None)).await, 0);
    assert_eq!(
        clean(&node, filter(&[Pending, Running], None)).await,
        0,
        "only what has ended"
    );
    assert_eq!(clean(&node, filter(&[Completed], Some(20))).await, 1);
    assert_eq!(left(&node, &ids).await, ids[1..].iter().copied().collect());
    assert_eq!(clean(&node, filter(&[Failed, Timeout], Some(30))).await, 1);
    assert_eq!(clean(&node, filter(JobStatus::ALL, None)).await, 2);
    assert_eq!(left(&node, &ids).await, ids[4..].iter().copied().collect());
    assert_eq!(node.reader().status_counts(None).await.unwrap().total(), 2);
}

async fn all_that_belongs_to_a_job(db: TestDb) {
    let node = db.node().await;
    let raw = db.raw().await;
    let full = || NewJob {
        metadata: Metadata {
            tags: vec![Tag {
                key: "k".to_owned(),
                value: "v".to_owned(),
            }],
            ..Metadata::default()
        },
        ..retried_job(0, 2, Duration::ZERO)
    };
    let kept = insert(
        &node,
        vec![NewJob {
            priority: -1,
            ..full()
        }],
    )
    .await[0]
        .id;
    let tables = ["attempt", "job", "job_event", "job_tag", "log_chunk"];
    let mut before = Vec::new();
    for table in tables {
        before.push(rows_of(&raw, table).await);
    }
    let job = running(&node, full(), 1).await;
    assert!(matches!(
        end(&node, &job, JobStatus::Failed, 2).await,
        EndResult::Retried(_)
    ));
    let again = Arc::new(claim(&node, 1, 3).await.pop().unwrap());
    assert_eq!(again.id, job.id);
    let mut encoder = LogEncoder::default();
    encoder.push(LogStream::Stdout, LogLevel::Info, at(3), b"line\n");
    let last = EndJob {
        job: again,
        end: ending(JobStatus::Completed),
        log: encoder.take().into_iter().collect(),
        now: at(4),
        jitter: 0.0,
    };
    let _ = node.write(last).await;
    for table in tables {
        let now = rows_of(&raw, table).await.len();
        assert!(
            now > before[tables.iter().position(|&one| one == table).unwrap()].len(),
            "{table}"
        );
    }
    assert_eq!(clean(&node, filter(JobStatus::ALL, None)).await, 1);
    for (table, before) in tables.iter().zip(before) {
        assert_eq!(rows_of(&raw, table).await, before, "{table}");
    }
    assert_eq!(stored(&node, kept).await.wait, Some(WaitReason::Queued));
}

async fn cursors_below_the_deleted_are_known(db: TestDb) {
    let node = db.node().await;
    assert_eq!(node.reader().event_floor().await.unwrap(), EventSeq(0));
    assert_eq!(node.reader().last_event().await.unwrap(), EventSeq(0));
    ended(&node, JobStatus::Completed, 10).await;
    ended(&node, JobStatus::Failed, 10).await;
    clean(&node, filter(&[JobStatus::Failed], None)).await;
    assert_eq!(node.reader().event_floor().await.unwrap(), EventSeq(6));
    clean(&node, filter(&[JobStatus::Completed], None)).await;
    assert_eq!(
        node.reader().event_floor().await.unwrap(),
        EventSeq(6),
        "it never goes back"
    );
    assert!(all_events(node.reader()).await.is_empty());
    assert_eq!(node.reader().last_event().await.unwrap(), EventSeq(6));
    node.close().await;
    let node = db.node().await;
    insert(&node, vec![new_job(0)]).await;
    assert_eq!(
        all_events(node.reader()).await[0].seq,
        EventSeq(7),
        "no number is given twice"
    );
}

async fn five_hundred(node: &Node) {
    insert(node, (0..501).map(new_job).collect()).await;
    let jobs = claim(node, 501, 600).await;
    futures_util::future::join_all(jobs.into_iter().map(async |job| {
        let _ = end(node, &Arc::new(job), JobStatus::Completed, 700).await;
    }))
    .await;
}

async fn in_portions(db: TestDb) {
    let node = db.node().await;
    five_hundred(&node).await;
    let first = CleanupBatch {
        filter: filter(JobStatus::ALL, None),
        after: Place::default(),
        most: 250,
    };
    let done = node.write(first).await;
    assert_eq!(done.deleted, 250);
    assert!(done.next.is_some());
    // Of one that is named among many that are not, each look passes the others by.
    let one = ended(&node, JobStatus::Failed, 800).await;
    assert_eq!(clean_in(&node, filter(&[JobStatus::Failed], None), 1).await, 1);
    assert_eq!(left(&node, &[one]).await, BTreeSet::new());
    assert_eq!(clean(&node, filter(JobStatus::ALL, None)).await, 251);
    assert_eq!(node.reader().status_counts(None).await.unwrap().total(), 0);
}

async fn two_nodes_clean_at_once(db: TestDb) {
    let (one, other) = tokio::join!(db.node(), db.node());
    five_hundred(&one).await;
    let clean = async |node: &Node| clean_in(node, filter(JobStatus::ALL, None), 250).await;
    let (a, b) = tokio::join!(clean(&one), clean(&other));
    assert_eq!(a + b, 501, "none counted twice");
    assert_eq!(one.reader().status_counts(None).await.unwrap().total(), 0);
    let figures = one
        .reader()
        .figures(&runql::store::StatsWindow::default())
        .await
        .unwrap();
    assert_eq!((figures.duration.count(), figures.wait.count()), (0, 0));
}
