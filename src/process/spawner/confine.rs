//! What the spawner does so that programs are kept from what they must not reach.
//!
//! ```text
//! once, on itself        limits, no new privileges, fewer capabilities: every program inherits them and it costs nothing
//! for each program       a thread that becomes the user, enters a Landlock domain and starts the program from there; kept
//!                        for the next one that may write the same
//! ```
//!
//! User and domain belong to a thread, not to a process, and a program has those of the thread that starts it. So the
//! spawner itself stays outside, free to kill what it has to, while nothing is forked and `posix_spawn` stays as fast
//! as it is. Each program that runs has a domain of its own: it can neither signal nor trace its spawner, nor another job.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, BitFlags, LandlockStatus, PathBeneath, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, Scope,
};
use rustix::fs::{Access as Reach, CWD, Mode, OFlags, ResolveFlags, access, open, openat2};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, Gid, Uid};

use super::visible::{Visible, real};
use super::walled::Walled;
use crate::process::sandbox::{LANDLOCK_COMPLETE, Limits, RunAs, Sandbox, SandboxMode};

/// What this code was tried with. Later versions restrict more, which is not to begin by itself.
const KNOWN: ABI = ABI::V7;

/// Devices that hold nothing. Their questions (is this a terminal?) are allowed too.
const WRITABLE_DEVICES: [&str; 3] = ["/dev/null", "/dev/zero", "/dev/full"];
const READABLE_DEVICES: [&str; 2] = ["/dev/random", "/dev/urandom"];

/// What root's programs may do as root, which is what containers leave to it too, without making devices. Anything else
/// would open a way around the domain: into the kernel, into the memory of others, onto the disk.
const LEFT_TO_ROOT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

/// Where memory runs out, the kernel is to end programs before it ends the server.
const EXPENDABLE: i32 = 500;

/// What programs are kept from, ready to be applied.
pub(super) struct Confinement {
    pub(super) limits: Limits,
    pub(super) run_as: Option<RunAs>,
    /// The version of Landlock that is in force; 0 is none.
    pub(super) landlock: u32,
    pub(super) expendable: Expendable,
    visible: Visible,
    /// Places that all programs may write.
    writable: Vec<OwnedFd>,
    devices: Devices,
    /// The domain of the next program, but for its own places; as long as what is visible stays as it was.
    next: Option<RulesetCreated>,
    /// Where the latest program was started from.
    kept: Option<Walled>,
}

struct Devices {
    writable: Vec<OwnedFd>,
    readable: Vec<OwnedFd>,
    root: OwnedFd,
}

/// What the thread that starts a program is to apply to itself.
pub(super) struct Walls {
    domain: Option<RulesetCreated>,
    run_as: Option<RunAs>,
}

impl Confinement {
    /// Restricts this process as far as that holds for every program, and tries the rest.
    pub(super) fn settle(sandbox: &Sandbox, expendable: Expendable) -> io::Result<Self> {
        lower_limits(&sandbox.limits)?;
        let visible = Visible::all_but(&sandbox.hidden);
        let mut confinement = Self {
            limits: sandbox.limits,
            run_as: sandbox.run_as.clone(),
            landlock: 0,
            expendable,
            writable: Vec::new(),
            devices: Devices::open()?,
            visible,
            next: None,
            kept: None,
        };
        if sandbox.mode != SandboxMode::Off {
            // Until the trial has said otherwise.
            confinement.landlock = KNOWN as u32;
            rustix::thread::set_no_new_privs(true)?;
            drop_capabilities()?;
        }
        for path in &sandbox.writable {
            confinement.writable.push(confinement.open_extra(path)?);
        }
        confinement.landlock = confinement.trial(sandbox)?;
        if sandbox.mode == SandboxMode::Require && confinement.landlock < LANDLOCK_COMPLETE {
            return Err(io::Error::other(format!(
                "this kernel keeps programs apart by Landlock version {} (0 is none), and --sandbox require wants \
                 version {LANDLOCK_COMPLETE}, which Linux 6.12 has",
                confinement.landlock
            )));
        }
        Ok(confinement)
    }

    /// Whether programs can be started as they are.
    pub(super) fn is_open(&self) -> bool {
        self.landlock == 0 && self.run_as.is_none()
    }

    /// Starts a program that may write its own places, folders by their real paths: from where the latest one was started
    /// if that had the same.
    ///
    /// # Errors
    ///
    /// The outer one where the walls could not be put around it, the inner one where it could not be started.
    pub(super) fn start(
        &mut self,
        own: &[OwnedFd],
        start: impl FnOnce() -> io::Result<u32> + Send + 'static,
    ) -> io::Result<io::Result<u32>> {
        let changed = self.landlock != 0 && self.visible.refresh();
        let kept = self.kept.take().filter(|kept| !changed && kept.is_of(own));
        let thread = match kept {
            Some(kept) => kept,
            None => {
                let held = own.iter().map(OwnedFd::try_clone).collect::<io::Result<_>>()?;
                Walled::new(self.walls(own, changed)?, held)?
            }
        };
        let started = self.expendable.born(|| thread.start(start))?;
        self.kept = Some(thread);
        Ok(started)
    }

    /// Starts no other program from where the latest was started, since not all of that one is gone.
    pub(super) fn forget_thread(&mut self) {
        self.kept = None;
    }

    /// The walls for programs with these places of their own; `changed` where other places are visible than before.
    fn walls(&mut self, own: &[OwnedFd], changed: bool) -> io::Result<Walls> {
        let domain = if self.landlock == 0 {
            None
        } else {
            let ready = self.next.take().filter(|_| !changed);
            let domain = ready.map_or_else(|| self.domain(), Ok);
            let domain = domain.and_then(|domain| domain_with(domain, own));
            Some(domain.map_err(io::Error::other)?)
        };
        Ok(Walls {
            domain,
            run_as: self.run_as.clone(),
        })
    }

    /// Prepares what the next program will need, while nobody waits for it.
    pub(super) fn make_ready(&mut self) {
        if self.landlock != 0 && self.next.is_none() {
            // What is wrong is told when a program is to be started.
            self.next = self.domain().ok();
        }
    }

    /// Opens a folder of a program's own. Its path is a real one, so a link on it was put there since.
    pub(super) fn open_own(&self, path: &Path) -> io::Result<OwnedFd> {
        if let Some(hidden) = self.visible.hides_below(path) {
            return Err(lies_within(hidden, path));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(openat2(
            CWD,
            path,
            flags,
            Mode::empty(),
            ResolveFlags::NO_SYMLINKS,
        )?)
    }

    fn open_extra(&self, path: &Path) -> io::Result<OwnedFd> {
        if let Some(hidden) = self.visible.hides_below(&real(path)) {
            return Err(lies_within(hidden, path));
        }
        open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(|error| {
            let what = format!("{}, which jobs are to write: {error}", path.display());
            io::Error::new(io::Error::from(error).kind(), what)
        })
    }

    /// What every program is allowed.
    fn domain(&self) -> Result<RulesetCreated, RulesetError> {
        let all = AccessFs::from_all(KNOWN);
        let read = AccessFs::from_read(KNOWN);
        let ask = AccessFs::ReadFile | AccessFs::IoctlDev;
        let mut domain = Ruleset::default()
            .handle_access(all)?
            .scope(Scope::from_all(KNOWN))?
            .create()?
            // This process has no way to new privileges already.
            .no_new_privs(false)
            .add_rule(PathBeneath::new(&self.devices.root, AccessFs::ReadDir))?;
        self.visible.each(|place| allow(&mut domain, place, read))?;
        for device in &self.devices.readable {
            allow(&mut domain, device.as_fd(), ask)?;
        }
        for device in &self.devices.writable {
            let write = AccessFs::WriteFile | AccessFs::Truncate;
            allow(&mut domain, device.as_fd(), ask | write)?;
        }
        domain_with(domain, &self.writable)
    }

    /// Tries on a thread what every program will be under; the version of Landlock that then is in force.
    fn trial(&mut self, sandbox: &Sandbox) -> io::Result<u32> {
        if self.is_open() {
            return Ok(0);
        }
        let changed = self.visible.refresh();
        let thread = Walled::new(self.walls(&[], changed)?, Vec::new())?;
        if let Some(user) = &sandbox.run_as {
            let (name, needed) = (user.name.clone(), sandbox.needed.clone());
            thread.start(move || can_read(&name, &needed).map(|()| 0))??;
        }
        Ok(thread.landlock())
    }
}

/// Whether this thread's user can read the folders that programs need.
fn can_read(name: &str, needed: &[PathBuf]) -> io::Result<()> {
    for folder in needed.iter().filter(|folder| exists(folder)) {
        if let Err(error) = access(folder, Reach::READ_OK | Reach::EXEC_OK) {
            let folder = folder.display();
            let what = format!("jobs are to run as {name}, who cannot read the folder {folder}: {error}");
            return Err(io::Error::other(what));
        }
    }
    Ok(())
}

impl Walls {
    /// Puts them around this thread, for good; the version of Landlock in force.
    pub(super) fn apply(self) -> io::Result<u32> {
        if let Some(user) = &self.run_as {
            become_user(user).map_err(|error| {
                let what = format!(
                    "programs cannot run as {} ({}:{}): {error}; only root can do that, or one who has the capabilities \
                     SETUID, SETGID, CHOWN and KILL",
                    user.name, user.uid, user.gid
                );
                io::Error::other(what)
            })?;
        }
        let Some(domain) = self.domain else {
            return Ok(0);
        };
        let status = domain.restrict_self().map_err(io::Error::other)?;
        Ok(match status.landlock {
            LandlockStatus::Available { effective_abi, .. } => (effective_abi as u32).min(KNOWN as u32),
            _ => 0,
        })
    }
}

impl Devices {
    fn open() -> io::Result<Self> {
        let opened = |paths: &[&str]| {
            // A container may lack some.
            let places = paths
                .iter()
                .map(|path| open(*path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()));
            places.flatten().collect()
        };
        Ok(Self {
            writable: opened(&WRITABLE_DEVICES),
            readable: opened(&READABLE_DEVICES),
            root: open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?,
        })
    }
}

/// A domain with places that may be written, too.
fn domain_with(mut domain: RulesetCreated, places: &[OwnedFd]) -> Result<RulesetCreated, RulesetError> {
    // A device that is made anew is as good as the one that is hidden.
    let write = AccessFs::from_all(KNOWN) & !(AccessFs::MakeChar | AccessFs::MakeBlock);
    for place in places {
        allow(&mut domain, place.as_fd(), write)?;
    }
    Ok(domain)
}

fn allow(
    domain: &mut RulesetCreated,
    place: BorrowedFd<'_>,
    access: BitFlags<AccessFs>,
) -> Result<(), RulesetError> {
    domain.add_rule(PathBeneath::new(place, access)).map(|_| ())
}

/// Makes this thread, and no other, the user's: in no group but the one named, and without capabilities.
fn become_user(user: &RunAs) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    if user.uid != 0 {
        let none = CapabilitySet::empty();
        let none = CapabilitySets {
            effective: none,
            permitted: none,
            inheritable: none,
        };
        rustix::thread::set_capabilities(None, none)?;
    }
    Ok(())
}

/// Takes from programs, at their start, what root has beyond [`LEFT_TO_ROOT`]. The spawner keeps what it has.
fn drop_capabilities() -> io::Result<()> {
    if !rustix::thread::capabilities(None)?
        .effective
        .contains(CapabilitySet::SETPCAP)
    {
        // No program can get any where there are no new privileges.
        return Ok(());
    }
    for capability in CapabilitySet::all().iter() {
        if !LEFT_TO_ROOT.contains(capability)
            && rustix::thread::capability_is_in_bounding_set(capability).unwrap_or(false)
        {
            rustix::thread::remove_capability_from_bounding_set(capability)?;
        }
    }
    Ok(())
}

/// Lowers what this process, and so every program, may take. Processor time is counted from a process's start and the
/// spawner lives long, so that limit is put on each program instead.
fn lower_limits(limits: &Limits) -> io::Result<()> {
    lower(Resource::Core, Some(0))?;
    lower(Resource::Data, limits.memory)?;
    lower(Resource::Nofile, limits.open_files)?;
    lower(Resource::Nproc, limits.processes)?;
    lower(Resource::Fsize, limits.file_size)
}

fn lower(resource: Resource, limit: Option<u64>) -> io::Result<()> {
    let Some(limit) = limit else {
        return Ok(());
    };
    let now = getrlimit(resource);
    let maximum = now.maximum.map_or(limit, |maximum| maximum.min(limit));
    let current = now.current.map_or(maximum, |current| current.min(maximum));
    let new = Rlimit {
        current: Some(current),
        maximum: Some(maximum),
    };
    Ok(setrlimit(resource, new)?)
}

/// Whom the kernel is to end first where memory runs out: programs, before their spawner and the server.
pub(super) struct Expendable {
    /// None where it cannot be said, and the kernel chooses by size alone; or where this process is expendable already.
    file: Option<(File, i32)>,
}

impl Expendable {
    /// To be had before this process hides its memory, since its files are root's from then on.
    pub(super) fn open() -> Self {
        let open = || {
            let mut file = File::options()
                .read(true)
                .write(true)
                .open("/proc/self/oom_score_adj")?;
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            let own = text.trim().parse().map_err(io::Error::other)?;
            io::Result::Ok((file, own))
        };
        Self {
            file: open().ok().filter(|(_, own)| *own < EXPENDABLE),
        }
    }

    /// Does something that starts a program, which is born expendable.
    pub(super) fn born<T>(&self, spawn: impl FnOnce() -> T) -> T {
        let Some((file, own)) = &self.file else {
            return spawn();
        };
        // Refused it changes nothing but whom the kernel chooses.
        let _ = file.write_all_at(EXPENDABLE.to_string().as_bytes(), 0);
        let spawned = spawn();
        let _ = file.write_all_at(own.to_string().as_bytes(), 0);
        spawned
    }
}

fn exists(path: &Path) -> bool {
    // One that may not even be looked at does exist, as far as anybody knows.
    !matches!(path.symlink_metadata(), Err(error) if error.kind() == io::ErrorKind::NotFound)
}

fn lies_within(hidden: &Path, place: &Path) -> io::Error {
    io::Error::other(format!(
        "jobs cannot write {}: the server's own file {} lies there",
        place.display(),
        hidden.display()
    ))
}
