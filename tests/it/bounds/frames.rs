//! Sockets on which garbage comes, or far too much.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::size;
use crate::support::app::{Setup, TestApp};
use crate::support::db::{TestDb, with_db};
use crate::support::machine::private;
use crate::support::wait::within;
use runql::store::Backend;

/// What it may add to the server's memory, in KiB.
const ROOM: u64 = 32 * 1024;

const TEXT: u8 = 1;
const CLOSE: u8 = 8;

/// A socket as bytes, for what no client library would send.
struct Raw(TcpStream);

impl Raw {
    async fn open(app: &TestApp) -> Self {
        let mut stream = TcpStream::connect(app.address()).await.unwrap();
        let request = format!(
            "GET /graphql HTTP/1.1\r\nhost: {}\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: graphql-transport-ws\r\n\r\n",
            app.address()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(within("the upgrade", stream.read_u8()).await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 101"));
        Self(stream)
    }

    async fn acknowledged(app: &TestApp) -> Self {
        let mut socket = Self::open(app).await;
        socket.send(&frame(TEXT, br#"{"type":"connection_init"}"#)).await;
        assert_eq!(socket.said().await["type"], "connection_ack");
        socket
    }

    /// The server may have closed it before all of this is sent.
    async fn send(&mut self, bytes: &[u8]) {
        let _ = within("bytes on their way", self.0.write_all(bytes)).await;
    }

    /// The next message or closing frame.
    async fn hear(&mut self) -> Option<(u8, Vec<u8>)> {
        within("a frame", hear(&mut self.0)).await
    }

    async fn said(&mut self) -> Value {
        match self.hear().await {
            Some((TEXT, text)) => serde_json::from_slice(&text).unwrap(),
            other => panic!("instead of a message: {other:?}"),
        }
    }

    /// The code with which the server closes; none where it only goes away.
    async fn closed(&mut self) -> Option<u16> {
        loop {
            match self.hear().await {
                Some((CLOSE, reason)) => return Some(u16::from_be_bytes([reason[0], reason[1]])),
                Some(_) => {}
                None => return None,
            }
        }
    }
}

async fn hear(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<(u8, Vec<u8>)> {
    loop {
        let kind = stream.read_u8().await.ok()? & 0x0f;
        let length = match stream.read_u8().await.ok()? {
            126 => stream.read_u16().await.ok()?.into(),
            127 => stream.read_u64().await.ok()?,
            length => length.into(),
        };
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut payload).await.ok()?;
        if kind == TEXT || kind == CLOSE {
            return Some((kind, payload));
        }
    }
}

/// A frame as a client sends it, under a mask that changes nothing.
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80 | kind];
    match payload.len() {
        length @ 0..126 => bytes.push(0x80 | u8::try_from(length).unwrap()),
        length => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_frame_closes_the_socket_with_a_code() {
    with_db(Backend::Sqlite, async |db: TestDb| {
        let app = Setup::new(&db).flag("--max-request-bytes", 100_000).start().await;
        drop(Raw::acknowledged(&app).await);
        let before = private(app.pid());
        let mut unmasked = frame(TEXT, br#"{"type":"ping"}"#);
        unmasked[1] &= 0x7f;
        unmasked.drain(2..6);
        let mut reserved = frame(TEXT, b"{}");
        reserved[0] |= 0x70;
        let mut endless = frame(TEXT, b"{}");
        endless.splice(1..2, [0x80 | 127, 0x00, 0xff, 0, 0, 0, 0, 0, 0]);
        let mut long_ping = frame(9, &[b'x'; 200]);
        long_ping[0] = 0x89;
        // A piece of a message that never ends.
        let mut piece = frame(TEXT, &[b'x'; 60_000]);
        piece[0] = TEXT;
        let mut pieces = piece.clone();
        piece[0] = 0;
        pieces.extend(piece);
        for (what, bytes, code) in [
            ("a frame without a mask", unmasked, 1002),
            ("reserved bits", reserved, 1002),
            ("a kind that is none", frame(5, b"x"), 1002),
            ("a control frame that is too long", long_ping, 1002),
            ("a piece of nothing", frame(0, b"x"), 1002),
            ("a length beyond all bounds", endless, 1009),
            (
                "a message above the limit",
                frame(TEXT, &vec![b'x'; 100_001]),
                1009,
            ),
            ("pieces above the limit", pieces, 1009),
            ("binary", frame(2, b"{}"), 4400),
            ("no UTF-8", frame(TEXT, &[0xff, 0xfe]), 4400),
            ("no JSON", frame(TEXT, b"hello"), 4400),
        ] {
            let mut socket = Raw::acknowledged(&app).await;
            socket.send(&bytes).await;
            assert_eq!(socket.closed().await, Some(code), "{what}");
        }
        let mut random = fastrand::Rng::with_seed(11);
        let mut most = 0;
        for _ in 0..size(60, 2_000) {
            let mut socket = Raw::acknowledged(&app).await;
            let mut bytes = vec![0; random.usize(2..4_000)];
            random.fill(&mut bytes);
            // What is left of it may be the beginning of a frame that is waited for.
            socket.send(&bytes).await;
            let _ = socket.0.shutdown().await;
            let code = socket.closed().await;
            assert!(
                code.is_none_or(|code| [1000, 1002, 1009, 4400].contains(&code)),
                "{code:?}"
            );
            most = most.max(private(app.pid()));
        }
        assert!(most < before + ROOM, "garbage took memory: {before}, {most} KiB");
        assert_eq!(app.data("{ __typename }", json!({})).await["__typename"], "Query");
        app.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn very_many_subscriptions_at_once_are_refused_one_by_one() {
    with_db(Backend::Sqlite, async |db: TestDb| {
        let app = Setup::new(&db)
            .flag("--max-listeners-per-connection", 50)
            .start()
            .await;
        let Raw(stream) = Raw::acknowledged(&app).await;
        let before = private(app.pid());
        let asked = size(5_000, 100_000);
        let (mut heard, mut said) = stream.into_split();
        let asking = async {
            for id in 0..asked {
                let message = json!({
                    "type": "subscribe", "id": format!("{id}"),
                    "payload": { "query": "subscription { jobEvents { status } }" },
                });
                let bytes = frame(TEXT, message.to_string().as_bytes());
                within("a message's way", said.write_all(&bytes)).await.unwrap();
            }
        };
        let hearing = async {
            for _ in 0..asked - 50 {
                let Some((TEXT, text)) = within("a refusal", hear(&mut heard)).await else {
                    panic!("the server closed the socket");
                };
                let message: Value = serde_json::from_slice(&text).unwrap();
                assert_eq!(message["type"], "error", "{message}");
                assert_eq!(message["payload"][0]["extensions"]["code"], "LIMIT_EXCEEDED");
            }
        };
        tokio::join!(asking, hearing);
        let after = private(app.pid());
        assert!(after < before + ROOM, "{before}, {after} KiB");
        // The first ones live.
        app.shell("true").await;
        for _ in 0..50 {
            let (_, text) = within("an event", hear(&mut heard)).await.unwrap();
            let message: Value = serde_json::from_slice(&text).unwrap();
            assert_eq!(message["type"], "next", "{message}");
        }
        app.stop().await;
    })
    .await;
}
