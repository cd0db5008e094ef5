//! Requests that get one response.

use super::*;

#[tokio::test]
async fn queries_mutations_and_variables_are_executed() {
    let server = Server::start(TransportConfig::default()).await;
    assert_eq!(
        server.query("{hello}").await,
        (200, json!({ "data": { "hello": "world" } }))
    );
    assert_eq!(
        server.query("mutation {bump}").await,
        (200, json!({ "data": { "bump": 0 } }))
    );
    let body = json!({ "query": "query($n: Int!) {number(number: $n)}", "variables": { "n": 7 } });
    assert_eq!(server.post(body).await.1, json!({ "data": { "number": 7 } }));
    // The default value counts where the executor itself would pass it over.
    let body = json!({ "query": "query($on: Boolean = true) {hello @include(if: $on)}" });
    assert_eq!(server.post(body).await.1, json!({ "data": { "hello": "world" } }));
}

#[tokio::test]
async fn errors_have_codes_and_faults_are_masked() {
    let server = Server::start(TransportConfig::default()).await;
    for (query, status, expected) in [
        ("{", 400, "GRAPHQL_PARSE_FAILED"),
        ("{nothing}", 400, "GRAPHQL_VALIDATION_FAILED"),
        ("query A {hello} query B {hello}", 400, "BAD_REQUEST"),
        ("{number(number: \"x\")}", 400, "GRAPHQL_VALIDATION_FAILED"),
        ("{word(word: \"bad\")}", 200, "BAD_USER_INPUT"),
        ("{refused}", 200, "FORBIDDEN"),
        ("{leak}", 200, "INTERNAL"),
        ("{missingData}", 200, "INTERNAL"),
        ("{panics}", 500, "INTERNAL"),
        ("subscription {endless}", 406, "BAD_REQUEST"),
    ] {
        let (got, body) = server.query(query).await;
        assert_eq!((got, code(&body)), (status, expected), "{query}: {body}");
        assert!(body["errors"][0]["extensions"]["requestId"].is_string(), "{body}");
        assert!(
            !body.to_string().contains("1234") && !body.to_string().contains("Instant"),
            "{body}"
        );
        assert_eq!(body.get("data").is_some(), status == 200, "{query}: {body}");
    }
    // An error beside data.
    let (_, body) = server.query("{hello refused}").await;
    assert_eq!(
        (&body["data"]["hello"], code(&body)),
        (&json!("world"), "FORBIDDEN")
    );
    // Clients of old get status 200 for every GraphQL response.
    let (status, body) = server
        .post_for("application/json", json!({ "query": "{nothing}" }))
        .await;
    assert_eq!((status, code(&body)), (200, "GRAPHQL_VALIDATION_FAILED"));
}

#[tokio::test]
async fn a_result_with_errors_has_the_shape_of_the_schema() {
    let server = Server::start(TransportConfig::default()).await;
    for (query, data) in [
        ("{hello refused}", json!({ "hello": "world", "refused": null })),
        ("{refused}", json!({ "refused": null })),
        ("{bad {maybe}}", json!({ "bad": { "maybe": null } })),
        (
            "{hello bad {fine sure}}",
            json!({ "hello": "world", "bad": null }),
        ),
        ("{word(word: \"bad\") hello}", json!(null)),
    ] {
        let (status, body) = server.query(query).await;
        assert_eq!((status, &body["data"]), (200, &data), "{query}: {body}");
    }
}

#[tokio::test]
async fn a_bad_variable_is_the_clients_fault() {
    let server = Server::start(TransportConfig::default()).await;
    for variables in [
        json!({ "w": "bad" }),
        json!({ "w": 1 }),
        json!({ "w": null }),
        json!({}),
    ] {
        let (_, body) = server
            .post(json!({ "query": "query($w: Word!) {word(word: $w)}", "variables": variables }))
            .await;
        assert!(
            ["BAD_USER_INPUT", "GRAPHQL_VALIDATION_FAILED"].contains(&code(&body)),
            "{body}"
        );
    }
}

#[tokio::test]
async fn the_request_id_is_the_clients_or_new_and_everywhere() {
    let server = Server::start(TransportConfig::default()).await;
    let client = reqwest::Client::new();
    let request = |id: &'static str| {
        client
            .post(server.url())
            .header("x-request-id", id)
            .json(&json!({ "query": "{requestId refused}" }))
            .send()
    };
    let response = request("mine-1").await.unwrap();
    assert_eq!(response.headers()["x-request-id"], "mine-1");
    let body: serde_json::Value = response.json().await.unwrap();
    assert_eq!(body["data"]["requestId"], "mine-1");
    assert_eq!(body["errors"][0]["extensions"]["requestId"], "mine-1");
    let response = request("not sane").await.unwrap();
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    assert_eq!(uuid::Uuid::parse_str(&id).unwrap().get_version_num(), 7);
    let body: serde_json::Value = response.json().await.unwrap();
    assert_eq!(body["data"]["requestId"], id);
}

#[tokio::test]
async fn get_is_for_queries() {
    let server = Server::start(TransportConfig::default()).await;
    let client = reqwest::Client::new();
    let get = |query: &str| client.get(server.url()).query(&[("query", query)]);
    assert_eq!(
        answered(get("{hello}")).await,
        (200, json!({ "data": { "hello": "world" } }))
    );
    let response = get("mutation {bump}").send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["allow"]),
        (405, &"POST".parse().unwrap())
    );
    // The operation that is chosen decides, not the first.
    let two = get("query A {hello} mutation B {bump}").query(&[("operationName", "B")]);
    assert_eq!(answered(two).await.0, 405);
    assert_eq!(server.bumps.load(Ordering::SeqCst), 0);
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS"] {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let response = client.request(method, server.url()).send().await.unwrap();
        // The CORS layer answers OPTIONS by itself.
        assert!([405, 200].contains(&response.status().as_u16()));
        assert_eq!(
            response.status() == 200,
            response.headers().get("allow").is_none()
        );
    }
    let twice = client
        .get(server.url())
        .query(&[("query", "{hello}"), ("query", "{hello}")]);
    assert_eq!(answered(twice).await.0, 400);
}

#[tokio::test]
async fn a_body_is_json_within_limits() {
    let config = TransportConfig {
        max_request_bytes: 1000,
        max_batch: 3,
        ..TransportConfig::default()
    };
    let server = Server::start(config).await;
    let client = reqwest::Client::new();
    let body = r#"{"query":"mutation {bump}"}"#;
    for content_type in [
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain",
        "application/graphql",
        "application/json; charset=utf-16",
        "application/jsonp",
        "",
    ] {
        let request = client
            .post(server.url())
            .header("content-type", content_type)
            .body(body);
        assert_eq!(answered(request).await.0, 415, "{content_type}");
    }
    assert_eq!(answered(client.post(server.url()).body(body)).await.0, 415);
    let gzip = client
        .post(server.url())
        .header("content-type", "application/json")
        .header("content-encoding", "gzip");
    assert_eq!(answered(gzip.body(body)).await.0, 415);
    assert_eq!(server.bumps.load(Ordering::SeqCst), 0);

    let json = |body: String| {
        client
            .post(server.url())
            .header("content-type", "application/json")
            .body(body)
    };
    for (body, status, expected) in [
        (
            format!(r#"{{"query":"{{hello}}","x":"{}"}}"#, "x".repeat(1000)),
            413,
            "LIMIT_EXCEEDED",
        ),
        ("{".to_owned(), 400, "BAD_REQUEST"),
        (
            format!("{}1{}", "[".repeat(400), "]".repeat(400)),
            400,
            "BAD_REQUEST",
        ),
        ("[]".to_owned(), 400, "BAD_REQUEST"),
        (
            r#"[{"query":"{hello}"},{},{},{}]"#.to_owned(),
            400,
            "LIMIT_EXCEEDED",
        ),
    ] {
        let (got, body) = answered(json(body)).await;
        assert_eq!((got, code(&body)), (status, expected));
    }
    // A body whose length is not told is measured as it comes.
    let chunks = (0..50).map(|_| Ok::<_, std::io::Error>("x".repeat(100)));
    let mut raw = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let mut request = "POST /graphql HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n".to_owned();
    for chunk in chunks {
        request.push_str(&format!("64\r\n{}\r\n", chunk.unwrap()));
    }
    request.push_str("0\r\n\r\n");
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    raw.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(BOUND, raw.read_u8()).await.unwrap().unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 413"), "{head}");
    assert!(head.contains("connection: close"), "{head}");
}

#[tokio::test]
async fn a_batch_answers_each_operation_in_its_place() {
    let server = Server::start(TransportConfig::default()).await;
    let (status, body) = server
        .post(json!([
            { "query": "{hello}" },
            { "query": "{" },
            { "query": "{panics}" },
            { "query": "subscription {endless}" },
            { "query": "mutation {bump}" },
        ]))
        .await;
    assert_eq!(status, 200);
    assert_eq!(body[0], json!({ "data": { "hello": "world" } }));
    assert_eq!(
        [code(&body[1]), code(&body[2]), code(&body[3])],
        ["GRAPHQL_PARSE_FAILED", "INTERNAL", "BAD_REQUEST"]
    );
    assert_eq!(body[4], json!({ "data": { "bump": 0 } }));
}

#[tokio::test]
async fn a_small_document_cannot_be_large_work() {
    let server = Server::start(TransportConfig::default()).await;
    let mut bomb = "{...F0}".to_owned();
    for level in 0..31 {
        bomb.push_str(&format!(
            " fragment F{level} on Query {{...F{0} ...F{0}}}",
            level + 1
        ));
    }
    bomb.push_str(" fragment F31 on Query {hello}");
    for document in [
        bomb,
        format!("{{word(word: {})}}", "[".repeat(400_000)),
        "{hello ".repeat(100_000),
    ] {
        let (status, body) = server.query(&document).await;
        assert_eq!((status, code(&body)), (400, "LIMIT_EXCEEDED"));
    }
    let cycle = "{...A} fragment A on Query {...A ...A}";
    assert_eq!(code(&server.query(cycle).await.1), "GRAPHQL_VALIDATION_FAILED");
    // The limits that the executor checks by itself.
    let deep = format!(
        "{{__schema{{types{{fields{{type{}{{name}}{}",
        "{ofType".repeat(40),
        "}".repeat(44)
    );
    let (_, body) = server.query(&deep).await;
    assert_eq!(code(&body), "LIMIT_EXCEEDED", "{body}");
}

#[tokio::test]
async fn persisted_queries_are_sent_once() {
    use sha2::{Digest as _, Sha256};
    let server = Server::start(TransportConfig::default()).await;
    let hash: String = Sha256::digest("{hello}")
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let extensions = json!({ "persistedQuery": { "version": 1, "sha256Hash": hash } });
    let (status, body) = server.post(json!({ "extensions": extensions })).await;
    assert_eq!(
        (status, code(&body), &body["errors"][0]["message"]),
        (400, "PERSISTED_QUERY_NOT_FOUND", &json!("PersistedQueryNotFound"))
    );
    let (status, _) = server
        .post(json!({ "query": "{hello}", "extensions": extensions }))
        .await;
    assert_eq!(status, 200);
    let request = reqwest::Client::new()
        .get(server.url())
        .query(&[("extensions", extensions.to_string())]);
    assert_eq!(
        answered(request).await,
        (200, json!({ "data": { "hello": "world" } }))
    );
}

#[tokio::test]
async fn what_no_form_fits_is_not_acceptable() {
    let server = Server::start(TransportConfig::default()).await;
    assert_eq!(
        server
            .post_for("text/html", json!({ "query": "{hello}" }))
            .await
            .0,
        406
    );
    let response = reqwest::Client::new()
        .post(server.url())
        .json(&json!({ "query": "{hello}" }))
        .send()
        .await
        .unwrap();
    assert_eq!(
        response.headers()["content-type"],
        "application/json; charset=utf-8"
    );
}

#[tokio::test]
async fn the_log_has_what_the_client_is_not_told() {
    use std::io::Write;
    use std::sync::Mutex;
    use tracing_subscriber::fmt::MakeWriter;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Log {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(log.clone())
        .finish();
    // The runtime of this test has this one thread, so that its default is that of every task.
    let _default = tracing::subscriber::set_default(subscriber);
    let server = Server::start(TransportConfig::default()).await;
    for query in ["{leak}", "{panics}"] {
        let (_, body) = server.query(query).await;
        let id = body["errors"][0]["extensions"]["requestId"]
            .as_str()
            .unwrap()
            .to_owned();
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let line = text.lines().find(|line| line.contains(&id)).unwrap();
        assert!(
            line.contains("ERROR") && line.contains("the password is 1234"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let config = TransportConfig {
        body_timeout: Duration::from_millis(50),
        ..TransportConfig::default()
    };
    let server = Server::start(config).await;
    let mut raw = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let head =
        "POST /graphql HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{";
    raw.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    timeout(BOUND, raw.read_exact(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
}
