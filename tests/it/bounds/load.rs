//! Much at once: a full queue, all the listeners that there may be, and many jobs that print.
//!
//! What is asserted is the README's bound for a release build, and as much again for this one.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::size;
use crate::support::app::{Setup, TestApp};
use crate::support::both_stores;
use crate::support::db::TestDb;
use crate::support::machine::{private, spawners};
use crate::support::socket::Socket;
use crate::support::wait::until;

both_stores!(
    a_full_queue_refuses_and_takes_no_memory,
    the_listeners_that_there_may_be,
    many_jobs_print_at_once,
);

/// The README's bound in KiB, doubled: a build that is not optimized takes more.
fn bound(connections: usize, listeners: usize, workers: usize) -> u64 {
    let kib = 64 * 1024 + 64 * connections + 48 * listeners + 12 * 1024 * workers;
    2 * u64::try_from(kib).unwrap()
}

/// What the server and its spawners have of memory, in KiB.
fn used(app: &TestApp) -> u64 {
    let server = private(app.pid());
    let spawners: u64 = spawners(app).into_iter().map(private).sum();
    eprintln!("memory: server {server} KiB, spawners {spawners} KiB");
    server + spawners
}

fn printing(bytes: usize) -> Value {
    json!({ "command": { "shell": { "command": format!("yes 'a line that is printed' | head -c {bytes}") } } })
}

/// Stores so many jobs, as many in a request as it takes. Gives the most memory that was used meanwhile.
async fn store(app: &TestApp, jobs: usize, job: &Value) -> u64 {
    let query = "mutation($inputs: [RunInput!]!) { runMany(inputs: $inputs) { errors { code message } } }";
    let mut left = jobs;
    let mut most = 0;
    while left > 0 {
        let some = left.min(500);
        let inputs = vec![job.clone(); some];
        let data = app.data(query, json!({ "inputs": inputs })).await;
        assert_eq!(data["runMany"]["errors"], json!([]));
        left -= some;
        most = most.max(used(app));
    }
    most
}

async fn a_full_queue_refuses_and_takes_no_memory(db: TestDb) {
    let limit = size(10_000, 100_000);
    let app = Setup::new(&db)
        .flag("--queue-limit", limit)
        .flag("--auto-start-workers", false)
        .start()
        .await;
    let job = printing(1);
    let few = store(&app, limit / 10, &job).await;
    let many = store(&app, limit - limit / 10, &job).await;
    // Ten times as many take no more, but for what an allocator keeps.
    assert!(many < few + 32 * 1024, "{few} KiB, then {many} KiB");
    let refused = join_all((0..200).map(|_| app.try_run(job.clone()))).await;
    for payload in refused {
        assert_eq!(payload["job"], Value::Null);
        assert_eq!(payload["errors"][0]["code"], "LIMIT_EXCEEDED", "{payload:#}");
    }
    let data = app
        .data("{ jobs(first: 1000) { nodes { id } totalCount } }", json!({}))
        .await;
    assert_eq!(data["jobs"]["nodes"].as_array().unwrap().len(), 1_000);
    let used = used(&app);
    assert!(used < bound(200, 0, 0), "{used} KiB");
    app.stop().await;
}

async fn the_listeners_that_there_may_be(db: TestDb) {
    let most = size(200, 5_000);
    let app = Setup::new(&db).flag("--max-listeners", most).start().await;
    let events = "subscription { jobEvents(types: [COMPLETED]) { cursor status } }";
    // All of them are read all the time, as clients do: who answers no ping is let go.
    let mut sockets = join_all((0..most).map(|_| Socket::listen(&app, events, json!({})))).await;
    join_all(sockets.iter_mut().map(Socket::settled)).await;
    let refused = app
        .http()
        .get(format!("{}/graphql", app.url()))
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let refused = refused.send().await.unwrap();
    assert_eq!(refused.status(), 503);
    assert!(refused.text().await.unwrap().contains("\"code\""));
    let more = app
        .http()
        .post(format!("{}/graphql", app.url()))
        .header("accept", "text/event-stream")
        .json(&json!({ "query": events }));
    let told = more.send().await.unwrap().text().await.unwrap();
    assert!(told.contains("LIMIT_EXCEEDED"), "{told}");
    let jobs = 20;
    store(&app, jobs, &printing(10)).await;
    join_all(sockets.iter_mut().map(async |socket| {
        for _ in 0..jobs {
            socket.next("jobEvents").await;
        }
    }))
    .await;
    let used = used(&app);
    assert!(used < bound(0, most, 3), "{used} KiB");
    drop(sockets);
    app.stop().await;
}

async fn many_jobs_print_at_once(db: TestDb) {
    let jobs = size(40, 200);
    let bytes = size(1 << 20, 8 << 20);
    let app = Setup::new(&db).flag("--workers", jobs).start().await;
    store(&app, jobs, &printing(bytes)).await;
    let mut most = 0;
    let mut done = (0, 0);
    while done.0 < jobs as u64 {
        // Each look has a bound of its own: what is waited for is that any of them comes further.
        let before = done;
        done = until("something more is printed, or ends", async || {
            most = most.max(used(&app));
            let now = progress(&app).await;
            if now > before { Ok(now) } else { Err(now) }
        })
        .await;
    }
    assert!(most < bound(0, 0, jobs), "{most} KiB");
    let data = app
        .data("{ jobs(first: 1000) { nodes { id status } } }", json!({}))
        .await;
    let whole = b"a line that is printed\n".iter().cycle().take(bytes);
    for job in data["jobs"]["nodes"].as_array().unwrap() {
        assert_eq!(job["status"], "COMPLETED");
        let printed = app.bytes(job["id"].as_str().unwrap(), "stdout").await;
        assert!(printed.iter().eq(whole.clone()), "{job}: {} bytes", printed.len());
    }
    app.stop().await;
}

/// How many jobs have completed, and how many bytes all of them have printed.
async fn progress(app: &TestApp) -> (u64, u64) {
    let counts = app.data("{ stats { counts { completed } } }", json!({})).await;
    let metrics = app.http().get(format!("{}/metrics", app.url())).send();
    let metrics = metrics.await.unwrap().text().await.unwrap();
    let bytes = metrics
        .lines()
        .find_map(|line| line.strip_prefix("runql_log_bytes_total "))
        .map_or(0, |value| value.parse().unwrap());
    (counts["stats"]["counts"]["completed"].as_u64().unwrap(), bytes)
}
