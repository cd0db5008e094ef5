//! Takes jobs while there is room for them.
//!
//! An answer that was lost may have held jobs, which the server then takes this worker to run. So after a claim without
//! an answer the server is asked what those are, and asked again for a moment: the claim may still be under way there.

use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::attempt::Claimed;
use super::client::CallError;
use super::pause::Pause;
use super::{Shared, api};
use crate::telemetry::{chain, millis};

/// How long a claim waits at the server for work.
const WAIT: Duration = Duration::from_secs(30);

/// Looks for jobs whose claim had no answer, and the time before each.
const LOOKS: u32 = 3;
const LOOK_AGAIN: Duration = Duration::from_millis(300);

/// Runs as long as it is polled and the server lets this worker in; then it says why that ended.
pub(super) async fn claim(shared: &Shared, jobs: mpsc::Sender<Claimed>) -> CallError {
    let mut pause = Pause::default();
    let mut looks = 0_u32;
    loop {
        let mut room = room(shared).await;
        let asked = Instant::now();
        let claimed = if looks > 0 {
            api::current_jobs(&shared.client, shared.worker()).await
        } else {
            api::claim(&shared.client, shared.worker(), room.len(), WAIT).await
        };
        let since = Instant::now();
        match claimed {
            Ok(tasks) => {
                pause = Pause::default();
                // A server that goes down answers at once.
                let in_vain = tasks.is_empty() && asked.elapsed() < LOOK_AGAIN;
                for task in tasks {
                    // Those that were begun before are none of the lost ones; the attempt sees to that.
                    let room = match room.pop() {
                        Some(room) => room,
                        None => one(shared).await,
                    };
                    // The receiver is gone only at the shutdown, which asks what was left.
                    let _ = jobs.send(Claimed { task, room, since }).await;
                }
                let looked = looks > 0;
                looks = looks.saturating_sub(1);
                if looked || in_vain {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            }
            Err(shut @ CallError::Shut(_)) => return shut,
            Err(error) => {
                let lost = matches!(error, CallError::Away { unsent: false, .. });
                looks = if lost { LOOKS } else { looks };
                if error.is("NOT_FOUND") {
                    // The heartbeat finds the same, and registers anew.
                    shared.held.poke();
                }
                let pause = pause.take();
                let retry_ms = millis(pause);
                if error.is("LIMIT_EXCEEDED") {
                    // Jobs of an earlier process with this name, or one that has just ended.
                    tracing::debug!(error = %chain(&error), retry_ms, "the server sees no room here yet");
                } else {
                    tracing::warn!(error = %chain(&error), retry_ms, "no jobs could be claimed");
                }
                drop(room);
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// Waits for room, and takes all that there is.
async fn room(shared: &Shared) -> Vec<OwnedSemaphorePermit> {
    let mut room = vec![one(shared).await];
    while let Ok(more) = shared.room.clone().try_acquire_owned() {
        room.push(more);
    }
    room
}

async fn one(shared: &Shared) -> OwnedSemaphorePermit {
    match shared.room.clone().acquire_owned().await {
        Ok(room) => room,
        // Nobody closes it.
        Err(_) => std::future::pending().await,
    }
}
