//! Whether the promises were kept while it was measured: a server that is fast without them has not been measured.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use crate::client::Request;
use crate::proc;
use crate::server::Server;
use crate::{Bench, Store};

/// All that were asked for are COMPLETED, each with its three events and its log, in the store itself; and what
/// `/bin/echo x` printed is there.
pub(crate) fn jobs(server: &Server, jobs: i64, echoes: usize) -> Result<String> {
    let db = server.database()?;
    let is = |what: &str, sql: &str, wanted: i64| -> Result<()> {
        let found = db.number(sql)?;
        ensure!(found == wanted, "{found} {what}, and {wanted} were to be there");
        Ok(())
    };
    is("jobs", "SELECT COUNT(*) FROM job", jobs)?;
    is(
        "jobs COMPLETED",
        "SELECT COUNT(*) FROM job WHERE status = 'COMPLETED' AND exit_code = 0 AND attempt = 1",
        jobs,
    )?;
    for kind in ["CREATED", "STARTED", "COMPLETED"] {
        let sql = format!("SELECT COUNT(DISTINCT job_id) FROM job_event WHERE kind = '{kind}'");
        is(&format!("jobs with the event {kind}"), &sql, jobs)?;
    }
    is("events", "SELECT COUNT(*) FROM job_event", 3 * jobs)?;
    is("logs", "SELECT COUNT(DISTINCT job_id) FROM log_chunk", jobs)?;
    let query = "query($after: String) { jobs(filter: { name: \"/bin/echo\" }, first: 100, after: $after) {
        nodes { stdout } pageInfo { hasNextPage endCursor } } }";
    let mut client = server.client()?;
    let (mut after, mut seen) = (json!(null), 0);
    loop {
        let page = client.query(query, &json!({ "after": after }))?["jobs"].take();
        for node in page["nodes"].as_array().into_iter().flatten() {
            ensure!(node["stdout"] == "x\n", "a job's output is {node}");
            seen += 1;
        }
        if page["pageInfo"]["hasNextPage"] != true {
            break;
        }
        after = page["pageInfo"]["endCursor"].clone();
    }
    ensure!(seen == echoes, "{seen} of {echoes} outputs are there");
    Ok(format!(
        "{jobs} jobs COMPLETED, {} events, {jobs} logs, {echoes} outputs compared",
        3 * jobs
    ))
}

/// So many are asked for one after the other: as nothing can be grouped with anything then, each must have reached the
/// disk by itself.
const ALONE: u64 = 64;

/// A `run` is on disk before it is answered: as often as it is called alone, the disk is told to flush, or Postgres its
/// log. Other writers of the machine can hide what is missing, so this cannot prove it on a busy one; it refutes.
pub(crate) fn durable(bench: &Bench, server: &Server) -> Result<String> {
    server.pool("stopWorkers")?;
    let db = server.database()?;
    if server.store() == Store::Postgres {
        for setting in ["fsync", "synchronous_commit"] {
            let value = db.text(&format!("SHOW {setting}"))?;
            ensure!(value == "on", "Postgres has {setting} {value}");
        }
    }
    let count = || -> Result<Option<u64>> {
        match server.store() {
            Store::Sqlite => Ok(proc::flushes(&bench.folder)),
            Store::Postgres => Ok(Some(
                db.number("SELECT CAST(wal_sync AS BIGINT) FROM pg_stat_wal")?
                    .cast_unsigned(),
            )),
        }
    };
    // Sessions of Postgres tell their figures within a second of the last commit: those of before are not to count.
    if server.store() == Store::Postgres {
        std::thread::sleep(Duration::from_millis(1_500));
    }
    let before = count()?;
    let mut client = server.client()?;
    let run = Request::run("/bin/true", &[]);
    for _ in 0..ALONE {
        client.post(&run)?;
    }
    let since = Instant::now();
    loop {
        let (Some(before), Some(after)) = (before, count()?) else {
            return Ok("this disk does not count its flushes: durability was not looked at".to_owned());
        };
        let flushes = after - before;
        if flushes >= ALONE {
            return Ok(format!("{ALONE} calls of `run` alone: {flushes} flushes"));
        }
        ensure!(
            since.elapsed() < Duration::from_secs(10),
            "{ALONE} calls of `run` alone were answered with {flushes} flushes: they are not durable"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}
