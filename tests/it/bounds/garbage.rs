//! Clients that send garbage, or nothing.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::size;
use crate::support::app::{Setup, TestApp};
use crate::support::db::TestDb;
use crate::support::machine::private;
use crate::support::socket::Socket;
use crate::support::wait::{until, within};
use runql::store::Backend;

use crate::support::db::with_db;

/// One store is enough: nothing of this reaches it.
macro_rules! without_store {
    ($($name:ident),+ $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            with_db(Backend::Sqlite, each::$name).await;
        }
    )+};
}

without_store!(
    whoever_sends_no_request_is_let_go,
    more_connections_than_there_may_be_are_told_so,
    bytes_that_are_no_request_harm_nobody,
);

/// All that the server says until it closes the connection.
async fn last_words(stream: &mut TcpStream) -> String {
    let mut said = Vec::new();
    // A reset is an end too: the server does not wait for what nobody asked it to read.
    let _ = within("the end of a connection", stream.read_to_end(&mut said)).await;
    String::from_utf8_lossy(&said).into_owned()
}

async fn connect(app: &TestApp) -> TcpStream {
    within("a connection", TcpStream::connect(app.address()))
        .await
        .unwrap()
}

async fn still_serves(app: &TestApp) {
    assert_eq!(app.data("{ __typename }", json!({})).await["__typename"], "Query");
}

/// What garbage may add to the server's memory, in KiB.
const ROOM: u64 = 32 * 1024;

mod each {
    use super::*;

    pub(super) async fn whoever_sends_no_request_is_let_go(db: TestDb) {
        let app = Setup::new(&db)
            .flag("--request-head-timeout-ms", 300)
            .start()
            .await;
        let mut silent = connect(&app).await;
        let mut half = connect(&app).await;
        half.write_all(b"POST /graphql HTTP/1.1\r\nhost: x\r\nx-a")
            .await
            .unwrap();
        let mut slow = connect(&app).await;
        let drip = async {
            // A byte now and then does not help.
            while slow.write_all(b"G").await.is_ok() {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        within("a client that drips is let go", drip).await;
        assert_eq!(last_words(&mut silent).await, "");
        last_words(&mut half).await;
        // A socket that listens is no request that is waited for.
        let mut socket = Socket::listen(&app, "subscription { jobEvents { status } }", json!({})).await;
        socket.settled().await;
        still_serves(&app).await;
        let mut idle = connect(&app).await;
        idle.write_all(b"GET /ready HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
            .await
            .unwrap();
        assert!(last_words(&mut idle).await.starts_with("HTTP/1.1 200"));
        app.shell("true").await;
        assert_eq!(socket.next("jobEvents").await["status"], "PENDING");
        app.stop().await;
    }

    pub(super) async fn more_connections_than_there_may_be_are_told_so(db: TestDb) {
        let app = Setup::new(&db).flag("--max-connections", 20).start().await;
        // The test's own client holds one of them.
        let mut held = Vec::new();
        let refused = until("there is no more room", async || {
            let mut stream = connect(&app).await;
            let request = b"GET /ready HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n";
            stream.write_all(request).await.unwrap();
            let mut first = [0; 12];
            within("an answer", stream.read_exact(&mut first)).await.unwrap();
            if first.ends_with(b"503") {
                return Ok(last_words(&mut stream).await);
            }
            held.push(stream);
            Err(held.len())
        })
        .await;
        assert!(held.len() <= 20, "{}", held.len());
        let body: Value = serde_json::from_str(refused.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        assert_eq!(body["errors"][0]["extensions"]["code"], "LIMIT_EXCEEDED");
        assert!(refused.contains("retry-after"));
        held.clear();
        until("there is room again", async || {
            let asked = reqwest::get(format!("{}/ready", app.url())).await;
            match asked.map(|answer| answer.status().as_u16()) {
                Ok(200) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        app.stop().await;
    }

    pub(super) async fn bytes_that_are_no_request_harm_nobody(db: TestDb) {
        let app = Setup::new(&db)
            .flag("--request-head-timeout-ms", 5_000)
            .start()
            .await;
        still_serves(&app).await;
        let before = private(app.pid());
        let mut most = 0;
        let mut random = fastrand::Rng::with_seed(7);
        for round in 0..size(60, 2_000) {
            let mut stream = connect(&app).await;
            let mut bytes = vec![0; random.usize(1..4_000)];
            random.fill(&mut bytes);
            if round % 3 == 1 {
                bytes.splice(0..0, *b"POST /graphql HTTP/1.1\r\nhost: 127.0.0.1\r\n");
            }
            if round % 3 == 2 {
                let head = b"POST /graphql HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: ";
                let length = bytes.len().to_string();
                bytes.splice(0..0, [&head[..], length.as_bytes(), b"\r\n\r\n"].concat());
            }
            // The server may close before all of it is sent.
            let _ = stream.write_all(&bytes).await;
            if round % 3 != 2 {
                let _ = stream.shutdown().await;
            }
            let words = last_words(&mut stream).await;
            most = most.max(private(app.pid()));
            assert!(!words.contains("INTERNAL"), "{words}");
            assert!(
                words.is_empty() || words.starts_with("HTTP/1.1 4"),
                "round {round}: {words}"
            );
            if round % 3 == 2 {
                assert!(
                    words.contains("BAD_REQUEST") || words.contains("\"code\""),
                    "{words}"
                );
            }
        }
        // A head without an end, of which the server keeps no more than its bound.
        let mut huge = connect(&app).await;
        huge.write_all(b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nx-a: ")
            .await
            .unwrap();
        let filler = vec![b'x'; 1 << 16];
        while huge.write_all(&filler).await.is_ok() {}
        let words = last_words(&mut huge).await;
        assert!(words.is_empty() || words.starts_with("HTTP/1.1 431"), "{words}");
        most = most.max(private(app.pid()));
        assert!(most < before + ROOM, "garbage took memory: {before}, {most} KiB");
        still_serves(&app).await;
        app.stop().await;
    }
}
