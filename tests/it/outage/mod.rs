//! The database is away, slow, full or read-only, at the start and in the middle: the server says so, goes on by itself
//! when it is back, and has lost nothing that it answered.

mod disk;
mod file;
mod leases;
mod restart;
mod upgrade;
mod wire;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::app::TestApp;
use crate::support::db::{TestDb, texts};
use crate::support::wait::until;

/// No request may take longer, whatever the database does: the store waits 5 seconds for a connection, and as long for
/// the answer to a statement. The rest is for a busy machine.
const BOUND: Duration = Duration::from_secs(14);

async fn get(app: &TestApp, path: &str) -> (StatusCode, Value) {
    let answer = app
        .http()
        .get(format!("{}{path}", app.url()))
        .send()
        .await
        .unwrap();
    (answer.status(), answer.json().await.unwrap())
}

/// Waits until the server says that its database cannot be used, everywhere and for this reason.
async fn in_trouble(app: &TestApp, problems: &[&str]) {
    let health = until("the server is not ready", async || {
        let (status, body) = get(app, "/ready").await;
        if status != StatusCode::SERVICE_UNAVAILABLE || body["ready"] != json!(false) {
            return Err(body);
        }
        // On a full disk a small write may still find room in between.
        let (status, health) = get(app, "/health").await;
        if status == StatusCode::SERVICE_UNAVAILABLE {
            Ok(health)
        } else {
            Err(health)
        }
    })
    .await;
    assert_eq!(health["status"], "UNHEALTHY");
    let problem = health["database"]["problem"].as_str().unwrap();
    assert!(problems.contains(&problem), "{problem}");
    let told = app
        .data(
            "{ health { status database { connected latencyMs problem } } }",
            json!({}),
        )
        .await;
    let told = &told["health"];
    assert_eq!(told["status"], "UNHEALTHY");
    assert_eq!(told["database"]["connected"], false);
    assert_eq!(told["database"]["latencyMs"], Value::Null);
    assert!(
        problems.contains(&told["database"]["problem"].as_str().unwrap()),
        "{told:#}"
    );
    // Whoever reaches these pages learns no address, no path and no user.
    let (_, ready) = get(app, "/ready").await;
    for text in [health.to_string(), ready.to_string(), told.to_string()] {
        assert!(
            !text.contains("127.0.0.1") && !text.contains("postgres") && !text.contains("/tmp"),
            "{text}"
        );
    }
}

/// Waits until the server says everywhere that all is well.
async fn well(app: &TestApp) {
    app.ready().await;
    let (status, health) = get(app, "/health").await;
    assert_eq!(
        (status, &health["status"]),
        (StatusCode::OK, &json!("HEALTHY")),
        "{health:#}"
    );
    assert_eq!(health["database"]["problem"], Value::Null);
    let told = app
        .data("{ health { status database { problem } } }", json!({}))
        .await;
    assert_eq!(told["health"]["status"], "HEALTHY");
}

/// What came of a `run`.
#[derive(Debug)]
enum Sent {
    Stored(String),
    /// UNAVAILABLE: whether the message left it open that it was stored.
    Refused(String, bool),
}

/// Asks for a job that starts in a thousand years, in a queue by whose name it is known.
async fn send(app: &TestApp, queue: String) -> Sent {
    let query = "mutation($input: RunInput!) { run(input: $input) { job { id } errors { message } } }";
    let input = json!({ "command": { "shell": { "command": "true" } }, "queue": queue, "runAt": "3026-01-01T00:00:00Z" });
    let body = json!({ "query": query, "variables": { "input": input } });
    let asked = Instant::now();
    let answer = app
        .http()
        .post(format!("{}/graphql", app.url()))
        .json(&body)
        .send();
    let answer = tokio::time::timeout(BOUND, answer).await;
    let Ok(answer) = answer else {
        panic!("`run` hung for {:?}", asked.elapsed());
    };
    let answer = answer.unwrap();
    let retry_after = answer.headers().get("retry-after").cloned();
    let body: Value = answer.json().await.unwrap();
    if let Some(error) = body["errors"].get(0) {
        assert_eq!(error["extensions"]["code"], "UNAVAILABLE", "{body:#}");
        assert_eq!(error["extensions"]["retryAfterMs"], 2_000);
        assert_eq!(retry_after.unwrap(), "2");
        let message = error["message"].as_str().unwrap();
        let open = message.contains("may have been stored");
        assert_eq!(open, message.contains("idempotencyKey"), "{message}");
        assert!(open || message.contains("nothing was changed"), "{message}");
        return Sent::Refused(queue, open);
    }
    assert_eq!(body["data"]["run"]["errors"], json!([]), "{body:#}");
    Sent::Stored(queue)
}

/// Asks for jobs without a pause, eight at a time, as long as `during` takes.
async fn load(app: &TestApp, during: impl Future<Output = ()>) -> Vec<Sent> {
    let enough = CancellationToken::new();
    let load = async {
        let clients = (0..8).map(async |client| {
            let mut sent = Vec::new();
            for number in 0.. {
                if enough.is_cancelled() {
                    break;
                }
                sent.push(send(app, format!("load-{client}-{number}")).await);
            }
            sent
        });
        futures_util::future::join_all(clients).await
    };
    let during = async {
        during.await;
        enough.cancel();
    };
    let (sent, ()) = tokio::join!(load, during);
    sent.into_iter().flatten().collect()
}

/// As [`load`], and then holds what is stored against what was answered. Gives how many were stored, refused, and left
/// open.
async fn under_load(app: &TestApp, db: &TestDb, during: impl Future<Output = ()>) -> (usize, usize, usize) {
    let sent = load(app, during).await;
    compare(sent, db).await
}

async fn compare(sent: Vec<Sent>, db: &TestDb) -> (usize, usize, usize) {
    let raw = db.raw().await;
    let stored: BTreeSet<String> = texts(&raw, "SELECT queue FROM job WHERE queue LIKE 'load-%'")
        .await
        .into_iter()
        .collect();
    let (mut taken, mut refused, mut open) = (0, 0, 0);
    for one in sent {
        match one {
            Sent::Stored(queue) => {
                taken += 1;
                assert!(stored.contains(&queue), "{queue} was answered, and is lost");
            }
            Sent::Refused(_, true) => open += 1,
            Sent::Refused(queue, false) => {
                refused += 1;
                assert!(!stored.contains(&queue), "{queue} was refused, and is stored");
            }
        }
    }
    (taken, refused, open)
}

/// Lets some requests through, or some be refused: so many answers of `run` in a row.
async fn runs(app: &TestApp, wanted: bool, count: usize) {
    let mut met = 0;
    until("answers to `run`", async || {
        let stored = matches!(
            send(app, format!("probe-{}", fastrand::u64(..))).await,
            Sent::Stored(_)
        );
        met = if stored == wanted { met + 1 } else { 0 };
        if met == count { Ok(()) } else { Err(met) }
    })
    .await;
}
