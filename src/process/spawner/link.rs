//! The spawner's end of the socket: requests with their descriptors come in, reports go out. It blocks.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags, recvmsg, send,
};

use crate::process::codec::Frames;
use crate::process::protocol::{MOST_FDS, Report, Request};

/// A socket to the server, and what has come in on it so far.
pub(super) struct Link {
    socket: OwnedFd,
    frames: Frames,
    fds: VecDeque<OwnedFd>,
    buffer: Box<[u8]>,
}

impl Link {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            frames: Frames::default(),
            fds: VecDeque::new(),
            buffer: vec![0; 16 * 1024].into_boxed_slice(),
        }
    }

    /// Reads what is there, waiting until something is; `false` is the end of the server.
    pub(super) fn fill(&mut self) -> io::Result<bool> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::io::retry_on_intr(|| {
            recvmsg(
                &self.socket,
                &mut [IoSliceMut::new(&mut self.buffer)],
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            )
        })?;
        if received.flags.contains(ReturnFlags::CTRUNC) {
            return Err(io::Error::other(
                "descriptors were lost on their way to the spawner",
            ));
        }
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                self.fds.extend(fds);
            }
        }
        self.frames.push(&self.buffer[..received.bytes]);
        Ok(received.bytes > 0)
    }

    /// The next request that is whole.
    pub(super) fn next(&mut self) -> io::Result<Option<Request>> {
        match self.frames.next()? {
            Some(body) => Ok(Some(Request::decode(body)?)),
            None => Ok(None),
        }
    }

    /// The next descriptor that came with a request.
    pub(super) fn next_fd(&mut self) -> io::Result<OwnedFd> {
        self.fds
            .pop_front()
            .ok_or_else(|| io::Error::other("a request came without its descriptors"))
    }

    pub(super) fn report(&self, report: &Report) -> io::Result<()> {
        let frame = report.encode();
        let mut rest = frame.as_slice();
        while !rest.is_empty() {
            let sent = rustix::io::retry_on_intr(|| send(&self.socket, rest, SendFlags::NOSIGNAL))?;
            rest = &rest[sent..];
        }
        Ok(())
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
