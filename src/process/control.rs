//! The two ends by which a run is told to stop and tells that it has started.

use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{oneshot, watch};

/// A pair of ends for one run: the handle stops it, the controls go into [`Slot::run`](super::Slot::run).
#[must_use]
pub fn controls() -> (StopHandle, Controls) {
    let (sender, receiver) = watch::channel(None);
    let (hold, held) = watch::channel(None);
    let controls = Controls {
        stop: receiver,
        hold: held,
        on_start: None,
    };
    (StopHandle { sender, hold }, controls)
}

/// Why a program is told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopCause {
    /// It ran longer than it was allowed to.
    Timeout,
    /// Somebody asked for its end.
    Cancelled,
    /// The server is going down.
    Shutdown,
}

/// A standing request to stop: the first cause, and the earliest moment at which SIGKILL follows SIGTERM.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stop {
    pub(super) cause: StopCause,
    pub(super) kill_at: Instant,
}

impl Stop {
    pub(super) fn new(cause: StopCause, grace: Duration) -> Self {
        let now = Instant::now();
        // A grace beyond the clock's range is as good as a year.
        let kill_at = now
            .checked_add(grace)
            .unwrap_or_else(|| now + Duration::from_secs(31_536_000));
        Self { cause, kill_at }
    }
}

/// What a handle asks for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Order {
    Stop(Stop),
    /// The program may run until then.
    Hold(Instant),
}

/// Stops a run, before or while it runs; after its end this does nothing.
#[derive(Debug, Clone)]
pub struct StopHandle {
    sender: watch::Sender<Option<Stop>>,
    hold: watch::Sender<Option<Instant>>,
}

impl StopHandle {
    /// Asks for the end: SIGTERM now, SIGKILL after the grace, SIGKILL at once where the grace is zero.
    ///
    /// The first cause stays. Asking again can only bring the SIGKILL forward.
    pub fn stop(&self, cause: StopCause, grace: Duration) {
        let asked = Stop::new(cause, grace);
        self.sender.send_if_modified(|standing| match standing {
            None => {
                *standing = Some(asked);
                true
            }
            Some(first) if asked.kill_at < first.kill_at => {
                first.kill_at = asked.kill_at;
                true
            }
            Some(_) => false,
        });
    }

    /// Lets the program run until then, and no longer unless this is called again: the spawner kills it at that moment
    /// even where this process is frozen. A program that has not started by then is never started. Where this is never
    /// called, a program may run for ever.
    pub fn hold(&self, until: Instant) {
        self.hold.send_replace(Some(until));
    }

    /// The cause of the first stop that was asked for.
    #[must_use]
    pub fn requested(&self) -> Option<StopCause> {
        self.sender.borrow().map(|stop| stop.cause)
    }
}

/// What a run listens to and reports to.
#[derive(Debug)]
pub struct Controls {
    stop: watch::Receiver<Option<Stop>>,
    hold: watch::Receiver<Option<Instant>>,
    on_start: Option<oneshot::Sender<Started>>,
}

impl Controls {
    /// Tells `listener` when the program has started. It is dropped untold if that never happens.
    #[must_use]
    pub fn on_start(mut self, listener: oneshot::Sender<Started>) -> Self {
        self.on_start = Some(listener);
        self
    }

    /// The cause of the first stop that was asked for.
    #[must_use]
    pub fn requested(&self) -> Option<StopCause> {
        self.stop.borrow().map(|stop| stop.cause)
    }

    pub(super) fn tell_started(&mut self, started: Started) {
        if let Some(listener) = self.on_start.take() {
            // A listener that has gone away no longer wants to know.
            let _ = listener.send(started);
        }
    }

    /// Until when the program may run, where that is bounded.
    pub(super) fn held_until(&mut self) -> Option<Instant> {
        *self.hold.borrow_and_update()
    }

    /// What is asked for next: a stop, a sooner one, or to run on. Never returns once all handles are gone.
    pub(super) async fn next(&mut self) -> Order {
        loop {
            tokio::select! {
                Ok(()) = self.stop.changed() => {
                    if let Some(stop) = *self.stop.borrow_and_update() {
                        return Order::Stop(stop);
                    }
                }
                Ok(()) = self.hold.changed() => {
                    if let Some(until) = self.held_until() {
                        return Order::Hold(until);
                    }
                }
                else => std::future::pending().await,
            }
        }
    }
}

/// A program has started.
#[derive(Debug, Clone, Copy)]
pub struct Started {
    /// Its process id, and that of its process group.
    pub pid: u32,
    /// When.
    pub at: Instant,
    /// The same by the calendar.
    pub wall: SystemTime,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_cause_stays_and_the_grace_only_shrinks() {
        let (handle, controls) = controls();
        assert_eq!(handle.requested(), None);
        handle.stop(StopCause::Cancelled, Duration::from_secs(60));
        let first = controls.stop.borrow().expect("asked").kill_at;
        handle.stop(StopCause::Shutdown, Duration::from_secs(3_600));
        assert_eq!(controls.stop.borrow().expect("asked").kill_at, first);
        handle.stop(StopCause::Shutdown, Duration::ZERO);
        assert!(controls.stop.borrow().expect("asked").kill_at < first);
        assert_eq!(handle.requested(), Some(StopCause::Cancelled));
    }

    #[test]
    fn an_endless_grace_is_no_overflow() {
        controls().0.stop(StopCause::Cancelled, Duration::MAX);
    }
}
