//! A listener over WebSocket by hand: ten thousand of a comfortable client would measure that client.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use memchr::memmem;
use rustix::event::epoll;
use serde_json::{Value, json};

const UPGRADE: &[u8] =
    b"GET /graphql HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    sec-websocket-protocol: graphql-transport-ws\r\n\r\n";

/// Where sockets are read to: not into their buffers, for those of ten thousand to stay small.
fn scratch() -> Vec<u8> {
    vec![0; 64 << 10]
}

/// One subscription on a connection of its own.
pub(crate) struct Socket {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// How much of the buffer was handed out.
    taken: usize,
}

impl Socket {
    /// Opens a subscription, and returns once the server has taken it.
    pub(crate) fn listen(address: SocketAddr, query: &str, variables: &Value) -> Result<Self> {
        let mut scratch = scratch();
        let mut socket = Self::connect(address)?;
        socket.stream.write_all(UPGRADE)?;
        let head = loop {
            ensure!(socket.fill(&mut scratch)?, "the socket was closed");
            if let Some(at) = memmem::find(&socket.buffer, b"\r\n\r\n") {
                break at + 4;
            }
        };
        let text = String::from_utf8_lossy(&socket.buffer[..head]).into_owned();
        ensure!(text.starts_with("HTTP/1.1 101"), "no WebSocket: {text}");
        socket.taken = head;
        socket.send(r#"{"type":"connection_init"}"#)?;
        socket.expect(b"\"connection_ack\"")?;
        let payload = json!({ "query": query, "variables": variables });
        socket.send(&json!({ "type": "subscribe", "id": "1", "payload": payload }).to_string())?;
        // The answer to a ping comes after the subscription was taken.
        socket.send(r#"{"type":"ping"}"#)?;
        socket.expect(b"\"pong\"")?;
        Ok(socket)
    }

    /// A connection that says nothing yet.
    pub(crate) fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self {
            stream,
            buffer: Vec::new(),
            taken: 0,
        })
    }

    /// Sends bytes as they are.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Sends a text, masked by zeros: it looks like itself.
    pub(crate) fn send(&mut self, text: &str) -> Result<()> {
        self.send_frame(0x81, text.as_bytes())
    }

    fn send_frame(&mut self, first: u8, payload: &[u8]) -> Result<()> {
        let mut frame = vec![first];
        match u16::try_from(payload.len())? {
            length @ 0..=125 => frame.push(0x80 | u8::try_from(length)?),
            length => {
                frame.push(0x80 | 126);
                frame.extend(length.to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(payload);
        Ok(self.stream.write_all(&frame)?)
    }

    /// The next message of the subscription; none once it is complete.
    pub(crate) fn next(&mut self) -> Result<Option<&[u8]>> {
        let mut scratch = scratch();
        loop {
            let Some((start, end)) = self.frame()? else {
                ensure!(self.fill(&mut scratch)?, "the socket was closed");
                continue;
            };
            let text = &self.buffer[start..end];
            if memmem::find(text, b"\"type\":\"next\"").is_some() {
                ensure!(
                    memmem::find(text, b"\"errors\":[").is_none(),
                    "{}",
                    String::from_utf8_lossy(text)
                );
                return Ok(Some(&self.buffer[start..end]));
            }
            if memmem::find(text, b"\"type\":\"complete\"").is_some() {
                return Ok(None);
            }
            if memmem::find(text, b"\"type\":\"ping\"").is_some() {
                self.send(r#"{"type":"pong"}"#)?;
            } else if memmem::find(text, b"\"type\":\"error\"").is_some() {
                bail!("{}", String::from_utf8_lossy(text));
            }
        }
    }

    fn expect(&mut self, word: &[u8]) -> Result<()> {
        let mut scratch = scratch();
        loop {
            if let Some((start, end)) = self.frame()? {
                let text = &self.buffer[start..end];
                ensure!(
                    memmem::find(text, word).is_some(),
                    "unexpected: {}",
                    String::from_utf8_lossy(text)
                );
                return Ok(());
            }
            ensure!(self.fill(&mut scratch)?, "the socket was closed");
        }
    }

    /// Where the payload of the next whole message lies, which is taken with that. Pings are answered on the way: who
    /// answers none is dropped.
    fn frame(&mut self) -> Result<Option<(usize, usize)>> {
        loop {
            let Some((kind, start, end)) = self.any_frame()? else {
                return Ok(None);
            };
            match kind {
                1 => return Ok(Some((start, end))),
                9 => {
                    let payload = self.buffer[start..end].to_vec();
                    self.send_frame(0x8a, &payload)?;
                }
                10 => {}
                kind => bail!("the server sent a frame of kind {kind}"),
            }
        }
    }

    fn any_frame(&mut self) -> Result<Option<(u8, usize, usize)>> {
        let rest = &self.buffer[self.taken..];
        let [first, second, more @ ..] = rest else {
            return Ok(None);
        };
        ensure!(first & 0x80 != 0, "the server sends whole frames");
        let (head, length) = match second & 0x7f {
            126 if more.len() >= 2 => (4, u64::from(u16::from_be_bytes([more[0], more[1]]))),
            127 if more.len() >= 8 => {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(&more[..8]);
                (10, u64::from_be_bytes(bytes))
            }
            126 | 127 => return Ok(None),
            short => (2, u64::from(short)),
        };
        let kind = first & 0x0f;
        let start = self.taken + head;
        let end = start + usize::try_from(length)?;
        if end > self.buffer.len() {
            return Ok(None);
        }
        self.taken = end;
        Ok(Some((kind, start, end)))
    }

    /// Reads what is there; false at the end of the stream.
    fn fill(&mut self, scratch: &mut [u8]) -> Result<bool> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        let read = self.stream.read(scratch)?;
        self.buffer.extend_from_slice(&scratch[..read]);
        Ok(read > 0)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Many sockets that one thread waits for.
pub(crate) struct Crowd {
    epoll: rustix::fd::OwnedFd,
    sockets: Vec<Socket>,
}

impl Crowd {
    /// Takes them over.
    pub(crate) fn new(sockets: Vec<Socket>) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (index, socket) in sockets.iter().enumerate() {
            socket.stream.set_nonblocking(true)?;
            let data = epoll::EventData::new_u64(index as u64);
            epoll::add(&epoll, socket, data, epoll::EventFlags::IN)?;
        }
        Ok(Self { epoll, sockets })
    }

    /// Waits until each has one event or, with `bytes`, as many bytes; gives when the last had it.
    pub(crate) fn all(&mut self, bytes: Option<usize>) -> Result<Instant> {
        let mut seen = vec![false; self.sockets.len()];
        let mut missing = seen.len();
        let mut ready = Vec::with_capacity(1024);
        let mut scratch = scratch();
        let patience = rustix::time::Timespec {
            tv_sec: 60,
            tv_nsec: 0,
        };
        while missing > 0 {
            ready.clear();
            let buffer = rustix::buffer::spare_capacity(&mut ready);
            epoll::wait(&self.epoll, buffer, Some(&patience))?;
            ensure!(!ready.is_empty(), "{missing} listeners heard nothing for 60 s");
            for event in &ready {
                let index = usize::try_from(event.data.u64())?;
                let socket = &mut self.sockets[index];
                socket.fill_ready(&mut scratch)?;
                let heard = match bytes {
                    Some(bytes) => socket.buffer.len() >= bytes,
                    None => socket.heard()?,
                };
                if heard {
                    ensure!(!seen[index], "a listener heard an event twice");
                    socket.taken = socket.buffer.len();
                    seen[index] = true;
                    missing -= 1;
                }
            }
        }
        Ok(Instant::now())
    }

    /// Sends bytes over the first of them.
    pub(crate) fn trigger(&mut self, bytes: &[u8]) -> Result<()> {
        self.sockets[0].write(bytes)
    }
}

impl Socket {
    fn fill_ready(&mut self, scratch: &mut [u8]) -> Result<()> {
        match self.fill(scratch) {
            Ok(open) => ensure!(open, "a listener was closed"),
            Err(error) => match error.downcast_ref::<std::io::Error>() {
                Some(io) if io.kind() == ErrorKind::WouldBlock => {}
                _ => return Err(error),
            },
        }
        Ok(())
    }

    /// Whether an event has come whole.
    fn heard(&mut self) -> Result<bool> {
        while let Some((start, end)) = self.frame()? {
            let text = &self.buffer[start..end];
            ensure!(
                memmem::find(text, b"\"type\":\"error\"").is_none(),
                "{}",
                String::from_utf8_lossy(text)
            );
            if memmem::find(text, b"\"type\":\"next\"").is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
