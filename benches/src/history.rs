//! The same on a store with a long history as on one with a short one: nothing may slow down as jobs pile up.

use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::{Value, json};

use crate::Bench;
use crate::client::{Client, Request};
use crate::fill::{History, NAMES};
use crate::floor;
use crate::server::Server;
use crate::table::{Figure, Goal, Table, percentile};

/// Jobs of the small history, and the pages of the large one up to the one that is far back.
const SMALL: i64 = 1_000;
/// Entries of a page.
const PAGE: i64 = 50;
/// Calls of which the hundredth part still says something.
const CALLS_FOR_P99: usize = 500;

/// What is timed, in milliseconds.
const OPERATIONS: [&str; 6] = [
    "run",
    "run → COMPLETED",
    "claim by a worker",
    "first page of 50",
    "page",
    "stats",
];

/// Measures it.
pub(crate) fn measure(bench: &Bench, table: &mut Table) -> Result<()> {
    let large = bench.history;
    let deleted: i64 = bench.size(100_000, 1_000).min(large / 4_000 * 1_000);
    let rounds = i64::try_from(bench.rounds)?;
    let history = History::new()?;
    let mut small = prepare(bench, &history, SMALL)?;
    let big = prepare(bench, &history, large)?;
    let deep = large.min(SMALL * PAGE) / PAGE;
    let cursor = cursor(&mut big.client()?, (deep - 1) * PAGE)?;
    let calls = bench.size(50, 5);
    let mut times = [(); OPERATIONS.len()].map(|()| (Vec::new(), Vec::new()));
    for _ in 0..bench.rounds {
        let one = operations(&small, None, calls)?;
        let other = operations(&big, Some(&cursor), calls)?;
        for (times, (one, other)) in times.iter_mut().zip(one.into_iter().zip(other)) {
            times.0.push(other);
            times.1.push(one);
        }
    }
    for (name, (values, floors)) in OPERATIONS.into_iter().zip(times) {
        let (what, floor) = match name {
            "page" => (
                format!("page {deep} of 50"),
                format!("for page 1 of {SMALL} jobs"),
            ),
            name => (name.to_owned(), format!("with {SMALL} jobs")),
        };
        table.add(Figure {
            what: format!("{what}, {large} jobs"),
            unit: "ms",
            values,
            floor: Some((floor, floors)),
            goal: Some(Goal::RatioBelow(1.3)),
        });
    }
    // The small one gets what is deleted from it only now: it was to be small until here.
    small.stop()?;
    history.fill(&small.database()?, -SMALL - deleted, -SMALL)?;
    small.resume()?;
    // An even number, for the moment between two jobs to be a whole second.
    let slice = deleted / rounds / 2 * 2;
    let (mut values, mut floors) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        floors.push(cleanup(
            &small,
            &history.before(-SMALL - deleted + slice * round)?,
            slice,
        )?);
        values.push(cleanup(&big, &history.before(-large + slice * round)?, slice)?);
    }
    table.add(Figure {
        what: format!("cleanup of {} jobs, {large} jobs", slice * rounds),
        unit: "µs/job",
        values,
        floor: Some((format!("with {SMALL} left"), floors)),
        goal: Some(Goal::RatioBelow(1.3)),
    });
    // Some are left.
    let swept = bench
        .size(1_000_000, 4_000)
        .min((large - deleted) / 2_000 * 1_000);
    let mut client = big.client()?;
    let quiet = answered(&mut client, || false)?;
    let before = history.before(-large + slice * rounds + swept)?;
    let busy = std::thread::scope(|scope| {
        let sweep = scope.spawn(|| cleanup(&big, &before, swept));
        let busy = answered(&mut client, || !sweep.is_finished());
        sweep.join().map_err(|_| anyhow!("the cleanup panicked"))??;
        busy
    })?;
    for (what, share) in [("p50", 0.5), ("p99", 0.99)] {
        table.add(Figure {
            what: format!("`run` while {swept} of {large} jobs are cleaned up, {what}"),
            unit: "ms",
            values: vec![percentile(&busy, share)],
            floor: Some(("before".to_owned(), vec![percentile(&quiet, share)])),
            goal: None,
        });
    }
    Ok(())
}

/// The times of `run`, one call after the other, each for a task that nobody takes: of so many as it takes for a p99, and
/// for as long as something lasts.
fn answered(client: &mut Client, lasts: impl Fn() -> bool) -> Result<Vec<f64>> {
    let run = "mutation($input: RunInput!) { run(input: $input) { job { id } errors { message } } }";
    let input = json!({ "command": { "task": { "problemId": "nobody" } } });
    let request = Request::operation(run, &json!({ "input": input }));
    let mut times = Vec::new();
    while times.len() < CALLS_FOR_P99 || lasts() {
        let started = Instant::now();
        client.post(&request)?;
        times.push(millis(started));
    }
    Ok(times)
}

/// A server on a store with so many ended jobs.
fn prepare(bench: &Bench, history: &History, jobs: i64) -> Result<Server> {
    let mut server = Server::start(bench, &["--max-execution-ms", "600000"])?;
    server.stop()?;
    history.fill(&server.database()?, -jobs, 0)?;
    server.resume()?;
    let stats = server.client()?.query(
        "{ stats { counts { completed } } jobs(first: 1) { totalCount } }",
        &json!({}),
    )?;
    ensure!(
        stats["stats"]["counts"]["completed"] == jobs && stats["jobs"]["totalCount"] == jobs,
        "the server sees {stats} where {jobs} jobs were put in"
    );
    Ok(server)
}

/// The cursor of so many jobs from the newest.
fn cursor(client: &mut Client, mut jobs: i64) -> Result<Value> {
    let mut after = Value::Null;
    while jobs > 0 {
        let query = "query($first: Int, $after: String) { jobs(first: $first, after: $after) { pageInfo { endCursor } } }";
        let page = client.query(query, &json!({ "first": jobs.min(1_000), "after": after }))?;
        after = page["jobs"]["pageInfo"]["endCursor"].clone();
        jobs -= 1_000;
    }
    Ok(after)
}

/// The median time of each operation.
fn operations(server: &Server, after: Option<&Value>, calls: usize) -> Result<[f64; OPERATIONS.len()]> {
    let mut client = server.client()?;
    let (run, completed) = runs(server, &mut client, calls)?;
    let page = |after: Option<&Value>| {
        Request::operation(
            "query($after: String) { jobs(first: 50, after: $after) {
                nodes { id kind name status createdAt finishedAt exitCode } pageInfo { hasNextPage endCursor } } }",
            &json!({ "after": after }),
        )
    };
    let stats = Request::operation(
        "{ stats { counts { total } duration { p95 } queueWait { p95 } byName { name counts { total } }
           finishedPerMinute } }",
        &json!({}),
    );
    Ok([
        run,
        completed,
        claims(&mut client, calls)?,
        repeated(&mut client, &page(None), calls)?,
        repeated(&mut client, &page(after), calls)?,
        repeated(&mut client, &stats, calls)?,
    ])
}

fn millis(started: Instant) -> f64 {
    started.elapsed().as_secs_f64() * 1e3
}

fn repeated(client: &mut Client, request: &Request, calls: usize) -> Result<f64> {
    let mut times = Vec::with_capacity(calls);
    for _ in 0..calls {
        let started = Instant::now();
        client.post(request)?;
        times.push(millis(started));
    }
    Ok(percentile(&times, 0.5))
}

/// Until `run` is answered, and until the event COMPLETED.
fn runs(server: &Server, client: &mut Client, calls: usize) -> Result<(f64, f64)> {
    let query = "subscription { jobEvents(types: [COMPLETED, FAILED]) { type } }";
    let mut socket = server.listen(query, &json!({}))?;
    let request = Request::run("/bin/true", &[]);
    let (mut answered, mut completed) = (Vec::new(), Vec::new());
    for _ in 0..calls {
        let started = Instant::now();
        client.post(&request)?;
        answered.push(millis(started));
        socket.next()?.context("the subscription goes on")?;
        completed.push(millis(started));
    }
    Ok((percentile(&answered, 0.5), percentile(&completed, 0.5)))
}

/// Of a registered worker, one task at a time.
fn claims(client: &mut Client, calls: usize) -> Result<f64> {
    let register = "mutation { registerWorker(input: { name: \"worker-001-bench\", backendType: \"bench\",
        capabilities: { maxParallelTasks: 1000, supportedProblems: [\"bench-*\"] } }) { worker { id } errors { message } } }";
    let worker = client.query(register, &json!({}))?["registerWorker"]["worker"]["id"].take();
    let task = json!({ "command": { "task": { "problemId": "bench-1" } } });
    let many = "mutation($inputs: [RunInput!]!) { runMany(inputs: $inputs) { errors { message } } }";
    client.query(many, &json!({ "inputs": vec![task; calls] }))?;
    let claim = Request::operation(
        "mutation($worker: ID!) { claim(input: { workerId: $worker, max: 1 }) { jobs { id attempt } errors { message } } }",
        &json!({ "worker": worker }),
    );
    let mut times = Vec::with_capacity(calls);
    for _ in 0..calls {
        let started = Instant::now();
        let answer: Value = serde_json::from_slice(client.post(&claim)?)?;
        times.push(millis(started));
        let job = &answer["data"]["claim"]["jobs"][0];
        ensure!(job["id"].is_string(), "nothing was claimed: {answer}");
        let report = "mutation($input: ReportInput!) { report(input: $input) { errors { message } } }";
        let input = json!({ "workerId": worker, "jobId": job["id"], "attempt": job["attempt"], "result": { "success": true } });
        client.query(report, &json!({ "input": input }))?;
    }
    Ok(percentile(&times, 0.5))
}

/// Microseconds for each job that ended before a moment.
fn cleanup(server: &Server, before: &str, jobs: i64) -> Result<f64> {
    let query = "mutation($before: DateTime!) { cleanup(input: { finishedBefore: $before }) { deletedCount errors { message } } }";
    let mut client = server.client()?;
    let started = Instant::now();
    let done = client.query(query, &json!({ "before": before }))?;
    let time = started.elapsed();
    ensure!(
        done["cleanup"]["deletedCount"] == jobs,
        "{done} where {jobs} jobs were to be deleted"
    );
    Ok(1e6 / floor::rate(usize::try_from(jobs)?, time))
}

const _: () = assert!(SMALL % NAMES == 0);
