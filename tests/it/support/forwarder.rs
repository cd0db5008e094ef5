//! A wire to the database or to a server that a test can cut and mend.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::db::TestDb;

/// How the wire is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wire {
    /// Bytes pass.
    Whole,
    /// Connections are closed, and new ones too.
    Cut,
    /// What is asked arrives; with the first byte of an answer the connection is closed.
    Deaf,
}

/// Listens on a port of its own and passes everything on.
#[derive(Debug)]
pub(crate) struct Forwarder {
    address: String,
    url: String,
    wire: Arc<watch::Sender<Wire>>,
    _tasks: JoinSet<()>,
}

impl Forwarder {
    /// A wire that is cut at first.
    pub(crate) async fn cut_off(db: &TestDb) -> Self {
        // postgres://USER@HOST:PORT/NAME
        let (user, rest) = db.url().split_once('@').unwrap();
        let (target, name) = rest.split_once('/').unwrap();
        let mut forwarder = Self::start(target, Wire::Cut).await;
        forwarder.url = format!("{user}@{}/{name}", forwarder.address);
        forwarder
    }

    /// A whole wire to a server at an address.
    pub(crate) async fn to(target: &str) -> Self {
        Self::start(target, Wire::Whole).await
    }

    async fn start(target: &str, wire: Wire) -> Self {
        let target = target.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let wire = Arc::new(watch::Sender::new(wire));
        let shared = Arc::clone(&wire);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                connections.spawn(pass(client, target.clone(), shared.subscribe()));
                while connections.try_join_next().is_some() {}
            }
        });
        Self {
            url: format!("http://{address}"),
            address,
            wire,
            _tasks: tasks,
        }
    }

    /// The database's or the server's address through this wire.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Lets bytes pass.
    pub(crate) fn mend(&self) {
        self.wire.send_replace(Wire::Whole);
    }

    /// Loses every answer, of what was asked already too.
    pub(crate) fn lose_answers(&self) {
        self.wire.send_replace(Wire::Deaf);
    }

    /// Closes every connection in the middle of whatever it says, and each new one at once.
    pub(crate) fn cut(&self) {
        self.wire.send_replace(Wire::Cut);
    }
}

async fn pass(mut client: TcpStream, target: String, mut wire: watch::Receiver<Wire>) {
    if *wire.borrow_and_update() == Wire::Cut {
        // A client that is refused may be gone already.
        let _ = client.shutdown().await;
        return;
    }
    // A server that was killed is away for a while.
    let Ok(target) = TcpStream::connect(target).await else {
        return;
    };
    let (mut asked, client) = client.into_split();
    let (answers, mut target) = target.into_split();
    let state = wire.clone();
    tokio::select! {
        // Either side may end the connection as it likes.
        _ = copy(&mut asked, &mut target) => {}
        () = answer(answers, client, &state) => {}
        _ = wire.wait_for(|wire| *wire == Wire::Cut) => {}
    }
}

async fn answer(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, wire: &watch::Receiver<Wire>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if *wire.borrow() == Wire::Deaf || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
