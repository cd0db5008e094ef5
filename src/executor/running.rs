//! The attempts that this node runs at this moment, for those who may have to stop one.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

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

/// What the list knows.
#[derive(Debug, Default)]
struct Attempts {
    running: HashMap<JobId, Entry>,
    /// Attempts that are over, and whose ends could not be stored.
    unsettled: HashSet<(JobId, u32)>,
}

/// The attempts of this node. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Running(Arc<Mutex<Attempts>>);

/// An attempt's place in the list; leaving it is dropping this.
#[derive(Debug)]
pub(super) struct Place {
    running: Running,
    job: JobId,
    attempt: u32,
    settled: bool,
}

impl Running {
    fn lock(&self) -> MutexGuard<'_, Attempts> {
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
        let mut attempts = self.lock();
        attempts.unsettled.remove(&(job, attempt));
        attempts.running.insert(
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
            settled: false,
        }
    }

    /// The attempts as they are.
    pub(super) fn list(&self) -> Vec<(JobId, u32)> {
        self.lock()
            .running
            .iter()
            .map(|(job, entry)| (*job, entry.attempt))
            .collect()
    }

    /// Lets the processes of these attempts run until then, and no longer.
    pub(super) fn hold(&self, held: &HashSet<(JobId, u32)>, until: Instant) {
        for (job, entry) in &self.lock().running {
            if held.contains(&(*job, entry.attempt)) {
                entry.stop.hold(until);
            }
        }
    }

    /// Of the attempts whose ends could not be stored those that the store still holds for this node; the others are
    /// somebody else's by now, and are forgotten.
    pub(super) fn unsettled(&self, held: &HashSet<(JobId, u32)>) -> Vec<(JobId, u32)> {
        let mut attempts = self.lock();
        attempts.unsettled.retain(|attempt| held.contains(attempt));
        attempts.unsettled.iter().copied().collect()
    }

    /// Whether this node runs the job.
    pub(super) fn holds(&self, job: JobId) -> bool {
        self.lock().running.contains_key(&job)
    }

    /// Stops an attempt because somebody asked.
    pub(super) fn cancel(&self, job: JobId, attempt: u32, request: &CancelRequest, usual_grace: Duration) {
        if let Some(entry) = self
            .lock()
            .running
            .get_mut(&job)
            .filter(|entry| entry.attempt == attempt)
        {
            entry.cancel = Some(request.clone());
            entry
                .stop
                .stop(StopCause::Cancelled, request.grace.unwrap_or(usual_grace));
        }
    }

    /// Ends an attempt that another node may already run: nothing of it may go on, and nothing is written.
    pub(super) fn abandon(&self, job: JobId, attempt: u32) {
        if let Some(entry) = self
            .lock()
            .running
            .get(&job)
            .filter(|entry| entry.attempt == attempt)
        {
            entry.abandon.cancel();
            entry.stop.stop(StopCause::Shutdown, Duration::ZERO);
        }
    }

    /// Asks every attempt to end because the server does.
    pub(super) fn stop_all(&self, grace: Duration) {
        for entry in self.lock().running.values() {
            entry.stop.stop(StopCause::Shutdown, grace);
        }
    }
}

impl Place {
    /// The store knows what became of the attempt.
    pub(super) fn settled(&mut self) {
        self.settled = true;
    }

    /// The request for which the attempt was stopped.
    pub(super) fn cancel_request(&self) -> Option<CancelRequest> {
        self.running
            .lock()
            .running
            .get(&self.job)
            .and_then(|entry| entry.cancel.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut attempts = self.running.lock();
        if attempts
            .running
            .get(&self.job)
            .is_some_and(|entry| entry.attempt == self.attempt)
        {
            attempts.running.remove(&self.job);
            if !self.settled {
                attempts.unsettled.insert((self.job, self.attempt));
            }
        }
    }
}
