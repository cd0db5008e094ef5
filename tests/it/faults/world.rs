//! What clients and listeners share while servers come and go: where servers are, and what was promised so far.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::clients::{self, Kind};
use super::listeners::{self, Heard};
use crate::support::app::TestApp;
use crate::support::wait::{until, within};

/// How long a client waits for an answer before it asks elsewhere: a server that is frozen gives none.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long a client pauses before it asks again.
pub(super) const PAUSE: Duration = Duration::from_millis(20);

/// A job whose `run` was answered.
#[derive(Debug, Clone)]
pub(super) struct Answered {
    pub(super) id: String,
    pub(super) kind: Kind,
    pub(super) idempotency_key: Option<String>,
}

/// What outlives the servers.
#[derive(Debug)]
pub(super) struct Shared {
    /// The servers as clients know them: `127.0.0.1:PORT`.
    places: Mutex<Vec<String>>,
    pub(super) http: reqwest::Client,
    /// Each start of a process adds a line to this file: the job and the attempt.
    pub(super) ran: PathBuf,
    answered: Mutex<Vec<Answered>>,
    /// The jobs of which a client wanted that they stop.
    cancelled: Mutex<BTreeSet<String>>,
    /// Cancelled when no client is to ask for more.
    pub(super) rest: CancellationToken,
    /// Cancelled when there is no more work either.
    pub(super) over: CancellationToken,
    /// The job whose end is the last that listeners wait for.
    pub(super) last_job: OnceLock<String>,
}

impl Shared {
    /// A server that clients know, whatever has become of it.
    pub(super) fn place(&self) -> String {
        let places = self.places.lock().unwrap();
        places[fastrand::usize(..places.len())].clone()
    }

    /// The data of an operation; none where no server gave it.
    pub(super) async fn ask(&self, query: &str, variables: &Value) -> Option<Value> {
        let url = format!("http://{}/graphql", self.place());
        let body = json!({ "query": query, "variables": variables });
        let answer = self.http.post(url).json(&body).send().await.ok()?;
        let mut answer: Value = answer.json().await.ok()?;
        if let Some(errors) = answer.get("errors") {
            let code = errors[0]["extensions"]["code"].as_str().unwrap_or_default();
            assert!(
                ["UNAVAILABLE", "SHUTTING_DOWN"].contains(&code),
                "{answer:#}\nfor {query} {variables}"
            );
            return None;
        }
        Some(answer["data"].take())
    }

    /// As [`Shared::ask`], again and again until there is an answer or no more is asked for.
    pub(super) async fn insist(&self, query: &str, variables: &Value) -> Option<Value> {
        self.insist_until(&self.rest, query, variables).await
    }

    /// As [`Shared::ask`], again and again until there is an answer or `end`.
    pub(super) async fn insist_until(
        &self,
        end: &CancellationToken,
        query: &str,
        variables: &Value,
    ) -> Option<Value> {
        loop {
            if let Some(data) = self.ask(query, variables).await {
                return Some(data);
            }
            if end.is_cancelled() {
                return None;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    pub(super) fn promise(&self, answered: Answered) {
        self.answered.lock().unwrap().push(answered);
    }

    pub(super) fn promised(&self) -> Vec<Answered> {
        self.answered.lock().unwrap().clone()
    }

    pub(super) fn wants_cancelled(&self, id: &str) {
        self.cancelled.lock().unwrap().insert(id.to_owned());
    }

    pub(super) fn wanted_cancelled(&self) -> BTreeSet<String> {
        self.cancelled.lock().unwrap().clone()
    }
}

/// Clients and listeners at work.
#[derive(Debug)]
pub(super) struct World {
    pub(super) shared: Arc<Shared>,
    clients: JoinSet<()>,
    worker: JoinSet<()>,
    listeners: JoinSet<Heard>,
    /// Holds the file of starts, which no server owns.
    _folder: tempfile::TempDir,
    /// Where the listeners began.
    pub(super) start: String,
    /// Jobs of the test itself, which do not tell of their starts.
    forgiven: Mutex<BTreeSet<String>>,
}

/// What the clients of a world do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Load {
    /// Run and cancel jobs of all kinds, listen to all of them.
    Listened,
    /// The same with nobody listening, but one who cleans up: cursors expire by that.
    Cleaned,
}

impl World {
    /// Sets clients and listeners on a server.
    pub(super) async fn begin(app: &TestApp, load: Load, rng: &mut Rng) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("runql-faults-")
            .tempdir()
            .unwrap();
        let cursor = app.data("{ eventCursor }", json!({})).await;
        let shared = Arc::new(Shared {
            places: Mutex::new(vec![app.address().to_owned()]),
            http: reqwest::Client::builder().timeout(PATIENCE).build().unwrap(),
            ran: folder.path().join("ran"),
            answered: Mutex::default(),
            cancelled: Mutex::default(),
            rest: CancellationToken::new(),
            over: CancellationToken::new(),
            last_job: OnceLock::new(),
        });
        let mut world = Self {
            shared: Arc::clone(&shared),
            clients: JoinSet::new(),
            worker: JoinSet::new(),
            listeners: JoinSet::new(),
            _folder: folder,
            start: cursor["eventCursor"].as_str().unwrap().to_owned(),
            forgiven: Mutex::default(),
        };
        for _ in 0..3 {
            world
                .clients
                .spawn(clients::run_jobs(Arc::clone(&shared), rng.fork()));
        }
        world.worker.spawn(clients::work(Arc::clone(&shared)));
        if load == Load::Cleaned {
            world.clients.spawn(clients::clean_up(Arc::clone(&shared)));
        } else {
            let start = world.start.clone();
            world
                .listeners
                .spawn(listeners::by_socket(Arc::clone(&shared), start.clone()));
            world.listeners.spawn(listeners::by_sent_events(shared, start));
        }
        world
    }

    /// Tells the clients where the servers are now.
    pub(super) fn moved<'a>(&self, apps: impl IntoIterator<Item = &'a TestApp>) {
        *self.shared.places.lock().unwrap() = apps.into_iter().map(|app| app.address().to_owned()).collect();
    }

    /// Takes note of jobs of the test itself, which do not tell of their starts, or began before the listeners did.
    pub(super) fn forgive(&self, ids: &[String]) {
        self.forgiven.lock().unwrap().extend(ids.iter().cloned());
    }

    /// What was [forgiven](Self::forgive).
    pub(super) fn forgiven(&self) -> BTreeSet<String> {
        self.forgiven.lock().unwrap().clone()
    }

    /// Waits until clients got some more answers.
    pub(super) async fn goes_on(&self, answers: usize) {
        let before = self.shared.promised().len();
        until("answers to clients", async || {
            let now = self.shared.promised().len();
            if now >= before + answers {
                Ok(())
            } else {
                Err(now - before)
            }
        })
        .await;
    }

    /// Sends the clients home. One that met a surprise fails the test here.
    pub(super) async fn rest(&mut self) {
        self.shared.rest.cancel();
        while let Some(ended) = within("the rest of the clients", self.clients.join_next()).await {
            ended.unwrap();
        }
    }

    /// Sends the worker home too: all is done.
    pub(super) async fn is_over(&mut self) {
        self.shared.over.cancel();
        while let Some(ended) = within("the worker's rest", self.worker.join_next()).await {
            ended.unwrap();
        }
    }

    /// What each listener heard, up to the end of the last job.
    pub(super) async fn heard(&mut self, last_job: String) -> Vec<Heard> {
        self.shared.last_job.set(last_job).unwrap();
        let mut all = Vec::new();
        while let Some(heard) = within("the last event at a listener", self.listeners.join_next()).await {
            all.push(heard.unwrap());
        }
        all
    }
}
