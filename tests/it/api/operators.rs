//! What operators ask over HTTP: health, readiness, figures and the schema; and who else may not ask.

use reqwest::header::{CONTENT_TYPE, HOST, ORIGIN};
use serde_json::{Value, json};

use super::fixture::request;
use crate::support::app::{Setup, TestApp};
use crate::support::both_stores;
use crate::support::db::TestDb;
use crate::support::wait::until;

both_stores!(
    health_and_readiness,
    metrics_move_with_jobs,
    foreign_pages_are_kept_out
);

async fn health_and_readiness(db: TestDb) {
    let app = Setup::new(&db).flag("--workers", 2).start().await;
    let get = async |path: &str| {
        app.http()
            .get(format!("{}{path}", app.url()))
            .send()
            .await
            .unwrap()
    };
    let ready = get("/ready").await;
    assert_eq!(
        (ready.status().as_u16(), ready.json::<Value>().await.unwrap()),
        (200, json!({ "ready": true }))
    );
    let health = get("/health").await;
    assert_eq!(health.status(), 200);
    assert_eq!(health.headers()["cache-control"], "no-store");
    let health: Value = health.json().await.unwrap();
    assert_eq!(
        (&health["status"], &health["database"]["connected"]),
        (&json!("HEALTHY"), &json!(true))
    );
    assert_eq!(health["workers"], json!({ "running": true, "size": 2 }));
    assert_eq!(health["queue"], json!({ "pending": 0, "running": 0 }));
    let schema = get("/schema.graphql").await.text().await.unwrap();
    let printed = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/schema.graphql")).unwrap();
    assert_eq!(schema, printed);
    // What is not there is told in the form of every other error, with the request's id.
    for path in [
        "/nothing",
        "/jobs/x",
        "/jobs/01981c6a-5ad1-7abc-8def-000000000000/log",
        "/jobs/nonsense/log",
    ] {
        let answer = get(path).await;
        let id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
        assert_eq!(answer.status(), 404, "{path}");
        let body: Value = answer.json().await.unwrap();
        let extensions = json!({ "code": "NOT_FOUND", "requestId": id });
        assert_eq!(body["errors"][0]["extensions"], extensions, "{path}: {body:#}");
    }
    app.stop().await;
}

async fn metrics(app: &TestApp) -> String {
    let answer = app
        .http()
        .get(format!("{}/metrics", app.url()))
        .send()
        .await
        .unwrap();
    assert!(
        answer.headers()[CONTENT_TYPE]
            .to_str()
            .unwrap()
            .starts_with("text/plain")
    );
    answer.text().await.unwrap()
}

/// The value of a series; none where it is not told.
fn value(text: &str, series: &str) -> Option<f64> {
    text.lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

async fn metrics_move_with_jobs(db: TestDb) {
    // The gauges are read once in a quarter of a lease.
    let app = Setup::new(&db).flag("--lease-ms", 1_000).start().await;
    let completed = r#"runql_jobs_ended_total{status="COMPLETED",kind="SHELL"}"#;
    assert_eq!(value(&metrics(&app).await, completed), None);
    for line in ["echo 0123456789", "echo 0123456789", "exit 1"] {
        app.ended(
            &app.run(request(json!({ "shell": { "command": line } }), json!({})))
                .await,
        )
        .await;
    }
    let job = app
        .run(json!({ "command": { "exec": { "program": "sleep", "args": ["60"] } } }))
        .await;
    let expected = [
        (completed, 2.0),
        (r#"runql_jobs_ended_total{status="FAILED",kind="SHELL"}"#, 1.0),
        (r#"runql_jobs{status="COMPLETED"}"#, 2.0),
        (r#"runql_jobs{status="RUNNING"}"#, 1.0),
        (r#"runql_jobs{status="PENDING"}"#, 0.0),
        ("runql_job_duration_seconds_count", 3.0),
        ("runql_job_wait_seconds_count", 4.0),
        ("runql_log_bytes_total", 22.0),
    ];
    let text = until("the figures", async || {
        let text = metrics(&app).await;
        let met = expected
            .iter()
            .all(|(series, wanted)| value(&text, series) == Some(*wanted));
        if met { Ok(text) } else { Err(text) }
    })
    .await;
    for series in [
        "runql_store_writes_total",
        "runql_store_commit_seconds_count",
        "runql_store_group_size_count",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_cpu_seconds_total",
    ] {
        assert!(
            value(&text, series).is_some_and(|value| value > 0.0),
            "{series} in\n{text}"
        );
    }
    let cancel = format!("mutation {{ cancel(input: {{ id: \"{job}\" }}) {{ errors {{ code }} }} }}");
    app.data(&cancel, Value::Null).await;
    app.ended(&job).await;
    until("the cancelled job is counted", async || {
        let text = metrics(&app).await;
        let cancelled = value(&text, r#"runql_jobs_ended_total{status="CANCELLED",kind="EXEC"}"#);
        if cancelled == Some(1.0) { Ok(()) } else { Err(text) }
    })
    .await;
    app.stop().await;
}

async fn foreign_pages_are_kept_out(db: TestDb) {
    let app = Setup::new(&db)
        .flag("--allowed-origins", "https://friend.test")
        .flag("--allowed-hosts", "runql.test")
        .start()
        .await;
    let run = json!({ "query": "mutation { run(input: { command: { shell: { command: \"true\" } } }) { job { id } } }" });
    let own = app.url();
    for (headers, status) in [
        (vec![(HOST, "evil.test")], 403),
        (vec![(HOST, "127.0.0.1.evil.test")], 403),
        (vec![(ORIGIN, "https://evil.test")], 403),
        (vec![(ORIGIN, "null")], 403),
        (vec![(ORIGIN, "http://127.0.0.1:1")], 403),
        (vec![(HOST, "runql.test"), (ORIGIN, "http://127.0.0.1")], 403),
        (vec![(ORIGIN, own.as_str())], 200),
        (vec![(ORIGIN, "https://friend.test")], 200),
        (vec![(HOST, "runql.test")], 200),
        (vec![], 200),
    ] {
        let mut post = app.http().post(format!("{own}/graphql")).json(&run);
        for (name, value) in &headers {
            post = post.header(name, *value);
        }
        let answer = post.send().await.unwrap();
        assert_eq!(answer.status(), status, "{headers:?}");
        if status == 403 {
            let body: Value = answer.json().await.unwrap();
            assert_eq!(
                body["errors"][0]["extensions"]["code"], "FORBIDDEN",
                "{headers:?}"
            );
        }
    }
    // What a page may send without asking first is refused as well.
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
    ] {
        let post = app
            .http()
            .post(format!("{own}/graphql"))
            .header(CONTENT_TYPE, kind)
            .body(run.to_string());
        assert_eq!(post.send().await.unwrap().status(), 415, "{kind}");
    }
    let counts = app.data("{ stats { counts { total } } }", Value::Null).await;
    assert_eq!(counts["stats"]["counts"]["total"], 4);
    app.stop().await;
}
