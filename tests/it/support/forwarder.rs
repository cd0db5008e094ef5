//! A wire to the database or to a server that a test can cut and mend.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
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
    /// Bytes pass, each packet so much later.
    Slow(Duration),
    /// Connections are closed, and new ones too.
    Cut,
    /// What is asked arrives; with the first byte of an answer the connection is closed.
    Deaf,
    /// Connections stay open, new ones are taken, and nothing passes until the wire is mended.
    Stalled,
}

/// What all connections look at.
#[derive(Debug)]
struct Shared {
    wire: watch::Sender<Wire>,
    /// Counts up when all connections there are get lost: nothing passes over them any more, whatever comes.
    lost: watch::Sender<u64>,
    /// What is lost with the packet that has this in it, once that has passed: all connections.
    trap: Mutex<Option<Vec<u8>>>,
}

impl Shared {
    fn lose(&self) {
        self.wire.send_replace(Wire::Stalled);
        self.lost.send_modify(|count| *count += 1);
    }

    fn spring(&self, packet: &[u8]) {
        let mut trap = self.trap.lock().unwrap();
        if trap
            .as_ref()
            .is_some_and(|text| memchr::memmem::find(packet, text).is_some())
        {
            *trap = None;
            self.lose();
        }
    }
}

/// Listens on a port of its own and passes everything on.
#[derive(Debug)]
pub(crate) struct Forwarder {
    address: String,
    url: String,
    shared: Arc<Shared>,
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
        let shared = Arc::new(Shared {
            wire: watch::Sender::new(wire),
            lost: watch::Sender::new(0),
            trap: Mutex::default(),
        });
        let for_all = Arc::clone(&shared);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                connections.spawn(pass(client, target.clone(), Arc::clone(&for_all)));
                while connections.try_join_next().is_some() {}
            }
        });
        Self {
            url: format!("http://{address}"),
            address,
            shared,
            _tasks: tasks,
        }
    }

    /// The database's or the server's address through this wire.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Lets bytes pass.
    pub(crate) fn mend(&self) {
        self.shared.wire.send_replace(Wire::Whole);
    }

    /// Lets bytes pass, each packet so much later.
    pub(crate) fn slow_down(&self, delay: Duration) {
        self.shared.wire.send_replace(Wire::Slow(delay));
    }

    /// Loses every answer, of what was asked already too.
    pub(crate) fn lose_answers(&self) {
        self.shared.wire.send_replace(Wire::Deaf);
    }

    /// Closes every connection in the middle of whatever it says, and each new one at once.
    pub(crate) fn cut(&self) {
        self.shared.wire.send_replace(Wire::Cut);
    }

    /// Lets nothing pass, and tells nobody: what was said meanwhile arrives once the wire is mended.
    pub(crate) fn stall(&self) {
        self.shared.wire.send_replace(Wire::Stalled);
    }

    /// As [`stall`](Self::stall), and what is said over connections that there are never arrives: only those that are
    /// opened after the wire was mended are good again.
    pub(crate) fn lose(&self) {
        self.shared.lose();
    }

    /// As [`lose`](Self::lose), as soon as this was asked by anybody: it still arrives.
    pub(crate) fn lose_after(&self, text: &str) {
        *self.shared.trap.lock().unwrap() = Some(text.as_bytes().to_vec());
    }

    /// Whether all was lost that there was when [`lose_after`](Self::lose_after) was called.
    pub(crate) fn sprung(&self) -> bool {
        self.shared.trap.lock().unwrap().is_none()
    }
}

async fn pass(mut client: TcpStream, target: String, shared: Arc<Shared>) {
    let mut wire = shared.wire.subscribe();
    let mut lost = shared.lost.subscribe();
    if *wire.borrow_and_update() == Wire::Cut {
        // A client that is refused may be gone already.
        let _ = client.shutdown().await;
        return;
    }
    // A server that was killed is away for a while.
    let Ok(target) = TcpStream::connect(target).await else {
        return;
    };
    let before = *lost.borrow_and_update();
    let (asked, client) = client.into_split();
    let (answers, target) = target.into_split();
    let passing = async {
        tokio::select! {
            // Either side may end the connection as it likes.
            () = pump(asked, target, &shared, false) => {}
            () = pump(answers, client, &shared, true) => {}
        }
    };
    let lost = async {
        // Whoever asks is gone only when the test is over.
        let _ = lost.wait_for(|count| *count != before).await;
    };
    tokio::select! {
        () = passing => return,
        _ = wire.wait_for(|wire| *wire == Wire::Cut) => return,
        () = lost => {}
    }
    // It stays open as it is.
    std::future::pending::<()>().await;
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared, answers: bool) {
    let mut buffer = vec![0; 64 * 1024];
    let mut wire = shared.wire.subscribe();
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let Ok(now) = wire
            .wait_for(|wire| *wire != Wire::Stalled)
            .await
            .map(|wire| *wire)
        else {
            return;
        };
        match now {
            Wire::Deaf if answers => return,
            Wire::Slow(delay) => tokio::time::sleep(delay).await,
            _ => {}
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
        if !answers {
            shared.spring(&buffer[..count]);
        }
    }
}
