//! Those who run jobs.

use super::word::words;
use super::{Timestamp, WorkerId};

words!(
    /// What a worker is doing.
    WorkerStatus, "status of a worker" {
        /// Ready for a job.
        Idle = "IDLE",
        /// Running one.
        Busy = "BUSY",
        /// Not heard of for longer than a lease.
        Offline = "OFFLINE",
    }
);

/// A worker as the store keeps it.
#[derive(Debug, Clone)]
pub struct Worker {
    /// Its id.
    pub id: WorkerId,
    /// `worker-001-local`: a number, then the kind of backend.
    pub name: String,
    /// The kind of backend.
    pub backend_type: String,
    /// What it is doing, as of `last_heartbeat`.
    pub status: WorkerStatus,
    /// Whether a server runs it itself.
    pub internal: bool,
    /// The most it runs at once.
    pub max_parallel_tasks: u32,
    /// Patterns of what it takes.
    pub supported_problems: Vec<String>,
    /// When it was first known.
    pub registered_at: Timestamp,
    /// When it was last heard of.
    pub last_heartbeat: Timestamp,
    /// Jobs that it completed.
    pub tasks_completed: i64,
    /// Jobs that failed with it.
    pub tasks_failed: i64,
}

/// The longest name of a worker, in bytes.
pub const LONGEST_WORKER_NAME: usize = 64;

/// Whether a worker can have this name: `worker-001-gpu`, `worker-1234-gpu-large`.
#[must_use]
pub fn is_worker_name(name: &str) -> bool {
    let Some((number, kind)) = name.strip_prefix("worker-").and_then(|rest| rest.split_once('-')) else {
        return false;
    };
    name.len() <= LONGEST_WORKER_NAME
        && number.len() >= 3
        && number.bytes().all(|b| b.is_ascii_digit())
        && kind.split('-').all(|word| {
            !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase())
        })
}
