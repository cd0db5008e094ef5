//! Killing all that descends from the spawner, until the kernel says that it has no children.
//!
//! The spawner is a subreaper: when a process below it dies, that one's children become the spawner's own. So a
//! process can leave its group, its session and its environment, but not this tree, and "no children" is the proof
//! that nothing is left. Only what cannot be killed (another user's, or stuck in the kernel) makes a sweep give up.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::time::{Duration, Instant};

use crate::process::procfs::{Killed, Process, with_descendants};

use super::children::Children;

/// How long a sweep goes on against processes that do not go.
const SWEEP_BOUND: Duration = Duration::from_secs(5);

/// How long a pass waits for the killed to be gone before it looks again.
const PASS: Duration = Duration::from_millis(20);

/// What a sweep found.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Swept {
    /// Processes that were alive and are not any more.
    pub(super) killed: usize,
    /// Processes that are still there.
    pub(super) survivors: usize,
}

/// Kills all that descends from this process or carries the marker. Those of `leader`'s group are not counted,
/// because they were killed as part of it.
pub(super) fn sweep(children: &mut Children, marker: Option<&OsStr>, leader: Option<i32>) -> Swept {
    let own = std::process::id().cast_signed();
    let server = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    let deadline = Instant::now() + SWEEP_BOUND;
    let mut hit = HashSet::new();
    loop {
        let all = Process::all();
        let family = with_descendants(&all, |process| {
            process.parent == own || marker.is_some_and(|marker| process.carries(marker))
        });
        let mut alive = HashSet::new();
        for process in family {
            let identity = (process.pid, process.started);
            let spared = process.pid == own || process.pid == server || children.is_stuck(identity);
            if process.zombie || spared {
                continue;
            }
            match process.kill() {
                Killed::Gone => continue,
                Killed::Yes | Killed::Refused => alive.insert(identity),
            };
            if leader != Some(process.group) {
                hit.insert(identity);
            }
        }
        let childless = children.reap();
        if alive.is_empty() && (childless || children.all_stuck(own)) {
            return Swept {
                killed: hit.len(),
                survivors: 0,
            };
        }
        if Instant::now() >= deadline {
            let survivors = alive.len();
            children.give_up_on(alive);
            return Swept {
                killed: hit.len().saturating_sub(survivors),
                survivors,
            };
        }
        children.wait(PASS);
    }
}
