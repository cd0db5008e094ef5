//! The page over a real socket, with what `build.rs` fetched and without.

use std::sync::Arc;

use reqwest::{Client, Response, StatusCode};

use super::{Site, VENDORED, serve};

/// Serves a site for the length of a test, and answers with its address.
async fn start(site: Site) -> (String, tokio::task::JoinSet<std::io::Result<()>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut server = tokio::task::JoinSet::new();
    server.spawn(async move { axum::serve(listener, serve(Arc::new(site))).await });
    (url, server)
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response
        .headers()
        .get(name)
        .unwrap_or_else(|| panic!("no header {name}"))
        .to_str()
        .unwrap()
}

/// Every address that the page names: `href` and `src` below `/graphiql`.
fn addresses(page: &str) -> Vec<&str> {
    page.split('"')
        .filter(|piece| piece.starts_with("/graphiql/"))
        .collect()
}

async fn assert_whole(url: &str, path: &str) {
    let client = Client::new();
    let page = client.get(format!("{url}{path}")).send().await.unwrap();
    assert_eq!(page.status(), StatusCode::OK);
    assert_eq!(header(&page, "content-type"), "text/html; charset=utf-8");
    assert_eq!(header(&page, "cache-control"), "no-cache");
    let policy = header(&page, "content-security-policy");
    assert!(
        policy.contains("default-src 'none'") && policy.contains("script-src 'self';"),
        "{policy}"
    );
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    assert_eq!(header(&page, "x-content-type-options"), "nosniff");
    assert_eq!(header(&page, "referrer-policy"), "same-origin");
    let page = page.text().await.unwrap();
    assert!(!page.contains("{{"), "a placeholder was left in {page}");
    assert!(
        !page.contains("http://") && !page.contains("https://"),
        "{path} names another host"
    );
    assert!(page.contains("subscription Watch"), "{path} has no example");
    let addresses = addresses(&page);
    assert!(addresses.len() >= 3, "{addresses:?}");
    for address in addresses {
        let asset = client.get(format!("{url}{address}")).send().await.unwrap();
        assert_eq!(asset.status(), StatusCode::OK, "{address}");
        assert_eq!(
            header(&asset, "cache-control"),
            "public, max-age=31536000, immutable"
        );
        assert_eq!(header(&asset, "x-content-type-options"), "nosniff");
        let expected = match address.rsplit_once('.').unwrap().1 {
            "js" => "text/javascript; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            "svg" => "image/svg+xml",
            _ => "text/plain; charset=utf-8",
        };
        assert_eq!(header(&asset, "content-type"), expected);
        assert!(!asset.bytes().await.unwrap().is_empty(), "{address}");
    }
}

#[tokio::test]
async fn both_pages_come_whole_and_name_only_this_server() {
    let (url, _server) = start(Site::new(VENDORED)).await;
    assert_whole(&url, "/").await;
    assert_whole(&url, "/graphiql/plain").await;
}

#[tokio::test]
async fn without_graphiql_the_front_is_the_plain_page() {
    let (url, _server) = start(Site::new(&[])).await;
    assert_whole(&url, "/").await;
    let front = reqwest::get(format!("{url}/"))
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(
        front.contains("RUNQL_GRAPHIQL=required"),
        "it does not say how to get GraphiQL"
    );
}

#[tokio::test]
async fn what_a_client_has_is_not_sent_again() {
    let (url, _server) = start(Site::new(VENDORED)).await;
    let client = Client::new();
    let tag = header(&client.get(&url).send().await.unwrap(), "etag").to_owned();
    for (sent, expected) in [
        (tag.clone(), StatusCode::NOT_MODIFIED),
        (format!("\"other\", W/{tag}"), StatusCode::NOT_MODIFIED),
        (String::from("*"), StatusCode::NOT_MODIFIED),
        (String::from("\"other\""), StatusCode::OK),
    ] {
        let answer = client
            .get(&url)
            .header("if-none-match", &sent)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), expected, "{sent}");
        assert_eq!(header(&answer, "etag"), tag);
    }
}

#[tokio::test]
async fn an_address_with_another_hash_is_not_found() {
    let (url, _server) = start(Site::new(VENDORED)).await;
    for path in [
        "/graphiql/0000000000000000/page.js",
        "/graphiql/page.js",
        "/graphiql/..%2f/page.js",
    ] {
        assert_eq!(
            reqwest::get(format!("{url}{path}")).await.unwrap().status(),
            StatusCode::NOT_FOUND,
            "{path}"
        );
    }
}
