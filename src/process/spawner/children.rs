//! The spawner's children: the program, and every orphan of it.

use std::collections::HashSet;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::process::outcome::{Exit, Usage};
use crate::process::procfs::Process;
use crate::process::protocol::monotonic;

use super::system::{Waited, wait_any};

/// A process id with its start time: no other process ever has the same pair.
type Identity = (i32, u64);

/// The program's own end.
#[derive(Debug, Clone, Copy)]
pub(super) struct LeaderEnd {
    pub(super) exit: Exit,
    pub(super) usage: Usage,
    /// By the monotonic clock.
    pub(super) at: Duration,
}

/// What is known of the children.
pub(super) struct Children {
    events: BorrowedFd<'static>,
    leader: Option<i32>,
    leader_end: Option<LeaderEnd>,
    /// Those which earlier sweeps could not kill; nobody waits for them any more.
    stuck: HashSet<Identity>,
}

impl Children {
    pub(super) fn new(events: BorrowedFd<'static>) -> Self {
        Self {
            events,
            leader: None,
            leader_end: None,
            stuck: HashSet::new(),
        }
    }

    /// From now on this child's end is kept.
    pub(super) fn lead_by(&mut self, leader: i32) {
        self.leader = Some(leader);
        self.leader_end = None;
    }

    /// How the leader ended, if it has.
    pub(super) fn leader_end(&self) -> Option<LeaderEnd> {
        self.leader_end
    }

    /// Readable whenever a child may have ended.
    pub(super) fn events(&self) -> BorrowedFd<'static> {
        self.events
    }

    /// Takes note of the events, before the children are looked at.
    pub(super) fn acknowledge(&self) {
        let mut count = [0; 8];
        // Nothing to read means that there was no event, which is as good.
        let _ = rustix::io::read(self.events, &mut count);
    }

    /// Reaps all children that have ended; whether there is none left at all.
    pub(super) fn reap(&mut self) -> bool {
        loop {
            match wait_any() {
                Waited::Running => return false,
                Waited::Childless => return true,
                Waited::Reaped { pid, exit, usage } => {
                    if self.leader == Some(pid) && self.leader_end.is_none() {
                        let at = monotonic();
                        self.leader_end = Some(LeaderEnd { exit, usage, at });
                    }
                }
            }
        }
    }

    /// Waits until a child may have ended, or for the time given.
    pub(super) fn wait(&self, at_most: Duration) {
        let timeout = timespec(at_most);
        // An error is an interruption by the very signal that is waited for.
        let _ = poll(&mut [PollFd::new(&self.events, PollFlags::IN)], Some(&timeout));
        self.acknowledge();
    }

    pub(super) fn is_stuck(&self, identity: Identity) -> bool {
        self.stuck.contains(&identity)
    }

    /// Whether the children that are left are only those which cannot be killed.
    pub(super) fn all_stuck(&self, own: i32) -> bool {
        !self.stuck.is_empty()
            && Process::all()
                .iter()
                .filter(|process| process.parent == own)
                .all(|process| self.is_stuck((process.pid, process.started)))
    }

    pub(super) fn give_up_on(&mut self, survivors: HashSet<Identity>) {
        self.stuck.extend(survivors);
    }
}

/// A time for `poll`; beyond its range it is as good as endless.
pub(super) fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(time.subsec_nanos()),
    }
}
