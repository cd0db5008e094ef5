//! How fast the built server is, each figure beside a floor measured in the same run on the same machine.
//!
//! It starts the binary that a user would start, and speaks to it as a client does: over HTTP and WebSocket. The ratio
//! is the result, since absolute figures are the machine's. Speed never makes it fail; an answer that is an error, and a
//! promise that was not kept while it measured, do.
//!
//! ```text
//!   scenario ──▶ server.rs: a server and a store of its own ◀── client.rs, socket.rs: requests, listeners
//!       ├──────▶ floor.rs, peer.rs: the same without a server
//!       ├──────▶ check.rs: was every promise kept meanwhile
//!       └──────▶ table.rs: figure, floor, ratio, goal
//! ```

#![expect(clippy::print_stdout, reason = "a benchmark speaks to a person")]

mod check;
mod client;
mod db;
mod end_to_end;
mod fan_out;
mod fill;
mod floor;
mod history;
mod intake;
mod latency;
mod machine;
mod memory;
mod output;
mod peer;
mod proc;
mod queries;
mod server;
mod socket;
mod table;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum};

use crate::table::Table;

/// Measures a RunQL server, each figure beside a floor from the same run.
#[derive(Parser)]
struct Args {
    /// What to measure; everything where left out
    scenarios: Vec<Scenario>,
    /// The server's binary; where left out, it is built by `cargo build --release`
    #[arg(long)]
    server: Option<PathBuf>,
    /// Small sizes and one round: shows that everything works, not how fast it is
    #[arg(long)]
    short: bool,
    /// On which stores
    #[arg(long, default_value = "both")]
    store: Stores,
    /// Rounds of each scenario [default: 5, or 1 with --short]
    #[arg(long)]
    rounds: Option<usize>,
    /// Ended jobs of the long history, of which most are deleted in the end [default: 5000000, or 20000 with --short]
    #[arg(long, value_parser = clap::value_parser!(i64).range(20_000..))]
    history: Option<i64>,
    /// Where to write all figures as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// A superuser's address, for the databases that are made and dropped
    #[arg(
        long,
        env = "RUNQL_TEST_POSTGRES_URL",
        default_value = "postgres://postgres@127.0.0.1:5432/postgres"
    )]
    postgres: String,
    /// What this program is when it runs as a floor of its own
    #[arg(long, hide = true)]
    peer: Option<peer::Peer>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Stores {
    Sqlite,
    Postgres,
    Both,
}

/// What can be measured.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Jobs a second from `run` to their end
    EndToEnd,
    /// From `run` to the process and to its COMPLETED event, on an idle server
    Latency,
    /// Durable jobs accepted a second
    Intake,
    /// Requests a second for a job and for a page of 50
    Queries,
    /// What jobs print: to the store, many at once, to a listener
    Output,
    /// One event to many listeners
    FanOut,
    /// The same on a store with a long history
    History,
    /// Start, memory, size
    Memory,
}

/// Where the server under test keeps its jobs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Store {
    /// A file.
    Sqlite,
    /// A database of its own.
    Postgres,
}

impl Store {
    /// Its name in the table.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "Postgres",
        }
    }

    /// One value for each.
    pub(crate) fn pick<T>(self, sqlite: T, postgres: T) -> T {
        match self {
            Self::Sqlite => sqlite,
            Self::Postgres => postgres,
        }
    }
}

/// What all scenarios are given.
pub(crate) struct Bench {
    /// The server's binary.
    pub(crate) server: PathBuf,
    /// Where servers keep their files: on a disk.
    pub(crate) folder: PathBuf,
    /// A superuser's address.
    pub(crate) postgres: String,
    /// Which store is measured now.
    pub(crate) store: Store,
    /// Rounds of each figure.
    pub(crate) rounds: usize,
    /// Ended jobs of the long history.
    pub(crate) history: i64,
    short: bool,
}

impl Bench {
    /// A size: of the long form, or of the short one.
    pub(crate) fn size<T>(&self, long: T, short: T) -> T {
        if self.short { short } else { long }
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(peer) = args.peer {
        return peer::serve(peer);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the workspace has a folder")?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let server = match args.server {
        Some(path) => path,
        None => build(root, &target)?,
    };
    let mut bench = Bench {
        server: server
            .canonicalize()
            .with_context(|| format!("there is no server at {}", server.display()))?,
        folder: target.join("bench"),
        postgres: args.postgres,
        store: Store::Sqlite,
        rounds: args.rounds.unwrap_or(if args.short { 1 } else { 5 }).max(1),
        history: args
            .history
            .unwrap_or(if args.short { 20_000 } else { 5_000_000 })
            / 1_000
            * 1_000,
        short: args.short,
    };
    std::fs::create_dir_all(&bench.folder)?;
    machine::raise_open_files()?;
    let stores: &[Store] = match args.store {
        Stores::Sqlite => &[Store::Sqlite],
        Stores::Postgres => &[Store::Postgres],
        Stores::Both => &[Store::Sqlite, Store::Postgres],
    };
    let with_postgres = stores.contains(&Store::Postgres);
    server::sweep(&bench, with_postgres)?;
    let mut table = Table::new(machine::about(&bench, with_postgres)?);
    for &scenario in Scenario::value_variants() {
        if !args.scenarios.is_empty() && !args.scenarios.contains(&scenario) {
            continue;
        }
        for &store in stores {
            bench.store = store;
            measure(scenario, &bench, &mut table)?;
        }
    }
    if let Some(path) = args.json {
        std::fs::write(&path, table.json()).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn measure(scenario: Scenario, bench: &Bench, table: &mut Table) -> Result<()> {
    let (title, measured): (_, fn(&Bench, &mut Table) -> Result<()>) = match scenario {
        Scenario::EndToEnd => ("end to end", end_to_end::measure),
        Scenario::Latency => ("idle latency", latency::measure),
        Scenario::Intake => ("run alone", intake::measure),
        Scenario::Queries => ("queries", queries::measure),
        Scenario::Output => ("output", output::measure),
        Scenario::FanOut => ("fan-out", fan_out::measure),
        Scenario::History => ("history", history::measure),
        Scenario::Memory => ("memory", memory::measure),
    };
    table.open(title, bench.store.name());
    measured(bench, table).with_context(|| format!("{title} on {}", bench.store.name()))
}

/// Builds the server as a user would: without what the tests have built into it.
fn build(root: &Path, target: &Path) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--release", "--package", "runql", "--bin", "runql"])
        .current_dir(root)
        .status()?;
    ensure!(built.success(), "the server could not be built");
    Ok(target.join("release/runql"))
}
