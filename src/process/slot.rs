//! A place where one program runs at a time: the spawner's process and the server's end of its socket.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::cgroup::{Cgroup, Group};
use super::codec::Frames;
use super::open_files::restore_open_files;
use super::output::READ_SIZE;
use super::protocol::{MOST_FDS, Report, SPAWNER_ARGUMENT, VERSION, encode_settle};
use super::sandbox::{Limits, Sandbox};

/// How long a new spawner may take to answer, on a machine that is busy.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long a spawner may take to kill everything and end once its socket is closed: its sweep, and some slack.
const CLOSING: Duration = Duration::from_secs(8);

/// The executable of this very process, which stays the same file even if another was put in its place.
pub fn own_executable() -> io::Result<PathBuf> {
    let path = PathBuf::from("/proc/self/exe");
    std::fs::metadata(&path)?;
    Ok(path)
}

/// A place where one program runs at a time, with a spawner of its own.
///
/// Dropping it closes the spawner's socket, and the spawner then kills everything below it and ends.
#[derive(Debug)]
pub struct Slot {
    pub(super) link: Link,
    /// Reaped only on closing: until then the process id cannot pass to another process.
    pub(super) spawner: Child,
    pub(super) pid: u32,
    /// The number of the latest run.
    pub(super) runs: u64,
    pub(super) scratch: Box<[u8]>,
    pub(super) limits: Limits,
    /// Its own control group, where it has one.
    pub(super) group: Option<Group>,
    landlock: u32,
}

impl Slot {
    /// Starts a spawner from an executable whose `main` calls
    /// [`run_spawner_if_asked`](super::run_spawner_if_asked) first, usually [`own_executable`].
    ///
    /// What it runs is kept from what `sandbox` says.
    ///
    /// Needs a tokio runtime with its I/O and time drivers.
    ///
    /// # Errors
    ///
    /// Where there is no such executable or it is no spawner, and where the sandbox or its control group cannot be had.
    pub async fn start(executable: &Path, sandbox: &Sandbox) -> io::Result<Self> {
        let settle = encode_settle(sandbox)
            .filter(|_| !sandbox.has_nul())
            .ok_or_else(|| io::Error::other("the sandbox names a path that is none, or too many"))?;
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let link = Link::new(UnixStream::from_std(ours)?);
        let spawner = Command::new(executable)
            .arg0("runql-spawner")
            .arg(SPAWNER_ARGUMENT)
            // Programs can read their parent's environment, so the server's secrets must not be there.
            .env_clear()
            .envs(std::env::var_os("LD_LIBRARY_PATH").map(|path| ("LD_LIBRARY_PATH", path)))
            // What the server's allocator sets aside ahead would count against the limit on a program's memory, which a
            // spawner puts on itself.
            .env("MIMALLOC_ARENA_EAGER_COMMIT", "0")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(|error| {
                let what = format!(
                    "the spawner {} could not be started: {error}",
                    executable.display()
                );
                io::Error::new(error.kind(), what)
            })?;
        let pid = spawner
            .id()
            .ok_or_else(|| io::Error::other("the spawner has no process id"))?;
        let mut slot = Self {
            link,
            spawner,
            pid,
            runs: 0,
            scratch: vec![0; READ_SIZE].into_boxed_slice(),
            limits: sandbox.limits,
            group: None,
            landlock: 0,
        };
        if let Some(cgroup) = &sandbox.cgroup {
            // It waits to be settled, so whatever it starts is born there.
            match entered(cgroup, pid, sandbox.limits).await {
                Ok(group) => slot.group = Some(group),
                Err(error) => {
                    let _ = slot.spawner.kill().await;
                    let what = format!(
                        "the spawner could not be put into a control group, which has to belong to the server's user: {error}"
                    );
                    return Err(io::Error::new(error.kind(), what));
                }
            }
        }
        let greeting = async {
            // It waits to be settled, and so starts nothing before this.
            if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
                restore_open_files(pid)?;
            }
            slot.link.send(&settle, &[]).await?;
            slot.link.receive().await
        };
        match tokio::time::timeout(HANDSHAKE, greeting).await {
            Ok(Ok(Report::Hello {
                version: VERSION,
                landlock,
            })) => {
                slot.landlock = landlock;
                Ok(slot)
            }
            refused => {
                // What was started instead may be anything, so it is not left running.
                let _ = slot.spawner.kill().await;
                slot.leave_group();
                Err(not_a_spawner(executable, &refused))
            }
        }
    }

    /// The spawner's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The version of Landlock that programs are under, as far as this code knows it; 0 is none.
    #[must_use]
    pub fn landlock(&self) -> u32 {
        self.landlock
    }

    /// Whether a program can be run here; a slot that is not alive is replaced by its owner.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        self.link.open
            && Pid::from_raw(self.pid.cast_signed())
                .is_some_and(|pid| matches!(waitid(WaitId::Pid(pid), options), Ok(None)))
    }

    /// Tells the spawner that nobody wants anything from it any more.
    pub(super) fn shut(&mut self) {
        self.link.shut();
        // A program may have paused its spawner, which would then not notice. The process id is its own until it is
        // reaped, which takes the child's handle away.
        if let Some(pid) = self.spawner.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
            let _ = kill_process(pid, Signal::CONT);
        }
    }

    /// Closes the slot and waits until its spawner is gone, with everything below it.
    pub async fn close(mut self) {
        self.shut();
        if tokio::time::timeout(CLOSING, self.spawner.wait()).await.is_err() {
            tracing::warn!(pid = self.pid, "a spawner did not end by itself and is killed");
            let _ = self.spawner.kill().await;
        }
        self.leave_group();
    }

    /// Removes the control group, once the spawner is gone.
    fn leave_group(&mut self) {
        if let Some(group) = self.group.take() {
            group.remove();
        }
    }
}

/// Puts a spawner into a group of its own. The kernel may take its time for that.
async fn entered(cgroup: &Cgroup, spawner: u32, limits: Limits) -> io::Result<Group> {
    let cgroup = cgroup.clone();
    tokio::task::spawn_blocking(move || cgroup.enter(spawner, &limits))
        .await
        .map_err(io::Error::other)?
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.shut();
    }
}

fn not_a_spawner<E>(executable: &Path, answer: &Result<io::Result<Report>, E>) -> io::Error {
    let why = match answer {
        Ok(Ok(Report::Failed { error, .. })) => {
            return io::Error::other(format!("the spawner cannot work here: {error}"));
        }
        Ok(Ok(Report::Hello { version, .. })) => format!("it speaks version {version} instead of {VERSION}"),
        Ok(Ok(_)) => "it answered out of turn".to_owned(),
        Ok(Err(error)) => format!("it closed the socket ({error})"),
        Err(_) => format!("it gave no answer within {HANDSHAKE:?}"),
    };
    io::Error::other(format!(
        "{} did not answer as a spawner: {why}; its main function has to call \
         runql::process::run_spawner_if_asked() before anything else",
        executable.display()
    ))
}

/// The server's end of the socket.
#[derive(Debug)]
pub(super) struct Link {
    socket: UnixStream,
    frames: Frames,
    /// False once the spawner is told to end, or has.
    open: bool,
}

impl Link {
    fn new(socket: UnixStream) -> Self {
        Self {
            socket,
            frames: Frames::default(),
            open: true,
        }
    }

    fn shut(&mut self) {
        self.open = false;
        // A socket whose other end is gone is as shut as can be.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
    }

    /// The next report. Nothing is lost if it is cancelled.
    pub(super) async fn receive(&mut self) -> io::Result<Report> {
        loop {
            if let Some(body) = self.frames.next()? {
                return Ok(Report::decode(body)?);
            }
            self.socket.readable().await?;
            let mut buffer = [0; 1024];
            match self.socket.try_read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.frames.push(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends a frame, with descriptors on its first byte.
    pub(super) async fn send(&mut self, frame: &[u8], fds: &[OwnedFd]) -> io::Result<()> {
        let mut rest = frame;
        let mut fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        while !rest.is_empty() {
            let sent = self
                .socket
                .async_io(Interest::WRITABLE, || send_once(&self.socket, rest, &fds))
                .await?;
            rest = &rest[sent..];
            fds.clear();
        }
        Ok(())
    }
}

fn send_once(socket: &UnixStream, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("more descriptors than a request can carry"));
    }
    let iov = [io::IoSlice::new(bytes)];
    Ok(sendmsg(socket, &iov, &mut control, SendFlags::NOSIGNAL)?)
}
