//! A page of many jobs with all that hangs on them takes a handful of SQL statements, however many jobs there are.
//!
//! Counted where nothing can be hidden: on the wire between the server and Postgres. SQLite has no wire.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use runql::domain::{Command, Plan, Strategy};
use sea_orm::ConnectionTrait;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::fixture::{request, run_many, shell};
use crate::support::app::Setup;
use crate::support::db::TestDb;
use crate::support::on_postgres;
use crate::support::wait::until;

on_postgres!(a_page_takes_as_many_statements_as_a_job);

/// Passes on what the server says to Postgres and counts the statements that it has executed.
struct Counter {
    url: String,
    executed: Arc<AtomicUsize>,
    _traffic: JoinSet<()>,
}

impl Counter {
    async fn open(db: &TestDb) -> Self {
        let (user, rest) = db.url().split_once('@').unwrap();
        let (target, name) = rest.split_once('/').unwrap();
        let target = target.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{user}@{}/{name}", listener.local_addr().unwrap());
        let executed = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&executed);
        let mut traffic = JoinSet::new();
        traffic.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let database = TcpStream::connect(&target).await.unwrap();
                // Each message is passed on alone, and must not wait for the next.
                for side in [&client, &database] {
                    side.set_nodelay(true).unwrap();
                }
                let (from_client, mut to_client) = client.into_split();
                let (mut from_database, to_database) = database.into_split();
                connections.spawn(count(from_client, to_database, Arc::clone(&counted)));
                connections.spawn(async move {
                    // Either side may end the connection as it likes.
                    let _ = tokio::io::copy(&mut from_database, &mut to_client).await;
                });
            }
        });
        Self {
            url,
            executed,
            _traffic: traffic,
        }
    }

    fn so_far(&self) -> usize {
        self.executed.load(Ordering::SeqCst)
    }
}

/// The frontend's messages: a length with a body at the start, then a letter, a length and a body. `E` executes a
/// prepared statement and `Q` a plain one.
async fn count(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    executed: Arc<AtomicUsize>,
) {
    let mut at_start = true;
    loop {
        let mut head = Vec::new();
        if !at_start {
            let Ok(letter) = from.read_u8().await else { return };
            if matches!(letter, b'E' | b'Q') {
                executed.fetch_add(1, Ordering::SeqCst);
            }
            head.push(letter);
        }
        at_start = false;
        let Ok(length) = from.read_u32().await else { return };
        head.extend(length.to_be_bytes());
        let mut body = vec![0; usize::try_from(length).unwrap() - 4];
        if from.read_exact(&mut body).await.is_err() {
            return;
        }
        head.extend(body);
        if to.write_all(&head).await.is_err() {
            return;
        }
    }
}

const PAGE: &str = "query($first: Int!) { jobs(first: $first) { nodes {
    id worker { name currentJobs { id } } attempts { number worker { name } }
    parent { id name parent { id } } childStats { total } dependsOn { id } command { __typename }
} } }";

async fn a_page_takes_as_many_statements_as_a_job(db: TestDb) {
    let counter = Counter::open(&db).await;
    let app = Setup::new(&db).through(&counter.url).start().await;
    let again = json!({ "maxAttempts": 2, "backoffMs": 0 });
    run_many(&app, &vec![request(shell("exit 1"), again); 100]).await;
    until("all jobs have failed twice", async || {
        let counts = app.data("{ stats { counts { failed } } }", Value::Null).await;
        if counts["stats"]["counts"]["failed"] == 100 {
            Ok(())
        } else {
            Err(counts)
        }
    })
    .await;
    app.data("mutation { stopWorkers { errors { code } } }", Value::Null)
        .await;
    // Each is made the step of the one before it, and half of them plans, which this version does not run.
    let plan = Command::Plan(Plan {
        description: "p".to_owned(),
        strategy: Strategy::Serial { stop_on_error: true },
    });
    let raw = db.raw().await;
    raw.execute_unprepared(
        "UPDATE job SET parent_id = before.id FROM
            (SELECT id, lead(id) OVER (ORDER BY id) AS next FROM job) AS before WHERE job.id = before.next",
    )
    .await
    .unwrap();
    raw.execute_unprepared(&format!(
        "UPDATE job SET kind = 'PLAN', command = '{}' WHERE id IN (SELECT id FROM job ORDER BY id LIMIT 50)",
        serde_json::to_string(&plan).unwrap()
    ))
    .await
    .unwrap();

    let statements = async |first: usize| {
        let before = counter.so_far();
        let data = app.data(PAGE, json!({ "first": first })).await;
        let nodes = data["jobs"]["nodes"].as_array().unwrap().clone();
        assert_eq!(nodes.len(), first);
        (counter.so_far() - before, nodes)
    };
    let (for_one, _) = statements(1).await;
    let (for_all, nodes) = statements(100).await;
    for (n, node) in nodes.iter().enumerate() {
        assert_eq!(node["attempts"].as_array().unwrap().len(), 2, "{node:#}");
        assert!(node["worker"]["name"].is_string(), "{node:#}");
        assert_eq!(node["parent"].is_null(), n == 99, "{node:#}");
        assert_eq!(node["childStats"].is_null(), n < 50, "{node:#}");
    }
    assert!(
        for_one >= 4,
        "{for_one} statements for one job: the counter does not count"
    );
    // Asked one by one it would be eight for each job. What comes together within a moment is asked together, so how
    // few it takes depends on how busy the machine is; never one for each job.
    assert!(
        for_all < 100,
        "{for_all} statements for 100 jobs, {for_one} for one"
    );
    app.stop().await;
}
