//! Connections that are kept, on a real server. Nothing is written there but what its sessions hold.

use std::time::Duration;

use sea_orm::DbBackend;
use sea_orm::sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::time::timeout;
use uuid::Uuid;

use super::*;

const PID: &str = "SELECT pg_backend_pid() AS pid";

/// Longer than anything here takes on a machine that has much else to do.
pub(super) const SOON: Duration = Duration::from_secs(20);

pub(super) struct Server {
    pub(super) connections: Connections,
    name: String,
}

impl Server {
    /// So many connections at most, and as long for each statement.
    pub(super) fn new(connections: u32, bound: Duration) -> Self {
        let url = std::env::var("RUNQL_TEST_POSTGRES_URL");
        let url = url.unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".to_owned());
        let name = format!("kept-{}", Uuid::now_v7());
        let options: PgConnectOptions = url.parse().unwrap();
        let pool = PgPoolOptions::new().max_connections(connections);
        let pool = pool.connect_lazy_with(options.application_name(&name));
        Self {
            connections: Connections::new(pool, Some(bound), Distrust::default()),
            name,
        }
    }

    pub(super) async fn pid(&self) -> Result<i32, DbErr> {
        self.connections.rows(of(PID)).await.map(|rows| pid(&rows))
    }

    /// How many sessions there are that satisfy this, as somebody else sees it.
    pub(super) async fn sessions(&self, condition: &str) -> i64 {
        let other = Self::new(1, SOON);
        let sql = format!(
            "SELECT COUNT(*) AS n FROM pg_stat_activity WHERE application_name = '{}' AND {condition}",
            self.name
        );
        let counted = other.connections.rows(of(&sql)).await.unwrap();
        other.connections.close().await;
        counted[0].try_get("", "n").unwrap()
    }

    pub(super) async fn until_sessions(&self, condition: &str, count: i64) {
        let wait = async {
            while self.sessions(condition).await != count {
                tokio::task::yield_now().await;
            }
        };
        timeout(SOON, wait).await.unwrap();
    }
}

pub(super) fn of(sql: &str) -> Statement {
    Statement::from_string(DbBackend::Postgres, sql)
}

fn pid(rows: &[QueryResult]) -> i32 {
    rows[0].try_get("", "pid").unwrap()
}

async fn pid_in(transaction: &PgTransaction) -> i32 {
    pid(&transaction.rows(of(PID)).await.unwrap())
}

#[tokio::test]
async fn one_connection_serves_one_after_the_other() {
    let server = Server::new(4, SOON);
    let first = server.pid().await.unwrap();
    for _ in 0..20 {
        assert_eq!(server.pid().await.unwrap(), first);
        let transaction = server.connections.begin().await.unwrap();
        assert_eq!(pid_in(&transaction).await, first);
        transaction.commit(None).await.unwrap();
    }
    server.connections.close().await;
}

#[tokio::test]
async fn what_is_rolled_back_is_not_there_and_the_connection_is() {
    let server = Server::new(2, SOON);
    let transaction = server.connections.begin().await.unwrap();
    let first = pid_in(&transaction).await;
    transaction
        .batch("CREATE TEMPORARY TABLE kept (x int)")
        .await
        .unwrap();
    transaction
        .execute(of("INSERT INTO kept VALUES (1)"))
        .await
        .unwrap();
    let failed = transaction
        .execute(of("INSERT INTO kept VALUES ('no number')"))
        .await;
    assert!(failed.is_err());
    transaction.roll_back().await.unwrap();
    assert_eq!(server.pid().await.unwrap(), first);
    assert!(server.connections.rows(of("SELECT * FROM kept")).await.is_err());
    server.connections.close().await;
}

#[tokio::test]
async fn a_transaction_that_is_dropped_ends_with_its_session() {
    let server = Server::new(2, SOON);
    let transaction = server.connections.begin().await.unwrap();
    let first = pid_in(&transaction).await;
    transaction
        .batch("CREATE TEMPORARY TABLE kept (x int)")
        .await
        .unwrap();
    drop(transaction);
    assert_ne!(server.pid().await.unwrap(), first);
    server.until_sessions(&format!("pid = {first}"), 0).await;
    server.connections.close().await;
}

#[tokio::test]
async fn a_statement_that_is_given_up_leaves_no_answer_to_the_next() {
    let server = Server::new(2, SOON);
    let first = server.pid().await.unwrap();
    let slow = server.connections.rows(of("SELECT 1 AS pid FROM pg_sleep(0.2)"));
    assert!(timeout(Duration::from_millis(20), slow).await.is_err());
    // Over another connection, or over the same one once it has answered.
    for _ in 0..5 {
        assert_ne!(server.pid().await.unwrap(), 1);
    }
    let transaction = server.connections.begin().await.unwrap();
    let slow = transaction.rows(of("SELECT 1 AS pid FROM pg_sleep(0.2)"));
    assert!(timeout(Duration::from_millis(20), slow).await.is_err());
    drop(transaction);
    assert_ne!(server.pid().await.unwrap(), 1);
    server
        .until_sessions(&format!("pid <> {first} AND state LIKE 'idle in%'"), 0)
        .await;
    server.connections.close().await;
}

#[tokio::test]
async fn no_statement_waits_beyond_its_bound() {
    let server = Server::new(2, Duration::from_millis(200));
    let first = server.pid().await.unwrap();
    let asked = server.connections.rows(of("SELECT 1 AS pid FROM pg_sleep(60)"));
    let error = timeout(SOON, asked).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("200"), "{error}");
    // The connection is not used again; whoever asks next is answered over another.
    assert_ne!(server.pid().await.unwrap(), first);
    // The session itself would go on sleeping.
    let other = Server::new(1, SOON);
    let end = format!("SELECT pg_terminate_backend({first}) AS ended");
    other.connections.rows(of(&end)).await.unwrap();
    other.connections.close().await;
    server.connections.close().await;
}

#[tokio::test]
async fn a_session_that_was_ended_is_replaced() {
    let server = Server::new(2, SOON);
    let first = server.pid().await.unwrap();
    let other = Server::new(1, SOON);
    let end = format!("SELECT pg_terminate_backend({first}, 10000) AS ended");
    other.connections.rows(of(&end)).await.unwrap();
    other.connections.close().await;
    // One statement may find out.
    let next = match server.pid().await {
        Ok(next) => next,
        Err(_) => server.pid().await.unwrap(),
    };
    assert_ne!(next, first);
    server.connections.close().await;
}

#[tokio::test]
async fn who_waits_for_the_pool_gets_what_comes_free() {
    let server = Server::new(2, SOON);
    for over_pool in [false, true] {
        let held = server.connections.begin().await.unwrap();
        let _other = server.connections.begin().await.unwrap();
        let pool = server.connections.0.pool.clone();
        let asked = async {
            if over_pool {
                let acquired = server.connections.over_pool(pool.acquire());
                acquired.await.map(drop).map_err(not_acquired)
            } else {
                server.pid().await.map(drop)
            }
        };
        let let_go = async {
            while server.connections.0.lock().waiting == 0 {
                tokio::task::yield_now().await;
            }
            held.commit(None).await.unwrap();
        };
        let (answered, ()) = timeout(SOON, async { tokio::join!(asked, let_go) })
            .await
            .unwrap();
        answered.unwrap();
        assert_eq!(server.connections.0.lock().waiting, 0);
    }
    server.connections.close().await;
}

#[tokio::test]
async fn some_are_left_to_the_pool_and_none_once_it_is_closed() {
    let server = Server::new(4, SOON);
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(server.connections.begin().await.unwrap());
    }
    for transaction in held {
        transaction.commit(None).await.unwrap();
    }
    assert_eq!(server.connections.0.lock().idle.len(), 2);
    let last = server.connections.begin().await.unwrap();
    let closing = server.connections.close();
    let ending = async {
        while !server.connections.0.pool.is_closed() {
            tokio::task::yield_now().await;
        }
        last.commit(None).await.unwrap();
    };
    timeout(SOON, async { tokio::join!(closing, ending) })
        .await
        .unwrap();
    assert!(server.connections.0.lock().idle.is_empty());
    assert!(server.pid().await.is_err());
    server.until_sessions("TRUE", 0).await;
}

#[tokio::test]
async fn what_is_old_or_unused_goes_back_to_the_pool() {
    let server = Server::new(4, SOON);
    let (one, other) = (
        server.connections.begin().await.unwrap(),
        server.connections.begin().await.unwrap(),
    );
    one.commit(None).await.unwrap();
    other.commit(None).await.unwrap();
    let idle = || server.connections.0.lock().idle.len();
    assert_eq!(idle(), 2);
    server.connections.0.lock().idle[0].since -= UNUSED;
    server.pid().await.unwrap();
    assert_eq!(idle(), 1);
    server.connections.0.lock().idle[0].lent.taken -= OLD;
    server.pid().await.unwrap();
    assert_eq!(idle(), 0);
    server.connections.close().await;
}
