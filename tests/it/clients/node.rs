//! Scripts of `tests/clients`, run by Node.js against the real server.
//!
//! A script does what a page does, checks it, and ends with status 0. What it cannot do itself, such as to start the
//! server anew, it asks for on its standard output; the answer comes on its standard input.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use crate::support::app::TestApp;

/// The folder with the scripts and their packages.
pub(super) fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    assert!(
        folder.join("node_modules").is_dir(),
        "first run `npm ci` in {}, or tests/run.sh",
        folder.display()
    );
    folder
}

/// A script at work.
#[derive(Debug)]
struct Script {
    node: Child,
    input: ChildStdin,
    said: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
}

impl Script {
    fn start(arguments: &[&str]) -> Self {
        let mut node = Command::new("node")
            .current_dir(folder())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("node could not be started ({error}): install Debian's package nodejs")
            });
        let input = node.stdin.take().unwrap();
        let said = BufReader::new(node.stdout.take().unwrap()).lines();
        Self { node, input, said }
    }

    async fn ends_well(mut self, name: &str) {
        let status = self.node.wait().await.unwrap();
        assert!(status.success(), "{name} ended with {status}");
    }
}

/// Runs a script that needs no server.
pub(super) async fn check(arguments: &[&str]) {
    let mut script = Script::start(arguments);
    while let Some(line) = script.said.next_line().await.unwrap() {
        eprintln!("{line}");
    }
    script.ends_well(arguments[0]).await;
}

/// Runs a script on a server, which it gets as its first argument, and does for it what it asks for. Its own bounds
/// end it.
pub(super) async fn drive(app: &mut TestApp, script: &str, arguments: &[&str]) {
    let url = graphql_url(app);
    let mut all = vec![script, url.as_str()];
    all.extend(arguments);
    let mut node = Script::start(&all);
    while let Some(line) = node.said.next_line().await.unwrap() {
        eprintln!("{line}");
        match line.as_str() {
            "please restart" => {
                app.signal("TERM");
                assert_eq!(app.exit().await, Some(0));
                app.restart().await;
            }
            "please kill" => {
                app.kill().await;
                app.restart().await;
            }
            _ => continue,
        }
        let answer = format!("{}\n", graphql_url(app));
        node.input.write_all(answer.as_bytes()).await.unwrap();
    }
    node.ends_well(script).await;
}

fn graphql_url(app: &TestApp) -> String {
    format!("{}/graphql", app.url())
}
