//! The program's output: one pipe for each stream, read in large pieces.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::SystemTime;

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::net::unix::pipe::Receiver;

/// How many chunks the channel of a run is to hold: with `READ_SIZE` this bounds a run's memory.
pub const OUTPUT_BOUND: usize = 16;

/// The most that is read at once, which is what a pipe holds.
pub(super) const READ_SIZE: usize = 64 * 1024;

/// Which of its two outputs a program wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A piece of output, cut where reading happened to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputChunk {
    /// Where the program wrote it.
    pub stream: Stream,
    /// What it wrote; never empty.
    pub bytes: Vec<u8>,
    /// When it was read.
    pub at: SystemTime,
}

/// The reading end of one stream.
#[derive(Debug)]
pub(super) struct OutputPipe {
    stream: Stream,
    end: End,
}

/// A program that is over at once never needs the runtime's attention: what it wrote is in the pipe, and drained.
#[derive(Debug)]
enum End {
    Unattended(OwnedFd),
    Attended(Receiver),
    /// The last writer has gone.
    Closed,
}

impl OutputPipe {
    /// A pipe for the stream, and the program's end of it.
    pub(super) fn open(stream: Stream) -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        let end = End::Unattended(ours);
        Ok((Self { stream, end }, theirs))
    }

    /// From now on the runtime tells when there is something to read.
    pub(super) fn attend(&mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.end, End::Closed) {
            End::Unattended(pipe) => {
                rustix::io::ioctl_fionbio(&pipe, true)?;
                self.end = End::Attended(Receiver::from_owned_fd_unchecked(pipe)?);
            }
            attended => self.end = attended,
        }
        Ok(())
    }

    /// Waits for output or the stream's end; never returns once that was seen.
    pub(super) async fn readable(&self) {
        if let End::Attended(pipe) = &self.end {
            // An error of the runtime's own shows again in the reading.
            let _ = pipe.readable().await;
        } else {
            std::future::pending().await
        }
    }

    /// Reads what is there, if anything is.
    pub(super) fn read(&mut self, scratch: &mut [u8]) -> Option<OutputChunk> {
        let End::Attended(pipe) = &self.end else {
            return None;
        };
        let result = pipe.try_read(scratch);
        self.take(result, scratch)
    }

    /// How many bytes are in the pipe.
    pub(super) fn available(&self) -> usize {
        let Some(pipe) = self.as_fd() else {
            return 0;
        };
        let count = rustix::io::ioctl_fionread(pipe).unwrap_or(0);
        usize::try_from(count).unwrap_or(usize::MAX)
    }

    /// Reads what is there past the readiness that the runtime remembers, which may lag behind the pipe. Only to be
    /// called where something is available, or it might block.
    pub(super) fn drain(&mut self, scratch: &mut [u8]) -> Option<OutputChunk> {
        let pipe = self.as_fd()?;
        let result = rustix::io::retry_on_intr(|| rustix::io::read(pipe, &mut *scratch));
        self.take(result.map_err(io::Error::from), scratch)
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.end {
            End::Unattended(pipe) => Some(pipe.as_fd()),
            End::Attended(pipe) => Some(pipe.as_fd()),
            End::Closed => None,
        }
    }

    fn take(&mut self, result: io::Result<usize>, scratch: &[u8]) -> Option<OutputChunk> {
        match result {
            Ok(count) if count > 0 => Some(OutputChunk {
                stream: self.stream,
                bytes: scratch[..count].to_vec(),
                at: SystemTime::now(),
            }),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
                ) =>
            {
                None
            }
            // The end of the stream; a pipe knows no other error.
            Ok(_) | Err(_) => {
                self.end = End::Closed;
                None
            }
        }
    }
}
