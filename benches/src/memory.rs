//! What a server takes: to start, idle, with a full queue, at work; and its size.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::client::Request;
use crate::server::Server;
use crate::table::{Figure, Goal, Table};
use crate::{Bench, end_to_end, floor, proc};

/// Measures it.
pub(crate) fn measure(bench: &Bench, table: &mut Table) -> Result<()> {
    let mut add = |what: &str, unit, values, goal| {
        table.add(Figure {
            what: what.to_owned(),
            unit,
            values,
            floor: None,
            goal,
        });
    };
    let (mut first, mut again, mut version) = (Vec::new(), Vec::new(), Vec::new());
    let mut idle = [(); 4].map(|()| Vec::new());
    let program = bench.server.display().to_string();
    for _ in 0..bench.rounds {
        let mut server = Server::start(bench, &[])?;
        first.push(server.ready_after.as_secs_f64() * 1e3);
        server.stop()?;
        version.push(floor::spawn(&program, &["--version"])?.as_secs_f64() * 1e3);
        server.resume()?;
        again.push(server.ready_after.as_secs_f64() * 1e3);
        // One job, for what a server does only once to be done.
        server.client()?.post(&Request::run("/bin/true", &[]))?;
        server.completed(1)?;
        std::thread::sleep(bench.size(Duration::from_secs(2), Duration::from_millis(300)));
        for (values, value) in idle.iter_mut().zip(figures(&server)?) {
            values.push(value);
        }
    }
    add(
        "start to ready, an empty store",
        "ms",
        first,
        Some(Goal::Below(100.0)),
    );
    add(
        "start to ready, a store that is there",
        "ms",
        again,
        Some(Goal::Below(100.0)),
    );
    add("beside it: `runql --version`", "ms", version, None);
    let [resident, proportional, anonymous, spawners] = idle;
    let goal = Some(Goal::Below(30.0));
    add("idle, resident (RSS)", "MiB", resident, goal);
    add("idle, proportional (PSS)", "MiB", proportional, goal);
    add("idle, pages of its own (RssAnon)", "MiB", anonymous, goal);
    add("idle, its spawners (PSS)", "MiB", spawners, None);
    let pending = bench.size(100_000, 2_000);
    let server = Server::start(bench, &["--auto-start-workers", "false"])?;
    let many = Request::run_many("/bin/true", 1_000);
    let mut client = server.client()?;
    for _ in 0..pending / 1_000 {
        client.post(&many)?;
    }
    let counts = client.query("{ stats { counts { pending } } }", &json!({}))?;
    ensure!(counts["stats"]["counts"]["pending"] == pending, "{counts}");
    add(
        &format!("{pending} pending, resident"),
        "MiB",
        vec![proc::resident(server.pid())?],
        None,
    );
    add(
        &format!("{pending} pending, pages of its own"),
        "MiB",
        vec![proc::anonymous(server.pid())?],
        None,
    );
    drop(server);
    let server = Server::start(bench, &[])?;
    let jobs = bench.size(10_000, 100);
    end_to_end::submit(&server, 64, jobs)?;
    let own = proc::anonymous(server.pid())?;
    server.completed(i64::try_from(jobs)?)?;
    add(
        &format!("{jobs} jobs by 64 clients, most resident"),
        "MiB",
        vec![proc::peak(server.pid())?],
        None,
    );
    add(
        &format!("{jobs} jobs by 64 clients, pages of its own"),
        "MiB",
        vec![own],
        None,
    );
    add(
        "size of the binary",
        "MiB",
        vec![std::fs::metadata(&bench.server)?.len() as f64 / f64::from(1 << 20)],
        None,
    );
    Ok(())
}

/// Resident, proportional and own pages of a server, and the proportional ones of its spawners.
fn figures(server: &Server) -> Result<[f64; 4]> {
    let pid = server.pid();
    let spawners = proc::spawners(pid);
    Ok([
        proc::resident(pid)?,
        proc::proportional(pid)?,
        proc::anonymous(pid)?,
        spawners
            .into_iter()
            .filter_map(|pid| proc::proportional(pid).ok())
            .sum(),
    ])
}
