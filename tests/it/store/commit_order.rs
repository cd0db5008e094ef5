//! Events become visible in the order of their numbers: a reader that asks for "all after mine" misses nothing, on
//! one node and on many, whatever is under way meanwhile.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use runql::domain::{Command, EventSeq, JobEvent, JobId, NewJob, Target};
use runql::store::EventFilter;
use sea_orm::{ConnectionTrait, Statement, TransactionTrait};
use tokio_util::sync::CancellationToken;

use super::fixture::{all_events, insert, new_job};
use crate::support::db::{Node, TestDb, sql};
use crate::support::wait::until;
use crate::support::{both_stores, on_postgres};

both_stores!(a_reader_misses_nothing_of_many_callers);
on_postgres!(
    a_transaction_held_open_holds_back_later_numbers,
    a_reader_misses_nothing_of_two_nodes
);

/// Reads in a loop, as listeners do, always after the last that it saw; once more after it is told that all is there.
async fn follow(node: &Node, done: &CancellationToken) -> Vec<JobEvent> {
    let mut seen: Vec<JobEvent> = Vec::new();
    loop {
        let last_look = done.is_cancelled();
        let place = seen.last().map_or(EventSeq(0), |event| event.seq);
        let page = node
            .reader()
            .events_after(place, &EventFilter::default(), 100)
            .await
            .unwrap();
        if page.is_empty() && last_look {
            return seen;
        }
        seen.extend(page);
        tokio::task::yield_now().await;
    }
}

/// Exactly what is stored, each once, in order.
async fn assert_complete(node: &Node, seen: &[JobEvent]) {
    assert!(seen.windows(2).all(|pair| pair[0].seq < pair[1].seq));
    assert_eq!(seen, all_events(node.reader()).await);
}

async fn a_transaction_held_open_holds_back_later_numbers(db: TestDb) {
    let (node, reader) = tokio::join!(db.node(), db.node());
    let (raw, look) = (db.raw().await, db.raw().await);
    insert(&node, vec![new_job(0)]).await;

    // Another node is about to commit: it has the lock and its number, and is slow.
    let slow = raw.begin().await.unwrap();
    let lock = i64::from_be_bytes(*b"\0\0\0runql");
    slow.execute_raw(sql(&raw, format!("SELECT pg_advisory_xact_lock({lock})")))
        .await
        .unwrap();
    let event =
        "INSERT INTO job_event (job_id, kind, at, status, attempt) VALUES ($1, 'CREATED', 0, 'PENDING', 0)";
    let others = new_job(7).id;
    let statement = Statement::from_sql_and_values(raw.get_database_backend(), event, [others.uuid().into()]);
    slow.execute_raw(statement).await.unwrap();

    let done = CancellationToken::new();
    let write = async {
        let jobs = join_all((1..4).map(|n| insert(&node, vec![new_job(n)]))).await;
        done.cancel();
        jobs
    };
    let release = async {
        until("the write waits for the lock", async || {
            let waiting = "SELECT count(*) AS n FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
            let row = look.query_one_raw(sql(&look, waiting)).await.unwrap().unwrap();
            match row.try_get::<i64>("", "n").unwrap() {
                1 => Ok(()),
                other => Err(other),
            }
        })
        .await;
        let visible = all_events(reader.reader()).await;
        assert_eq!(
            visible.len(),
            1,
            "nothing later may be seen before the earlier one is"
        );
        slow.commit().await.unwrap();
    };
    let (jobs, (), seen) = tokio::join!(write, release, follow(&reader, &done));
    assert_complete(&reader, &seen).await;
    let order: Vec<JobId> = seen.iter().map(|event| event.job).collect();
    assert_eq!(order[1], others);
    let later: BTreeSet<JobId> = jobs.concat().iter().map(|job| job.id).collect();
    assert_eq!(order[2..].iter().copied().collect::<BTreeSet<_>>(), later);
}

/// Eight callers of one node store so many jobs each, `at_once` in a request. The name is the node's own: with one name
/// for all, the counters' row would keep the commits in order too, and hide what else does not.
async fn write_to(node: &Node, name: &str, each: i64, at_once: i64) {
    join_all((0..8).map(|_| async move {
        for _ in 0..each / at_once {
            let jobs = (0..at_once).map(|n| NewJob {
                command: Command::Agent(Target {
                    target: name.to_owned(),
                    inputs: serde_json::Map::new(),
                    config: serde_json::Map::new(),
                }),
                ..new_job(n)
            });
            insert(node, jobs.collect()).await;
        }
    }))
    .await;
}

/// One node commits often, the other much at once, so that many numbers are given while a transaction is under way.
async fn a_reader_misses_nothing_of_two_nodes(db: TestDb) {
    let (one, other, reader) = tokio::join!(db.node(), db.node(), db.node());
    let done = CancellationToken::new();
    let write = async {
        tokio::join!(write_to(&one, "one", 125, 1), write_to(&other, "other", 250, 125));
        done.cancel();
    };
    let (seen, again, ()) = tokio::join!(follow(&reader, &done), follow(&one, &done), write);
    assert_eq!(seen.len(), 3_000);
    assert_complete(&reader, &seen).await;
    assert_eq!(seen, again);
}

async fn a_reader_misses_nothing_of_many_callers(db: TestDb) {
    let node = db.node().await;
    let done = CancellationToken::new();
    let write = async {
        write_to(&node, "one", 120, 1).await;
        done.cancel();
    };
    let (seen, ()) = tokio::join!(follow(&node, &done), write);
    assert_eq!(seen.len(), 960);
    assert_complete(&node, &seen).await;
}
