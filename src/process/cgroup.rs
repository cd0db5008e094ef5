//! Control groups (version 2): limits that hold for a job as a whole, not for each of its processes.
//!
//! A group is handed over to the server, as systemd's `Delegate=` does. Below it, made when it is needed:
//!
//! ```text
//! handed over ─┬─ runql-server        whoever was in the group itself, since processes and limits cannot share one
//!              └─ runql-job-PID-N     a spawner and all that it starts; PID is the server's
//! ```
//!
//! A spawner is put into its group once, and what it starts is born there: a job costs nothing more. A group outlives
//! its spawner where nobody waited for that, and is removed before the next one is made.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::sandbox::Limits;

/// What the group of those that were in the one handed over is called.
const SERVER: &str = "runql-server";

/// What the name of a spawner's group begins with.
const JOB: &str = "runql-job-";

/// The spawner itself, and its thread that starts a program.
const OF_THE_SPAWNER: u64 = 2;

/// Over which time the processors' share is counted, in microseconds: the kernel's own default.
const PERIOD: u64 = 100_000;

/// How often those in a group are moved: some may start others meanwhile.
const MOVES: usize = 20;

/// The number of the latest group. Held while one is made, so that none is taken for left over before it has a process.
static LATEST: Mutex<u64> = Mutex::new(0);

/// A control group that was handed over to this server, which puts each spawner into a group of its own below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    dir: PathBuf,
}

impl Cgroup {
    /// Takes a group over, or where none is named the one that this process runs in, and has it hand on what these limits
    /// need.
    ///
    /// # Errors
    ///
    /// One sentence that says what is missing.
    pub fn take_over(dir: Option<&Path>, limits: &Limits) -> Result<Self, String> {
        let dir = match dir {
            Some(dir) => dir.to_owned(),
            None => own_group()?,
        };
        let file = dir.join("cgroup.controllers");
        let has = std::fs::read_to_string(&file)
            .map_err(|error| format!("{} is no control group of version 2: {error}", dir.display()))?;
        let has: Vec<&str> = has.split_ascii_whitespace().collect();
        let needed = controllers(limits);
        if let Some((controller, setting)) = needed.iter().find(|(controller, _)| !has.contains(controller)) {
            return Err(format!(
                "the control group {} has no controller `{controller}`, which {setting} needs (it has: {}); with systemd \
                 the unit needs Delegate=yes, and the machine's controllers must not be used by version 1",
                dir.display(),
                if has.is_empty() {
                    "none".to_owned()
                } else {
                    has.join(" ")
                }
            ));
        }
        hand_on(&dir, &needed)
            .map_err(|error| format!("{error}; the control group has to belong to the server's user"))?;
        Ok(Self { dir })
    }

    /// Makes a group with these limits and puts a spawner into it. It blocks.
    pub(super) fn enter(&self, spawner: u32, limits: &Limits) -> io::Result<Group> {
        let mut latest = LATEST.lock().unwrap_or_else(PoisonError::into_inner);
        self.remove_left_over();
        let path = loop {
            *latest += 1;
            let path = self.dir.join(format!("{JOB}{}-{latest}", std::process::id()));
            match std::fs::create_dir(&path) {
                Ok(()) => break path,
                // Of a server that had the same number, as in a container it may; something of it still lives.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(at(&path, &error)),
            }
        };
        let group = Group {
            ended_by_memory: Counter::open(&path.join("memory.events"), "oom_kill "),
            refused_processes: Counter::open(&path.join("pids.events"), "max "),
            path,
        };
        match group.fill(spawner, limits) {
            Ok(()) => Ok(group),
            Err(error) => {
                group.remove();
                Err(error)
            }
        }
    }

    /// Removes the groups whose spawner has ended. The kernel keeps those in which anything lives.
    fn remove_left_over(&self) {
        let Ok(entries) = std::fs::read_dir(&self.dir) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let server = name
                .to_str()
                .and_then(|name| name.strip_prefix(JOB)?.split_once('-')?.0.parse::<u32>().ok());
            // Another server may be about to put a process into its own.
            if server
                .is_some_and(|pid| pid == std::process::id() || !Path::new(&format!("/proc/{pid}")).exists())
            {
                let _ = std::fs::remove_dir(entry.path());
            }
        }
    }
}

impl fmt::Display for Cgroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.dir.display().fmt(f)
    }
}

/// A spawner's own group.
#[derive(Debug)]
pub(super) struct Group {
    path: PathBuf,
    /// Processes that the kernel ended because their memory was used up.
    pub(super) ended_by_memory: Counter,
    /// Processes and threads that would have been one too many.
    pub(super) refused_processes: Counter,
}

/// What the kernel counts of a group.
#[derive(Debug)]
pub(super) struct Counter {
    /// None where the group has no such controller.
    file: Option<File>,
    name: &'static str,
    /// What was told of it.
    known: u64,
}

impl Counter {
    fn open(file: &Path, name: &'static str) -> Self {
        Self {
            file: File::open(file).ok(),
            name,
            known: 0,
        }
    }

    /// By how much it has grown since this was asked last.
    pub(super) fn growth(&mut self) -> u64 {
        let now = self.file.as_ref().and_then(|file| {
            let mut bytes = [0; 256];
            let length = file.read_at(&mut bytes, 0).ok()?;
            let text = std::str::from_utf8(&bytes[..length]).ok()?;
            let count = text.lines().find_map(|line| line.strip_prefix(self.name))?;
            count.trim().parse().ok()
        });
        let now = now.unwrap_or(self.known);
        now.saturating_sub(std::mem::replace(&mut self.known, now))
    }
}

impl Group {
    fn fill(&self, spawner: u32, limits: &Limits) -> io::Result<()> {
        if let Some(bytes) = limits.memory {
            self.write("memory.max", &bytes.to_string())?;
            // Else a job would go on into the swap space. Where there is none, nor is the file.
            match self.write("memory.swap.max", "0") {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if let Some(count) = limits.processes {
            self.write("pids.max", &count.saturating_add(OF_THE_SPAWNER).to_string())?;
        }
        if let Some(millis) = limits.millicpus {
            self.write("cpu.max", &format!("{} {PERIOD}", millis * PERIOD / 1_000))?;
        }
        self.write("cgroup.procs", &spawner.to_string())
    }

    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        let file = self.path.join(name);
        write(&file, text).map_err(|error| at(&file, &error))
    }

    /// Kills all that is in it, where the kernel can do that at once (Linux 5.14).
    pub(super) fn kill(&self) {
        if let Err(error) = self.write("cgroup.kill", "1")
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "a job's control group cannot be ended at once");
        }
    }

    /// Removes it; where something still lives in it, that is left to the next that is made.
    pub(super) fn remove(self) {
        let _ = std::fs::remove_dir(&self.path);
    }
}

/// Which controllers the limits need, and for which setting.
fn controllers(limits: &Limits) -> Vec<(&'static str, &'static str)> {
    [
        (limits.memory.is_some(), ("memory", "--job-memory")),
        (limits.processes.is_some(), ("pids", "--job-processes")),
        (limits.millicpus.is_some(), ("cpu", "--job-cpus")),
    ]
    .into_iter()
    .filter_map(|(wanted, what)| wanted.then_some(what))
    .collect()
}

/// Has a group hand controllers on to those below it, and clears it of processes where it has to be.
fn hand_on(dir: &Path, needed: &[(&str, &str)]) -> io::Result<()> {
    let file = dir.join("cgroup.subtree_control");
    let on = std::fs::read_to_string(&file).map_err(|error| at(&file, &error))?;
    let missing: Vec<String> = needed
        .iter()
        .filter(|(controller, _)| !on.split_ascii_whitespace().any(|on| on == *controller))
        .map(|(controller, _)| format!("+{controller}"))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let text = missing.join(" ");
    let mut moves = 0;
    loop {
        match write(&file, &text) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && moves < MOVES => {
                moves += 1;
                move_down(dir)?;
            }
            result => return result.map_err(|error| at(&file, &error)),
        }
    }
}

/// Moves whoever is in a group into one below it.
fn move_down(dir: &Path) -> io::Result<()> {
    let below = dir.join(SERVER);
    match std::fs::create_dir(&below) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(at(&below, &error)),
        _ => {}
    }
    let (from, to) = (dir.join("cgroup.procs"), below.join("cgroup.procs"));
    let inside = std::fs::read_to_string(&from).map_err(|error| at(&from, &error))?;
    for pid in inside.lines() {
        match write(&to, pid) {
            // It has ended meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            result => result.map_err(|error| at(&to, &error))?,
        }
    }
    Ok(())
}

/// The folder of the group that this process runs in, or of the one that it was moved down from.
fn own_group() -> Result<PathBuf, String> {
    let read = |file: &str| std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"));
    let mounts = read("/proc/self/mountinfo")?;
    // 30 23 0:26 /root/of/it /where/it/is rw,nosuid - cgroup2 cgroup2 rw
    let (root, place) = mounts
        .lines()
        .find_map(|line| {
            let (fields, kind) = line.split_once(" - ")?;
            let mut fields = fields.split(' ').skip(3);
            kind.starts_with("cgroup2 ")
                .then_some((fields.next()?, fields.next()?))
        })
        .ok_or("no control groups of version 2 are mounted on this machine")?;
    let groups = read("/proc/self/cgroup")?;
    let own = groups
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .ok_or("this process is in no control group of version 2")?;
    let below = Path::new(own).strip_prefix(root).map_err(|_| {
        format!("the control group {own} of this process is not among those that are mounted")
    })?;
    let below = match below.file_name() {
        Some(name) if name == SERVER => below.parent().unwrap_or(below),
        _ => below,
    };
    Ok(Path::new(place).join(below))
}

fn write(file: &Path, text: &str) -> io::Result<()> {
    // Such a file is there or not; one is never made.
    std::fs::OpenOptions::new()
        .write(true)
        .open(file)
        .and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()))
}

/// The same error with the file that it is about.
fn at(file: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", file.display()))
}
