//! Durable jobs accepted a second while no worker takes any.

use std::time::Instant;

use anyhow::{Result, ensure};
use sea_orm::Value;
use sea_orm::prelude::Uuid;

use crate::client::{Request, load};
use crate::db::Db;
use crate::server::Server;
use crate::table::{Figure, Goal, Table};
use crate::{Bench, check, fill, floor};

/// Clients that ask for one job at a time.
const CLIENTS: usize = 64;
/// Jobs of one `runMany`.
const MANY: usize = 1_000;
/// Statements of both databases are bounded in the values that they take.
const ROWS: usize = 500;

/// Measures it.
pub(crate) fn measure(bench: &Bench, table: &mut Table) -> Result<()> {
    let server = Server::start(
        bench,
        &["--auto-start-workers", "false", "--queue-limit", "10000000"],
    )?;
    // The same tables and indexes, and nobody else who writes.
    let mut stopped = Server::start(bench, &[])?;
    stopped.stop()?;
    let bare = stopped.database()?;
    let (one, many) = (bench.size(20_000, 200), bench.size(20, 1) * MANY);
    let run = Request::run("/bin/true", &[]);
    let run_many = Request::run_many("/bin/true", MANY);
    let mut rates = [(); 4].map(|()| Vec::new());
    let mut asked = 0;
    for _ in 0..bench.rounds {
        rates[0].push(insert(&bare, one, CLIENTS)?);
        rates[1].push(floor::rate(
            one,
            load(server.address(), CLIENTS, one, |_| run.clone())?,
        ));
        rates[2].push(insert(&bare, many, MANY)?);
        let time = load(server.address(), 2, many / MANY, |_| run_many.clone())?;
        rates[3].push(floor::rate(many, time));
        asked += one + many;
    }
    let [by_clients, single, by_thousands, thousands] = rates;
    let goal = Some(Goal::From(bench.store.pick(8_000.0, 4_000.0)));
    table.add(Figure {
        what: format!("run, one at a time, {CLIENTS} clients"),
        unit: "jobs/s",
        values: single,
        floor: Some((format!("by bare inserts of {CLIENTS}"), by_clients)),
        goal,
    });
    table.add(Figure {
        what: format!("runMany of {MANY}, 2 clients"),
        unit: "jobs/s",
        values: thousands,
        floor: Some((format!("by bare inserts of {MANY}"), by_thousands)),
        goal,
    });
    let asked = i64::try_from(asked)?;
    let db = server.database()?;
    let stored = db.number("SELECT COUNT(*) FROM job WHERE status = 'PENDING'")?;
    let created = db.number("SELECT COUNT(*) FROM job_event WHERE kind = 'CREATED'")?;
    ensure!(
        stored == asked && created == asked,
        "of {asked} jobs {stored} are stored, with {created} events"
    );
    table.note(&format!("{asked} jobs are PENDING, each with its event"));
    table.note(&check::durable(bench, &server)?);
    Ok(())
}

/// Rows of jobs and their first events a second, in transactions of so many jobs, each on disk.
fn insert(db: &Db, jobs: usize, batch: usize) -> Result<f64> {
    let started = Instant::now();
    let mut index = 0;
    while index < jobs {
        let end = (index + batch).min(jobs);
        db.execute("BEGIN")?;
        while index < end {
            let rows = (end - index).min(ROWS);
            let now = fill::now_micros()?;
            let ids: Vec<Uuid> = (0..rows).map(|_| fill::new_id(now)).collect();
            let job = |&id: &Uuid| -> Vec<Value> {
                vec![
                    id.into(),
                    "EXEC".into(),
                    "/bin/true".into(),
                    r#"{"kind":"EXEC","program":"/bin/true","args":[]}"#.into(),
                    "PENDING".into(),
                    "QUEUED".into(),
                    "default".into(),
                    0.into(),
                    0.into(),
                    1.into(),
                    1_000_i64.into(),
                    1_800_000_i64.into(),
                    now.into(),
                    now.into(),
                    now.into(),
                ]
            };
            let event = |&id: &Uuid| -> Vec<Value> {
                vec![
                    id.into(),
                    "CREATED".into(),
                    now.into(),
                    "PENDING".into(),
                    0.into(),
                ]
            };
            db.insert("job", fill::NEW_JOB, ids.iter().flat_map(job).collect())?;
            db.insert("job_event", fill::NEW_EVENT, ids.iter().flat_map(event).collect())?;
            index += rows;
        }
        db.execute("COMMIT")?;
    }
    Ok(floor::rate(jobs, started.elapsed()))
}
