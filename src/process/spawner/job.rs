//! One program under the spawner, from its start to the last of its descendants.
//!
//! ```text
//! Running ──stop──▶ Stopping(kill at) ──grace over──▶ KILL the group
//!    │ ended              │ ended                          │
//!    └──▶ Leaving(until) ◀┘                                ▼
//!             │ nothing left, or time over ─────────▶ sweep ──▶ report, or Stuck until the program's end
//! ```

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};

use crate::process::protocol::{EndReport, NOTICE, Start, StartReport, monotonic};

use super::children::Children;
use super::sweep::{Swept, sweep};

/// What the spawner knows of the program that it runs.
pub(super) struct Job {
    request: Box<Start>,
    leader: Pid,
    start: StartReport,
    announced: bool,
    stopped: bool,
    /// When it is killed, unless the server moves that.
    held_until: Option<Duration>,
    phase: Phase,
}

/// Times are of the monotonic clock.
enum Phase {
    Running,
    Stopping {
        kill_at: Duration,
    },
    Leaving {
        until: Duration,
    },
    /// Not even SIGKILL ended the program: it hangs in the kernel, and there is nothing to do but wait.
    Stuck,
}

impl Job {
    pub(super) fn new(request: Box<Start>, leader: Pid, at: Duration) -> Self {
        let start = StartReport {
            run: request.run,
            pid: leader.as_raw_nonzero().get().unsigned_abs(),
            at,
        };
        let held_until = Some(request.held_until).filter(|until| !until.is_zero());
        Self {
            held_until,
            request,
            leader,
            start,
            announced: false,
            stopped: false,
            phase: Phase::Running,
        }
    }

    pub(super) fn run(&self) -> u64 {
        self.request.run
    }

    pub(super) fn marker(&self) -> Option<&std::ffi::OsStr> {
        self.request.marker.as_deref()
    }

    /// Lets the program run until then.
    pub(super) fn hold(&mut self, until: Duration) {
        self.held_until = Some(until);
    }

    /// Asks the program to end, or brings its killing forward.
    pub(super) fn stop(&mut self, grace: Duration, children: &mut Children) {
        let asked = monotonic().saturating_add(grace);
        // A program that ended by itself just before was not stopped.
        children.reap();
        match &mut self.phase {
            Phase::Running if children.leader_end().is_some() => {
                self.phase = Phase::Leaving {
                    until: Duration::ZERO,
                };
            }
            Phase::Running => {
                self.stopped = true;
                self.phase = Phase::Stopping { kill_at: asked };
                if !grace.is_zero() {
                    self.signal_group(Signal::TERM);
                    // A program that was stopped could not act on it.
                    self.signal_group(Signal::CONT);
                }
            }
            Phase::Stopping { kill_at } => *kill_at = asked.min(*kill_at),
            Phase::Leaving { until } if self.stopped => *until = asked.min(*until),
            // The program has ended by itself; what it left behind has had its chance.
            Phase::Leaving { until } => *until = Duration::ZERO,
            Phase::Stuck => {}
        }
    }

    /// When something is to be done even if nothing happens.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let news = (!self.announced).then_some(self.start.at.saturating_add(NOTICE));
        let held = self.held_until.filter(|_| self.is_held());
        [news, self.phase_end(), held].into_iter().flatten().min()
    }

    /// The news of the start, once it is time for it.
    pub(super) fn announcement(&mut self) -> Option<StartReport> {
        if self.announced || monotonic() < self.start.at.saturating_add(NOTICE) {
            return None;
        }
        self.announced = true;
        Some(self.start)
    }

    /// Whether the end of the time for which it is held still means something.
    fn is_held(&self) -> bool {
        !matches!(self.phase, Phase::Stuck)
    }

    fn phase_end(&self) -> Option<Duration> {
        match self.phase {
            Phase::Running | Phase::Stuck => None,
            Phase::Stopping { kill_at: at } | Phase::Leaving { until: at } => Some(at),
        }
    }

    /// Looks at the children and the clock; the report once nothing is left.
    pub(super) fn advance(&mut self, children: &mut Children) -> Option<EndReport> {
        if self.is_held() && self.held_until.is_some_and(|until| monotonic() >= until) {
            // The server did not say in time that it still holds the job: it may run elsewhere by now.
            self.held_until = None;
            self.stop(Duration::ZERO, children);
        }
        let childless = children.reap();
        if let Some(end) = children.leader_end() {
            if childless {
                return self.report(children, Swept::default());
            }
            let leak_end = end.at.saturating_add(self.request.leak_grace);
            match &mut self.phase {
                Phase::Running => self.phase = Phase::Leaving { until: leak_end },
                Phase::Stopping { kill_at } => self.phase = Phase::Leaving { until: *kill_at },
                Phase::Leaving { .. } => {}
                Phase::Stuck => return self.report(children, Swept::default()),
            }
            if let Phase::Leaving { until } = &mut self.phase
                && test_kill_process_group(self.leader).is_err()
            {
                // All that was asked to end is gone; what is left was not asked, so it has no claim to the grace.
                *until = leak_end.min(*until);
            }
        }
        let due = self.phase_end().is_some_and(|at| monotonic() >= at);
        match self.phase {
            Phase::Stopping { .. } if due => {
                // The leader is not reaped yet, so its group's number cannot have passed to another.
                self.signal_group(Signal::KILL);
                let leader = self.leader.as_raw_nonzero().get();
                let swept = sweep(children, self.marker(), Some(leader));
                self.phase = Phase::Stuck;
                self.report(children, swept)
            }
            Phase::Leaving { .. } if due => {
                let swept = sweep(children, self.marker(), None);
                self.report(children, swept)
            }
            _ => None,
        }
    }

    fn report(&self, children: &Children, swept: Swept) -> Option<EndReport> {
        let end = children.leader_end()?;
        Some(EndReport {
            start: self.start,
            exit: end.exit,
            duration: end.at.saturating_sub(self.start.at),
            stopped: self.stopped,
            leaked: swept.killed,
            unkillable: swept.survivors,
            usage: end.usage,
        })
    }

    fn signal_group(&self, signal: Signal) {
        // The group may have no member that can be signalled; the sweep finds out what is left.
        let _ = kill_process_group(self.leader, signal);
    }
}
