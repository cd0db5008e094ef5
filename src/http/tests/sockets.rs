//! WebSockets: the protocol's words, its close codes, and what a misbehaving client costs.

use futures_util::SinkExt as _;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::*;

pub(super) struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    async fn open(server: &Server, protocol: Option<&str>) -> Self {
        let mut request = format!("ws://{}/graphql", server.address)
            .into_client_request()
            .unwrap();
        if let Some(protocol) = protocol {
            request
                .headers_mut()
                .insert("sec-websocket-protocol", protocol.parse().unwrap());
        }
        // Our client library refuses an answer without the subprotocol it offered; a browser would as well.
        match timeout(BOUND, connect_async(request)).await.unwrap() {
            Ok((socket, response)) => {
                assert_eq!(
                    response.headers().get("sec-websocket-protocol").is_some(),
                    protocol.is_some()
                );
                Self(socket)
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// A connection that is acknowledged.
    pub(super) async fn connect(server: &Server) -> Self {
        Self::connect_as(server, json!({})).await
    }

    /// A connection that is acknowledged after these words.
    pub(super) async fn connect_as(server: &Server, payload: serde_json::Value) -> Self {
        let mut client = Self::open(server, Some("graphql-transport-ws")).await;
        client
            .say(json!({ "type": "connection_init", "payload": payload }))
            .await;
        assert_eq!(client.hear().await, json!({ "type": "connection_ack" }));
        client
    }

    async fn say(&mut self, message: serde_json::Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    pub(super) async fn subscribe(&mut self, id: &str, query: &str) {
        self.ask(id, json!({ "query": query })).await;
    }

    pub(super) async fn ask(&mut self, id: &str, payload: serde_json::Value) {
        self.say(json!({ "type": "subscribe", "id": id, "payload": payload }))
            .await;
    }

    async fn next(&mut self) -> Option<Message> {
        loop {
            match timeout(BOUND, self.0.next()).await.unwrap() {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(message)) => return Some(message),
                _ => return None,
            }
        }
    }

    pub(super) async fn hear(&mut self) -> serde_json::Value {
        match self.next().await {
            Some(Message::Text(text)) => serde_json::from_str(&text).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// The code that the server closes with, after whatever it still says.
    async fn closed(mut self) -> u16 {
        loop {
            match self.next().await {
                Some(Message::Close(Some(CloseFrame { code, .. }))) => return code.into(),
                Some(_) => {}
                None => panic!("closed without a word"),
            }
        }
    }
}

#[tokio::test]
async fn operations_of_all_kinds_run_side_by_side() {
    let server = Server::start(TransportConfig::default()).await;
    let mut client = Client::connect(&server).await;
    client.subscribe("endless", "subscription {endless}").await;
    assert_eq!(
        client.hear().await,
        json!({ "id": "endless", "type": "next", "payload": { "data": { "endless": 1 } } })
    );
    client.subscribe("q", "{hello}").await;
    assert_eq!(
        client.hear().await,
        json!({ "id": "q", "type": "next", "payload": { "data": { "hello": "world" } } })
    );
    assert_eq!(client.hear().await, json!({ "id": "q", "type": "complete" }));
    client.subscribe("m", "mutation {bump}").await;
    assert_eq!(client.hear().await["payload"]["data"]["bump"], 0);
    assert_eq!(client.hear().await, json!({ "id": "m", "type": "complete" }));
    // An id is free again once its operation was completed by the client, too.
    client.say(json!({ "type": "complete", "id": "endless" })).await;
    client
        .subscribe("endless", "subscription {count(to: 2) {n}}")
        .await;
    assert_eq!(client.hear().await["payload"]["data"]["count"]["n"], 1);
    assert_eq!(client.hear().await["payload"]["data"]["count"]["n"], 2);
    assert_eq!(
        client.hear().await,
        json!({ "id": "endless", "type": "complete" })
    );
    until(|| server.handle.open_subscriptions() == 0).await;
    client.say(json!({ "type": "ping", "payload": { "a": 1 } })).await;
    assert_eq!(
        client.hear().await,
        json!({ "type": "pong", "payload": { "a": 1 } })
    );
    drop(client);
    server.until_idle().await;
}

#[tokio::test]
async fn a_root_in_fragments_delivers() {
    let server = Server::start(TransportConfig::default()).await;
    let mut client = Client::connect(&server).await;
    for query in [
        "subscription {...F} fragment F on Subscription {count(to: 1) {n}}",
        "subscription {... on Subscription {count(to: 1) {n}}}",
        "subscription {count(to: 1) {__typename} ...F} fragment F on Subscription {count(to: 1) {n}}",
    ] {
        client.subscribe("f", query).await;
        assert_eq!(client.hear().await["payload"]["data"]["count"]["n"], 1, "{query}");
        assert_eq!(client.hear().await["type"], "complete", "{query}");
    }
    // Validation still sees the document as it was written.
    for query in [
        "subscription {...F} fragment F on Query {hello}",
        "subscription {...F} fragment F on Subscription {nothing}",
        "subscription {count(to: 1) {n} ...F} fragment F on Subscription {count(to: 2) {n}}",
        "subscription {endless} fragment F on Subscription {endless}",
        "subscription {endless count(to: 1) {n}}",
    ] {
        client.subscribe("f", query).await;
        let error = client.hear().await;
        assert_eq!(error["type"], "error", "{query}: {error}");
        assert_eq!(
            error["payload"][0]["extensions"]["code"], "GRAPHQL_VALIDATION_FAILED",
            "{query}"
        );
    }
}

#[tokio::test]
async fn a_failed_operation_is_an_error_and_takes_no_other_with_it() {
    let server = Server::start(TransportConfig::default()).await;
    let mut client = Client::connect(&server).await;
    client.subscribe("lives", "subscription {endless}").await;
    assert_eq!(client.hear().await["type"], "next");
    for (query, nexts, expected) in [
        ("{", 0, "GRAPHQL_PARSE_FAILED"),
        ("{nothing}", 0, "GRAPHQL_VALIDATION_FAILED"),
        ("{panics}", 0, "INTERNAL"),
        ("subscription {expired}", 0, "CURSOR_EXPIRED"),
        ("subscription {breaks}", 1, "UNAVAILABLE"),
        ("subscription {panics(after: 0)}", 0, "INTERNAL"),
        ("subscription {panics(after: 2)}", 2, "INTERNAL"),
    ] {
        client.subscribe("x", query).await;
        for _ in 0..nexts {
            assert_eq!(client.hear().await["type"], "next", "{query}");
        }
        let error = client.hear().await;
        assert_eq!(
            (&error["type"], &error["id"]),
            (&json!("error"), &json!("x")),
            "{query}: {error}"
        );
        assert_eq!(error["payload"][0]["extensions"]["code"], expected, "{query}");
        assert!(!error.to_string().contains("1234"));
    }
    // An error within a result is part of it, and so is that of one event.
    client.subscribe("x", "{hello refused}").await;
    assert_eq!(client.hear().await["payload"]["data"]["hello"], "world");
    assert_eq!(client.hear().await["type"], "complete");
    client.subscribe("x", "subscription {stumbles}").await;
    assert_eq!(client.hear().await["payload"]["data"]["stumbles"], 1);
    assert_eq!(
        client.hear().await["payload"]["errors"][0]["extensions"]["code"],
        "NOT_FOUND"
    );
    assert_eq!(client.hear().await["payload"]["data"]["stumbles"], 3);
    until(|| server.handle.open_subscriptions() == 2).await;
}

#[tokio::test]
async fn what_breaks_the_protocol_closes_the_socket_with_its_code() {
    let server = Server::start(TransportConfig {
        max_request_bytes: 2000,
        ..TransportConfig::default()
    })
    .await;
    let open = || Client::open(&server, Some("graphql-transport-ws"));
    let init = json!({ "type": "connection_init" });
    let subscribe =
        json!({ "type": "subscribe", "id": "1", "payload": { "query": "subscription {endless}" } });

    let mut client = open().await;
    client.say(json!({ "type": "nonsense" })).await;
    assert_eq!(client.closed().await, 4400);
    let mut client = open().await;
    client.0.send(Message::binary(init.to_string())).await.unwrap();
    assert_eq!(client.closed().await, 4400);
    let mut client = open().await;
    client.say(subscribe.clone()).await;
    assert_eq!(client.closed().await, 4401);
    assert_eq!(Client::open(&server, None).await.closed().await, 4406);
    let mut client = Client::connect(&server).await;
    client.say(subscribe.clone()).await;
    client.say(subscribe).await;
    assert_eq!(client.closed().await, 4409);
    let mut client = Client::connect(&server).await;
    client.say(init).await;
    assert_eq!(client.closed().await, 4429);
    let mut client = Client::connect(&server).await;
    client.subscribe("1", &"x".repeat(3000)).await;
    assert_eq!(client.closed().await, 1009);
    server.until_idle().await;
}

#[tokio::test]
async fn a_client_that_closes_is_answered() {
    let server = Server::start(TransportConfig::default()).await;
    let mut client = Client::connect(&server).await;
    client.subscribe("1", "subscription {endless}").await;
    assert_eq!(client.hear().await["type"], "next");
    let frame = CloseFrame {
        code: 1000.into(),
        reason: "done".into(),
    };
    client.0.close(Some(frame)).await.unwrap();
    assert_eq!(client.closed().await, 1000);
    server.until_idle().await;
}

#[tokio::test]
async fn the_subprotocol_is_the_one_that_is_spoken() {
    let server = Server::start(TransportConfig::default()).await;
    let mut client = Client::open(&server, Some("graphql-ws, graphql-transport-ws")).await;
    client.say(json!({ "type": "connection_init" })).await;
    assert_eq!(client.hear().await["type"], "connection_ack");
    // The answer names no subprotocol, which makes clients give up before the close code comes.
    let mut request = format!("ws://{}/graphql", server.address)
        .into_client_request()
        .unwrap();
    request
        .headers_mut()
        .insert("sec-websocket-protocol", "graphql-ws".parse().unwrap());
    assert!(connect_async(request).await.is_err());
}

#[tokio::test]
async fn the_hook_decides_who_connects_and_the_rest_time_out() {
    let on_connect = ConnectionHook::new(async |init: ConnectionInit| {
        match init
            .payload
            .as_ref()
            .and_then(|payload| payload.get("token"))
            .and_then(|token| token.as_str())
        {
            Some("slow") => std::future::pending().await,
            Some("panics") => panic!("in the hook"),
            Some(name) => Ok(init.data.with(Principal(name.to_owned()))),
            None => Err(ConnectionRefused("no token".to_owned())),
        }
    });
    let config = TransportConfig {
        on_connect,
        init_timeout: Duration::from_millis(100),
        ..TransportConfig::default()
    };
    let server = Server::start(config).await;
    let open = || Client::open(&server, Some("graphql-transport-ws"));
    assert_eq!(open().await.closed().await, 4408);
    let mut slow = open().await;
    slow.say(json!({ "type": "connection_init", "payload": { "token": "slow" } }))
        .await;
    assert_eq!(slow.closed().await, 4408);
    let mut nobody = open().await;
    nobody.say(json!({ "type": "connection_init" })).await;
    assert_eq!(nobody.closed().await, 4403);
    let mut panics = open().await;
    panics
        .say(json!({ "type": "connection_init", "payload": { "token": "panics" } }))
        .await;
    assert_eq!(panics.closed().await, 4403);
    let mut ada = open().await;
    ada.say(json!({ "type": "connection_init", "payload": { "token": "ada" } }))
        .await;
    assert_eq!(ada.hear().await["type"], "connection_ack");
    ada.subscribe("1", "{principal}").await;
    assert_eq!(ada.hear().await["payload"]["data"]["principal"], "ada");
}

#[tokio::test]
async fn sockets_and_subscriptions_are_limited() {
    let config = TransportConfig {
        max_sockets: 2,
        max_subscriptions: 3,
        max_subscriptions_per_connection: 2,
        ..TransportConfig::default()
    };
    let server = Server::start(config).await;
    let (mut one, mut two) = (Client::connect(&server).await, Client::connect(&server).await);
    for (client, id, expected) in [
        (1, "a", "next"),
        (1, "b", "next"),
        (1, "c", "error"),
        (2, "a", "next"),
        (2, "b", "error"),
    ] {
        let client = if client == 1 { &mut one } else { &mut two };
        client.subscribe(id, "subscription {endless}").await;
        let message = client.hear().await;
        assert_eq!((&message["id"], &message["type"]), (&json!(id), &json!(expected)));
        if expected == "error" {
            assert_eq!(message["payload"][0]["extensions"]["code"], "LIMIT_EXCEEDED");
        }
    }
    assert_eq!(
        (server.handle.open_sockets(), server.handle.open_subscriptions()),
        (2, 3)
    );
    let request = format!("ws://{}/graphql", server.address)
        .into_client_request()
        .unwrap();
    match connect_async(request).await {
        Err(tungstenite::Error::Http(response)) => assert_eq!(response.status(), 503),
        other => panic!("{other:?}"),
    }
    drop(one);
    until(|| server.handle.open_subscriptions() == 1).await;
    assert_eq!(server.handle.open_sockets(), 1);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_dropped() {
    let config = TransportConfig {
        send_timeout: Duration::from_millis(200),
        ..TransportConfig::default()
    };
    let server = Server::start(config).await;
    let mut client = Client::connect(&server).await;
    client.subscribe("1", "subscription {flood}").await;
    until(|| server.handle.open_subscriptions() == 1).await;
    server.until_idle().await;
}

#[tokio::test]
async fn a_silent_peer_is_dropped_and_one_that_answers_pings_is_not() {
    let config = TransportConfig {
        keep_alive: Duration::from_millis(50),
        ..TransportConfig::default()
    };
    let server = Server::start(config).await;
    // A client that is not polled answers no pings.
    let silent = Client::connect(&server).await;
    let mut lives = Client::connect(&server).await;
    assert_eq!(server.handle.open_sockets(), 2);
    let mut pings = 0;
    while pings < 8 || server.handle.open_sockets() > 1 {
        match timeout(BOUND, lives.0.next()).await.unwrap() {
            Some(Ok(Message::Ping(_))) => pings += 1,
            other => panic!("{other:?}"),
        }
    }
    lives.subscribe("1", "{hello}").await;
    assert_eq!(lives.hear().await["payload"]["data"]["hello"], "world");
    drop(silent);
}

#[tokio::test]
async fn a_shutdown_lets_queries_end_and_closes_so_that_clients_return() {
    let server = Server::start(TransportConfig::default()).await;
    let mut client = Client::connect(&server).await;
    client.subscribe("s", "subscription {endless}").await;
    assert_eq!(client.hear().await["id"], "s");
    client.subscribe("g", "{gated}").await;
    client.say(json!({ "type": "ping" })).await;
    assert_eq!(client.hear().await["type"], "pong");
    let idle = Client::connect(&server).await;
    server.shutdown.cancel();
    assert_eq!(idle.closed().await, 1001);
    until(|| server.handle.open_subscriptions() == 0).await;
    server.gate.cancel();
    assert_eq!(client.hear().await["payload"]["data"]["gated"], true);
    assert_eq!(client.hear().await, json!({ "id": "g", "type": "complete" }));
    // No `complete` for the subscription: its client is to connect again.
    assert_eq!(client.closed().await, 1001);
    timeout(BOUND, server.handle.closed()).await.unwrap();
    assert_eq!(server.handle.open_sockets(), 0);
}

#[tokio::test]
async fn the_guard_is_before_the_upgrade() {
    let guard = GuardConfig {
        check_host_and_origin: Arc::new(|| true),
        ..GuardConfig::default()
    };
    let server = Server::start_with(TransportConfig::default(), guard, "127.0.0.1:0").await;
    let mut request = format!("ws://{}/graphql", server.address)
        .into_client_request()
        .unwrap();
    request
        .headers_mut()
        .insert("origin", "https://evil.test".parse().unwrap());
    match connect_async(request).await {
        Err(tungstenite::Error::Http(response)) => assert_eq!(response.status(), 403),
        other => panic!("{other:?}"),
    }
}
