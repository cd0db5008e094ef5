//! The jobs that this worker holds: which they are, until when, and how to stop them.
//!
//! An attempt that was begun once is never begun again by this process, however often the server names it: an answer
//! that was lost, a list that was made a moment too early.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::domain::JobId;
use crate::process::{StopCause, StopHandle};

/// Ended attempts that are remembered. A list of the server's that is older than this many jobs is not looked at.
const REMEMBERED: usize = 4_096;

#[derive(Debug)]
struct Entry {
    attempt: u32,
    stop: StopHandle,
    lost: CancellationToken,
    /// From when the server's lease counts.
    renewed: Instant,
}

#[derive(Debug, Default)]
struct State {
    jobs: HashMap<JobId, Entry>,
    done: VecDeque<(JobId, u32)>,
}

impl State {
    fn remember(&mut self, job: JobId, attempt: u32) {
        if self.done.len() == REMEMBERED {
            self.done.pop_front();
        }
        self.done.push_back((job, attempt));
    }
}

/// The jobs of this worker. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Held {
    state: Arc<Mutex<State>>,
    /// Counts the jobs that were begun.
    begun: Arc<watch::Sender<u64>>,
}

/// A job's place among those that are held; leaving it is dropping this.
#[derive(Debug)]
pub(super) struct Place {
    held: Held,
    job: JobId,
}

impl Held {
    pub(super) fn new() -> Self {
        Self {
            state: Arc::default(),
            begun: Arc::new(watch::Sender::new(0)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters an attempt whose lease counts from `since`. `lost` is cancelled once it is no longer this worker's. None
    /// where it was begun before.
    pub(super) fn enter(
        &self,
        job: JobId,
        attempt: u32,
        stop: StopHandle,
        lost: CancellationToken,
        since: Instant,
    ) -> Option<Place> {
        let mut state = self.lock();
        if state.jobs.contains_key(&job) || state.done.contains(&(job, attempt)) {
            return None;
        }
        state.jobs.insert(
            job,
            Entry {
                attempt,
                stop,
                lost,
                renewed: since,
            },
        );
        drop(state);
        self.poke();
        Some(Place {
            held: self.clone(),
            job,
        })
    }

    /// Never to be begun here: an earlier process of this name has.
    pub(super) fn leave_alone(&self, job: JobId, attempt: u32) {
        self.lock().remember(job, attempt);
    }

    /// Whether the attempt was begun by this process or an earlier one.
    pub(super) fn was_begun(&self, job: JobId, attempt: u32) -> bool {
        let state = self.lock();
        state.jobs.contains_key(&job) || state.done.contains(&(job, attempt))
    }

    /// Changes whenever a job is begun, and whenever else a heartbeat is due at once.
    pub(super) fn begun(&self) -> watch::Receiver<u64> {
        self.begun.subscribe()
    }

    /// Makes the heartbeat look at once.
    pub(super) fn poke(&self) {
        self.begun.send_modify(|count| *count += 1);
    }

    /// The jobs as they are.
    pub(super) fn list(&self) -> Vec<JobId> {
        self.lock().jobs.keys().copied().collect()
    }

    /// The server's leases on these jobs count from `since` on.
    pub(super) fn renew(&self, jobs: &[JobId], since: Instant) {
        let mut state = self.lock();
        for job in jobs {
            if let Some(entry) = state.jobs.get_mut(job) {
                entry.renewed = entry.renewed.max(since);
            }
        }
    }

    /// Stops a job because the server said so. Tells whether that is news.
    pub(super) fn stop(&self, job: JobId, grace: Duration) -> bool {
        let state = self.lock();
        let Some(entry) = state.jobs.get(&job) else {
            return false;
        };
        let news = entry.stop.requested().is_none();
        entry.stop.stop(StopCause::Cancelled, grace);
        news
    }

    /// Asks every job to end because the worker does.
    pub(super) fn stop_all(&self, grace: Duration) {
        for entry in self.lock().jobs.values() {
            entry.stop.stop(StopCause::Shutdown, grace);
        }
    }

    /// Ends the jobs on which the lease was not renewed for this long: others may soon run them. Tells how many.
    pub(super) fn give_up(&self, silence: Duration) -> usize {
        let now = Instant::now();
        self.abandon(|entry| now.saturating_duration_since(entry.renewed) >= silence)
    }

    /// Ends all jobs: nothing of them may go on, and nothing more is told of them.
    pub(super) fn give_up_all(&self) -> usize {
        self.abandon(|_| true)
    }

    fn abandon(&self, is_lost: impl Fn(&Entry) -> bool) -> usize {
        let state = self.lock();
        let lost = state
            .jobs
            .values()
            .filter(|entry| !entry.lost.is_cancelled() && is_lost(entry));
        lost.map(|entry| {
            entry.lost.cancel();
            entry.stop.stop(StopCause::Shutdown, Duration::ZERO);
        })
        .count()
    }

    /// When the first lease was last renewed; none where nothing is held.
    pub(super) fn oldest(&self) -> Option<Instant> {
        let state = self.lock();
        let held = state.jobs.values().filter(|entry| !entry.lost.is_cancelled());
        held.map(|entry| entry.renewed).min()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.held.lock();
        if let Some(entry) = state.jobs.remove(&self.job) {
            state.remember(self.job, entry.attempt);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::controls;

    fn job(n: u128) -> JobId {
        JobId::from_uuid(uuid::Uuid::from_u128(n))
    }

    fn enter(held: &Held, n: u128, attempt: u32, since: Instant) -> (Option<Place>, CancellationToken) {
        let lost = CancellationToken::new();
        let place = held.enter(job(n), attempt, controls().0, lost.clone(), since);
        (place, lost)
    }

    #[test]
    fn an_attempt_is_begun_once() {
        let held = Held::new();
        let now = Instant::now();
        let (first, _) = enter(&held, 1, 1, now);
        assert!(first.is_some() && enter(&held, 1, 1, now).0.is_none());
        drop(first);
        assert!(enter(&held, 1, 1, now).0.is_none(), "begun again after its end");
        assert!(enter(&held, 1, 2, now).0.is_some(), "another attempt");
        held.leave_alone(job(2), 1);
        assert!(enter(&held, 2, 1, now).0.is_none(), "left alone");
    }

    #[test]
    fn only_what_was_not_renewed_is_given_up() {
        let held = Held::new();
        let now = Instant::now();
        let Some(past) = now.checked_sub(Duration::from_secs(60)) else {
            return;
        };
        let (_old, old) = enter(&held, 1, 1, past);
        let (_new, new) = enter(&held, 2, 1, past);
        held.renew(&[job(2)], now);
        assert_eq!(held.oldest(), Some(past));
        assert_eq!(held.give_up(Duration::from_secs(50)), 1);
        assert!(old.is_cancelled() && !new.is_cancelled());
        assert_eq!(held.give_up(Duration::from_secs(50)), 0, "given up twice");
        assert_eq!(held.oldest(), Some(now));
    }
}
