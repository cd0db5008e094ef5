//! The processes of the system as `/proc` tells them, and how to kill one of them and no other.
//!
//! A process id says little: by the time a signal is sent it may belong to a stranger. So each process is known by
//! its id and its start time, and a signal goes through a descriptor whose holder was looked at once more.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// One process, when it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) parent: i32,
    pub(super) group: i32,
    pub(super) session: i32,
    pub(super) started: u64,
    /// It has ended and only waits for its parent to take note.
    pub(super) zombie: bool,
}

/// What became of an attempt to kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Killed {
    Yes,
    Gone,
    Refused,
}

impl Process {
    /// Looks at one process.
    pub(super) fn read(pid: i32) -> Option<Self> {
        let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
        Self::parse(pid, &stat)
    }

    fn parse(pid: i32, stat: &[u8]) -> Option<Self> {
        // The second field is the program's name in parentheses, and may hold anything, parentheses included.
        let after_name = memchr::memrchr(b')', stat)? + 2;
        let mut fields = std::str::from_utf8(stat.get(after_name..)?)
            .ok()?
            .split_ascii_whitespace();
        let state = fields.next()?;
        let mut number = || fields.next()?.parse::<i64>().ok();
        let parent = i32::try_from(number()?).ok()?;
        let group = i32::try_from(number()?).ok()?;
        let session = i32::try_from(number()?).ok()?;
        // Between the session, which is field 6, and the start time, which is field 22, are fifteen others.
        let started = fields.nth(15)?.parse().ok()?;
        Some(Self {
            pid,
            parent,
            group,
            session,
            started,
            zombie: matches!(state, "Z" | "X" | "x"),
        })
    }

    /// Every process that can be seen.
    pub(super) fn all() -> Vec<Self> {
        let Ok(entries) = std::fs::read_dir("/proc") else {
            return Vec::new();
        };
        entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(Self::read)
            .collect()
    }

    /// Whether this process was given the entry `NAME=VALUE` in its environment.
    pub(super) fn carries(&self, marker: &OsStr) -> bool {
        std::fs::read(format!("/proc/{}/environ", self.pid)).is_ok_and(|environ| {
            environ
                .split(|byte| *byte == 0)
                .any(|entry| entry == marker.as_bytes())
        })
    }

    /// Sends SIGKILL to this very process.
    pub(super) fn kill(&self) -> Killed {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return Killed::Gone;
        };
        let holder = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(holder) => holder,
            Err(rustix::io::Errno::SRCH) => return Killed::Gone,
            // Out of descriptors or an old kernel: better a signal by number than none.
            Err(_) => return outcome_of(rustix::process::kill_process(pid, Signal::KILL)),
        };
        match Self::read(self.pid) {
            Some(now) if now.started == self.started => outcome_of(pidfd_send_signal(holder, Signal::KILL)),
            _ => Killed::Gone,
        }
    }
}

/// The chosen ones and all that descends from them.
pub(super) fn with_descendants(all: &[Process], chosen: impl Fn(&Process) -> bool) -> Vec<Process> {
    let mut family: HashSet<i32> = all
        .iter()
        .filter(|process| chosen(process))
        .map(|p| p.pid)
        .collect();
    loop {
        let before = family.len();
        for process in all {
            if family.contains(&process.parent) {
                family.insert(process.pid);
            }
        }
        if family.len() == before {
            break;
        }
    }
    all.iter()
        .filter(|process| family.contains(&process.pid))
        .copied()
        .collect()
}

fn outcome_of(sent: rustix::io::Result<()>) -> Killed {
    match sent {
        Ok(()) => Killed::Yes,
        Err(rustix::io::Errno::SRCH) => Killed::Gone,
        Err(_) => Killed::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_misleads_nobody() {
        let stat = b"42 (a) b (c) S 7 8 9 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 777 1000 200 x";
        let process = Process::parse(42, stat).expect("a line of /proc/pid/stat");
        assert_eq!((process.parent, process.group, process.session), (7, 8, 9));
        assert_eq!((process.started, process.zombie), (777, false));
    }

    #[test]
    fn this_process_is_among_all_and_grandchildren_are_family() {
        let own = i32::try_from(std::process::id()).expect("a process id");
        assert!(Process::all().iter().any(|process| process.pid == own));
        let process = |pid, parent| Process {
            pid,
            parent,
            group: 0,
            session: 0,
            started: 0,
            zombie: false,
        };
        // The grandchild comes first in the list, as it does after the ids have wrapped around.
        let all = [process(2, 9), process(9, 5), process(5, 1), process(7, 1)];
        let family = with_descendants(&all, |process| process.pid == 5);
        assert_eq!(family.iter().map(|p| p.pid).collect::<Vec<_>>(), [2, 9, 5]);
    }
}
