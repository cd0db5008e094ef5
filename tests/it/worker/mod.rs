//! `runql worker`, as a process of its own beside a real server: what it runs, what it tells, and what it outlives.

mod arguments;
mod end;
mod lost;
mod many;
mod python;
mod stop;
mod task;

use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use crate::life::printed;
use crate::support::app::TestApp;
use crate::support::machine::living_with;
use crate::support::wait::{until, within};

/// Runs what the task itself says.
const EVAL: [&str; 3] = ["bash", "-c", r#"eval "$PARAM_LINE""#];

/// A process that works for a server.
#[derive(Debug)]
struct Remote {
    child: Child,
    folder: Arc<tempfile::TempDir>,
    told: Arc<Mutex<Vec<String>>>,
    log: JoinSet<()>,
}

impl Remote {
    /// A worker that runs what its tasks say.
    fn start(url: &str, flags: &[&str]) -> Self {
        Self::with_command(url, flags, &EVAL)
    }

    fn with_command(url: &str, flags: &[&str], command: &[&str]) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("runql-worker-")
            .tempdir()
            .unwrap();
        Self::in_folder(Arc::new(folder), url, flags, command)
    }

    /// A worker in the folder that another one had.
    fn in_folder(folder: Arc<tempfile::TempDir>, url: &str, flags: &[&str], command: &[&str]) -> Self {
        let mut worker = Command::new(env!("CARGO_BIN_EXE_runql"));
        worker
            .args(["worker", "--server", url, "--log-format", "json"])
            .args(["--cancel-grace-ms", "500"])
            .arg("--job-write")
            .arg(std::env::temp_dir())
            .args(flags)
            .arg("--work-dir")
            .arg(folder.path().join("work"))
            .arg("--")
            .args(command)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap());
        Self::spawn(worker, folder)
    }

    /// Any other program that is a worker.
    fn spawn(mut command: Command, folder: Arc<tempfile::TempDir>) -> Self {
        command
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&told);
        let mut log = JoinSet::new();
        log.spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                eprintln!("worker: {line}");
                heard.lock().unwrap().push(line);
            }
        });
        Self {
            child,
            folder,
            told,
            log,
        }
    }

    /// Waits until it has said this, and gives the line.
    async fn says(&self, text: &str) -> String {
        until("the worker's word", async || {
            let told = self.told.lock().unwrap();
            let line = told.iter().find(|line| line.contains(text)).cloned();
            line.ok_or_else(|| told.clone())
        })
        .await
    }

    /// Waits until the server knows it, and gives its name.
    async fn registered(&self) -> String {
        let line: Value = serde_json::from_str(&self.says("\"registered\"").await).unwrap();
        line["worker.name"].as_str().unwrap().to_owned()
    }

    fn signal(&self, name: &str) {
        crate::support::machine::signal(self.child.id().unwrap(), name);
    }

    async fn kill(&mut self) {
        self.child.start_kill().unwrap();
        within("the worker's death", self.child.wait()).await.unwrap();
    }

    async fn exit(&mut self) -> Option<i32> {
        let code = within("the worker's end", self.child.wait())
            .await
            .unwrap()
            .code();
        while self.log.join_next().await.is_some() {}
        code
    }

    /// Waits until no process of a job is left.
    async fn nothing_left(&self) {
        until("no process of a job is left", async || {
            let left = left_in(self.folder.path());
            let mine = self.child.id();
            let left: Vec<_> = left.into_iter().filter(|(pid, _)| Some(*pid) != mine).collect();
            if left.is_empty() { Ok(()) } else { Err(left) }
        })
        .await;
    }

    /// Ends it in order, and insists that it left nothing.
    async fn stop(mut self) {
        self.signal("TERM");
        assert_eq!(self.exit().await, Some(0), "the worker did not end in order");
        let left = left_in(self.folder.path());
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

/// Living processes of jobs that work in this folder.
fn left_in(folder: &Path) -> Vec<(u32, String)> {
    living_with(folder.as_os_str())
        .into_iter()
        .filter(|(_, command)| !command.starts_with("runql-spawner"))
        .collect()
}

/// The input of `run` for a task that is a line of bash.
fn line(line: &str) -> Value {
    json!({ "command": { "task": { "problemId": "bench-line", "parameters": { "line": line } } } })
}

/// As [`line`], with more fields of the input.
fn line_with(text: &str, more: Value) -> Value {
    let mut input = line(text);
    for (name, value) in more.as_object().unwrap() {
        input[name] = value.clone();
    }
    input
}

/// All lines of a job's log that its program printed.
async fn lines(app: &TestApp, id: &str) -> Vec<Value> {
    let query = "query($id: ID!) { job(id: $id) { logs(first: 1000, filter: { streams: [STDOUT, STDERR] }) {
        nodes { stream level message context } pageInfo { hasNextPage }
    } } }";
    let data = app.data(query, json!({ "id": id })).await;
    let logs = &data["job"]["logs"];
    assert_eq!(logs["pageInfo"]["hasNextPage"], false, "more than a page");
    logs["nodes"].as_array().unwrap().clone()
}

async fn cancel(app: &TestApp, id: &str) {
    let query = "mutation($input: CancelInput!) { cancel(input: $input) { errors { message } } }";
    let data = app.data(query, json!({ "input": { "id": id } })).await;
    assert_eq!(data["cancel"]["errors"], json!([]));
}

/// The worker as the API shows it, by its name.
async fn shown(app: &TestApp, name: &str) -> Value {
    let query = "{ workers { name status tasksCompleted tasksFailed backendType
        capabilities { maxParallelTasks supportedProblems } currentJobs { id } } }";
    let data = app.data(query, json!({})).await;
    let workers = data["workers"].as_array().unwrap();
    workers
        .iter()
        .find(|worker| worker["name"] == name)
        .cloned()
        .unwrap_or_default()
}
