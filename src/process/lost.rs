//! Killing what a spawner left behind that was itself killed.
//!
//! Its programs are some other process's children now, so descent alone no longer finds them. What does: they were
//! all born in the spawner's session, they carry the marker, or they descend from such a process. One that had
//! left the session, the environment *and* its parent before the spawner was killed is beyond reach.

use std::collections::HashSet;
use std::ffi::OsString;
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitOptions, waitpid};

use super::procfs::{Killed, Process, with_descendants};

/// How long to go on against processes that do not go.
const BOUND: Duration = Duration::from_secs(5);

/// The pause between two looks.
const PASS: Duration = Duration::from_millis(5);

/// Kills all of this spawner's session, and all that carries the marker. It blocks.
///
/// The spawner must not have been reaped yet: that keeps its process id, which is the session's number, from
/// being given to another.
pub(super) fn kill_leftovers(spawner: u32, marker: Option<OsString>) {
    let session = spawner.cast_signed();
    let own = std::process::id().cast_signed();
    let deadline = Instant::now() + BOUND;
    let mut hit = HashSet::new();
    loop {
        let all = Process::all();
        let family = with_descendants(&all, |process| {
            process.pid != own
                && (process.session == session
                    || hit.contains(&(process.pid, process.started))
                    || marker.as_ref().is_some_and(|marker| process.carries(marker)))
        });
        let mut left = 0;
        for process in family {
            if process.pid == own || process.pid == session {
                continue;
            }
            if process.zombie {
                reap_adopted(&process, own);
            } else if process.kill() != Killed::Gone {
                // The dead have no environment; they are known again by what they are.
                hit.insert((process.pid, process.started));
                left += 1;
            }
        }
        if left == 0 {
            return;
        }
        if Instant::now() >= deadline {
            tracing::warn!(left, "processes of a lost spawner could not be killed");
            return;
        }
        std::thread::sleep(PASS);
    }
}

/// The first process of a container is given the orphans, and nobody else takes note of their end.
fn reap_adopted(process: &Process, own: i32) {
    if process.parent == own
        && let Some(pid) = Pid::from_raw(process.pid)
    {
        // Whether or not it was ours to reap, there is nothing more to do.
        let _ = waitpid(Some(pid), WaitOptions::NOHANG);
    }
}
