//! Web pages of other origins, in a real browser: they read nothing of a server and run nothing on it, unless it lets
//! their origin in.

use std::path::Path;
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Map, Value, json};

use super::{closed, data, token};
use crate::support::app::{Setup, TestApp};
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    hostile_pages_get_nothing,
    a_page_that_is_let_in_may_ask,
    what_a_job_printed_is_inert,
);

/// What each attempt of each page read of the server.
async fn visit(app: &TestApp, log: &str, marker: &Path, more: &[&str]) -> Map<String, Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/hostile.mjs");
    let run = tokio::process::Command::new("node")
        .arg(script)
        .args(["--target", &app.url(), "--log", log, "--marker"])
        .arg(marker)
        .args(more)
        .kill_on_drop(true)
        .output();
    // A browser takes its time to start on a busy machine.
    let output = tokio::time::timeout(Duration::from_secs(100), run)
        .await
        .unwrap()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn path(log_url: &Value) -> &str {
    let url = log_url.as_str().unwrap();
    &url[url.find("/jobs/").unwrap()..]
}

async fn hostile_pages_get_nothing(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let job = app
        .completed(json!({ "command": { "shell": { "command": "echo 'private words'" } } }))
        .await;
    let marker = app.folder().join("touched");
    let jobs = "{ jobs(first: 10) { nodes { id } } }";
    // First by what guards a server without tokens, then by the tokens themselves.
    let mut secret = None;
    for with_tokens in [false, true] {
        if with_tokens {
            secret = Some(token(&app, "reader", "read", &[]).await);
            closed(&app).await;
        }
        let pages = visit(&app, path(&job["logUrl"]), &marker, &[]).await;
        assert_eq!(pages.len(), 4);
        for (page, attempts) in &pages {
            let attempts = attempts.as_object().unwrap();
            assert_eq!(attempts.len(), 30, "{attempts:#?}");
            for (attempt, read) in attempts {
                // A name that was rebound has the server's own origin, so its pages read the refusals.
                let refused = page == "rebound"
                    && ["401 ", "403 "]
                        .iter()
                        .any(|code| read.as_str().is_some_and(|read| read.starts_with(code)));
                assert!(read.is_null() || refused, "{page}, {attempt}: {read}");
            }
        }
        let left = match &secret {
            Some(secret) => data(&app, secret, jobs, json!({})).await,
            None => app.data(jobs, json!({})).await,
        };
        assert_eq!(left["jobs"]["nodes"].as_array().unwrap().len(), 1, "{left:#}");
        assert!(!marker.exists());
    }
    app.stop().await;
}

async fn a_page_that_is_let_in_may_ask(db: TestDb) {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port().to_string();
    let app = Setup::new(&db)
        .flag("--allowed-origins", format!("http://localhost:{port}"))
        .start()
        .await;
    let job = app
        .completed(json!({ "command": { "shell": { "command": "echo 'private words'" } } }))
        .await;
    let marker = app.folder().join("touched");
    drop(free);
    let pages = visit(&app, path(&job["logUrl"]), &marker, &["--page-port", &port]).await;
    let read = |attempt: &str| pages["allowed"][attempt].as_str().unwrap_or_default().to_owned();
    for (attempt, expected) in [
        ("json", "\"job\":{\"id\":"),
        ("query by GET", "\"nodes\":["),
        ("subscription by POST", "event: "),
        ("mutation by WebSocket", "\"job\":{\"id\":"),
        ("subscription by WebSocket", "\"total\":"),
        ("subscription by EventSource", "\"total\":"),
        ("log", "private words"),
        ("metrics", "runql_"),
    ] {
        assert!(read(attempt).contains(expected), "{attempt}: {pages:#?}");
    }
    // What no well-meaning page does is refused to it as well: it would be open to others with it.
    for attempt in ["text/plain", "urlencoded", "mutation by GET"] {
        assert!(read(attempt).starts_with('4'), "{attempt}: {}", read(attempt));
    }
    for attempt in ["mutation by EventSource", "frames", "windows"] {
        assert_eq!(read(attempt), "", "{attempt}");
    }
    let jobs = app.data("{ jobs(first: 10) { nodes { id } } }", json!({})).await;
    // By JSON and by WebSocket, and by nothing else.
    assert_eq!(jobs["jobs"]["nodes"].as_array().unwrap().len(), 3, "{jobs:#}");
    app.stop().await;
}

async fn what_a_job_printed_is_inert(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let job = app
        .completed(json!({ "command": { "shell": { "command": "echo '<script>alert(1)</script>'" } } }))
        .await;
    let log = format!("{}?stream=stdout", path(&job["logUrl"]));
    for (path, status) in [
        (log.as_str(), StatusCode::OK),
        ("/jobs/none/log", StatusCode::NOT_FOUND),
        ("/", StatusCode::OK),
        ("/graphiql/plain", StatusCode::OK),
        ("/graphql", StatusCode::BAD_REQUEST),
        ("/health", StatusCode::OK),
        ("/ready", StatusCode::OK),
        ("/metrics", StatusCode::OK),
        ("/schema.graphql", StatusCode::OK),
        ("/nothing", StatusCode::NOT_FOUND),
    ] {
        let answer = app
            .http()
            .get(format!("{}{path}", app.url()))
            .send()
            .await
            .unwrap();
        let headers = answer.headers().clone();
        let header = |name: &str| headers[name].to_str().unwrap();
        assert_eq!(answer.status(), status, "{path}");
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header("x-frame-options"), "DENY", "{path}");
        assert_eq!(header("cross-origin-opener-policy"), "same-origin", "{path}");
        assert_eq!(header("cross-origin-resource-policy"), "same-origin", "{path}");
        assert!(
            ["no-referrer", "same-origin"].contains(&header("referrer-policy")),
            "{path}"
        );
        let policy = header("content-security-policy");
        assert!(
            policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{path}: {policy}"
        );
        assert!(!policy.contains("script-src 'unsafe-inline'"), "{path}: {policy}");
        if path == log {
            assert_eq!(header("content-type"), "text/plain; charset=utf-8");
            assert!(policy.contains("sandbox"), "{policy}");
            assert_eq!(answer.text().await.unwrap(), "<script>alert(1)</script>\n");
        }
    }
    // Whoever is refused at the gate is answered so as well.
    let refused = app
        .http()
        .get(format!("{}/graphql", app.url()))
        .header("host", "evil.test");
    let refused = refused.send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert_eq!(refused.headers()["x-content-type-options"], "nosniff");
    app.stop().await;
}
