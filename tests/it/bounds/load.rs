//! Much at once: a full queue, all the listeners that there may be, and many jobs that print.
//!
//! What is asserted is the README's bound for a release build, and as much again for this one.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::size;
use crate::support::app::{Setup, TestApp};
use crate::support::both_stores;
use crate::support::db::TestDb;
use crate::support::machine::{Memory, spawners};
use crate::support::socket::Socket;
use crate::support::wait::until;

both_stores!(
    a_full_queue_refuses_and_takes_no_memory,
    the_listeners_that_there_may_be,
    many_jobs_print_at_once,
);

/// The README's bound, in KiB, doubled: a build that is not optimized takes more.
fn bound(connections: usize, listeners: usize, workers: usize) -> u64 {
    let kib = 128 * 1024 + 96 * connections + 32 * listeners + 3 * 1024 * workers;
    2 * u64::try_from(kib).unwrap()
}

/// What the server and its spawners use, in KiB: the server at its peak.
fn used(app: &TestApp) -> u64 {
    let spawners: u64 = spawners(app)
        .into_iter()
        .filter_map(|pid| {
            // One that has just ended uses nothing.
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        })
        .sum();
    let server = Memory::of(app);
    eprintln!("memory: server {server:?}, spawners {spawners} KiB");
    server.peak + spawners
}

fn printing(bytes: usize) -> Value {
    json!({ "command": { "shell": { "command": format!("yes 'a line that is printed' | head -c {bytes}") } } })
}

/// Stores so many jobs, as many in a request as it takes.
async fn store(app: &TestApp, jobs: usize, job: &Value) {
    let query = "mutation($inputs: [RunInput!]!) { runMany(inputs: $inputs) { errors { code message } } }";
    let mut left = jobs;
    while left > 0 {
        let some = left.min(500);
        let inputs = vec![job.clone(); some];
        let data = app.data(query, json!({ "inputs": inputs })).await;
        assert_eq!(data["runMany"]["errors"], json!([]));
        left -= some;
    }
}

async fn a_full_queue_refuses_and_takes_no_memory(db: TestDb) {
    let limit = size(20_000, 100_000);
    let app = Setup::new(&db)
        .flag("--queue-limit", limit)
        .flag("--auto-start-workers", false)
        .start()
        .await;
    let job = printing(1);
    store(&app, limit, &job).await;
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
    assert!(used < bound(200, 0, 3), "{used} KiB");
    app.stop().await;
}

async fn the_listeners_that_there_may_be(db: TestDb) {
    let most = size(300, 20_000);
    let app = Setup::new(&db).flag("--max-listeners", most).start().await;
    let events = "subscription { jobEvents(types: [COMPLETED]) { job { id } } }";
    let mut sockets = Vec::new();
    for _ in 0..most {
        let mut socket = Socket::listen(&app, events, json!({})).await;
        socket.settled().await;
        sockets.push(socket);
    }
    // There is room for no more sockets, so the next listener asks by another way.
    let more = app
        .http()
        .post(format!("{}/graphql", app.url()))
        .header("accept", "text/event-stream")
        .json(&json!({ "query": events }));
    let told = more.send().await.unwrap().text().await.unwrap();
    assert!(told.contains("LIMIT_EXCEEDED"), "{told}");
    let jobs = 20;
    store(&app, jobs, &printing(10)).await;
    for socket in &mut sockets {
        for _ in 0..jobs {
            socket.next("jobEvents").await;
        }
    }
    let used = used(&app);
    assert!(used < bound(most, most, 3), "{used} KiB");
    drop(sockets);
    app.stop().await;
}

async fn many_jobs_print_at_once(db: TestDb) {
    let jobs = size(100, 1_000);
    let bytes = 1 << 20;
    let app = Setup::new(&db).flag("--workers", jobs).start().await;
    store(&app, jobs, &printing(bytes)).await;
    let counts = "{ stats { counts { completed running pending } } }";
    let mut most = 0;
    let mut done = 0;
    while done < jobs as u64 {
        // Each look has a bound of its own: what is waited for is the next few ends.
        let before = done;
        done = until("more jobs are completed", async || {
            most = most.max(used(&app));
            let now = app.data(counts, json!({})).await["stats"]["counts"].take();
            match now["completed"].as_u64().unwrap() {
                completed if completed > before => Ok(completed),
                _ => Err(now),
            }
        })
        .await;
    }
    assert!(most < bound(10, 0, jobs), "{most} KiB");
    app.stop().await;
}
