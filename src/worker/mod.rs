//! A worker on another machine: takes tasks and agents from a server, runs a command for each, and tells how it went.
//!
//! ```text
//!   server ◀── claim (waits for work) ──── claims ──▶ attempt ──▶ process
//!          ◀── heartbeat (waits for stops) ── heartbeat ─ stop ─▶   │ chunks
//!          ◀── report (lines, progress, result) ─── reporter ◀──────┘
//! ```
//!
//! It knows the server's API and nothing else of it: no database, no files. Each program runs as a server's own would,
//! with nothing left behind, not even where this process is killed. What is promised:
//!
//! * A job is run here once for each time that it was claimed, whichever answers get lost on the way.
//! * Its lines arrive once and in order, and so does its result, while the server is away for less than its lease.
//! * Where the server cannot be reached for that long, the programs are stopped before it gives the jobs to others.
//! * Memory is bounded: a program whose output cannot be delivered waits.

mod api;
mod attempt;
mod claims;
mod client;
mod error;
mod heartbeat;
mod held;
mod identity;
mod operations;
mod pause;
mod reporter;

use std::ffi::OsString;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::config::Worker;
use crate::domain::WorkerId;
use crate::process::{Sandbox, Slot};
use crate::program::Programs;
use crate::telemetry::{chain, millis};
use api::JobResult;
use attempt::Claimed;
use client::{CallError, Client};
pub use error::WorkerError;
use held::Held;
use identity::Folder;
pub use operations::OPERATIONS;
use pause::Pause;

/// How long the last reports may take once the programs are gone.
const LAST_REPORTS: Duration = Duration::from_secs(10);

/// The same where the worker was asked twice to end.
const HURRIED: Duration = Duration::from_secs(2);

/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_secs(3);

/// What all parts of one worker share.
#[derive(Debug)]
struct Shared {
    client: Client,
    /// By which the server knows it; another one once the server has forgotten it.
    worker: Mutex<WorkerId>,
    name: String,
    settings: Worker,
    held: Held,
    /// How many more jobs may be taken.
    room: Arc<Semaphore>,
    /// Spawners that are free; never more than jobs at once.
    slots: Mutex<Vec<Slot>>,
    spawner: PathBuf,
    sandbox: Sandbox,
    programs: Programs,
    /// Variables that the command gets because the settings say so.
    passed_on: Vec<(OsString, OsString)>,
    program: OsString,
    args: Vec<OsString>,
    work_dir: PathBuf,
    /// How long the server's leases are, as it said last, in milliseconds.
    lease_ms: AtomicU64,
    cancel_grace: Duration,
}

impl Shared {
    fn worker(&self) -> WorkerId {
        *self.worker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lease(&self) -> Duration {
        // A lease of zero would make everything lost at once.
        Duration::from_millis(self.lease_ms.load(Ordering::Relaxed).max(100))
    }

    fn slots(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the worker known to a server that has forgotten it, however long that takes.
    ///
    /// # Errors
    ///
    /// [`CallError::Shut`].
    async fn register_again(&self) -> Result<(), CallError> {
        let mut pause = Pause::default();
        loop {
            match register(&self.client, &self.settings, &self.name).await {
                Ok((id, lease)) => {
                    self.lease_ms.store(millis(lease), Ordering::Relaxed);
                    *self.worker.lock().unwrap_or_else(PoisonError::into_inner) = id;
                    return Ok(());
                }
                Err(shut @ CallError::Shut(_)) => return Err(shut),
                Err(error) => {
                    let pause = pause.take();
                    tracing::error!(error = %chain(&error), retry_ms = millis(pause), "the worker could not register");
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
}

async fn register(client: &Client, settings: &Worker, name: &str) -> Result<(WorkerId, Duration), CallError> {
    api::register(
        client,
        name,
        &settings.kind,
        settings.parallel,
        &settings.supports,
    )
    .await
}

/// Works until SIGTERM or SIGINT; then running jobs get a grace to end. A second signal kills them.
///
/// # Errors
///
/// [`WorkerError`]; [`WorkerError::ShutOut`] at any time, all others before any job was taken.
pub async fn run(settings: Worker) -> Result<(), WorkerError> {
    let mut signals = Signals::new()?;
    let url = settings.server().cloned().ok_or(WorkerError::NoServer)?;
    let sandbox = settings.sandbox.policy(&[], &[]).map_err(WorkerError::Command)?;
    let programs = Programs::of_process(sandbox.run_as.as_ref());
    let command = settings.command.first().cloned().unwrap_or_default();
    let program = attempt::program(&programs, &command).map_err(WorkerError::Command)?;
    let folder = Folder::take(&settings.work_dir)?;
    let spawner = crate::process::own_executable().map_err(WorkerError::Spawner)?;
    crate::program::check_sandbox(&spawner, &sandbox)
        .await
        .map_err(WorkerError::Sandbox)?;
    let client = Client::new(&settings, url)?;
    let joined = tokio::select! {
        joined = join(&client, &settings, &folder) => joined?,
        () = signals.next() => return Ok(()),
    };
    let (worker, lease, name) = joined;
    tracing::info!(worker.id = %worker, worker.name = name, server = %client.url(), parallel = settings.parallel, "registered");
    let passed_on = settings
        .pass_env
        .iter()
        .filter_map(|name| Some((name.into(), std::env::var_os(name)?)));
    let shared = Arc::new(Shared {
        worker: Mutex::new(worker),
        held: Held::new(),
        room: Arc::new(Semaphore::new(usize::try_from(settings.parallel).unwrap_or(1))),
        slots: Mutex::default(),
        passed_on: passed_on.collect(),
        args: settings.command.iter().skip(1).cloned().collect(),
        work_dir: folder.path().to_owned(),
        lease_ms: AtomicU64::new(millis(lease)),
        cancel_grace: settings.cancel_grace,
        client,
        name,
        settings,
        spawner,
        sandbox,
        programs,
        program,
    });
    let worked = work(&shared, &mut signals).await;
    drop(folder);
    worked.map_err(|shut| WorkerError::ShutOut {
        server: shared.client.url().to_string(),
        reason: chain(&shut).to_string(),
    })
}

/// Makes the worker known, and waits for a server that is away.
async fn join(
    client: &Client,
    settings: &Worker,
    folder: &Folder,
) -> Result<(WorkerId, Duration, String), WorkerError> {
    let mut pause = Pause::default();
    let mut name = settings.name.clone().or_else(|| folder.name(&settings.kind));
    loop {
        let joined = async {
            let name = match &name {
                Some(name) => name.clone(),
                None => identity::free_name(client, &settings.kind).await?,
            };
            Ok((register(client, settings, &name).await, name))
        };
        let error = match joined.await {
            Ok((Ok((id, lease)), name)) => {
                if settings.name.is_none() {
                    folder.keep_name(&name);
                }
                return Ok((id, lease, name));
            }
            Ok((Err(error), made)) => {
                // An answer that was lost must not lead to a second name.
                name = Some(made);
                error
            }
            Err(error) => error,
        };
        if !error.is_away() {
            return Err(WorkerError::Refused {
                server: client.url().to_string(),
                reason: chain(&error).to_string(),
            });
        }
        let pause = pause.take();
        tracing::warn!(server = %client.url(), error = %chain(&error), retry_ms = millis(pause), "waiting for the server");
        tokio::time::sleep(pause).await;
    }
}

/// Works until a signal, and then ends in order; or until the server does not let this worker in any more.
async fn work(shared: &Arc<Shared>, signals: &mut Signals) -> Result<(), CallError> {
    leave_alone(shared).await;
    let mut attempts = JoinSet::new();
    let mut heartbeat = pin!(heartbeat::beat(shared));
    let mut worked = {
        // As many as can be claimed at once have their room already; the channel holds none of them back.
        let (jobs, mut claimed) = mpsc::channel::<Claimed>(1);
        let mut claims = pin!(claims::claim(shared, jobs));
        loop {
            tokio::select! {
                () = signals.next() => break Ok(()),
                shut = &mut heartbeat => break Err(shut),
                shut = &mut claims => break Err(shut),
                Some(job) = claimed.recv() => {
                    attempts.spawn(attempt::run(Arc::clone(shared), job));
                }
                Some(ended) = attempts.join_next() => note_panic(ended),
            }
        }
    };
    if worked.is_ok() {
        tracing::info!(jobs = attempts.len(), "shutting down: no more jobs are taken");
        let ending = end_attempts(shared, &mut attempts, signals);
        tokio::select! {
            shut = &mut heartbeat => worked = Err(shut),
            () = ending => {}
        }
    }
    match worked {
        Ok(()) => say_goodbye(shared).await,
        // Nobody takes a word of its jobs any more, and others will run them.
        Err(_) => give_up_attempts(shared, &mut attempts).await,
    }
    let slots: Vec<Slot> = shared.slots().drain(..).collect();
    for slot in slots {
        slot.close().await;
    }
    tracing::info!("ended");
    worked
}

/// In order: what a lost claim left behind is told before the goodbye, after which it would be too late.
async fn say_goodbye(shared: &Shared) {
    if timeout(GOODBYE, give_back(shared)).await.is_err() {
        tracing::warn!("the server could not be asked what else it takes this worker to run");
    }
    if let Err(error) = api::sign_off(&shared.client, shared.worker(), GOODBYE).await {
        tracing::warn!(error = %chain(&error), "the server could not be told that this worker goes");
    }
}

/// What an earlier process with this name runs or ran is left to its lease: it may have done anything already.
async fn leave_alone(shared: &Shared) {
    match api::current_jobs(&shared.client, shared.worker()).await {
        Ok(jobs) => {
            for job in &jobs {
                tracing::warn!(job.id = %job.id, "an earlier process of this worker had begun it: it is left to its lease");
                shared.held.leave_alone(job.id, job.attempt);
            }
        }
        Err(error) => tracing::warn!(error = %chain(&error), "the jobs of an earlier process are unknown"),
    }
}

fn note_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        // Its programs went with its slot, and the server hears no more of the job: it is told lost.
        tracing::error!(error = %chain(&error), "a job's task failed");
    }
}

/// Lets the programs end within the grace, then stops them, and waits for their reports.
async fn end_attempts(shared: &Shared, attempts: &mut JoinSet<()>, signals: &mut Signals) {
    let graces = async {
        tokio::time::sleep(shared.settings.shutdown_grace).await;
        tracing::info!("the grace is over: running jobs are stopped");
        shared.held.stop_all(shared.cancel_grace);
        tokio::time::sleep(shared.cancel_grace + LAST_REPORTS).await;
    };
    tokio::select! {
        () = all(attempts) => return,
        () = graces => {}
        () = signals.next() => {
            tracing::warn!("asked again: running jobs are killed");
            shared.held.stop_all(Duration::ZERO);
            tokio::select! {
                () = all(attempts) => return,
                () = tokio::time::sleep(HURRIED) => {}
            }
        }
    }
    give_up_attempts(shared, attempts).await;
}

/// Kills what runs, without a word to the server.
async fn give_up_attempts(shared: &Shared, attempts: &mut JoinSet<()>) {
    let jobs = shared.held.give_up_all();
    if jobs > 0 {
        tracing::error!(jobs, "the server could not be told how these jobs ended");
    }
    if timeout(HURRIED, all(attempts)).await.is_err() {
        attempts.shutdown().await;
    }
}

async fn all(attempts: &mut JoinSet<()>) {
    while let Some(ended) = attempts.join_next().await {
        note_panic(ended);
    }
}

/// Reports as failed what the server takes this worker to run and it never began: the answer to its claim was lost.
async fn give_back(shared: &Shared) {
    let jobs = match api::current_jobs(&shared.client, shared.worker()).await {
        Ok(jobs) => jobs,
        Err(error) => {
            tracing::warn!(error = %chain(&error), "the server did not say what else it takes this worker to run");
            return;
        }
    };
    for job in jobs
        .iter()
        .filter(|job| !shared.held.was_begun(job.id, job.attempt))
    {
        let result = JobResult::failed("the worker was shut down before the job started");
        let report = api::Report {
            worker_id: shared.worker(),
            job_id: job.id,
            attempt: job.attempt,
            logs: &[],
            progress: None,
            result: Some(&result),
        };
        if let Err(error) = api::report(&shared.client, &report).await {
            tracing::warn!(job.id = %job.id, error = %chain(&error), "a job that was never begun could not be given back");
        }
    }
}

/// The signals that ask for the end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, WorkerError> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(WorkerError::Signals)?,
            interrupt: signal(SignalKind::interrupt()).map_err(WorkerError::Signals)?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
