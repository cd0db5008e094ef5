//! The real AWS command line against a stand-in for AWS on this machine. `bash tests/run.sh` puts both into PATH.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;
use crate::support::wait::within;

both_stores!(the_aws_command_line_does_what_it_is_told);

/// A moto server on a port of its own.
struct Moto {
    url: String,
    _server: Child,
    _log: JoinSet<()>,
}

impl Moto {
    async fn start() -> Self {
        let mut server = Command::new("moto_server")
            .args(["-H", "127.0.0.1", "-p", "0"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("moto_server ({error}): run the tests by tests/run.sh"));
        let mut lines = BufReader::new(server.stderr.take().unwrap()).lines();
        let url = within("moto's address", async {
            loop {
                let line = lines.next_line().await.unwrap().expect("moto ended at its start");
                if let Some((_, url)) = line.split_once("Running on ") {
                    return url.trim().to_owned();
                }
            }
        })
        .await;
        let mut log = JoinSet::new();
        log.spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self {
            url,
            _server: server,
            _log: log,
        }
    }
}

async fn the_aws_command_line_does_what_it_is_told(db: TestDb) {
    let moto = Moto::start().await;
    let app = Setup::new(&db)
        .env("AWS_ACCESS_KEY_ID", "testing")
        .env("AWS_SECRET_ACCESS_KEY", "testing")
        .env("UNRELATED_SECRET", "nobody's business")
        .start()
        .await;
    let input = |service: &str, operation: &str, args: &[&str]| {
        json!({
            "command": { "awsCli": {
                "service": service, "operation": operation, "args": args, "region": "us-east-1",
            } },
            "env": [{ "name": "AWS_ENDPOINT_URL", "value": moto.url }],
        })
    };
    app.completed(input("s3api", "create-bucket", &["--bucket", "shelf"]))
        .await;
    let body = app.folder().join("body.txt");
    std::fs::write(&body, "a book").unwrap();
    let body = body.to_str().unwrap();
    let put = ["--bucket", "shelf", "--key", "book.txt", "--body", body];
    let job = app.completed(input("s3api", "put-object", &put)).await;
    assert_eq!(job["kind"], "AWS_CLI");
    let answer: Value = serde_json::from_str(job["stdout"].as_str().unwrap()).unwrap();
    assert!(answer["ETag"].is_string(), "{answer:#}");

    let job = app
        .completed(input("s3api", "list-buckets", &["--output", "json"]))
        .await;
    let answer: Value = serde_json::from_str(job["stdout"].as_str().unwrap()).unwrap();
    assert_eq!(answer["Buckets"][0]["Name"], "shelf");

    let get = ["--bucket", "shelf", "--key", "missing.txt", "/dev/null"];
    let id = app.run(input("s3api", "get-object", &get)).await;
    let job = app.ended(&id).await;
    assert_eq!(job["status"], "FAILED", "{job:#}");
    assert_eq!(job["error"]["code"], "EXIT_CODE");
    assert_eq!(job["exitCode"], 255);
    assert!(job["stderr"].as_str().unwrap().contains("NoSuchKey"), "{job:#}");

    // The credentials are for this kind of job alone, and nothing else of the server's environment is for any.
    let job = app.completed(super::shell("env")).await;
    let env = job["stdout"].as_str().unwrap();
    assert!(
        !env.contains("AWS_") && !env.contains("UNRELATED_SECRET"),
        "{env}"
    );
    app.stop().await;
}
