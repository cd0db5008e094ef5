//! A server with a store of its own, started as a user would start it.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::client::{Client, Request};
use crate::db::Db;
use crate::socket::Socket;
use crate::{Bench, Store};

/// A store, with a server on it or without. What is left of both goes when it is dropped.
pub(crate) struct Server {
    program: PathBuf,
    arguments: Vec<String>,
    folder: PathBuf,
    store: Store,
    /// The address of its database.
    database: String,
    /// Where its database is made and dropped.
    admin: String,
    name: String,
    child: Option<Child>,
    address: SocketAddr,
    /// From the spawn to the first answer of `/ready`, at the latest start.
    pub(crate) ready_after: Duration,
}

static SERVERS: AtomicU32 = AtomicU32::new(0);

impl Server {
    /// Makes an empty store and starts a server on it. `arguments` come on top of what every scenario needs.
    pub(crate) fn start(bench: &Bench, arguments: &[&str]) -> Result<Self> {
        let number = SERVERS.fetch_add(1, Ordering::Relaxed);
        let name = format!("runql_bench_{}_{number}", std::process::id());
        let folder = bench.folder.join(&name);
        std::fs::create_dir_all(&folder)?;
        let database = match bench.store {
            Store::Sqlite => format!("sqlite://{}/runql.db?mode=rwc", folder.display()),
            Store::Postgres => {
                Db::open(&bench.postgres)?.execute(&format!("CREATE DATABASE {name}"))?;
                let (server, _) = bench.postgres.rsplit_once('/').unwrap_or((&bench.postgres, ""));
                format!("{server}/{name}")
            }
        };
        let mut server = Self {
            program: bench.server.clone(),
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            folder,
            store: bench.store,
            database,
            admin: bench.postgres.clone(),
            name,
            child: None,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            ready_after: Duration::ZERO,
        };
        server.resume()?;
        Ok(server)
    }

    /// Starts the server again on the store as it is.
    pub(crate) fn resume(&mut self) -> Result<()> {
        self.address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let log = File::create(self.folder.join("server.log"))?;
        let started = Instant::now();
        let child = Command::new(&self.program)
            .args(["serve", "--allow", "exec", "--log-level", "warn"])
            .args(["--listen", &self.address.to_string()])
            .args(["--database-url", &self.database])
            .args(&self.arguments)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        self.child = Some(child);
        let ready = Request::get("/ready", None);
        while !Client::connect(self.address).is_ok_and(|mut client| client.fetch(&ready).is_ok()) {
            let gone = match &mut self.child {
                Some(child) => child.try_wait()?,
                None => None,
            };
            if gone.is_some() || started.elapsed() > Duration::from_secs(60) {
                let log = std::fs::read_to_string(self.folder.join("server.log"))?;
                bail!("the server did not become ready: {log}");
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        self.ready_after = started.elapsed();
        Ok(())
    }

    /// Stops the server in order; the store stays.
    pub(crate) fn stop(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            if let Some(pid) = Pid::from_raw(child.id().cast_signed()) {
                kill_process(pid, Signal::TERM)?;
            }
            let status = child.wait()?;
            ensure!(status.success(), "the server ended with {status}");
        }
        Ok(())
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// A connection to its database, past it.
    pub(crate) fn database(&self) -> Result<Db> {
        Db::open(&self.database)
    }

    /// A client of its own.
    pub(crate) fn client(&self) -> Result<Client> {
        Client::connect(self.address)
    }

    /// A subscription.
    pub(crate) fn listen(&self, query: &str, variables: &Value) -> Result<Socket> {
        Socket::listen(self.address, query, variables)
    }

    /// `startWorkers` or `stopWorkers`.
    pub(crate) fn pool(&self, mutation: &str) -> Result<()> {
        let query = format!("mutation {{ {mutation} {{ workerPool {{ running }} errors {{ message }} }} }}");
        self.client()?.query(&query, &json!({}))?;
        Ok(())
    }

    /// Waits until so many jobs are COMPLETED; an end of another kind is an error.
    pub(crate) fn completed(&self, wanted: i64) -> Result<()> {
        let mut client = self.client()?;
        let query = "{ stats { counts { completed failed timeout cancelled } } }";
        let since = Instant::now();
        loop {
            let counts = client.query(query, &json!({}))?["stats"]["counts"].take();
            let count = |name: &str| counts[name].as_i64().unwrap_or(0);
            let badly = count("failed") + count("timeout") + count("cancelled");
            ensure!(badly == 0, "{badly} jobs ended badly");
            if count("completed") >= wanted {
                return Ok(());
            }
            ensure!(
                since.elapsed() < Duration::from_secs(900),
                "not all {wanted} jobs ended: {counts}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Where its database is, for messages.
    pub(crate) const fn store(&self) -> Store {
        self.store
    }
}

/// Removes what runs that were killed have left.
pub(crate) fn sweep(bench: &Bench, with_postgres: bool) -> Result<()> {
    let is_left = |name: &str| {
        let pid = name
            .strip_prefix("runql_bench_")
            .and_then(|rest| rest.split('_').next());
        pid.is_some_and(|pid| !std::path::Path::new("/proc").join(pid).exists())
    };
    for entry in std::fs::read_dir(&bench.folder)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(is_left) {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    if with_postgres {
        let admin = Db::open(&bench.postgres)?;
        let names = admin.text("SELECT COALESCE(string_agg(datname, ','), '') FROM pg_database")?;
        for name in names.split(',').filter(|name| is_left(name)) {
            admin.execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))?;
        }
    }
    Ok(())
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if self.store == Store::Postgres
            && let Ok(admin) = Db::open(&self.admin)
        {
            let _ = admin.execute(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
