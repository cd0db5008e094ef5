//! Claiming: what a worker is given, in which order, how much of it, and when.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{claim, claim_one, complete, heartbeat, join, shown, task, task_with, try_claim};
use crate::api::fixture::{moment, refusals, text_of};
use crate::support::app::{Setup, TestApp};
use crate::support::both_stores;
use crate::support::db::TestDb;
use crate::support::wait::{until, within};

both_stores!(
    a_worker_is_told_all_that_it_needs,
    the_most_urgent_comes_first_over_all_patterns,
    patterns_mean_what_they_say,
    no_more_than_there_is_room_for,
    a_task_that_nobody_supports_blocks_nobody,
    a_claim_waits_for_work,
    a_claim_whose_caller_went_away_takes_nothing,
    a_waiting_claim_is_a_sign_of_life,
    only_so_many_wait,
    a_shutdown_does_not_wait_for_claims,
);

/// The names of claimed jobs.
fn names(jobs: &[Value]) -> Vec<&str> {
    jobs.iter().map(|job| job["name"].as_str().unwrap()).collect()
}

async fn a_worker_is_told_all_that_it_needs(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let worker = join(&app, "worker-001-gpu", &["bench-*", "agents/*"], 4).await;
    let first = app
        .run(json!({
            "command": { "task": { "problemId": "bench-1", "parameters": { "seed": 7 } } },
            "timeoutMs": 5000,
        }))
        .await;
    let agent = json!({ "target": "agents/fix", "inputs": { "issue": 4 }, "config": { "model": "m" } });
    let second = app.run(json!({ "command": { "agent": agent } })).await;
    let jobs = claim(&app, &worker, 4).await;
    assert_eq!(
        jobs,
        [
            json!({
                "id": first, "name": "bench-1", "kind": "TASK", "attempt": 1, "timeoutMs": 5000, "status": "RUNNING",
                "worker": { "id": worker },
                "command": {
                    "__typename": "TaskCommand", "problemId": "bench-1",
                    "parameters": { "seed": 7, "max_steps": 30 }
                },
            }),
            json!({
                "id": second, "name": "agents/fix", "kind": "AGENT", "attempt": 1, "timeoutMs": 1_800_000,
                "status": "RUNNING", "worker": { "id": worker },
                "command": {
                    "__typename": "AgentCommand", "target": "agents/fix",
                    "inputs": { "issue": 4 }, "config": { "model": "m" }
                },
            })
        ]
    );
    // A worker whose answer was lost finds them here.
    assert_eq!(
        shown(&app, &worker).await["currentJobs"],
        json!([{ "id": first, "attempt": 1 }, { "id": second, "attempt": 1 }])
    );
    assert_eq!(claim(&app, &worker, 1).await, Vec::<Value>::new());
    for id in [first, second] {
        complete(&app, &worker, &id, 1).await;
    }
    let worker = shown(&app, &worker).await;
    assert_eq!(
        (&worker["status"], &worker["tasksCompleted"]),
        (&json!("IDLE"), &json!(2))
    );
    app.stop().await;
}

async fn the_most_urgent_comes_first_over_all_patterns(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let worker = join(&app, "worker-001-gpu", &["a-*", "b-*"], 100).await;
    for (problem, priority) in [
        ("a-old", 0),
        ("b-low", -5),
        ("b-high", 9),
        ("a-high", 9),
        ("b-old", 0),
        ("c-none", 100),
        ("a-top", 50),
    ] {
        app.run(task_with(problem, json!({ "priority": priority }))).await;
    }
    assert_eq!(
        names(&claim(&app, &worker, 3).await),
        ["a-top", "b-high", "a-high"]
    );
    assert_eq!(names(&claim(&app, &worker, 9).await), ["a-old", "b-old", "b-low"]);
    app.stop().await;
}

async fn patterns_mean_what_they_say(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let problems = [
        "plain",
        "PLAIN",
        "100%",
        "100x",
        "a_b",
        "axb",
        "a?b",
        "a[b]c",
        "abc",
        "a!b",
        "é/ü",
        "x-mid-y",
        "back\\slash",
    ];
    for problem in problems {
        app.run(task(problem)).await;
    }
    for (number, (pattern, expected)) in [
        ("plain", vec!["plain"]),
        ("100%", vec!["100%"]),
        ("a_b", vec!["a_b"]),
        ("a?b", vec!["a?b"]),
        ("a[b]*", vec!["a[b]c"]),
        ("a!*", vec!["a!b"]),
        ("*ü", vec!["é/ü"]),
        ("x-*-y", vec!["x-mid-y"]),
        ("back\\*", vec!["back\\slash"]),
        ("a*", vec!["axb", "abc"]),
        ("*", vec!["PLAIN", "100x"]),
    ]
    .into_iter()
    .enumerate()
    {
        let worker = join(&app, &format!("worker-{number:03}-p"), &[pattern], 100).await;
        assert_eq!(names(&claim(&app, &worker, 100).await), expected, "{pattern}");
    }
    app.stop().await;
}

async fn no_more_than_there_is_room_for(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let worker = join(&app, "worker-001-gpu", &["*"], 2).await;
    for _ in 0..4 {
        app.run(task("t")).await;
    }
    // Asked at the same moment, more often than there is room.
    let claims = futures_util::future::join_all(
        (0..4).map(|_| try_claim(&app, json!({ "workerId": worker, "max": 1 }))),
    )
    .await;
    let taken: usize = claims
        .iter()
        .map(|payload| payload["jobs"].as_array().unwrap().len())
        .sum();
    assert_eq!(taken, 2);
    let full = try_claim(&app, json!({ "workerId": worker, "max": 1, "waitMs": 60_000 })).await;
    assert_eq!(refusals(&full), ["LIMIT_EXCEEDED input.max"]);
    let message = full["errors"][0]["message"].as_str().unwrap();
    assert!(message.contains("runs 2 jobs"), "{message}");
    let held = shown(&app, &worker).await["currentJobs"].take();
    let one = held[0]["id"].as_str().unwrap();
    complete(&app, &worker, one, 1).await;
    assert_eq!(claim(&app, &worker, 2).await.len(), 1);
    app.stop().await;
}

async fn wait_reason(app: &TestApp, id: &str) -> Value {
    app.job(id).await["waitReason"].take()
}

async fn a_task_that_nobody_supports_blocks_nobody(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let orphan = app.run(task_with("nobody-1", json!({ "priority": 100 }))).await;
    for _ in 0..300 {
        app.run(task_with("nobody-2", json!({ "priority": 100 }))).await;
    }
    assert_eq!(wait_reason(&app, &orphan).await, "NO_WORKER");
    let worker = join(&app, "worker-001-gpu", &["bench-*"], 2).await;
    assert_eq!(wait_reason(&app, &orphan).await, "NO_WORKER");
    let mine = app.run(task_with("bench-1", json!({ "priority": -100 }))).await;
    assert_eq!(wait_reason(&app, &mine).await, "QUEUED");
    // Neither the worker nor this server's own are held up by what is before them in line.
    assert_eq!(claim_one(&app, &worker).await, mine);
    app.completed(json!({ "command": { "shell": { "command": "true" } } }))
        .await;
    assert_eq!(claim(&app, &worker, 1).await.len(), 0);

    let second = app.run(task("bench-2")).await;
    let hand = async |status: &str| {
        heartbeat(&app, json!({ "workerId": worker, "status": status })).await;
    };
    hand("OFFLINE").await;
    assert_eq!(wait_reason(&app, &second).await, "NO_WORKER");
    hand("IDLE").await;
    assert_eq!(wait_reason(&app, &second).await, "QUEUED");
    // A pool that stands still is none of its business.
    app.data("mutation { stopWorkers { errors { code } } }", Value::Null)
        .await;
    assert_eq!(wait_reason(&app, &second).await, "QUEUED");
    assert_eq!(wait_reason(&app, &orphan).await, "NO_WORKER");
    let local = app.shell("true").await;
    assert_eq!(wait_reason(&app, &local).await, "PAUSED");
    join(&app, "worker-002-gpu", &["nobody-*"], 1).await;
    assert_eq!(wait_reason(&app, &orphan).await, "QUEUED");
    app.stop().await;
}

async fn a_claim_waits_for_work(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let worker = join(&app, "worker-001-gpu", &["bench-*"], 2).await;
    let asked = Instant::now();
    let empty = try_claim(&app, json!({ "workerId": worker, "waitMs": 300 })).await;
    assert_eq!((&empty["jobs"], &empty["errors"]), (&json!([]), &json!([])));
    assert!(asked.elapsed() >= Duration::from_millis(300));
    // Work that is there is given at once, and work that comes is given when it comes.
    for at_once in [true, false] {
        let asked = Instant::now();
        let input = json!({ "workerId": worker, "waitMs": 60_000 });
        let (payload, id) = if at_once {
            let id = app.run(task("bench-1")).await;
            (try_claim(&app, input).await, id)
        } else {
            let waits = try_claim(&app, input);
            let comes = async {
                app.run(task("other")).await;
                app.shell("true").await;
                app.run(task("bench-2")).await
            };
            tokio::join!(waits, comes)
        };
        assert!(asked.elapsed() < Duration::from_secs(20));
        assert_eq!(payload["jobs"][0]["id"], json!(id), "{payload:#}");
        complete(&app, &worker, &id, 1).await;
    }
    // A retry, and a job whose moment comes, are work too.
    let due = chrono::Utc::now() + chrono::Duration::milliseconds(400);
    let later = app
        .run(task_with("bench-3", json!({ "runAt": text_of(due) })))
        .await;
    let payload = try_claim(&app, json!({ "workerId": worker, "waitMs": 60_000 })).await;
    assert_eq!(payload["jobs"][0]["id"], json!(later), "{payload:#}");
    app.stop().await;
}

async fn a_claim_whose_caller_went_away_takes_nothing(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let worker = join(&app, "worker-001-gpu", &["*"], 2).await;
    let other = join(&app, "worker-002-gpu", &["*"], 2).await;
    let body = json!({
        "query": "mutation($input: ClaimInput!) { claim(input: $input) { jobs { id } errors { message } } }",
        "variables": { "input": { "workerId": worker, "waitMs": 60_000 } },
    });
    // A client of its own: its connection ends with it.
    let client = reqwest::Client::new();
    let url = format!("{}/graphql", app.url());
    let cut_off = client
        .post(&url)
        .json(&body)
        .timeout(Duration::from_millis(500))
        .send()
        .await;
    assert!(cut_off.is_err());
    drop(client);
    let heard = |worker: Value| worker["lastHeartbeat"].as_str().unwrap().to_owned();
    let last = async || {
        let query = "query($id: ID!) { worker(id: $id) { lastHeartbeat } }";
        heard(app.data(query, json!({ "id": worker })).await["worker"].take())
    };
    let before = last().await;
    let id = app.run(task("t")).await;
    // Whoever still listens gets it, and the one that went away is not even given a sign of life.
    let payload = try_claim(&app, json!({ "workerId": other, "waitMs": 60_000 })).await;
    assert_eq!(payload["jobs"][0]["id"], json!(id), "{payload:#}");
    assert_eq!(last().await, before);
    app.stop().await;
}

async fn a_waiting_claim_is_a_sign_of_life(db: TestDb) {
    let app = Setup::new(&db).flag("--lease-ms", 1_500).start().await;
    let worker = join(&app, "worker-001-gpu", &["bench-*"], 1).await;
    let waits = try_claim(&app, json!({ "workerId": worker, "waitMs": 60_000 }));
    let meanwhile = async {
        until("three leases of waiting", async || {
            let query = "query($id: ID!) { worker(id: $id) { registeredAt lastHeartbeat } }";
            let seen = app.data(query, json!({ "id": worker })).await["worker"].take();
            let heard = moment(&seen["lastHeartbeat"]) - moment(&seen["registeredAt"]);
            if heard.num_milliseconds() > 4_500 {
                Ok(())
            } else {
                Err(seen)
            }
        })
        .await;
        app.run(task("bench-1")).await
    };
    let (payload, id) = tokio::join!(waits, meanwhile);
    assert_eq!(payload["jobs"][0]["id"], json!(id), "{payload:#}");
    complete(&app, &worker, &id, 1).await;
    app.stop().await;
}

/// Waits until a worker was heard of after it registered.
async fn heard_of(app: &TestApp, worker: &str) {
    until("the claim waits", async || {
        let query = "query($id: ID!) { worker(id: $id) { lastHeartbeat registeredAt } }";
        let seen = app.data(query, json!({ "id": worker })).await["worker"].take();
        if seen["lastHeartbeat"] == seen["registeredAt"] {
            Err(seen)
        } else {
            Ok(())
        }
    })
    .await;
}

async fn only_so_many_wait(db: TestDb) {
    let app = Setup::new(&db).flag("--max-listeners", 1).start().await;
    let worker = join(&app, "worker-001-gpu", &["a"], 1).await;
    let other = join(&app, "worker-002-gpu", &["b"], 1).await;
    let waits = try_claim(&app, json!({ "workerId": worker, "waitMs": 60_000 }));
    let meanwhile = async {
        heard_of(&app, &worker).await;
        let task_b = app.run(task("b")).await;
        let refused = try_claim(&app, json!({ "workerId": other, "waitMs": 1 })).await;
        assert_eq!(refusals(&refused), ["LIMIT_EXCEEDED input.waitMs"]);
        let refused = heartbeat(&app, json!({ "workerId": other, "waitMs": 1 })).await;
        assert_eq!(refusals(&refused), ["LIMIT_EXCEEDED input.waitMs"]);
        // Who does not wait needs no place.
        assert_eq!(claim_one(&app, &other).await, task_b);
        app.run(task("a")).await
    };
    let (payload, id) = tokio::join!(waits, meanwhile);
    assert_eq!(payload["jobs"][0]["id"], json!(id), "{payload:#}");
    let next = try_claim(&app, json!({ "workerId": other, "waitMs": 1 })).await;
    assert_eq!(
        refusals(&next),
        ["LIMIT_EXCEEDED input.max"],
        "its place is free again"
    );
    app.stop().await;
}

async fn a_shutdown_does_not_wait_for_claims(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let worker = join(&app, "worker-001-gpu", &["*"], 1).await;
    let body = json!({
        "query": "mutation($input: ClaimInput!) { claim(input: $input) { jobs { id } errors { message } } }",
        "variables": { "input": { "workerId": worker, "waitMs": 60_000 } },
    });
    let sent = app
        .http()
        .post(format!("{}/graphql", app.url()))
        .json(&body)
        .send();
    let answered = async {
        let answer: Value = sent.await.unwrap().json().await.unwrap();
        assert_eq!(answer["data"]["claim"], json!({ "jobs": [], "errors": [] }));
    };
    let ends = async {
        heard_of(&app, &worker).await;
        let asked = Instant::now();
        app.signal("TERM");
        asked
    };
    let ((), asked) = within("the answer", async { tokio::join!(answered, ends) }).await;
    assert!(asked.elapsed() < Duration::from_secs(10));
    let mut app = app;
    assert_eq!(app.exit().await, Some(0));
}
