//! What must hold after the storm: nothing that was answered is lost, all has ended, once, and everybody heard of it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::clients::Kind;
use super::listeners::Heard;
use super::world::{Load, Shared, World};
use crate::support::app::TestApp;
use crate::support::machine::living_with;
use crate::support::socket::Socket;
use crate::support::wait::until_for;

/// How long a dead server's processes may live.
const GONE: std::time::Duration = std::time::Duration::from_secs(5);

/// How long the jobs that are left may take on a busy machine.
const DRAINED: std::time::Duration = std::time::Duration::from_secs(60);

/// Logs that are compared byte by byte.
const FLOODS: usize = 10;

/// Statuses that a job does not leave.
const FINAL: [&str; 4] = ["COMPLETED", "FAILED", "TIMEOUT", "CANCELLED"];

/// Waits until no process is left that belongs to a server of this app, or to a job of it.
pub(super) async fn nothing_lives(app: &TestApp, when: &str) {
    until_for(GONE, &format!("no process after {when}"), async || {
        let left = living_with(app.folder().as_os_str());
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
}

/// Waits until all jobs have ended.
async fn drained(app: &TestApp) {
    until_for(DRAINED, "the end of all jobs", async || {
        let query = "{ stats { counts { pending running } } jobs(first: 20, filter: { statuses: [PENDING, RUNNING] }) {
            nodes { id kind name status waitReason attempt maxAttempts worker { name status } parent { id } } } }";
        let left = app.data(query, json!({})).await;
        let counts = &left["stats"]["counts"];
        if counts["pending"] == 0 && counts["running"] == 0 {
            Ok(())
        } else {
            Err(left)
        }
    })
    .await;
}

/// Ends the storm on a server that is there to stay, and looks at everything.
pub(super) async fn all_is_well(mut world: World, app: &TestApp, load: Load) {
    world.rest().await;
    drained(app).await;
    world.is_over().await;
    let last = app
        .completed(json!({ "command": { "shell": { "command": "true" } } }))
        .await;
    let last = last["id"].as_str().unwrap().to_owned();
    let jobs = all_jobs(app).await;
    // Only now: what a dead worker held is with its lease as long as that runs.
    app.nothing_left().await;
    figures_agree(app, &jobs).await;
    promises_are_kept(&world.shared, &jobs, load);
    plans_are_right(&jobs, load);
    let mut forgiven = world.forgiven();
    forgiven.insert(last.clone());
    each_ran_once(&world.shared, &jobs, &forgiven);
    floods_are_whole(&world.shared, app, &jobs).await;
    if load == Load::Listened {
        let truth = replay(app, &world.start, &last).await;
        stories_are_right(&truth, &jobs, &forgiven);
        for heard in world.heard(last).await {
            assert_same(&heard, &truth);
        }
    }
    let told = app.told();
    let surprise = told
        .iter()
        .find(|line| line.contains("panicked") || line.contains("INTERNAL"));
    assert!(surprise.is_none(), "{surprise:?}");
}

/// Every job and step, by its id.
async fn all_jobs(app: &TestApp) -> BTreeMap<String, Value> {
    let query = "query($after: String) { jobs(first: 100, after: $after) { nodes {
        id kind status attempt maxAttempts startedAt finishedAt error { code message } parent { id } key
        metadata { conversationId } attempts { number status }
    } pageInfo { hasNextPage endCursor } } }";
    let mut jobs = BTreeMap::new();
    let mut after = Value::Null;
    loop {
        let mut data = app.data(query, json!({ "after": after })).await;
        let page = data["jobs"].take();
        for job in page["nodes"].as_array().unwrap() {
            let id = job["id"].as_str().unwrap().to_owned();
            assert!(
                jobs.insert(id, job.clone()).is_none(),
                "twice in the pages: {job:#}"
            );
        }
        if page["pageInfo"]["hasNextPage"] == false {
            return jobs;
        }
        after = page["pageInfo"]["endCursor"].clone();
    }
}

/// The figures are those of the rows.
async fn figures_agree(app: &TestApp, jobs: &BTreeMap<String, Value>) {
    let query = "{ stats { counts { total pending running completed failed timeout cancelled } } }";
    let counts = app.data(query, json!({})).await["stats"]["counts"].take();
    let of = |status: &str| jobs.values().filter(|job| job["status"] == status).count();
    let rows = json!({
        "total": jobs.len(), "pending": of("PENDING"), "running": of("RUNNING"), "completed": of("COMPLETED"),
        "failed": of("FAILED"), "timeout": of("TIMEOUT"), "cancelled": of("CANCELLED"),
    });
    assert_eq!(counts, rows, "the figures are not those of the rows");
}

fn promises_are_kept(shared: &Shared, jobs: &BTreeMap<String, Value>, load: Load) {
    let cancelled = shared.wanted_cancelled();
    let mut keys: BTreeMap<&str, &str> = BTreeMap::new();
    for (id, job) in jobs {
        assert!(
            FINAL.contains(&job["status"].as_str().unwrap()),
            "not ended: {job:#}"
        );
        assert!(job["finishedAt"].is_string(), "{job:#}");
        if let Some(key) = job["metadata"]["conversationId"].as_str() {
            let other = keys.insert(key, id);
            assert!(other.is_none(), "one key, two jobs: {id} and {other:?}");
        }
        // The attempts are told without a gap, and the last one ended as the job did.
        let attempts = job["attempts"].as_array().unwrap();
        for (at, attempt) in attempts.iter().enumerate() {
            assert_eq!(attempt["number"], at + 1, "{job:#}");
            assert!(FINAL.contains(&attempt["status"].as_str().unwrap()), "{job:#}");
        }
        assert_eq!(job["attempt"], attempts.len(), "{job:#}");
        assert!(job["attempt"].as_u64() <= job["maxAttempts"].as_u64(), "{job:#}");
    }
    for promised in shared.promised() {
        let Some(job) = jobs.get(&promised.id) else {
            assert!(
                load == Load::Cleaned && cancelled.contains(&promised.id),
                "lost: {promised:?}"
            );
            continue;
        };
        if let Some(key) = &promised.idempotency_key {
            assert_eq!(job["metadata"]["conversationId"], json!(key), "{job:#}");
        }
        let (status, code) = (job["status"].as_str().unwrap(), job["error"]["code"].as_str());
        let right = match (status, code) {
            // Only a plan can be COMPLETED or FAILED by its steps, which are looked at for themselves.
            _ if promised.kind.is_plan() => status != "TIMEOUT",
            // Whoever ran it died, and there was no attempt left.
            ("FAILED", Some("WORKER_LOST")) => true,
            ("COMPLETED", None) => !matches!(promised.kind, Kind::Cancelled | Kind::TooLong),
            ("CANCELLED", Some("CANCELLED")) => cancelled.contains(&promised.id),
            ("TIMEOUT", Some("TIMEOUT")) => promised.kind == Kind::TooLong,
            _ => false,
        };
        assert!(right, "{:?} has become {job:#}", promised.kind);
    }
}

/// A plan has ended as its steps did.
fn plans_are_right(jobs: &BTreeMap<String, Value>, load: Load) {
    let mut steps: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for job in jobs.values() {
        if let Some(plan) = job["parent"]["id"].as_str() {
            steps.entry(plan).or_default().push(job);
        }
    }
    for (id, plan) in jobs.iter().filter(|(_, job)| job["kind"] == "PLAN") {
        let steps = steps.remove(id.as_str()).unwrap_or_default();
        if load == Load::Cleaned && steps.len() < 3 {
            continue;
        }
        assert!(steps.len() >= 3, "steps of a plan are gone: {plan:#} {steps:#?}");
        let all_completed = steps.iter().all(|step| step["status"] == "COMPLETED");
        assert_eq!(
            all_completed,
            plan["status"] == "COMPLETED",
            "{plan:#} {steps:#?}"
        );
        if plan["status"] == "FAILED" {
            assert_eq!(plan["error"]["code"], "STEP_FAILED", "{plan:#}");
        }
        for step in steps {
            let end = plan["finishedAt"].as_str().unwrap();
            assert!(
                step["finishedAt"].as_str().unwrap() <= end,
                "{step:#} after its plan {plan:#}"
            );
        }
    }
    assert!(
        steps.is_empty() || load == Load::Cleaned,
        "steps without their plan: {steps:#?}"
    );
}

/// No attempt has started two processes, and what completed has started one.
fn each_ran_once(shared: &Shared, jobs: &BTreeMap<String, Value>, forgiven: &BTreeSet<String>) {
    let text = std::fs::read_to_string(&shared.ran).unwrap_or_default();
    let mut ran: BTreeSet<(&str, u64)> = BTreeSet::new();
    for line in text.lines() {
        let (id, attempt) = line.split_once(' ').unwrap();
        let attempt: u64 = attempt.parse().unwrap();
        assert!(ran.insert((id, attempt)), "attempt {attempt} of {id} ran twice");
        if let Some(job) = jobs.get(id) {
            assert!(
                attempt <= job["maxAttempts"].as_u64().unwrap(),
                "ran more often than it may: {job:#}"
            );
            assert!(
                attempt <= job["attempt"].as_u64().unwrap(),
                "an attempt that is not told of: {job:#}"
            );
        }
    }
    for (id, job) in jobs
        .iter()
        .filter(|(id, job)| job["kind"] != "PLAN" && !forgiven.contains(*id))
    {
        let told = ran.contains(&(id, job["attempt"].as_u64().unwrap()));
        assert!(
            told || job["status"] != "COMPLETED",
            "completed, but never ran: {job:#}"
        );
    }
}

/// What a completed job printed is there to the last byte.
async fn floods_are_whole(shared: &Shared, app: &TestApp, jobs: &BTreeMap<String, Value>) {
    let once: String = (1..=20_000).map(|n| format!("{n}\n")).collect();
    let expected = format!("{once}{once}");
    let mut floods = shared.promised();
    floods.retain(|promised| promised.kind == Kind::Flood && jobs[&promised.id]["status"] == "COMPLETED");
    for promised in floods.iter().take(FLOODS) {
        let printed = app.bytes(&promised.id, "stdout").await;
        assert!(
            printed == expected.as_bytes(),
            "{} bytes of {}",
            printed.len(),
            expected.len()
        );
    }
}

/// All events since a place, by one who is not disturbed.
async fn replay(app: &TestApp, start: &str, last_job: &str) -> Heard {
    let mut socket = Socket::listen(app, super::listeners::EVENTS, json!({ "after": start })).await;
    let mut events: Heard = Vec::new();
    loop {
        let event = socket.next("jobEvents").await;
        let is_last = event["type"] == "COMPLETED" && event["job"]["id"] == last_job;
        events.push(event);
        if is_last {
            return events;
        }
    }
}

fn assert_same(heard: &Heard, truth: &Heard) {
    for (at, (one, other)) in heard.iter().zip(truth).enumerate() {
        assert_eq!(
            one,
            other,
            "event {at} of {} is another than was heard",
            truth.len()
        );
    }
    assert_eq!(
        heard.len(),
        truth.len(),
        "events that were not heard, or heard twice"
    );
}

/// Each job's events are a way through the state machine, and lead to where the job stands.
fn stories_are_right(events: &Heard, jobs: &BTreeMap<String, Value>, forgiven: &BTreeSet<String>) {
    let mut stories: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for event in events {
        stories
            .entry(event["job"]["id"].as_str().unwrap())
            .or_default()
            .push(event);
    }
    for (id, job) in jobs {
        if forgiven.contains(id) {
            stories.remove(id.as_str());
            continue;
        }
        let story = stories
            .remove(id.as_str())
            .unwrap_or_else(|| panic!("nothing was told of {job:#}"));
        let mut status = Value::Null;
        let mut attempt = 0;
        for event in &story {
            assert_eq!(event["previousStatus"], status, "{story:#?}");
            let now = event["attempt"].as_u64().unwrap();
            let step = match event["type"].as_str().unwrap() {
                "STARTED" => now == attempt + 1,
                // One that was given back before its process started has not used its attempt up.
                "RETRY_SCHEDULED" => now == attempt || now + 1 == attempt,
                _ => now == attempt,
            };
            assert!(step, "{story:#?}");
            attempt = now;
            status = event["status"].clone();
        }
        assert_eq!(
            (&story[0]["type"], &status),
            (&json!("CREATED"), &job["status"]),
            "{story:#?}"
        );
        assert_eq!(json!(attempt), job["attempt"], "{story:#?}");
    }
    assert!(
        stories.is_empty(),
        "told of jobs that are not there: {stories:#?}"
    );
}
