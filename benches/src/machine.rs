//! Where it was measured.

use std::process::Command;

use anyhow::{Context as _, Result};
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};

use crate::Bench;
use crate::db::Db;

/// Lets this process, and the servers that it starts, have as many files open as the system allows.
pub(crate) fn raise_open_files() -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("the limit of open files cannot be raised")
}

/// What an absolute figure depends on.
pub(crate) fn about(bench: &Bench, with_postgres: bool) -> Result<Value> {
    let version = Command::new(&bench.server).arg("--version").output()?;
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = processor
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let mut about = json!({
        "server": String::from_utf8_lossy(&version.stdout).trim(),
        "binary": bench.server,
        "cores": std::thread::available_parallelism()?.get(),
        "processor": processor.map(|(_, name)| name.trim()),
        "kernel": std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim(),
        "load": std::fs::read_to_string("/proc/loadavg")?.split(' ').next(),
        "sqlite": Db::open("sqlite::memory:")?.text("SELECT sqlite_version()")?,
        "rounds": bench.rounds,
        "form": bench.size("long", "short"),
        "client": if cfg!(debug_assertions) { "a dev build: its floors are slow, and the figures mean nothing" } else { "a release build" },
    });
    if with_postgres {
        let postgres = Db::open(&bench.postgres)?;
        about["postgres"] = json!(postgres.text("SHOW server_version")?);
    }
    Ok(about)
}
