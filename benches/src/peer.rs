//! Floors that are servers themselves: this program once more, as a child.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use async_graphql::{EmptyMutation, EmptySubscription, ID, Object, Schema, SimpleObject};
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use clap::ValueEnum;

/// What it is.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Peer {
    /// async-graphql on axum, that answers constants
    Constant,
    /// Plain sockets, all of which get the same bytes at once
    Broadcast,
}

/// A running one, killed when it is dropped.
pub(crate) struct Child {
    child: std::process::Child,
    address: SocketAddr,
}

impl Child {
    /// Starts it.
    pub(crate) fn start(peer: Peer) -> Result<Self> {
        let name = peer.to_possible_value().context("every peer has a name")?;
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--peer", name.get_name()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let output = child.stdout.take().context("its output is a pipe")?;
        BufReader::new(output).read_line(&mut line)?;
        let address = line.trim().parse().context("it tells its address")?;
        Ok(Self { child, address })
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the child does.
pub(crate) fn serve(peer: Peer) -> Result<()> {
    match peer {
        Peer::Constant => constant(),
        Peer::Broadcast => broadcast(),
    }
}

fn listen() -> Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", listener.local_addr()?);
    Ok(listener)
}

/// Whoever sends a number gets it done: all who are connected get as many bytes.
fn broadcast() -> Result<()> {
    let listener = listen()?;
    let (mut first, _) = listener.accept()?;
    let mut count = [0; 8];
    first.read_exact(&mut count)?;
    let mut all = vec![first];
    while all.len() < usize::try_from(u64::from_le_bytes(count))? {
        all.push(listener.accept()?.0);
    }
    let mut size = [0; 8];
    while all[0].read_exact(&mut size).is_ok() {
        let bytes = vec![b'x'; usize::try_from(u64::from_le_bytes(size))?];
        for stream in &mut all {
            stream.write_all(&bytes)?;
        }
    }
    Ok(())
}

#[derive(SimpleObject, Clone)]
struct Job {
    id: ID,
    kind: String,
    name: String,
    status: String,
    queue: String,
    priority: i32,
    attempt: i32,
    max_attempts: i32,
    timeout_ms: i64,
    created_at: String,
    finished_at: Option<String>,
    exit_code: Option<i32>,
}

#[derive(SimpleObject)]
struct Jobs {
    nodes: Vec<Job>,
    page_info: PageInfo,
}

#[derive(SimpleObject)]
struct PageInfo {
    has_next_page: bool,
    end_cursor: Option<String>,
}

struct Query;

#[Object]
impl Query {
    async fn job(&self, id: ID) -> Option<Job> {
        Some(job(id))
    }

    async fn jobs(&self, first: i32) -> Jobs {
        let id = || ID::from("01a1ff2c-d28e-74b7-8e86-c7b483e4e914");
        Jobs {
            nodes: (0..first).map(|_| job(id())).collect(),
            page_info: PageInfo {
                has_next_page: true,
                end_cursor: Some("AaH_LNKOdLeOhse0g-TpFA".to_owned()),
            },
        }
    }
}

fn job(id: ID) -> Job {
    Job {
        id,
        kind: "EXEC".to_owned(),
        name: "/bin/true".to_owned(),
        status: "COMPLETED".to_owned(),
        queue: "default".to_owned(),
        priority: 0,
        attempt: 1,
        max_attempts: 1,
        timeout_ms: 1_800_000,
        created_at: "2026-01-01T00:00:00.000000Z".to_owned(),
        finished_at: Some("2026-01-01T00:00:00.002000Z".to_owned()),
        exit_code: Some(0),
    }
}

type Constants = Schema<Query, EmptyMutation, EmptySubscription>;

async fn answer(
    State(schema): State<Constants>,
    Json(request): Json<async_graphql::Request>,
) -> Json<async_graphql::Response> {
    Json(schema.execute(request).await)
}

#[tokio::main]
async fn constant() -> Result<()> {
    let schema = Schema::new(Query, EmptyMutation, EmptySubscription);
    let router = Router::new().route("/graphql", post(answer)).with_state(schema);
    let listener = listen()?;
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    Ok(axum::serve(listener, router).await?)
}
