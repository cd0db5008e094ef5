//! One job on an idle server: from the request to the process, and to the event that says COMPLETED.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::client::Request;
use crate::server::Server;
use crate::table::{Figure, Goal, Table, percentile};
use crate::{Bench, floor};

/// It tells by itself when it came to run, in nanoseconds since 1970.
const PROGRAM: (&str, &[&str]) = ("/bin/date", &["+%s%N"]);

/// The times of one round, in milliseconds.
#[derive(Default)]
struct Times {
    alone: Vec<f64>,
    started: Vec<f64>,
    completed: Vec<f64>,
}

/// Measures it.
pub(crate) fn measure(bench: &Bench, table: &mut Table) -> Result<()> {
    let server = Server::start(bench, &[])?;
    let rounds = (0..bench.rounds)
        .map(|_| round(&server, bench.size(500, 30)))
        .collect::<Result<Vec<_>>>()?;
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        let of = |times: fn(&Times) -> &Vec<f64>| -> Vec<f64> {
            rounds
                .iter()
                .map(|round| percentile(times(round), share))
                .collect()
        };
        let alone = of(|round| &round.alone);
        for (what, values, goal) in [
            ("run → process started", of(|round| &round.started), 3.0),
            ("run → COMPLETED heard", of(|round| &round.completed), 6.0),
        ] {
            table.add(Figure {
                what: format!("{what}, {name}"),
                unit: "ms",
                values,
                floor: Some((format!("to spawn and wait, {name}"), alone.clone())),
                goal: Some(Goal::RatioBelow(goal)),
            });
        }
    }
    Ok(())
}

fn round(server: &Server, jobs: usize) -> Result<Times> {
    let mut times = Times::default();
    let mut socket = server.listen(
        "subscription { jobEvents(types: [COMPLETED, FAILED]) { type job { id } } }",
        &json!({}),
    )?;
    let mut client = server.client()?;
    let (program, args) = PROGRAM;
    let run = Request::run(program, args);
    for _ in 0..jobs {
        times.alone.push(millis(floor::spawn(program, args)?));
        std::thread::sleep(Duration::from_millis(5));
        let (sent_at, sent) = (SystemTime::now(), Instant::now());
        let id = client.run(&run)?;
        let event = socket.next()?.context("the subscription goes on")?;
        times.completed.push(millis(sent.elapsed()));
        let event: serde_json::Value = serde_json::from_slice(event)?;
        let event = &event["payload"]["data"]["jobEvents"];
        ensure!(
            event["type"] == "COMPLETED" && event["job"]["id"] == id.as_str(),
            "{event}"
        );
        let job = client.query(
            "query($id: ID!) { job(id: $id) { stdout } }",
            &json!({ "id": id }),
        )?;
        let printed: u128 = job["job"]["stdout"].as_str().unwrap_or_default().trim().parse()?;
        let sent_at = sent_at.duration_since(UNIX_EPOCH)?.as_nanos();
        let nanos = u64::try_from(printed.checked_sub(sent_at).context("the clock was set back")?)?;
        times.started.push(millis(Duration::from_nanos(nanos)));
    }
    Ok(times)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
