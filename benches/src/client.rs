//! A client that costs little, since it shares the machine with the server: requests are bytes made once, and of an
//! answer only the head is parsed.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use memchr::memmem;
use serde_json::{Value, json};

/// How long an answer may take before the server counts as stuck.
const PATIENCE: Duration = Duration::from_secs(600);

/// One connection, kept open.
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Where the socket is read to, of a fixed size: to grow the buffer before each read would clear it each time.
    scratch: Box<[u8]>,
}

/// A request as it goes over the wire.
#[derive(Clone)]
pub(crate) struct Request(Vec<u8>);

impl Request {
    /// An operation over POST.
    pub(crate) fn operation(query: &str, variables: &Value) -> Self {
        let body = json!({ "query": query, "variables": variables }).to_string();
        Self(
            format!(
                "POST /graphql HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n\
                 content-length: {}\r\n\r\n{body}",
                body.len()
            )
            .into_bytes(),
        )
    }

    /// A file or a page, from a byte on.
    pub(crate) fn get(path: &str, range: Option<&str>) -> Self {
        let range = range.map_or_else(String::new, |range| format!("range: bytes={range}\r\n"));
        Self(format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{range}\r\n").into_bytes())
    }

    /// A `run` of a program.
    pub(crate) fn run(program: &str, args: &[&str]) -> Self {
        Self::operation(
            "mutation($input: RunInput!) { run(input: $input) { job { id } errors { message } } }",
            &json!({ "input": exec(program, args) }),
        )
    }

    /// A `runMany` of as many jobs of a program.
    pub(crate) fn run_many(program: &str, jobs: usize) -> Self {
        Self::operation(
            "mutation($inputs: [RunInput!]!) { runMany(inputs: $inputs) { errors { message } } }",
            &json!({ "inputs": vec![exec(program, &[]); jobs] }),
        )
    }
}

fn exec(program: &str, args: &[&str]) -> Value {
    json!({ "command": { "exec": { "program": program, "args": args } } })
}

impl Client {
    /// Connects.
    pub(crate) fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(64 << 10),
            scratch: vec![0; 64 << 10].into_boxed_slice(),
        })
    }

    /// Sends an operation; an answer that carries any error is none. So a refused request never counts as a fast one.
    pub(crate) fn post(&mut self, request: &Request) -> Result<&[u8]> {
        let (_, start) = self.exchange(request)?;
        let body = &self.buffer[start..];
        if !body.starts_with(b"{\"data\":{") || memmem::find(body, b"\"errors\":[{").is_some() {
            bail!(
                "refused: {}",
                String::from_utf8_lossy(&body[..body.len().min(500)])
            );
        }
        Ok(body)
    }

    /// The head and the body of an answer with a status of 2xx.
    pub(crate) fn fetch(&mut self, request: &Request) -> Result<(&[u8], &[u8])> {
        let (head, start) = self.exchange(request)?;
        Ok((&self.buffer[..head], &self.buffer[start..]))
    }

    /// The `data` of an operation's answer.
    pub(crate) fn query(&mut self, query: &str, variables: &Value) -> Result<Value> {
        let mut answer: Value = serde_json::from_slice(self.post(&Request::operation(query, variables))?)?;
        Ok(answer["data"].take())
    }

    /// A `run`, and the job's id.
    pub(crate) fn run(&mut self, request: &Request) -> Result<String> {
        let answer: Value = serde_json::from_slice(self.post(request)?)?;
        let id = answer["data"]["run"]["job"]["id"].as_str();
        Ok(id.context("a job that was stored has an id")?.to_owned())
    }

    /// Leaves the answer in the buffer; gives the length of its head and where its body begins.
    fn exchange(&mut self, request: &Request) -> Result<(usize, usize)> {
        self.stream.write_all(&request.0)?;
        self.buffer.clear();
        let head = loop {
            self.fill()?;
            if let Some(at) = memmem::find(&self.buffer, b"\r\n\r\n") {
                break at;
            }
        };
        let text = std::str::from_utf8(&self.buffer[..head])?;
        ensure!(text.starts_with("HTTP/1.1 2"), "answered by: {text}");
        let length = text
            .lines()
            .find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim())
            })
            .with_context(|| format!("an answer has a length: {text}"))?;
        let end = head + 4 + length.parse::<usize>()?;
        while self.buffer.len() < end {
            self.fill()?;
        }
        Ok((head, head + 4))
    }

    fn fill(&mut self) -> Result<()> {
        let read = self.stream.read(&mut self.scratch)?;
        self.buffer.extend_from_slice(&self.scratch[..read]);
        ensure!(read > 0, "the server closed the connection");
        Ok(())
    }
}

/// Sends so many requests from so many clients, each one after the other; gives how long that took. `pick` tells which
/// of the requests comes at which turn.
pub(crate) fn load(
    address: SocketAddr,
    clients: usize,
    count: usize,
    pick: impl Fn(usize) -> Request,
) -> Result<Duration> {
    let requests: Vec<Request> = (0..count).map(pick).collect();
    let mut connected = (0..clients)
        .map(|_| Client::connect(address))
        .collect::<Result<Vec<_>>>()?;
    let next = AtomicUsize::new(0);
    let started = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = connected
            .iter_mut()
            .map(|client| {
                let (next, requests) = (&next, &requests);
                scope.spawn(move || -> Result<()> {
                    while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                        client.post(request)?;
                    }
                    Ok(())
                })
            })
            .collect();
        threads.into_iter().try_for_each(crate::floor::join)
    })?;
    Ok(started.elapsed())
}
