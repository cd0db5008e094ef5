//! The document that a program reads on standard input.

use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::net::unix::pipe::Sender;

/// What is left of a document, and the pipe that it goes into.
#[derive(Debug)]
pub(super) struct InputPipe {
    document: Vec<u8>,
    written: usize,
    end: End,
}

#[derive(Debug)]
enum End {
    /// As much as fits is in the pipe; a program that lives on will be given the rest.
    Unattended(OwnedFd),
    Attended(Sender),
    /// All is written, or nobody reads any more. Closing is what tells the program of the end.
    Closed,
}

impl InputPipe {
    /// A program without a document reads `/dev/null`.
    pub(super) fn none() -> Self {
        Self {
            document: Vec::new(),
            written: 0,
            end: End::Closed,
        }
    }

    /// A pipe that already holds as much of the document as fits, and the program's end of it.
    pub(super) fn open(document: Vec<u8>) -> io::Result<(Self, OwnedFd)> {
        let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        let mut written = 0;
        while written < document.len() {
            match rustix::io::retry_on_intr(|| rustix::io::write(&ours, &document[written..])) {
                Ok(count) => written += count,
                Err(rustix::io::Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        if written == document.len() {
            return Ok((Self::none(), theirs));
        }
        let open = Self {
            document,
            written,
            end: End::Unattended(ours),
        };
        Ok((open, theirs))
    }

    /// From now on the runtime tells when there is room for more.
    pub(super) fn attend(&mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.end, End::Closed) {
            End::Unattended(pipe) => self.end = End::Attended(Sender::from_owned_fd_unchecked(pipe)?),
            attended => self.end = attended,
        }
        Ok(())
    }

    /// Writes on, until all is written or the program reads no more; then it never returns.
    pub(super) async fn write(&mut self) -> Infallible {
        while let End::Attended(pipe) = &self.end {
            let result = match pipe.writable().await {
                Ok(()) => pipe.try_write(&self.document[self.written..]),
                Err(error) => Err(error),
            };
            match result {
                Ok(count) => self.written += count,
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
                    ) => {}
                // A program may close its input unread; that is its right and no failure.
                Err(_) => self.written = self.document.len(),
            }
            if self.written == self.document.len() {
                *self = Self::none();
            }
        }
        std::future::pending().await
    }
}
