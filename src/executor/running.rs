//! The attempts that this node runs at this moment, for those who may have to stop one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::domain::{CancelRequest, JobId};
use crate::process::{StopCause, StopHandle};

/// One attempt.
#[derive(Debug, Clone)]
struct Entry {
    attempt: u32,
    stop: StopHandle,
    abandon: CancellationToken,
    cancel: Option<CancelRequest>,
}

/// The attempts of this node. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Running(Arc<Mutex<HashMap<JobId, Entry>>>);

/// An attempt's place in the list; leaving it is dropping this.
#[derive(Debug)]
pub(super) struct Place {
    running: Running,
    job: JobId,
    attempt: u32,
}

impl Running {
    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters an attempt. `abandon` is cancelled once it is no longer this node's.
    pub(super) fn enter(
        &self,
        job: JobId,
        attempt: u32,
        stop: StopHandle,
        abandon: CancellationToken,
    ) -> Place {
        self.lock().insert(
            job,
            Entry {
                attempt,
                stop,
                abandon,
                cancel: None,
            },
        );
        Place {
            running: self.clone(),
            job,
            attempt,
        }
    }

    /// The attempts as they are.
    pub(super) fn list(&self) -> Vec<(JobId, u32)> {
        self.lock()
            .iter()
            .map(|(job, entry)| (*job, entry.attempt))
            .collect()
    }

    /// Whether this node runs the job.
    pub(super) fn holds(&self, job: JobId) -> bool {
        self.lock().contains_key(&job)
    }

    /// Stops an attempt because somebody asked.
    pub(super) fn cancel(&self, job: JobId, attempt: u32, request: &CancelRequest, usual_grace: Duration) {
        if let Some(entry) = self.lock().get_mut(&job).filter(|entry| entry.attempt == attempt) {
            entry.cancel = Some(request.clone());
            entry
                .stop
                .stop(StopCause::Cancelled, request.grace.unwrap_or(usual_grace));
        }
    }

    /// Ends an attempt that another node may already run: nothing of it may go on, and nothing is written.
    pub(super) fn abandon(&self, job: JobId, attempt: u32) {
        if let Some(entry) = self.lock().get(&job).filter(|entry| entry.attempt == attempt) {
            entry.abandon.cancel();
            entry.stop.stop(StopCause::Shutdown, Duration::ZERO);
        }
    }

    /// Asks every attempt to end because the server does.
    pub(super) fn stop_all(&self, grace: Duration) {
        for entry in self.lock().values() {
            entry.stop.stop(StopCause::Shutdown, grace);
        }
    }
}

impl Place {
    /// The request for which the attempt was stopped.
    pub(super) fn cancel_request(&self) -> Option<CancelRequest> {
        self.running
            .lock()
            .get(&self.job)
            .and_then(|entry| entry.cancel.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut running = self.running.lock();
        if running
            .get(&self.job)
            .is_some_and(|entry| entry.attempt == self.attempt)
        {
            running.remove(&self.job);
        }
    }
}
