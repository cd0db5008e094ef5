//! The thread that starts programs behind walls, kept from one program to the next where both may write the same folders.
//!
//! A thread cannot leave a Landlock domain, and to lay one out and enter it takes as long as to start a small program. So
//! whoever comes next and has the very same folders is started from the same thread. Two programs of one domain never run
//! at the same time, and of the first no process is left when the second starts.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rustix::fs::fstat;

use super::confine::Walls;

/// The thread that starts programs does little.
const STACK: usize = 256 * 1024;

/// Starts a program, and gives its process id.
type Start = Box<dyn FnOnce() -> io::Result<u32> + Send>;

/// A thread behind walls. It ends when this is dropped.
pub(super) struct Walled {
    starts: SyncSender<Start>,
    started: Receiver<io::Result<u32>>,
    /// The version of Landlock that is in force.
    landlock: u32,
    /// The folders that its programs may write, which are held so that no other gets the number of one of them.
    own: Vec<OwnedFd>,
}

impl Walled {
    /// Starts the thread and puts it behind the walls of programs that may write these folders of their own.
    ///
    /// # Errors
    ///
    /// Where there is no thread to be had, or the walls could not be put around it.
    pub(super) fn new(walls: Walls, own: Vec<OwnedFd>) -> io::Result<Self> {
        // One program is started at a time.
        let (starts, waiting) = sync_channel::<Start>(1);
        let (answers, started) = sync_channel(1);
        std::thread::Builder::new().stack_size(STACK).spawn(move || {
            let applied = walls.apply();
            let failed = applied.is_err();
            if answers.send(applied).is_err() || failed {
                return;
            }
            while let Ok(start) = waiting.recv() {
                if answers.send(start()).is_err() {
                    return;
                }
            }
        })?;
        let landlock = started.recv().map_err(|_| gone())??;
        Ok(Self {
            starts,
            started,
            landlock,
            own,
        })
    }

    /// The version of Landlock that its programs are under; 0 is none.
    pub(super) const fn landlock(&self) -> u32 {
        self.landlock
    }

    /// Whether its programs may write these folders of their own, and no others.
    pub(super) fn is_of(&self, own: &[OwnedFd]) -> bool {
        let same = |(one, other): (&OwnedFd, &OwnedFd)| match (fstat(one), fstat(other)) {
            (Ok(one), Ok(other)) => (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino),
            _ => false,
        };
        self.own.len() == own.len() && self.own.iter().zip(own).all(same)
    }

    /// Starts a program from it.
    ///
    /// # Errors
    ///
    /// The outer one where the thread failed, the inner one where the program could not be started.
    pub(super) fn start(
        &self,
        start: impl FnOnce() -> io::Result<u32> + Send + 'static,
    ) -> io::Result<io::Result<u32>> {
        self.starts.send(Box::new(start)).map_err(|_| gone())?;
        self.started.recv().map_err(|_| gone())
    }
}

fn gone() -> io::Error {
    io::Error::other("the thread that starts programs failed")
}
