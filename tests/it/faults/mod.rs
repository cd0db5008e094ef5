//! It survives: servers that die, freeze and fail wherever that could hurt, while clients and listeners go on.
//!
//! ```text
//!   clients ── run, cancel, report ──▶ server ─✗ dies at a failpoint, or at any moment ─▶ nothing of it lives
//!   listeners ◀── events, by cursor ──   └─▶ started again, to die at the next ─▶ … ─▶ one that stays: all is well?
//! ```
//!
//! | file | what |
//! | --- | --- |
//! | `world`, `clients`, `listeners` | the load, which does not care which server answers |
//! | `points` | where a server can be made to die |
//! | `check` | what must hold afterwards |
//! | `deaths`, `cut_off`, `nodes` | the tests: kills, commits without an answer, many servers on one Postgres |
//!
//! Each test is short; with `RUNQL_FAULT_SECONDS` in the environment each goes on for so long. What was drawn by lot is
//! drawn again from the seed that it prints, with `RUNQL_FAULT_SEED`; the moments are the machine's own.

mod check;
mod clients;
mod cut_off;
mod deaths;
mod listeners;
mod nodes;
mod points;
mod world;

use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::support::app::Setup;
use crate::support::db::{TestDb, with_db};

/// How long a dead server's leases hold: short, but longer than a busy machine takes for a commit.
const LEASE: Duration = Duration::from_millis(2_000);

/// A server of these tests.
fn setup(db: &TestDb) -> Setup {
    Setup::new(db)
        .flag("--lease-ms", LEASE.as_millis())
        .flag("--shutdown-grace-ms", 100)
        .flag("--cancel-grace-ms", 200)
        .flag("--job-write", folder().display())
}

/// Where jobs note that they ran, whichever server runs them: all servers let them write here.
fn folder() -> std::path::PathBuf {
    let folder = std::env::temp_dir().join("runql-faults");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

const SECONDS: &str = "RUNQL_FAULT_SECONDS";

/// Whether the long form was asked for.
fn is_long() -> bool {
    std::env::var_os(SECONDS).is_some()
}

/// Does it once, or again and again for the time that was asked for, each time on a database of its own.
async fn again_and_again(db: TestDb, round: impl AsyncFn(TestDb, Rng)) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let mut seed = number("RUNQL_FAULT_SEED").unwrap_or_else(|| fastrand::u64(..));
    let enough = Instant::now() + Duration::from_secs(number(SECONDS).unwrap_or(0));
    let backend = db.backend();
    let mut first = Some(db);
    loop {
        eprintln!("RUNQL_FAULT_SEED={seed}");
        let rng = Rng::with_seed(seed);
        match first.take() {
            Some(db) => round(db, rng).await,
            None => with_db(backend, |db| round(db, rng)).await,
        }
        seed = seed.wrapping_add(1);
        if Instant::now() >= enough {
            return;
        }
    }
}
