//! Jobs a second from `run` to their end, asked for one at a time by many clients.

use std::time::Instant;

use anyhow::Result;

use crate::client::{Request, load};
use crate::server::Server;
use crate::table::{Figure, Goal, Table};
use crate::{Bench, check, floor};

/// One job in so many prints something, so that its output can be compared.
const ECHO_EVERY: usize = 50;

/// Many more workers than there are cores, for jobs as short as these.
const MANY_WORKERS: &str = "16";

/// Measures it: as the server is without settings, and with many workers.
pub(crate) fn measure(bench: &Bench, table: &mut Table) -> Result<()> {
    measure_with(bench, table, &[], "")?;
    let arguments = ["--workers", MANY_WORKERS];
    measure_with(bench, table, &arguments, &format!(", {MANY_WORKERS} workers"))
}

fn measure_with(bench: &Bench, table: &mut Table, arguments: &[&str], kind: &str) -> Result<()> {
    let server = Server::start(bench, arguments)?;
    let jobs = bench.size(10_000, 100);
    let (mut asked, mut echoes) = (0, 0);
    for clients in [16, 64] {
        let (mut rates, mut xargs, mut spawns) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..bench.rounds {
            xargs.push(floor::xargs(jobs)?);
            spawns.push(floor::spawns(jobs)?);
            let started = Instant::now();
            submit(&server, clients, jobs)?;
            asked += i64::try_from(jobs)?;
            echoes += jobs.div_ceil(ECHO_EVERY);
            server.completed(asked)?;
            rates.push(floor::rate(jobs, started.elapsed()));
        }
        table.add(Figure {
            what: format!("/bin/true to its end, {clients} clients{kind}"),
            unit: "jobs/s",
            values: rates.clone(),
            floor: Some(("by xargs -P2 -n1".to_owned(), xargs)),
            goal: Some(Goal::RatioFrom(bench.store.pick(1.0, 0.7))),
        });
        table.add(Figure {
            what: format!("the same, {clients} clients{kind}"),
            unit: "jobs/s",
            values: rates,
            floor: Some(("by posix_spawn, 2 in flight".to_owned(), spawns)),
            goal: None,
        });
    }
    table.note(&check::jobs(&server, asked, echoes)?);
    table.note(&check::durable(bench, &server)?);
    Ok(())
}

/// Asks for jobs, one at a time from each client.
pub(crate) fn submit(server: &Server, clients: usize, jobs: usize) -> Result<()> {
    let (nothing, echo) = (Request::run("/bin/true", &[]), Request::run("/bin/echo", &["x"]));
    load(server.address(), clients, jobs, |index| {
        if index % ECHO_EVERY == 0 {
            echo.clone()
        } else {
            nothing.clone()
        }
    })?;
    Ok(())
}
