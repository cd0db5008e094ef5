//! The spawner process: its entry and its loop.
//!
//! It does one thing at a time in one thread. It waits for the socket, for children and for the clock, and in that
//! order it keeps its promises: a server that is gone comes before everything else.

mod children;
mod confine;
mod job;
mod launch;
mod link;
mod sweep;
mod system;
mod visible;
mod walled;

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, getpid, set_child_subreaper, setsid};

use self::children::{Children, timespec};
use self::confine::{Confinement, Expendable};
use self::job::Job;
pub(super) use self::launch::too_long;
use self::launch::{Pipes, launch};
use self::link::Link;
use super::outcome::{SpawnError, SpawnErrorKind};
use super::protocol::{Report, Request, SPAWNER_ARGUMENT, Start, VERSION, monotonic};
use super::sandbox::Sandbox;

/// Serves as a spawner if this process was started as one, and then gives the code to exit with.
///
/// To be called first in `main`, before any thread and any runtime is started. Otherwise it does nothing.
#[must_use]
pub fn run_spawner_if_asked() -> Option<ExitCode> {
    if std::env::args_os().nth(1)? != SPAWNER_ARGUMENT {
        return None;
    }
    match serve() {
        Ok(()) => Some(ExitCode::SUCCESS),
        Err(error) => {
            // Nobody is left to tell if this fails too.
            let _ = writeln!(io::stderr(), "the spawner ends: {error}");
            Some(ExitCode::FAILURE)
        }
    }
}

fn serve() -> io::Result<()> {
    let mut link = Link::new(take_socket()?);
    let Some(sandbox) = first_request(&mut link)? else {
        return Ok(());
    };
    let (events, confinement) = match settle(&sandbox) {
        Ok(settled) => settled,
        Err(error) => {
            // The run before the first: it is the server that can tell somebody.
            let error = SpawnError::new(SpawnErrorKind::Other, error.raw_os_error(), error.to_string());
            return link.report(&Report::Failed { run: 0, error });
        }
    };
    link.report(&Report::Hello {
        version: VERSION,
        landlock: confinement.landlock,
    })?;
    let mut spawner = Spawner {
        link,
        children: Children::new(events),
        confinement,
        job: None,
    };
    let result = spawner.run();
    spawner.clear();
    match result {
        // The server went away in the middle of a report, or with one unread.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
            ) =>
        {
            Ok(())
        }
        result => result,
    }
}

/// Makes this process one below which programs can be run; gives what tells of their end.
fn settle(sandbox: &Sandbox) -> io::Result<(BorrowedFd<'static>, Confinement)> {
    check_procfs()?;
    system::close_on_exec_beyond_standard()?;
    // A session of its own: no terminal's signals, and no terminal for the programs to ask questions on.
    setsid()?;
    set_child_subreaper(Some(getpid()))?;
    // The name is for whoever reads a list of processes; without it all works the same.
    let _ = rustix::thread::set_name(c"runql-spawner");
    let events = system::settle_signals()?;
    let expendable = Expendable::open();
    // The environment of a program passes through this memory, and another program of the same user could read it.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok((events, Confinement::settle(sandbox, expendable)?))
}

/// What the server says first; none where it went away before.
fn first_request(link: &mut Link) -> io::Result<Option<Box<Sandbox>>> {
    loop {
        if !link.fill()? {
            return Ok(None);
        }
        match link.next()? {
            Some(Request::Settle(sandbox)) => return Ok(Some(sandbox)),
            Some(_) => {
                return Err(io::Error::other(
                    "it was asked for something before it was settled",
                ));
            }
            None => {}
        }
    }
}

/// The server hands the socket over as standard input, which programs must not get.
fn take_socket() -> io::Result<OwnedFd> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    rustix::net::sockopt::socket_type(&socket)
        .map_err(|_| io::Error::other("it is started by a server, never by hand"))?;
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    Ok(socket)
}

/// A sweep kills by what `/proc` says, so that must speak of the processes of this very namespace.
fn check_procfs() -> io::Result<()> {
    let seen = std::fs::read_link("/proc/self").ok();
    if seen.and_then(|link| link.to_str()?.parse().ok()) == Some(std::process::id()) {
        return Ok(());
    }
    Err(io::Error::other(
        "/proc is not mounted, or shows the processes of another namespace",
    ))
}

struct Spawner {
    link: Link,
    children: Children,
    confinement: Confinement,
    job: Option<Job>,
}

impl Spawner {
    /// Runs until the server is gone.
    fn run(&mut self) -> io::Result<()> {
        loop {
            self.confinement.make_ready();
            let (asked, ended) = self.wait()?;
            if ended {
                self.children.acknowledge();
            }
            if asked {
                if !self.link.fill()? {
                    return Ok(());
                }
                while let Some(request) = self.link.next()? {
                    self.serve(request)?;
                }
            }
            match &mut self.job {
                Some(job) => {
                    if let Some(report) = job.advance(&mut self.children) {
                        self.job = None;
                        if report.unkillable > 0 {
                            self.confinement.forget_thread();
                        }
                        self.link.report(&Report::Ended(report))?;
                    } else if let Some(start) = job.announcement() {
                        self.link.report(&Report::Started(start))?;
                    }
                }
                // Those that an earlier sweep gave up on may end after all.
                None if ended => {
                    self.children.reap();
                }
                None => {}
            }
        }
    }

    /// Waits for the socket, a child or the clock; whether it was the socket, and whether it was a child.
    fn wait(&self) -> io::Result<(bool, bool)> {
        let timeout = self
            .job
            .as_ref()
            .and_then(Job::deadline)
            .map(|at| timespec(at.saturating_sub(monotonic())));
        let events = self.children.events();
        let mut fds = [
            PollFd::new(&self.link, PollFlags::IN),
            PollFd::new(&events, PollFlags::IN),
        ];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            // Nearly always it is a child's end that interrupts, and looking for one is as cheap as asking.
            Err(rustix::io::Errno::INTR) => return Ok((false, true)),
            Err(error) => return Err(error.into()),
        }
        Ok((!fds[0].revents().is_empty(), !fds[1].revents().is_empty()))
    }

    fn serve(&mut self, request: Request) -> io::Result<()> {
        match request {
            Request::Start(start) if self.job.is_none() => self.start(start),
            Request::Settle(_) => Err(io::Error::other("it was told twice what to keep programs from")),
            Request::Start(_) => Err(io::Error::other("it was asked for a second program at a time")),
            Request::Stop { run, grace } => {
                if let Some(job) = self.job.as_mut().filter(|job| job.run() == run) {
                    job.stop(grace, &mut self.children);
                }
                Ok(())
            }
            Request::Hold { run, until } => {
                if let Some(job) = self.job.as_mut().filter(|job| job.run() == run) {
                    job.hold(until);
                }
                Ok(())
            }
        }
    }

    fn start(&mut self, start: Box<Start>) -> io::Result<()> {
        let pipes = Pipes {
            stdout: self.link.next_fd()?,
            stderr: self.link.next_fd()?,
            stdin: if start.has_stdin {
                Some(self.link.next_fd()?)
            } else {
                None
            },
        };
        let run = start.run;
        let at = monotonic();
        if !start.held_until.is_zero() && at >= start.held_until {
            let message = "the time was over for which the program might have run";
            let error = SpawnError::new(SpawnErrorKind::TooLate, None, message);
            return self.link.report(&Report::Failed { run, error });
        }
        match launch(&start, pipes, &mut self.confinement) {
            Ok(pid) => {
                let leader = Pid::from_raw(pid.cast_signed())
                    .ok_or_else(|| io::Error::other("a program without a process id"))?;
                self.children.lead_by(pid.cast_signed());
                self.job = Some(Job::new(start, leader, at));
                Ok(())
            }
            Err(error) => self.link.report(&Report::Failed { run, error }),
        }
    }

    /// Kills everything, because nobody is there to wait for it any more.
    fn clear(&mut self) {
        if self.children.reap() {
            return;
        }
        let marker = self.job.as_ref().and_then(Job::marker).map(ToOwned::to_owned);
        sweep::sweep(&mut self.children, marker.as_deref(), None);
    }
}
