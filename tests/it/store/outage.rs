//! Faults of the database: what the writer mends by itself, and how the rest is told.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use runql::domain::JobStatus;
use runql::store::{EndResult, InsertJobs, OpenError, StoreError, StoreOptions};
use sea_orm::{ConnectionTrait, DatabaseConnection, TransactionTrait};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::fixture::{NO_LIMIT, all_events, claim, end, in_one_group, insert, new_job, stored};
use crate::support::db::{Node, TestDb, sql, texts};
use crate::support::on_postgres;
use crate::support::wait::{until, within};

on_postgres!(
    a_lost_connection_is_mended,
    a_connection_lost_within_a_transaction_is_mended,
    a_deadlock_is_tried_again,
    a_database_that_is_gone_fails_everybody_at_once,
);

/// Cuts off every other connection to this database, and waits until they are gone. The pool may open new ones meanwhile.
async fn cut_off(raw: &DatabaseConnection) {
    let others = "SELECT pid::text FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let cut = texts(raw, others).await.join(", ");
    assert!(!cut.is_empty(), "nobody was connected");
    // By their numbers: in a WHERE the call could come before the other conditions, and end every connection there is.
    let end = format!("SELECT pg_terminate_backend(pid) FROM unnest(ARRAY[{cut}]) AS pid");
    raw.execute_raw(sql(raw, end)).await.unwrap();
    until("the connections are gone", async || {
        let left = texts(
            raw,
            &format!("SELECT pid::text FROM pg_stat_activity WHERE pid IN ({cut})"),
        )
        .await;
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
}

/// Waits until so many connections of this database wait for a lock.
async fn lock_waiters(raw: &DatabaseConnection, wanted: i64) {
    until("somebody waits for a lock", async || {
        let count = "SELECT count(*) AS n FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let waiting = raw
            .query_one_raw(sql(raw, count))
            .await
            .unwrap()
            .unwrap()
            .try_get::<i64>("", "n")
            .unwrap();
        if waiting == wanted { Ok(()) } else { Err(waiting) }
    })
    .await;
}

async fn total(node: &Node) -> i64 {
    node.reader().status_counts(None).await.unwrap().total()
}

async fn a_lost_connection_is_mended(db: TestDb) {
    let node = db.node().await;
    let raw = db.raw().await;
    for round in 1..=3 {
        cut_off(&raw).await;
        // The first write after the cut already succeeds, alone and in a group.
        if round == 2 {
            in_one_group(&node, join_all((0..4).map(|n| insert(&node, vec![new_job(n)])))).await;
        } else {
            insert(&node, (0..4).map(new_job).collect()).await;
        }
        // A reader may first have to meet each of its dead connections.
        let total = until("readers are back", async || {
            node.reader().status_counts(None).await
        })
        .await
        .total();
        assert_eq!(total, 4 * round);
    }
    let events = all_events(node.reader()).await;
    assert_eq!(events.len(), 12);
}

/// The writer is cut off while it waits for the lock before its commit: all is written again, and once.
async fn a_connection_lost_within_a_transaction_is_mended(db: TestDb) {
    let node = db.node().await;
    let (raw, look) = (db.raw().await, db.raw().await);
    let held = raw.begin().await.unwrap();
    held.execute_unprepared("LOCK TABLE stat").await.unwrap();
    let writes = join_all((0..5).map(|n| insert(&node, vec![new_job(n)])));
    let cut = async {
        lock_waiters(&look, 1).await;
        let waiting = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock'";
        look.execute_raw(sql(&look, waiting)).await.unwrap();
        lock_waiters(&look, 1).await;
        held.commit().await.unwrap();
    };
    let (jobs, ()) = tokio::join!(writes, cut);
    assert_eq!((jobs.len(), total(&node).await), (5, 5));
    assert_eq!(all_events(node.reader()).await.len(), 5);
}

/// Postgres resolves a deadlock by failing one of the two; that it was this write is nobody's fault.
async fn a_deadlock_is_tried_again(db: TestDb) {
    let node = db.node().await;
    let (raw, look) = (db.raw().await, db.raw().await);
    insert(&node, vec![new_job(0)]).await;
    let job = Arc::new(claim(&node, 1, 1).await.pop().unwrap());
    let other = raw.begin().await.unwrap();
    other.execute_unprepared("LOCK TABLE stat").await.unwrap();
    // The writer has the job's row and waits for the counters; the other has the counters and wants the row.
    let crosswise = async {
        lock_waiters(&look, 1).await;
        // If this one is chosen instead, the writer goes on at once: that proves nothing, and fails here.
        other
            .execute_unprepared("SET LOCAL deadlock_timeout = '60s'")
            .await
            .unwrap();
        other
            .execute_unprepared("UPDATE job SET updated_at = updated_at")
            .await
            .unwrap();
        other.commit().await.unwrap();
    };
    let (ended, ()) = tokio::join!(end(&node, &job, JobStatus::Completed, 2), crosswise);
    assert_eq!(ended, EndResult::Ended(JobStatus::Completed));
    assert_eq!(stored(&node, job.id).await.status, JobStatus::Completed);
}

/// A road to the Postgres server that can be closed and opened again.
struct Road {
    port: u16,
    server: String,
    traffic: JoinSet<()>,
}

impl Road {
    async fn open(port: u16, server: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let far = server.to_owned();
        let mut traffic = JoinSet::new();
        traffic.spawn(async move {
            let mut pairs = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                let mut far = TcpStream::connect(&far).await.unwrap();
                pairs.spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
            }
        });
        Self {
            port,
            server: server.to_owned(),
            traffic,
        }
    }

    /// Cuts every connection; new ones are refused.
    async fn close(&mut self) {
        self.traffic.shutdown().await;
    }

    async fn open_again(self) -> Self {
        Self::open(self.port, &self.server).await
    }
}

/// One waiting second for the group, not for each of its members: that would be longer than any bound here.
async fn a_database_that_is_gone_fails_everybody_at_once(db: TestDb) {
    let (rest, server) = db.url().split_once('@').unwrap();
    let (server, name) = server.split_once('/').unwrap();
    let mut road = Road::open(0, server).await;
    let options = StoreOptions {
        acquire_timeout: Duration::from_secs(1),
        ..StoreOptions::new(format!("{rest}@127.0.0.1:{}/{name}", road.port))
    };
    let node = Node::open(&options).await.unwrap();
    insert(&node, vec![new_job(0)]).await;
    road.close().await;
    let writes = join_all((0..25).map(|n| {
        node.writer().write(InsertJobs {
            jobs: vec![new_job(n)],
            queue_limit: NO_LIMIT,
        })
    }));
    let results = within("an answer", writes).await;
    for result in results {
        assert!(matches!(result, Err(StoreError::Unavailable(_))), "{result:?}");
    }
    assert!(
        node.reader()
            .ping()
            .await
            .is_err_and(|error| error.is_unavailable())
    );
    let refused = Node::open(&options).await.unwrap_err();
    assert!(matches!(refused, OpenError::Store(error) if error.is_unavailable()));

    let road = road.open_again().await;
    insert(&node, vec![new_job(1)]).await;
    until("readers are back", async || node.reader().ping().await).await;
    assert_eq!(total(&node).await, 2, "what failed was not written");
    drop(road);
}
