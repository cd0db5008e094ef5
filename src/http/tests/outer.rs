//! What is around the endpoint: the guard, CORS, ids and the data of outer layers.

use axum::middleware::{Next, from_fn};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::*;

async fn guarded(allowed_origins: &[&str]) -> Server {
    let guard = GuardConfig {
        check_host_and_origin: Arc::new(|| true),
        allowed_origins: allowed_origins.iter().map(|&origin| origin.to_owned()).collect(),
        ..GuardConfig::default()
    };
    Server::start_with(TransportConfig::default(), guard, "127.0.0.1:0").await
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pairs = pairs.iter().map(|(name, value)| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_str(value).unwrap(),
        )
    });
    pairs.collect()
}

#[tokio::test]
async fn foreign_hosts_origins_and_sites_are_refused() {
    let server = guarded(&["https://app.test"]).await;
    let client = reqwest::Client::new();
    let own = format!("http://{}", server.address);
    for (pairs, status) in [
        (&[][..], 200),
        (&[("host", "localhost:1")], 200),
        (&[("origin", own.as_str())], 200),
        (&[("origin", "https://app.test")], 200),
        (&[("host", "evil.test")], 403),
        (&[("origin", "https://evil.test")], 403),
        (&[("origin", "null")], 403),
        (&[("origin", "http://localhost:1")], 403),
        (
            &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")],
            403,
        ),
        (
            &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")],
            200,
        ),
        (&[("sec-fetch-site", "same-origin")], 200),
    ] {
        let request = client
            .get(server.url())
            .query(&[("query", "{hello}")])
            .headers(headers(pairs));
        let (got, body) = answered(request).await;
        assert_eq!(got, status, "{pairs:?}: {body}");
        if status == 403 {
            assert_eq!(code(&body), "FORBIDDEN");
            assert!(body["errors"][0]["extensions"]["requestId"].is_string());
        }
    }
}

#[tokio::test]
async fn allowed_origins_get_cors_headers() {
    let server = guarded(&["https://app.test"]).await;
    let client = reqwest::Client::new();
    let preflight = |origin: &'static str| {
        let pairs = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "content-type"),
        ];
        client
            .request(reqwest::Method::OPTIONS, server.url())
            .headers(headers(&pairs))
            .send()
    };
    let response = preflight("https://app.test").await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(
        response.headers()["access-control-allow-origin"],
        "https://app.test"
    );
    assert!(
        response.headers()["access-control-allow-headers"]
            .to_str()
            .unwrap()
            .contains("content-type")
    );
    assert_eq!(preflight("https://evil.test").await.unwrap().status(), 403);
    let request = client
        .get(server.url())
        .query(&[("query", "{hello}")])
        .header("origin", "https://app.test");
    let response = request.send().await.unwrap();
    assert_eq!(
        response.headers()["access-control-allow-origin"],
        "https://app.test"
    );
    assert_eq!(
        response.headers()["access-control-expose-headers"],
        "x-request-id"
    );
}

#[tokio::test]
async fn other_handlers_answer_errors_in_the_same_form() {
    let server = guarded(&[]).await;
    let request = reqwest::Client::new()
        .get(format!("http://{}/other", server.address))
        .header("x-request-id", "r1");
    let (status, body) = answered(request).await;
    assert_eq!(status, 404);
    assert_eq!(
        body,
        json!({ "errors": [{ "message": "nothing here", "extensions": { "code": "NOT_FOUND", "requestId": "r1" } }] })
    );
}

#[tokio::test]
async fn outer_layers_hand_data_to_operations() {
    let schema = Schema::build(Query(true), Mutation, Subscriptions).finish();
    let (routes, _) = graphql_routes(schema, TransportConfig::default(), CancellationToken::new());
    let router = routes.layer(from_fn(
        async |mut request: axum::extract::Request, next: Next| {
            let data = OperationData::default().with(Principal("ada".to_owned()));
            request.extensions_mut().insert(data);
            next.run(request).await
        },
    ));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/graphql", listener.local_addr().unwrap());
    let mut serving = JoinSet::new();
    serving.spawn(async move { axum::serve(listener, router).await.unwrap() });
    let batch = json!([{ "query": "{principal}" }, { "query": "{principal}" }]);
    let (_, body) = answered(reqwest::Client::new().post(url).json(&batch)).await;
    assert_eq!(
        body,
        json!([{ "data": { "principal": "ada" } }, { "data": { "principal": "ada" } }])
    );
}
