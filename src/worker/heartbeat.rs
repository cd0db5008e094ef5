//! Tells the server that this worker and its jobs live, and stops what the server says.
//!
//! The request waits at the server until something is to be stopped: a cancel is here within a moment, and an idle
//! worker asks three times in a lease. Where no word came for too long, the jobs are given up before others get them.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::client::CallError;
use super::{Shared, api};
use crate::domain::JobId;
use crate::telemetry::{chain, millis};

/// The least time between two heartbeats that a burst of new jobs causes.
const SETTLE: Duration = Duration::from_millis(50);

/// How long to rest where the server names again what is being stopped already.
const REPEATED: Duration = Duration::from_millis(500);

/// Signs of life within one lease: two may fail before the third comes too late.
const SIGNS: u32 = 3;

/// The pause before a failed heartbeat is tried again, as a share of the lease.
const RETRIES: u32 = 20;

/// Runs as long as it is polled and the server lets this worker in; then it says why that ended.
pub(super) async fn beat(shared: &Shared) -> CallError {
    let mut begun = shared.held.begun();
    let mut at_once = true;
    loop {
        let lease = shared.lease();
        // The server may count from a little before: a sixth of the lease is this worker's margin.
        let silence = lease - lease / 6;
        begun.borrow_and_update();
        let mine = shared.held.list();
        let started = Instant::now();
        // What is new gets a lease of its own first; only then there is time to wait.
        let usual = shared.settings.heartbeat.min(lease / SIGNS);
        let wait = if at_once { Duration::ZERO } else { usual };
        let patience = wait + lease / 6;
        let until = shared.held.oldest().map_or(patience, |oldest| {
            (oldest + silence).saturating_duration_since(started)
        });
        let worker = shared.worker();
        let call = api::heartbeat(
            &shared.client,
            worker,
            &mine,
            wait,
            patience.min(until.max(lease / RETRIES)),
        );
        let answer = tokio::select! {
            answer = call => answer,
            () = news(&mut begun), if !at_once => {
                at_once = true;
                continue;
            }
        };
        match answer {
            Ok(signed) => {
                shared.lease_ms.store(signed.lease_ms, Ordering::Relaxed);
                let (stop, kept): (Vec<JobId>, Vec<JobId>) =
                    mine.iter().partition(|job| signed.stop.contains(job));
                shared.held.renew(&kept, started);
                let mut news = false;
                for job in &stop {
                    if shared.held.stop(*job, shared.cancel_grace) {
                        news = true;
                        tracing::info!(job.id = %job, "stopping: the server said so");
                    }
                }
                // What is named again is being stopped already, and a server that goes down answers without a reason.
                let early = started.elapsed() < wait.min(REPEATED);
                if !news && (early || !stop.is_empty()) {
                    tokio::time::sleep(REPEATED.min(lease / RETRIES)).await;
                }
                at_once = false;
            }
            Err(error) if error.is("NOT_FOUND") => {
                let jobs = shared.held.give_up_all();
                tracing::error!(worker.id = %worker, jobs, "the server does not know this worker any more: it registers anew");
                if let Err(shut) = shared.register_again().await {
                    return shut;
                }
                at_once = true;
            }
            Err(shut @ CallError::Shut(_)) => return shut,
            Err(error) => {
                let pause = (lease / RETRIES).min(Duration::from_secs(1));
                tracing::warn!(error = %chain(&error), retry_ms = millis(pause), "a heartbeat failed and will be tried again");
                give_up(shared, silence.saturating_sub(pause));
                tokio::time::sleep(pause).await;
                at_once = true;
            }
        }
    }
}

/// Returns once a job was begun, a moment later so that it is one of several.
async fn news(begun: &mut tokio::sync::watch::Receiver<u64>) {
    if begun.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(SETTLE).await;
}

fn give_up(shared: &Shared, silence: Duration) {
    let jobs = shared.held.give_up(silence);
    if jobs > 0 {
        tracing::error!(
            jobs,
            "the server was not reached for too long: these jobs are stopped before it gives them to others"
        );
    }
}
