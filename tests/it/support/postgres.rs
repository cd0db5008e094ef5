//! A Postgres server of a test's own, that it may stop, kill and start again: `tests/postgres.sh` says how it is run.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use sea_orm::{Database, DatabaseConnection};
use tokio::process::{Child, Command};

use super::db::TestDb;
use super::machine;
use super::wait::{until, within};

/// A server with data of its own, on a port of its own. It ends with the test.
#[derive(Debug)]
pub(crate) struct OwnPostgres {
    folder: tempfile::TempDir,
    port: u16,
    server: Child,
}

impl OwnPostgres {
    /// Makes one and waits until it answers.
    pub(crate) async fn start() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("runql-postgres-")
            .tempdir()
            .unwrap();
        // The port is free again at once, and is not given out to somebody else soon.
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let server = launch(folder.path(), port);
        let postgres = Self { folder, port, server };
        postgres.ready().await;
        postgres
    }

    /// Its one database.
    pub(crate) fn db(&self) -> TestDb {
        TestDb::at(format!("postgres://postgres@127.0.0.1:{}/postgres", self.port))
    }

    /// A connection to it.
    async fn connect(&self) -> Result<DatabaseConnection, sea_orm::DbErr> {
        let mut options = sea_orm::ConnectOptions::new(self.db().url());
        options.max_connections(1).sqlx_logging(false);
        Database::connect(options).await
    }

    /// Ends it with a signal, by its name: INT in order, QUIT at once, KILL as a crash does.
    pub(crate) async fn stop(&mut self, signal: &str) {
        machine::signal(self.server.id().unwrap(), signal);
        within("the end of Postgres", self.server.wait()).await.unwrap();
    }

    /// Kills all of its processes at once, as a machine that goes down does.
    pub(crate) async fn crash(&mut self) {
        self.signal_all("STOP");
        self.signal_all("KILL");
        self.stop("KILL").await;
    }

    /// Stops or continues all of its processes: STOP, CONT.
    pub(crate) fn signal_all(&self, name: &str) {
        let postmaster = self.server.id().unwrap();
        // Whoever is stopped makes no more children.
        if name == "STOP" {
            machine::signal(postmaster, name);
        }
        for pid in machine::children(postmaster) {
            // It may have ended by itself.
            let _ = std::process::Command::new("kill")
                .args(["-s", name, &pid.to_string()])
                .output();
        }
        if name == "CONT" {
            machine::signal(postmaster, name);
        }
    }

    /// Starts it again, on the same data and port, and waits until it answers.
    pub(crate) async fn start_again(&mut self) {
        self.server = launch(self.folder.path(), self.port);
        self.ready().await;
    }

    async fn ready(&self) {
        until("Postgres answers", async || {
            self.connect().await.map(drop).map_err(|error| error.to_string())
        })
        .await;
    }
}

impl Drop for OwnPostgres {
    /// A postmaster that is killed leaves its processes to notice by themselves; asked to quit, it takes them with it.
    fn drop(&mut self) {
        if let Some(pid) = self.server.id() {
            machine::signal(pid, "QUIT");
            self.signal_all("CONT");
            while let Ok(None) = self.server.try_wait() {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
    }
}

fn launch(folder: &Path, port: u16) -> Child {
    let script: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "postgres.sh"]
        .iter()
        .collect();
    Command::new("bash")
        .arg(script)
        .arg(folder)
        .arg(port.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}
