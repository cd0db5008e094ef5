//! The real server, started as a person would, with folders and a database of its own.
//!
//! A test that ends, however it ends, leaves no server; one that leaves a process of a job fails.

mod server;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use self::server::Server;
use super::db::TestDb;
use super::machine::living_with;
use super::wait::{until, within};

/// Statuses that a job does not leave.
const FINAL: [&str; 4] = ["COMPLETED", "FAILED", "TIMEOUT", "CANCELLED"];

/// Lets the system choose a port.
const ANY_PORT: &str = "127.0.0.1:0";

/// How a server is to be started.
#[derive(Debug)]
pub(crate) struct Setup {
    db: TestDb,
    flags: Vec<String>,
    env: Vec<(String, String)>,
    /// Where the database is reached, if not at its own address.
    through: Option<String>,
    /// The address that it listens on; the system chooses the port.
    listen: &'static str,
    /// Files in its folder before it starts: their names and texts.
    files: Vec<(String, String)>,
    /// Whether its jobs may write nothing but their own folders, as it is for everybody who does not say otherwise.
    closed: bool,
    /// What the server's command is handed to, which becomes the server.
    prefix: Vec<String>,
}

impl Setup {
    /// A server that may run everything.
    pub(crate) fn new(db: &TestDb) -> Self {
        let flags = [
            "--allow",
            "exec,shell,aws_cli",
            "--workers",
            "3",
            "--cancel-grace-ms",
            "500",
        ];
        Self {
            db: db.clone(),
            flags: flags.map(str::to_owned).to_vec(),
            env: Vec::new(),
            through: None,
            listen: ANY_PORT,
            files: Vec::new(),
            closed: false,
            prefix: Vec::new(),
        }
    }

    /// Starts the server by another program, which prepares its surroundings and becomes it.
    pub(crate) fn by(mut self, prefix: Vec<String>) -> Self {
        self.prefix = prefix;
        self
    }

    /// Reaches the database at another address: that of a forwarder.
    pub(crate) fn through(mut self, url: impl Into<String>) -> Self {
        self.through = Some(url.into());
        self
    }

    /// Listens on another address, with a port of the system's choice.
    pub(crate) fn listen(mut self, address: &'static str) -> Self {
        self.listen = address;
        self
    }

    /// Adds a flag with its value; a later one wins over an earlier one.
    pub(crate) fn flag(mut self, name: &str, value: impl ToString) -> Self {
        if let Some(place) = self.flags.iter().position(|flag| flag == name) {
            self.flags.drain(place..place + 2);
        }
        self.flags.extend([name.to_owned(), value.to_string()]);
        self
    }

    /// Leaves a flag out.
    pub(crate) fn without(mut self, name: &str) -> Self {
        if let Some(place) = self.flags.iter().position(|flag| flag == name) {
            self.flags.drain(place..place + 2);
        }
        self
    }

    /// Its jobs may not write to its folder. Most tests have jobs that leave signs there.
    pub(crate) fn closed(mut self) -> Self {
        self.closed = true;
        self
    }

    /// Writes a file into its folder before it starts.
    pub(crate) fn file(mut self, name: &str, text: &str) -> Self {
        self.files.push((name.to_owned(), text.to_owned()));
        self
    }

    /// Sets a variable of the server's own environment.
    pub(crate) fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.env.push((name.to_owned(), value.to_string()));
        self
    }

    fn database_url(&self) -> &str {
        self.through.as_deref().unwrap_or(self.db.url())
    }

    /// Lets its jobs write to its folder, which the server refuses where its own settings lie there.
    fn job_write<'a>(&self, folder: &'a Path) -> Vec<&'a Path> {
        let own = |name: &str| name.ends_with(".toml") || name.starts_with("secrets/");
        let settings = self.files.iter().any(|(name, _)| own(name));
        if self.closed || settings {
            Vec::new()
        } else {
            vec![Path::new("--job-write"), folder]
        }
    }

    /// Starts it, and waits until it is ready.
    pub(crate) async fn start(self) -> TestApp {
        let app = self.launch().await;
        app.ready().await;
        app
    }

    /// Starts it, and waits until it listens.
    pub(crate) async fn launch(self) -> TestApp {
        let folder = tempfile::Builder::new().prefix("runql-app-").tempdir().unwrap();
        std::fs::create_dir(folder.path().join("scripts")).unwrap();
        for (name, text) in &self.files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let server = Server::start(&self, folder.path(), self.listen).await;
        TestApp {
            setup: self,
            folder,
            server,
            http: reqwest::Client::new(),
        }
    }
}

/// A running server and its clients.
#[derive(Debug)]
pub(crate) struct TestApp {
    setup: Setup,
    folder: tempfile::TempDir,
    server: Server,
    http: reqwest::Client,
}

impl TestApp {
    /// `http://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.server.address)
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> &str {
        &self.server.address
    }

    /// The address of its database.
    pub(crate) fn database_url(&self) -> &str {
        self.setup.database_url()
    }

    /// The server's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.server.child.id().unwrap()
    }

    /// The client that the shortcuts use.
    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// The folder that holds `scripts`, `pipelines`, `work` and whatever a test likes.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a script, executable.
    pub(crate) fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder().join("scripts").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// Writes a pipeline, with the extension in its name.
    pub(crate) fn pipeline(&self, name: &str, text: &str) {
        let path = self.folder().join("pipelines").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Waits until `/ready` says so.
    pub(crate) async fn ready(&self) {
        until("the server is ready", async || {
            let answer = self
                .http
                .get(format!("{}/ready", self.url()))
                .send()
                .await
                .map_err(|e| e.to_string())?;
            if answer.status().is_success() {
                Ok(())
            } else {
                Err(answer.text().await.unwrap_or_default())
            }
        })
        .await;
    }

    /// The whole answer to an operation.
    pub(crate) async fn answer(&self, query: &str, variables: Value) -> Value {
        let body = json!({ "query": query, "variables": variables });
        let sent = self
            .http
            .post(format!("{}/graphql", self.url()))
            .json(&body)
            .send();
        within("an answer", async { sent.await.unwrap().json().await.unwrap() }).await
    }

    /// The data of an operation that must not fail.
    pub(crate) async fn data(&self, query: &str, variables: Value) -> Value {
        let mut answer = self.answer(query, variables).await;
        assert!(answer.get("errors").is_none(), "{answer:#}\nfor {query}");
        answer["data"].take()
    }

    /// The payload of `run`.
    pub(crate) async fn try_run(&self, input: Value) -> Value {
        let query = "mutation($input: RunInput!) {
            run(input: $input) { job { id status } deduplicated errors { code message path } }
        }";
        self.data(query, json!({ "input": input })).await["run"].take()
    }

    /// Stores a job that must be taken, and gives its id.
    pub(crate) async fn run(&self, input: Value) -> String {
        let payload = self.try_run(input).await;
        assert_eq!(payload["errors"], json!([]), "{payload:#}");
        payload["job"]["id"].as_str().unwrap().to_owned()
    }

    /// Runs a line of bash.
    pub(crate) async fn shell(&self, line: &str) -> String {
        self.run(json!({ "command": { "shell": { "command": line } } }))
            .await
    }

    /// What most tests look at of a job.
    pub(crate) async fn job(&self, id: &str) -> Value {
        let query = "query($id: ID!) { job(id: $id) {
            id kind name status waitReason queue priority attempt maxAttempts timeoutMs createdAt updatedAt runAt
            startedAt finishedAt durationMs exitCode signal output error { code message }
            progress { current total percentage step } worker { id name } stdout stderr logUrl
            attempts { number status exitCode signal error { code } worker { name } }
        } }";
        self.data(query, json!({ "id": id })).await["job"].take()
    }

    /// Waits until a job has a status.
    pub(crate) async fn job_in(&self, id: &str, statuses: &[&str]) -> Value {
        until("the job's status", async || {
            let job = self.job(id).await;
            let status = job["status"].as_str().unwrap_or_default().to_owned();
            if statuses.contains(&status.as_str()) {
                Ok(job)
            } else {
                Err(job)
            }
        })
        .await
    }

    /// Waits until a job has ended.
    pub(crate) async fn ended(&self, id: &str) -> Value {
        self.job_in(id, &FINAL).await
    }

    /// Stores a job, waits for its end, and insists that it completed.
    pub(crate) async fn completed(&self, input: Value) -> Value {
        let id = self.run(input).await;
        let job = self.ended(&id).await;
        assert_eq!(job["status"], "COMPLETED", "{job:#}");
        job
    }

    /// The whole log of one stream, as bytes.
    pub(crate) async fn bytes(&self, id: &str, stream: &str) -> Vec<u8> {
        let url = format!("{}/jobs/{id}/log?stream={stream}", self.url());
        let answer = self.http.get(url).send().await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
        answer.bytes().await.unwrap().to_vec()
    }

    /// Kills the server as an operator's `kill -9` does.
    pub(crate) async fn kill(&mut self) {
        self.server.child.start_kill().unwrap();
        within("the server's death", self.server.child.wait())
            .await
            .unwrap();
    }

    /// What the server has told in its log, but where it listens.
    pub(crate) fn told(&self) -> Vec<String> {
        self.server.told.lock().unwrap().clone()
    }

    /// Sends a signal, by its name.
    pub(crate) fn signal(&self, name: &str) {
        let sent = std::process::Command::new("kill")
            .args(["-s", name, &self.pid().to_string()])
            .status();
        assert!(sent.unwrap().success());
    }

    /// Whether the server is still there.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.server.child.try_wait(), Ok(None))
    }

    /// Waits until the server has ended by itself, and gives its code.
    pub(crate) async fn exit(&mut self) -> Option<i32> {
        let code = within("the server's end", self.server.child.wait())
            .await
            .unwrap()
            .code();
        while self.server.log.join_next().await.is_some() {}
        code
    }

    /// Starts it again on the same folders and database, and waits until it is ready.
    pub(crate) async fn restart(&mut self) {
        self.server = Server::start(&self.setup, self.folder.path(), self.setup.listen).await;
        self.ready().await;
    }

    /// As [`TestApp::restart`], on the port that it had: for clients that come back to it.
    pub(crate) async fn restart_in_place(&mut self) {
        let address = self.server.address.clone();
        self.server = Server::start(&self.setup, self.folder.path(), &address).await;
        self.ready().await;
    }

    /// Arms failpoints for its next starts, as `src/failpoint.rs` says; an empty text disarms them.
    pub(crate) fn arm(&mut self, rules: &str) {
        const VARIABLE: &str = "RUNQL_FAILPOINTS";
        self.setup.env.retain(|(name, _)| name != VARIABLE);
        self.setup.env.push((VARIABLE.to_owned(), rules.to_owned()));
    }

    /// As [`TestApp::restart`], but waits only until it listens: it may be about to die.
    pub(crate) async fn relaunch(&mut self) {
        self.server = Server::start(&self.setup, self.folder.path(), ANY_PORT).await;
    }

    /// The processes of its jobs that live: all that have this app's folder in their environment or arguments.
    pub(crate) fn job_processes(&self) -> Vec<(u32, String)> {
        let mark = self.folder().as_os_str();
        let server = self.server.child.id();
        living_with(mark)
            .into_iter()
            .filter(|(pid, command)| {
                Some(*pid) != server && !command.starts_with("runql-spawner") && !command.contains("__runql")
            })
            .collect()
    }

    /// Waits until no process of any job is left.
    pub(crate) async fn nothing_left(&self) {
        until("no process of a job is left", async || {
            let left = self.job_processes();
            if left.is_empty() { Ok(()) } else { Err(left) }
        })
        .await;
    }

    /// Ends the server in order, and insists that it left nothing.
    pub(crate) async fn stop(mut self) {
        self.signal("TERM");
        assert_eq!(self.exit().await, Some(0), "the server did not end in order");
        let left = living_with(self.folder().as_os_str());
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}
