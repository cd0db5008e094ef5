//! The process of a server: how it is started, and what it says.

use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use super::Setup;
use crate::support::wait::within;

/// A server process.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) child: Child,
    pub(super) address: String,
    pub(super) log: JoinSet<()>,
    pub(super) told: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Starts it, and waits until it listens at this address.
    pub(super) async fn start(setup: &Setup, folder: &Path, listen: &str) -> Self {
        let mut words = setup
            .prefix
            .iter()
            .map(String::as_str)
            .chain([env!("CARGO_BIN_EXE_runql")]);
        let mut command = Command::new(words.next().unwrap());
        command
            .args(words)
            .arg("serve")
            .args([
                "--listen",
                listen,
                "--log-format",
                "json",
                "--database-url",
                setup.database_url(),
            ])
            .arg("--scripts-dir")
            .arg(folder.join("scripts"))
            .arg("--work-dir")
            .arg(folder.join("work"))
            .args(&setup.flags)
            .args(setup.job_write(folder))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", folder)
            .envs(setup.env.iter().map(|(name, value)| (name, value)))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut seen = Vec::new();
        let address = within("the server's address", async {
            loop {
                let Some(line) = lines.next_line().await.unwrap() else {
                    panic!("the server ended at its start:\n{}", seen.join("\n"));
                };
                let entry: Value = serde_json::from_str(&line).unwrap_or_default();
                if let Some(address) = find(&entry, "address") {
                    return address;
                }
                seen.push(line);
            }
        })
        .await;
        let mut log = JoinSet::new();
        let told = Arc::new(Mutex::new(seen));
        let heard = Arc::clone(&told);
        log.spawn(async move {
            // Shown by the test runner where the test fails.
            while let Ok(Some(line)) = lines.next_line().await {
                eprintln!("server: {line}");
                heard.lock().unwrap().push(line);
            }
        });
        Self {
            child,
            address,
            log,
            told,
        }
    }
}

/// The first text under this key, at any depth.
fn find(value: &Value, key: &str) -> Option<String> {
    match value {
        Value::Object(fields) => fields
            .get(key)
            .and_then(|value| value.as_str().map(str::to_owned))
            .or_else(|| fields.values().find_map(|value| find(value, key))),
        _ => None,
    }
}
