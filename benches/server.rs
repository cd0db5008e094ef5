//! How fast the real server is, each figure beside a floor measured in the same minute on the same machine.
//!
//! `cargo bench` prints one line for each. The ratio is the result: absolute figures are the machine's. Nothing here
//! passes or fails. `RUNQL_BENCH_JOBS`, `RUNQL_BENCH_ROWS` and `RUNQL_BENCH_LISTENERS` change the sizes, and
//! `DATABASE_URL` names an empty Postgres database to measure instead of SQLite.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark speaks to a person, and stops at a surprise"
)]

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt, stream};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// Callers at once, where many are meant.
const CALLERS: usize = 64;

#[tokio::main]
async fn main() {
    let server = Server::start().await;
    let cores = std::thread::available_parallelism().unwrap().get();
    println!(
        "{} cores, {} workers, {}",
        cores,
        workers(),
        server.backend().await
    );
    throughput(&server).await;
    latency(&server).await;
    intake(&server).await;
    depth(&server).await;
    fan_out(&server).await;
}

fn size(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}

fn workers() -> usize {
    std::thread::available_parallelism().unwrap().get() * 2
}

fn line(what: &str, figure: String, floor: String, ratio: f64) {
    println!("{what:44} {figure:>22}   floor {floor:>30}   ratio {ratio:.2}");
}

/// Jobs from the queue to their end, against spawning the same program from a loop.
async fn throughput(server: &Server) {
    let jobs = size("RUNQL_BENCH_JOBS", 4_000);
    let floor = tokio::task::spawn_blocking(move || spawn_rate(jobs))
        .await
        .unwrap();
    server.pool("stopWorkers").await;
    server.insert(jobs, "/bin/true").await;
    let before = server.completed().await;
    let started = Instant::now();
    server.pool("startWorkers").await;
    while server.completed().await < before + jobs as i64 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let rate = jobs as f64 / started.elapsed().as_secs_f64();
    line(
        "jobs from the queue to their end",
        format!("{rate:.0}/s"),
        format!("{floor:.0} spawns/s"),
        rate / floor,
    );
}

/// /bin/true again and again from as many threads as there are cores.
fn spawn_rate(jobs: usize) -> f64 {
    let threads = std::thread::available_parallelism().unwrap().get();
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for _ in 0..jobs / threads {
                    assert!(
                        Command::new("/bin/true")
                            .stdin(Stdio::null())
                            .status()
                            .unwrap()
                            .success()
                    );
                }
            });
        }
    });
    jobs as f64 / started.elapsed().as_secs_f64()
}

/// One job after the other, from the request to the event that says COMPLETED, against spawning alone.
async fn latency(server: &Server) {
    let rounds = 200;
    let mut spawns: Vec<Duration> = (0..rounds)
        .map(|_| {
            let started = Instant::now();
            assert!(Command::new("/bin/true").status().unwrap().success());
            started.elapsed()
        })
        .collect();
    let mut socket = server
        .listen("subscription { jobEvents(types: [COMPLETED]) { job { id } } }")
        .await;
    let mut times = Vec::new();
    for _ in 0..rounds {
        let started = Instant::now();
        server.run("/bin/true").await;
        next_event(&mut socket).await;
        times.push(started.elapsed());
    }
    let (time, floor) = (median(&mut times), median(&mut spawns));
    line(
        "one job, from `run` to its COMPLETED event",
        format!("{:.2} ms", time * 1e3),
        format!("{:.2} ms for a spawn", floor * 1e3),
        time / floor,
    );
}

/// `run` by many callers at once, each answered once it is on disk, against a request that asks for nothing.
async fn intake(server: &Server) {
    server.pool("stopWorkers").await;
    let requests = size("RUNQL_BENCH_JOBS", 4_000);
    let nothing = server.rate(requests, json!({ "query": "{ __typename }" })).await;
    let rate = server.rate(requests, run_request("/bin/true")).await;
    line(
        &format!("`run` by {CALLERS} callers, each on disk"),
        format!("{rate:.0}/s"),
        format!("{nothing:.0} empty requests/s"),
        rate / nothing,
    );
}

/// A page far back and the figures, with a long history, against the first page.
async fn depth(server: &Server) {
    let rows = size("RUNQL_BENCH_ROWS", 100_000);
    let started = Instant::now();
    server.insert(rows, "/bin/true").await;
    println!(
        "{:44} {:>22}",
        "jobs stored by runMany",
        format!("{:.0}/s", rows as f64 / started.elapsed().as_secs_f64())
    );
    let page = "query($after: String) { jobs(first: 100, after: $after) { edges { cursor } pageInfo { endCursor } } }";
    let mut cursor = Value::Null;
    for _ in 0..(rows / 100).min(1_000) - 1 {
        cursor = server.data(page, json!({ "after": cursor })).await["jobs"]["pageInfo"]["endCursor"].clone();
    }
    let first = server.median(page, json!({})).await;
    let far = server.median(page, json!({ "after": cursor })).await;
    let what = format!("page {} of {rows} jobs", (rows / 100).min(1_000));
    line(
        &what,
        format!("{:.2} ms", far * 1e3),
        format!("{:.2} ms for page 1", first * 1e3),
        far / first,
    );
    let nothing = server.median("{ __typename }", json!({})).await;
    for (what, query) in [
        (
            "stats",
            "{ stats { counts { total } duration { p95 } byName { name counts { total } } finishedPerMinute } }",
        ),
        (
            "health",
            "{ health { status queue { pending } workers { total } } }",
        ),
    ] {
        let time = server.median(query, json!({})).await;
        let what = format!("{what} over {rows} jobs");
        line(
            &what,
            format!("{:.2} ms", time * 1e3),
            format!("{:.2} ms for nothing", nothing * 1e3),
            time / nothing,
        );
    }
}

/// One event to many listeners, against the same to one.
async fn fan_out(server: &Server) {
    let count = size("RUNQL_BENCH_LISTENERS", 1_000);
    let query = "subscription { jobEvents(types: [CREATED]) { cursor type job { id name } } }";
    let mut one = server.listen(query).await;
    let mut alone: Vec<Duration> = Vec::new();
    for _ in 0..20 {
        let started = Instant::now();
        server.run("/bin/true").await;
        next_event(&mut one).await;
        alone.push(started.elapsed());
    }
    drop(one);
    let before = server.resident_kib();
    let mut sockets: Vec<_> = stream::iter(0..count)
        .map(|_| server.listen(query))
        .buffer_unordered(CALLERS)
        .collect()
        .await;
    // A query of each socket's own would do; what is wanted is that all are registered.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let each = (server.resident_kib() - before) as f64 / count as f64;
    let mut times = Vec::new();
    for _ in 0..5 {
        let started = Instant::now();
        let (_, _) = tokio::join!(
            server.run("/bin/true"),
            stream::iter(&mut sockets).for_each_concurrent(None, |socket| async { next_event(socket).await }),
        );
        times.push(started.elapsed());
    }
    let (time, floor) = (median(&mut times), median(&mut alone));
    line(
        &format!("one event to the last of {count} listeners"),
        format!("{:.1} ms", time * 1e3),
        format!("{:.2} ms to one alone", floor * 1e3),
        time / floor,
    );
    println!(
        "{:44} {:>22}",
        "memory of the server for each listener",
        format!("{each:.1} KiB")
    );
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64()
}

fn run_request(program: &str) -> Value {
    json!({
        "query": "mutation($input: RunInput!) { run(input: $input) { job { id } errors { message } } }",
        "variables": { "input": { "command": { "exec": { "program": program } } } },
    })
}

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn next_event(socket: &mut Socket) {
    loop {
        match socket.next().await.unwrap().unwrap() {
            Message::Text(text) if text.contains("\"next\"") => return,
            Message::Text(text) => assert!(!text.contains("\"error\""), "{text}"),
            _ => {}
        }
    }
}

struct Server {
    child: Child,
    url: String,
    http: reqwest::Client,
    _folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let child = Command::new(env!("CARGO_BIN_EXE_runql"))
            .args([
                "serve",
                "--allow",
                "exec",
                "--queue-limit",
                "10000000",
                "--log-level",
                "warn",
            ])
            .args([
                "--listen",
                &format!("127.0.0.1:{port}"),
                "--workers",
                &workers().to_string(),
            ])
            .args(["--max-listeners", "100000"])
            .current_dir(folder.path())
            .spawn()
            .unwrap();
        let server = Self {
            child,
            url: format!("http://127.0.0.1:{port}"),
            http: reqwest::Client::new(),
            _folder: folder,
        };
        while !server
            .http
            .get(format!("{}/ready", server.url))
            .send()
            .await
            .is_ok_and(|ready| ready.status().is_success())
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server
    }

    async fn post(&self, body: &Value) -> Value {
        let answer: Value = self
            .http
            .post(format!("{}/graphql", self.url))
            .json(body)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        assert!(answer.get("errors").is_none(), "{answer}");
        answer
    }

    async fn data(&self, query: &str, variables: Value) -> Value {
        self.post(&json!({ "query": query, "variables": variables }))
            .await["data"]
            .take()
    }

    async fn run(&self, program: &str) {
        let answer = self.post(&run_request(program)).await;
        assert_eq!(answer["data"]["run"]["errors"], json!([]));
    }

    async fn pool(&self, mutation: &str) {
        self.data(
            &format!("mutation {{ {mutation} {{ workerPool {{ running }} }} }}"),
            json!({}),
        )
        .await;
    }

    async fn backend(&self) -> String {
        self.data("{ health { database { backend } } }", json!({})).await["health"]["database"]["backend"]
            .to_string()
    }

    async fn completed(&self) -> i64 {
        self.data("{ stats { counts { completed } } }", json!({})).await["stats"]["counts"]["completed"]
            .as_i64()
            .unwrap()
    }

    async fn insert(&self, jobs: usize, program: &str) {
        let query = "mutation($inputs: [RunInput!]!) { runMany(inputs: $inputs) { errors { message } } }";
        let input = json!({ "command": { "exec": { "program": program } } });
        for start in (0..jobs).step_by(1_000) {
            let inputs = vec![input.clone(); (jobs - start).min(1_000)];
            let payload = self.data(query, json!({ "inputs": inputs })).await;
            assert_eq!(payload["runMany"]["errors"], json!([]));
        }
    }

    /// Requests a second by many callers.
    async fn rate(&self, requests: usize, body: Value) -> f64 {
        let started = Instant::now();
        stream::iter(0..requests)
            .map(|_| self.post(&body))
            .buffer_unordered(CALLERS)
            .for_each(|_| async {})
            .await;
        requests as f64 / started.elapsed().as_secs_f64()
    }

    async fn median(&self, query: &str, variables: Value) -> f64 {
        let body = json!({ "query": query, "variables": variables });
        let mut times = Vec::new();
        for _ in 0..51 {
            let started = Instant::now();
            self.post(&body).await;
            times.push(started.elapsed());
        }
        median(&mut times)
    }

    async fn listen(&self, query: &str) -> Socket {
        let mut request = format!("{}/graphql", self.url.replace("http", "ws"))
            .into_client_request()
            .unwrap();
        request
            .headers_mut()
            .insert("sec-websocket-protocol", "graphql-transport-ws".parse().unwrap());
        let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
        socket
            .send(Message::text(r#"{"type":"connection_init"}"#))
            .await
            .unwrap();
        socket.next().await.unwrap().unwrap();
        let subscribe = json!({ "type": "subscribe", "id": "1", "payload": { "query": query } });
        socket.send(Message::text(subscribe.to_string())).await.unwrap();
        // The answer to a ping comes after the subscription was taken.
        socket.send(Message::text(r#"{"type":"ping"}"#)).await.unwrap();
        socket.next().await.unwrap().unwrap();
        socket
    }

    fn resident_kib(&self) -> i64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}
