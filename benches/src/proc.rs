//! What the kernel tells of processes and disks.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

/// A line of `/proc/PID/status` or `/proc/PID/smaps_rollup`, in KiB.
fn kib(pid: u32, file: &str, key: &str) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}"))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.with_context(|| format!("{file} has no {key}"))?.parse()?)
}

/// All resident pages, in MiB.
pub(crate) fn resident(pid: u32) -> Result<f64> {
    Ok(kib(pid, "status", "VmRSS")? / 1024.0)
}

/// The most that was resident, in MiB.
pub(crate) fn peak(pid: u32) -> Result<f64> {
    Ok(kib(pid, "status", "VmHWM")? / 1024.0)
}

/// Resident pages of its own, in MiB.
pub(crate) fn anonymous(pid: u32) -> Result<f64> {
    Ok(kib(pid, "status", "RssAnon")? / 1024.0)
}

/// Resident pages, those that are shared divided among their users, in MiB.
pub(crate) fn proportional(pid: u32) -> Result<f64> {
    Ok(kib(pid, "smaps_rollup", "Pss")? / 1024.0)
}

/// Processor time of a process, which may have ended but not been waited for, in seconds.
pub(crate) fn cpu(pid: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = text.rsplit_once(')').context("a name stands in brackets")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    #[expect(clippy::cast_precision_loss, reason = "ticks stay far below 2^53")]
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// The processes that a server keeps for its jobs: its children of this name, but not the jobs themselves.
pub(crate) fn spawners(pid: u32) -> Vec<u32> {
    let children = std::fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten();
    children
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|text| {
            text.split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<u32>>()
        })
        .filter(|child| {
            std::fs::read_to_string(format!("/proc/{child}/comm"))
                .is_ok_and(|name| name.trim() == "runql-spawner")
        })
        .collect()
}

/// How often the disk of a folder was told to flush its cache, by anybody; none where that is no disk that counts it.
pub(crate) fn flushes(folder: &Path) -> Option<u64> {
    let device = std::fs::metadata(folder).ok()?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let node = std::fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    // Only whole disks count them.
    let disk = if node.join("partition").exists() {
        node.parent()?.to_path_buf()
    } else {
        node
    };
    // Others are not told to flush: what they have taken is safe.
    let cache = std::fs::read_to_string(disk.join("queue/write_cache")).ok()?;
    if cache.trim() != "write back" {
        return None;
    }
    let text = std::fs::read_to_string(disk.join("stat")).ok()?;
    text.split_whitespace().nth(15)?.parse().ok()
}
