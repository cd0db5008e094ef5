//! What the machine says of processes: their memory, their children, and who lives.

use std::ffi::OsStr;

use super::app::TestApp;

/// What a process uses of memory, in KiB: now, and at most since it was last asked to forget.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) now: u64,
    /// Of it, what is the process's own: without the files that it runs from or reads.
    pub(crate) anon: u64,
    pub(crate) peak: u64,
}

impl Memory {
    /// Of the server itself.
    pub(crate) fn of(app: &TestApp) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{}/status", app.pid())).unwrap();
        let field = |name: &str| -> u64 {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        Self {
            now: field("VmRSS:"),
            anon: field("RssAnon:"),
            peak: field("VmHWM:"),
        }
    }

    /// Makes the peak what is used now.
    pub(crate) fn forget_peak(app: &TestApp) -> Self {
        std::fs::write(format!("/proc/{}/clear_refs", app.pid()), "5").unwrap();
        Self::of(app)
    }
}

/// What a process has of memory that is its own, in KiB: pages of its program are shared by the server and all
/// spawners, and are many where it was built for debugging. Nothing where it has ended.
pub(crate) fn private(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let fields = status
        .lines()
        .filter(|line| line.starts_with("RssAnon:") || line.starts_with("RssShmem:"));
    fields
        .map(|line| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap())
        .sum()
}

/// The spawners that the server has at this moment.
pub(crate) fn spawners(app: &TestApp) -> Vec<u32> {
    let mut found = children(app.pid());
    found.retain(|pid| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        command.starts_with(b"runql-spawner")
    });
    found
}

/// The processes whose parent this is.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let wanted = parent.to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let stat = std::fs::read(entry.path().join("stat")).unwrap_or_default();
        let stat = String::from_utf8_lossy(&stat).into_owned();
        let parent = stat
            .rsplit(')')
            .next()
            .and_then(|rest| rest.split_whitespace().nth(1));
        if parent == Some(wanted.as_str()) {
            found.push(pid);
        }
    }
    found
}

/// Whether a process is stopped, as by SIGSTOP.
pub(crate) fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| rest.trim().starts_with('T'))
}

/// Sends a signal to a process, by its name.
pub(crate) fn signal(pid: u32, name: &str) {
    let sent = std::process::Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .status();
    assert!(sent.unwrap().success());
}

/// The living processes that carry a mark in their environment or arguments, with their command lines. A zombie is
/// gone: it only waits to be counted.
pub(crate) fn living_with(mark: &OsStr) -> Vec<(u32, String)> {
    let mark = mark.as_encoded_bytes();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        if pid == std::process::id() {
            continue;
        }
        let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
        let zombie = String::from_utf8_lossy(&read("stat"))
            .rsplit(')')
            .next()
            .is_some_and(|rest| rest.trim().starts_with('Z'));
        let marked = [read("environ"), read("cmdline")]
            .iter()
            .any(|text| memchr::memmem::find(text, mark).is_some());
        if marked && !zombie {
            let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
            found.push((pid, command));
        }
    }
    found
}
