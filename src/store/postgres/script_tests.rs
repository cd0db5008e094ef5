//! Messages of several statements, on a real server.

use sea_orm::Value;
use uuid::Uuid;

use super::tests::{SOON, Server, of};
use super::*;

fn with(sql: &str, values: impl IntoIterator<Item = Value>) -> Statement {
    Statement::from_sql_and_values(sea_orm::DbBackend::Postgres, sql, values)
}

fn text(rows: &[QueryResult]) -> Option<String> {
    rows[0].try_get("", "x").unwrap()
}

async fn ready(transaction: &PgTransaction) -> i64 {
    let counted = of("SELECT COUNT(*) AS n FROM pg_prepared_statements WHERE name ~ '^r[0-9]+$'");
    transaction.rows(counted).await.unwrap()[0]
        .try_get("", "n")
        .unwrap()
}

#[tokio::test]
async fn values_arrive_as_they_are() {
    let server = Server::new(2, SOON);
    let every_character: String = (1..=0x2ff).filter_map(char::from_u32).collect();
    let mut texts: Vec<String> = [
        "",
        "'",
        "\\",
        "\\'",
        "'\\",
        "''; DROP TABLE job; --",
        "\\'; DROP TABLE job; --",
        "E'\\\\'",
        "$1 $$ $q$",
        "a\r\n\tb;\n",
        "\\x41\\101\\u0041",
        "🦀é\u{feff}\u{10ffff}",
        "%s ? :x {}",
    ]
    .map(str::to_owned)
    .into();
    texts.push(every_character);
    // Each pair of what has a meaning between quotes.
    let special = ['\'', '\\', '"', '$', ';', '\n', 'n', 'x', 'u', 'E'];
    texts.extend(
        special
            .iter()
            .flat_map(|one| special.map(|two| format!("{one}{two}"))),
    );
    for conforming in ["on", "off"] {
        let transaction = server.connections.begin().await.unwrap();
        let set = format!(
            "SET LOCAL standard_conforming_strings = {conforming}; SET LOCAL escape_string_warning = off"
        );
        transaction.batch(&set).await.unwrap();
        for expected in &texts {
            let echo = with("SELECT $1 AS x", [expected.as_str().into()]);
            let found = transaction.rows(echo).await.unwrap();
            assert_eq!(text(&found).as_deref(), Some(expected.as_str()), "{conforming}");
        }
        let bytes: Vec<u8> = (0..=255).collect();
        let id = Uuid::now_v7();
        let values: [Value; 12] = [
            i64::MIN.into(),
            i64::MAX.into(),
            (-5_i32).into(),
            7_u64.into(),
            true.into(),
            false.into(),
            id.into(),
            bytes.clone().into(),
            Value::String(None),
            Value::BigInt(None),
            Value::Uuid(None),
            Value::Bytes(None),
        ];
        let sql = "SELECT $1 AS a, $2 AS b, $3 AS c, $4 AS d, $5 AS e, $6 AS f, $7 AS g, $8 AS h, $9 AS i, $10 AS j,
            $11 AS k, $12 AS l";
        let row = &transaction.rows(with(sql, values)).await.unwrap()[0];
        assert_eq!(row.try_get::<i64>("", "a").unwrap(), i64::MIN);
        assert_eq!(row.try_get::<i64>("", "b").unwrap(), i64::MAX);
        assert_eq!(row.try_get::<i32>("", "c").unwrap(), -5);
        assert_eq!(row.try_get::<i64>("", "d").unwrap(), 7);
        assert!(row.try_get::<bool>("", "e").unwrap());
        assert!(!row.try_get::<bool>("", "f").unwrap());
        assert_eq!(row.try_get::<Uuid>("", "g").unwrap(), id);
        assert_eq!(row.try_get::<Vec<u8>>("", "h").unwrap(), bytes);
        assert_eq!(row.try_get::<Option<String>>("", "i").unwrap(), None);
        assert_eq!(row.try_get::<Option<i64>>("", "j").unwrap(), None);
        assert_eq!(row.try_get::<Option<Uuid>>("", "k").unwrap(), None);
        assert_eq!(row.try_get::<Option<Vec<u8>>>("", "l").unwrap(), None);
        transaction.commit(None).await.unwrap();
    }
    server.connections.close().await;
}

#[tokio::test]
async fn a_text_with_nul_is_refused_and_takes_nothing_with_it() {
    let server = Server::new(2, SOON);
    let transaction = server.connections.begin().await.unwrap();
    let refused = transaction.rows(with("SELECT $1 AS x", ["a\0b".into()])).await;
    assert!(refused.is_err());
    transaction.roll_back().await.unwrap();
    let transaction = server.connections.begin().await.unwrap();
    let found = transaction.rows(with("SELECT $1 AS x", ["ab".into()])).await;
    assert_eq!(text(&found.unwrap()).as_deref(), Some("ab"));
    transaction.commit(None).await.unwrap();
    server.connections.close().await;
}

#[tokio::test]
async fn what_is_left_for_later_goes_with_what_is_awaited() {
    let server = Server::new(2, SOON);
    let transaction = server.connections.begin().await.unwrap();
    transaction
        .batch("CREATE TEMPORARY TABLE later (x text)")
        .await
        .unwrap();
    transaction.commit(None).await.unwrap();
    let transaction = server.connections.begin().await.unwrap();
    let insert = |x: &str| with("INSERT INTO later VALUES ($1)", [x.into()]);
    transaction.later(insert("one")).await;
    let counted = || of("SELECT CAST(COUNT(*) AS text) AS x FROM later");
    let first = transaction.ask(counted()).await;
    // Nothing has been sent, not even the beginning.
    assert_eq!(server.sessions("state LIKE 'idle in%'").await, 0);
    // What is too long to be written out goes by itself, in its turn.
    transaction.later(insert(&"long".repeat(50_000))).await;
    let second = transaction.ask(counted()).await;
    assert_eq!(transaction.execute(insert("three")).await.unwrap(), 1);
    assert_eq!(server.sessions("state LIKE 'idle in%'").await, 1);
    assert_eq!(
        text(&transaction.answer(first).await.unwrap()).as_deref(),
        Some("1")
    );
    assert_eq!(
        text(&transaction.answer(second).await.unwrap()).as_deref(),
        Some("2")
    );
    let last = transaction.ask(counted()).await;
    let last = transaction.commit(Some(last)).await.unwrap();
    assert_eq!(text(&last).as_deref(), Some("3"));
    let long = server
        .connections
        .rows(of("SELECT CAST(MAX(length(x)) AS text) AS x FROM later"))
        .await;
    assert_eq!(text(&long.unwrap()).as_deref(), Some("200000"));
    server.connections.close().await;
}

#[tokio::test]
async fn nothing_is_done_of_what_comes_after_a_failure() {
    let server = Server::new(2, SOON);
    let kept = || with("SELECT $1 AS x", ["kept".into()]);
    let late = || with("SELECT upper($1) AS x", ["late".into()]);
    let divide = |by: i32| with("SELECT CAST(1 / $1 AS text) AS x", [by.into()]);
    let transaction = server.connections.begin().await.unwrap();
    transaction.later(kept()).await;
    transaction.later(divide(0)).await;
    let after = transaction.ask(late()).await;
    let error = transaction.answer(after).await.unwrap_err();
    assert!(error.to_string().contains("division by zero"), "{error}");
    transaction.roll_back().await.unwrap();
    // What was not made ready by that message is made ready by the next.
    let transaction = server.connections.begin().await.unwrap();
    assert_eq!(ready(&transaction).await, 3);
    for (statement, expected) in [(late(), "LATE"), (kept(), "kept"), (divide(1), "1")] {
        let found = transaction.rows(statement).await.unwrap();
        assert_eq!(text(&found).as_deref(), Some(expected));
    }
    assert_eq!(ready(&transaction).await, 4);
    transaction.commit(None).await.unwrap();
    server.connections.close().await;
}

#[tokio::test]
async fn a_commit_tells_whether_it_may_have_been_done() {
    let server = Server::new(2, SOON);
    let begin = || async { server.connections.begin().await.unwrap() };
    let table = "CREATE TEMPORARY TABLE IF NOT EXISTS once (x int UNIQUE DEFERRABLE INITIALLY DEFERRED) ON COMMIT DROP";
    // A statement before it fails.
    let transaction = begin().await;
    transaction.later(of("SELECT 1 / 0")).await;
    assert!(!transaction.commit(None).await.unwrap_err().is_open);
    // The commit itself is refused: it is left to the error to tell what that means.
    let transaction = begin().await;
    transaction.batch(table).await.unwrap();
    transaction.later(of("INSERT INTO once VALUES (1), (1)")).await;
    let failed = transaction.commit(None).await.unwrap_err();
    assert!(failed.is_open);
    assert!(
        failed.error.to_string().contains("duplicate key"),
        "{}",
        failed.error
    );
    // The session is gone, and told so before anything of the message was done.
    let transaction = begin().await;
    let pid = transaction.rows(of("SELECT CAST(pg_backend_pid() AS text) AS x"));
    let pid = text(&pid.await.unwrap()).unwrap();
    let other = Server::new(1, SOON);
    let end = format!("SELECT pg_terminate_backend({pid}, 10000) AS ended");
    other.connections.rows(of(&end)).await.unwrap();
    transaction.later(of("SELECT 1")).await;
    assert!(!transaction.commit(None).await.unwrap_err().is_open);
    // No answer comes: to a message that holds the commit, and to the first, which does not.
    let patient = Server::new(2, Duration::from_millis(200));
    for is_first in [false, true] {
        let transaction = patient.connections.begin().await.unwrap();
        if !is_first {
            transaction.rows(of("SELECT 1")).await.unwrap();
        }
        transaction.later(of("SELECT pg_sleep(1)")).await;
        let failed = transaction.commit(None).await.unwrap_err();
        assert_eq!(failed.is_open, !is_first);
    }
    for server in [server, other, patient] {
        server.connections.close().await;
    }
}

#[tokio::test]
async fn a_connection_keeps_so_many_statements_ready() {
    let server = Server::new(2, SOON);
    let transaction = server.connections.begin().await.unwrap();
    for round in 0..2 {
        for number in 0..200 {
            let found = transaction.rows(with(&format!("SELECT $1 AS x, {number} AS n"), ["y".into()]));
            assert_eq!(
                text(&found.await.unwrap()).as_deref(),
                Some("y"),
                "{round} {number}"
            );
        }
        assert!((1..=128).contains(&ready(&transaction).await));
    }
    transaction.commit(None).await.unwrap();
    server.connections.close().await;
}

#[tokio::test]
async fn what_keeps_statements_ready_is_closed_and_not_given_back() {
    let server = Server::new(2, SOON);
    let transaction = server.connections.begin().await.unwrap();
    let pid = transaction.rows(of("SELECT CAST(pg_backend_pid() AS text) AS x"));
    let pid = text(&pid.await.unwrap()).unwrap();
    transaction.commit(None).await.unwrap();
    server.connections.0.lock().idle[0].lent.taken -= OLD;
    // Used once more, then old.
    server.pid().await.unwrap();
    server.until_sessions(&format!("pid = {pid}"), 0).await;
    server.connections.close().await;
}
