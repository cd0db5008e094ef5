//! One event to many listeners: when the last has it, and what each costs.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use serde_json::json;

use crate::client::Request;
use crate::peer::{Child, Peer};
use crate::server::Server;
use crate::socket::{Crowd, Socket};
use crate::table::{Figure, Goal, Table};
use crate::{Bench, proc};

/// About as long as the server's message.
const BYTES: usize = 256;

/// Measures it.
pub(crate) fn measure(bench: &Bench, table: &mut Table) -> Result<()> {
    let (some, most) = bench.size((1_000, 10_000), (50, 500));
    for (listeners, own, goal) in [
        (some, false, None),
        (most, false, Some(Goal::Below(100.0))),
        (some, true, None),
    ] {
        let arguments = [
            "--auto-start-workers",
            "false",
            "--max-listeners",
            "50000",
            "--max-connections",
            "50000",
        ];
        let server = Server::start(bench, &arguments)?;
        let floors = broadcast(listeners, bench.rounds)?;
        let before = proc::anonymous(server.pid())?;
        let sockets = (0..listeners)
            .map(|index| listen(&server, own.then_some(index)))
            .collect::<Result<Vec<_>>>()?;
        let each = (proc::anonymous(server.pid())? - before) * 1024.0 / listeners as f64;
        let mut crowd = Crowd::new(sockets)?;
        let times = (0..bench.rounds)
            .map(|_| event(&server, &mut crowd))
            .collect::<Result<Vec<_>>>()?;
        let kind = if own {
            "each with its own query"
        } else {
            "all alike"
        };
        table.add(Figure {
            what: format!("run → last of {listeners}, {kind}"),
            unit: "ms",
            values: times,
            floor: Some(("by plain writes to as many sockets".to_owned(), floors)),
            goal,
        });
        table.add(Figure {
            what: format!("memory for each of {listeners}, {kind}"),
            unit: "KiB",
            values: vec![each],
            floor: None,
            goal: None,
        });
    }
    Ok(())
}

/// A listener to all new jobs; with a number, by a query and variables that no other one has.
fn listen(server: &Server, own: Option<usize>) -> Result<Socket> {
    match own {
        None => server.listen(
            "subscription { jobEvents(types: [CREATED]) { cursor type status job { id name } } }",
            &json!({}),
        ),
        Some(number) => server.listen(
            &format!(
                "subscription($filter: JobFilter) {{ jobEvents(types: [CREATED], filter: $filter) {{
                    own{number}: cursor type status job {{ id name }} }} }}"
            ),
            &json!({ "filter": { "created": { "since": format!("2020-01-01T00:00:00.{number:06}Z") } } }),
        ),
    }
}

/// From the request until the last has the event, in milliseconds.
fn event(server: &Server, crowd: &mut Crowd) -> Result<f64> {
    let mut client = server.client()?;
    let run = Request::run("/bin/true", &[]);
    let (started, last) = std::thread::scope(|scope| -> Result<(Instant, Instant)> {
        let asked = scope.spawn(move || -> Result<Instant> {
            let started = Instant::now();
            client.post(&run)?;
            Ok(started)
        });
        let last = crowd.all(None)?;
        let started = asked.join().map_err(|_| anyhow!("a thread panicked"))??;
        Ok((started, last))
    })?;
    Ok(last.duration_since(started).as_secs_f64() * 1e3)
}

/// The same bytes to as many sockets by plain writes, read by the same loop, in milliseconds.
fn broadcast(listeners: usize, rounds: usize) -> Result<Vec<f64>> {
    let peer = Child::start(Peer::Broadcast)?;
    let mut sockets = vec![Socket::connect(peer.address())?];
    let mut count = Vec::from((listeners as u64).to_le_bytes());
    sockets[0].write(&count)?;
    for _ in 1..listeners {
        sockets.push(Socket::connect(peer.address())?);
    }
    let mut crowd = Crowd::new(sockets)?;
    count = Vec::from((BYTES as u64).to_le_bytes());
    (0..=rounds)
        .map(|_| {
            let started = Instant::now();
            crowd.trigger(&count)?;
            Ok(crowd.all(Some(BYTES))?.duration_since(started))
        })
        // The first waits until all are accepted.
        .skip(1)
        .map(|time: Result<Duration>| Ok(time?.as_secs_f64() * 1e3))
        .collect()
}
