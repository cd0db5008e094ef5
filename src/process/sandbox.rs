//! What programs are kept from, and how much they may take. Nothing here restricts anything: the spawner does.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use nix::unistd::{Gid, Group, Uid, User};

use super::cgroup::Cgroup;
use super::codec::{Decoder, Encoder, Malformed};
use super::protocol::{put_text, take_text};

/// The first version of Landlock that keeps all of it from programs, signals included. Linux 6.12 brought it.
pub const LANDLOCK_COMPLETE: u32 = 6;

/// What the programs of a slot are kept from. [`Sandbox::default`] is what the kernel offers, without limits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sandbox {
    /// Whether programs are kept from anything at all; user and limits hold in any case.
    pub mode: SandboxMode,
    /// Files and folders that no program may read, absolute; they need not exist. None can lie where programs write.
    pub hidden: Vec<PathBuf>,
    /// Files and folders that every program may write, besides its own; they have to exist.
    pub writable: Vec<PathBuf>,
    /// Whom programs run as, if not as the server's own user.
    pub run_as: Option<RunAs>,
    /// Folders that `run_as` must be able to read, where they exist.
    pub needed: Vec<PathBuf>,
    /// How much each process may take, and where there is a control group, a job as a whole.
    pub limits: Limits,
    /// Below which control group each spawner gets its own.
    pub cgroup: Option<Cgroup>,
}

/// Whether programs are kept from anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SandboxMode {
    /// They may do what their user may.
    Off,
    /// They are kept from what this kernel can keep them from.
    #[default]
    Auto,
    /// As `Auto`, and a kernel that lacks a part of it is refused.
    Require,
}

/// How much one process may take, and in a control group all processes of a job together; `None` is as much as the server
/// itself may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Processor time in seconds.
    pub cpu_seconds: Option<u64>,
    /// Bytes of memory that it can write to and shares with nobody: heap, stacks of threads, copied pages. Address space
    /// that is only reserved does not count, since some runtimes reserve far more than they ever use.
    pub memory: Option<u64>,
    /// Open descriptors.
    pub open_files: Option<u64>,
    /// Processes and threads: in a control group those of the job, otherwise those that its user has over the whole machine,
    /// of which root has as many as it likes.
    pub processes: Option<u64>,
    /// Bytes of a file that it writes.
    pub file_size: Option<u64>,
    /// Processor time in a time of the clock, in thousandths of one processor. Holds in a control group only.
    pub millicpus: Option<u64>,
}

/// A user to run as, without any of the groups that it has besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunAs {
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// The user's name, or its number where it has none.
    pub name: String,
    /// The user's home.
    pub home: PathBuf,
}

impl RunAs {
    /// The user, and the group where it is not the user's own, of `USER` or `USER:GROUP`; each a name or a number.
    ///
    /// # Errors
    ///
    /// One sentence that says what is wrong with it.
    pub fn find(text: &str) -> Result<Self, String> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let unread = |error: nix::errno::Errno| format!("the machine's users cannot be read: {error}");
        let known = match user.parse() {
            Ok(number) => User::from_uid(Uid::from_raw(number)).map_err(unread)?,
            Err(_) => User::from_name(user).map_err(unread)?,
        };
        let gid = match group {
            None => None,
            Some(group) => Some(match group.parse() {
                Ok(number) => number,
                Err(_) => Group::from_name(group)
                    .map_err(unread)?
                    .map(|group| group.gid.as_raw())
                    .ok_or_else(|| format!("there is no group `{group}`"))?,
            }),
        };
        match (known, user.parse()) {
            (Some(known), _) => Ok(Self {
                uid: known.uid.as_raw(),
                gid: gid.unwrap_or_else(|| known.gid.as_raw()),
                name: known.name,
                home: known.dir,
            }),
            // A number without a name is a user too, as in most containers.
            (None, Ok(uid)) => Ok(Self {
                uid,
                gid: gid.unwrap_or_else(|| Gid::from_raw(uid).as_raw()),
                name: user.to_owned(),
                home: PathBuf::from("/"),
            }),
            (None, Err(_)) => Err(format!("there is no user `{user}`")),
        }
    }
}

impl RunAs {
    /// Whether programs that run as this user, or as this process's own, are root's.
    #[must_use]
    pub fn is_root(user: Option<&Self>) -> bool {
        user.map_or_else(|| rustix::process::geteuid().is_root(), |user| user.uid == 0)
    }
}

impl Limits {
    /// Those that a process puts on itself and hands on to its children.
    fn inherited(&self) -> [Option<u64>; 5] {
        [
            self.cpu_seconds,
            self.memory,
            self.open_files,
            self.processes,
            self.file_size,
        ]
    }
}

/// No limit reaches it; the kernel itself takes it for none.
const NO_LIMIT: u64 = u64::MAX;

impl Sandbox {
    pub(super) fn encode(&self, to: &mut Encoder) {
        to.number(match self.mode {
            SandboxMode::Off => 0,
            SandboxMode::Auto => 1,
            SandboxMode::Require => 2,
        });
        for paths in [&self.hidden, &self.writable, &self.needed] {
            put_paths(to, paths);
        }
        to.number(u64::from(self.run_as.is_some()));
        if let Some(user) = &self.run_as {
            to.number(u64::from(user.uid));
            to.number(u64::from(user.gid));
            put_text(to, OsStr::new(&user.name));
            put_text(to, user.home.as_os_str());
        }
        let mut limits = self.limits;
        if self.cgroup.is_some() {
            // There they are counted by job, which is better than by user.
            limits.processes = None;
        }
        for limit in limits.inherited() {
            to.number(limit.unwrap_or(NO_LIMIT));
        }
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let mode = match from.number()? {
            0 => SandboxMode::Off,
            1 => SandboxMode::Auto,
            2 => SandboxMode::Require,
            _ => return Err(Malformed),
        };
        let (hidden, writable, needed) = (take_paths(from)?, take_paths(from)?, take_paths(from)?);
        let run_as = match from.number()? {
            0 => None,
            _ => Some(RunAs {
                uid: from.narrow()?,
                gid: from.narrow()?,
                name: take_text(from)?.to_string_lossy().into_owned(),
                home: take_text(from)?.into(),
            }),
        };
        let mut limit = || Ok(Some(from.number()?).filter(|limit| *limit != NO_LIMIT));
        let limits = Limits {
            cpu_seconds: limit()?,
            memory: limit()?,
            open_files: limit()?,
            processes: limit()?,
            file_size: limit()?,
            // The server's business, as is the group.
            millicpus: None,
        };
        Ok(Self {
            mode,
            hidden,
            writable,
            run_as,
            needed,
            limits,
            cgroup: None,
        })
    }

    /// Words that no path can be made of, as `check` of a spec has them.
    pub(super) fn has_nul(&self) -> bool {
        let mut paths = self.hidden.iter().chain(&self.writable).chain(&self.needed);
        paths.any(|path| memchr::memchr(0, path.as_os_str().as_bytes()).is_some())
    }
}

pub(super) fn put_paths(to: &mut Encoder, paths: &[PathBuf]) {
    to.number(paths.len() as u64);
    for path in paths {
        put_text(to, path.as_os_str());
    }
}

pub(super) fn take_paths(from: &mut Decoder<'_>) -> Result<Vec<PathBuf>, Malformed> {
    let count: usize = from.narrow()?;
    (0..count).map(|_| Ok(take_text(from)?.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_arrives_as_it_was_sent() {
        let full = Sandbox {
            mode: SandboxMode::Require,
            hidden: vec!["/a".into(), "/b c".into()],
            writable: vec!["/w".into()],
            run_as: Some(RunAs {
                uid: 7,
                gid: 8,
                name: "seven".to_owned(),
                home: "/home/seven".into(),
            }),
            needed: vec!["/n".into()],
            limits: Limits {
                cpu_seconds: Some(1),
                memory: None,
                open_files: Some(3),
                processes: Some(0),
                file_size: Some(5),
                millicpus: None,
            },
            cgroup: None,
        };
        for sandbox in [full, Sandbox::default()] {
            let mut to = Encoder::new(9);
            sandbox.encode(&mut to);
            let frame = to.finish().expect("small");
            let mut from = Decoder::new(&frame[4..]);
            assert_eq!(from.number(), Ok(9));
            assert_eq!(Sandbox::decode(&mut from), Ok(sandbox));
        }
    }

    #[test]
    fn users_are_found_by_name_and_by_number() {
        let root = RunAs::find("root").expect("every system has it");
        assert_eq!((root.uid, root.gid, root.name.as_str()), (0, 0, "root"));
        assert_eq!(RunAs::find("0"), Ok(root.clone()));
        assert_eq!(RunAs::find("0:77"), Ok(RunAs { gid: 77, ..root }));
        let nameless = RunAs::find("3999999").expect("a number is enough");
        assert_eq!((nameless.uid, nameless.gid), (3_999_999, 3_999_999));
        for wrong in ["", "no-such-user", "root:no-such-group", ":", "-1"] {
            assert!(RunAs::find(wrong).is_err(), "{wrong:?}");
        }
    }
}
