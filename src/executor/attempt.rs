//! One attempt from its claim to its end: prepare, run, store what it printed, say how it went.
//!
//! ```text
//!   claimed ─▶ prepare (files) ─▶ slot.run ──── output ───▶ log writer ─▶ store
//!                  │                 │ outcome                  │ what is left
//!                  └── fault ────────┴──────────▶ EndJob ◀──────┘
//! ```
//!
//! The worker goes back once the process and all its descendants are gone, its output is read, and its end is handed to
//! the store: the claim of its next job goes by the same commit. Where something is to be done before that, it goes back
//! earlier: the next job starts while this one's end is still being written.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::log_writer::LogWriter;
use super::prepare::{Prepared, prepare};
use super::running::Place;
use super::time::{chance, now};
use super::{Context, outcome};
use crate::brief::briefly;
use crate::domain::{Fault, FaultCode, Job, JobStatus, LogLevel, ProcessEnd};
use crate::failpoint::failpoint;
use crate::process::{Controls, OUTPUT_BOUND, Outcome, Slot, controls};
use crate::program::{Spare, remarks};
use crate::store::{AttemptEnd, EndJob, EndResult, PoolMember, ReleaseJob, StoreError};
use crate::telemetry::{chain, metrics};

/// Pauses between tries to store an end while the store is away.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A worker of this node with the spawner that it runs its processes through.
#[derive(Debug)]
pub(super) struct WorkerSlot {
    pub(super) member: PoolMember,
    /// None before the first job, and after the spawner was lost.
    pub(super) slot: Option<Slot>,
    /// The folders of its latest job, where nothing is left in them. The spawner need not build another wall for the next
    /// one that gets them.
    spare: Option<Spare>,
}

impl WorkerSlot {
    /// A worker that has run nothing yet.
    pub(super) const fn new(member: PoolMember) -> Self {
        Self {
            member,
            slot: None,
            spare: None,
        }
    }

    /// The spawner, started anew where there is none that lives.
    async fn alive(&mut self, context: &Context) -> std::io::Result<&mut Slot> {
        let living = self.slot.take().filter(Slot::is_alive);
        let slot = match living {
            Some(slot) => slot,
            None => Slot::start(&context.spawner, &context.options.sandbox).await?,
        };
        Ok(self.slot.insert(slot))
    }
}

/// An attempt that is on this node's list, and can begin.
pub(super) struct Entered {
    job: Arc<Job>,
    place: Place,
    controls: Controls,
    abandon: CancellationToken,
}

impl Entered {
    /// Puts a job that was claimed on the list of those that this node runs; its process may run until `held_until`
    /// where that is given.
    pub(super) fn new(context: &Context, job: Arc<Job>, held_until: Option<Instant>) -> Self {
        let (stop, controls) = controls();
        if let Some(until) = held_until {
            stop.hold(until);
        }
        let abandon = CancellationToken::new();
        let place = context.running.enter(job.id, job.attempt, stop, abandon.clone());
        Self {
            job,
            place,
            controls,
            abandon,
        }
    }
}

/// The way back to those that are free.
type Idle = mpsc::UnboundedSender<WorkerSlot>;

/// Runs an attempt to its end. The worker comes back over `idle` before the end is stored.
pub(super) async fn run(context: Arc<Context>, entered: Entered, worker: WorkerSlot, idle: Idle) {
    let Entered {
        job,
        mut place,
        controls,
        abandon,
    } = entered;
    if let Some(started) = job.started_at {
        metrics::job_started(started.since(job.run_at));
    }
    tracing::info!(job.id = %job.id, job.name = %job.name, job.attempt = job.attempt, worker = %worker.member.name, "started");
    let limit = context.options.log_bytes_per_job;
    let used = earlier_log_bytes(&context, &job).await;
    let writer = context.store.writer().clone();
    let mut log = LogWriter::new(writer, job.id, job.attempt, limit, used, abandon.clone());
    let started = format!("attempt {} started on {}", job.attempt, worker.member.name);
    log.system(LogLevel::Info, &started, job.started_at.unwrap_or_else(now));

    let Done { end, worker } = process(&context, &job, worker, &idle, controls, &mut log).await;
    let Some(end) = end else {
        give_back(&idle, worker);
        return release(&context, &job, &abandon, &mut place).await;
    };
    let end = if end.status == JobStatus::Cancelled {
        with_reason(end, &place)
    } else {
        end
    };
    let (level, line) = end.last_line();
    let at = now();
    log.system(level, &line, at);
    // The worker need not wait for what is written before the end.
    let (now_free, free) = if log.has_progress() {
        (worker, None)
    } else {
        (None, worker)
    };
    give_back(&idle, now_free);
    let log = log.finish().await;
    failpoint!("attempt.read");
    let end = EndJob {
        job,
        end,
        log,
        now: at,
        jitter: chance(),
    };
    finish(&context, &end, &abandon, &mut place, || give_back(&idle, free)).await;
}

/// Ends an attempt whose task panicked. Its slot went down with it, and with the slot every process of the job.
pub(super) async fn end_panicked(context: Arc<Context>, job: Arc<Job>) {
    let mut entered = Entered::new(&context, Arc::clone(&job), None);
    let fault = Fault::new(FaultCode::Internal, "the server failed while it ran the job");
    let end = end_now(&job, failed(fault));
    let Entered { place, abandon, .. } = &mut entered;
    finish(&context, &end, abandon, place, || ()).await;
}

/// What came of the process.
struct Done {
    /// None where the server went down before there was one.
    end: Option<AttemptEnd>,
    /// The worker, where it did not go back yet.
    worker: Option<WorkerSlot>,
}

fn give_back(idle: &Idle, worker: Option<WorkerSlot>) {
    if let Some(worker) = worker {
        // The dispatcher is gone only when nothing is to be run any more.
        let _ = idle.send(worker);
    }
}

async fn process(
    context: &Arc<Context>,
    job: &Arc<Job>,
    mut worker: WorkerSlot,
    idle: &Idle,
    controls: Controls,
    log: &mut LogWriter,
) -> Done {
    let spare = worker.spare.take();
    let Prepared {
        spec,
        workspace,
        secrets,
    } = match briefly(|| prepare(context, job, spare)).await {
        Ok(prepared) => prepared,
        Err(fault) => return not_run(fault, worker),
    };
    log.hide(&secrets);
    let slot = match worker.alive(context).await {
        Ok(slot) => slot,
        Err(error) => {
            tracing::error!(worker = %worker.member.name, error = %chain(&error), "no spawner could be started");
            workspace.remove();
            let message = format!("the server could not start a process: {error}");
            let fault = Fault::new(FaultCode::SpawnFailed, message);
            return not_run(fault, worker);
        }
    };
    failpoint!("attempt.prepared");
    let (output, mut printed) = mpsc::channel(OUTPUT_BOUND);
    let (outcome, ()) = tokio::join!(slot.run(spec, controls, output), log.drain(&mut printed));
    failpoint!("attempt.ended");
    let ending = outcome::attempt_end(&outcome, job);
    let completed = ending
        .as_ref()
        .is_some_and(|end| end.status == JobStatus::Completed);
    // Where a process may be left, nobody else gets its folders.
    let all_gone = matches!(&outcome, Outcome::Ended(ended) if ended.unkillable == 0);
    let output = if completed {
        briefly(|| workspace.read_output()).await
    } else {
        Ok(None)
    };
    worker.spare = if all_gone {
        briefly(|| workspace.hand_on()).await
    } else {
        None
    };
    let mut worker = Some(worker);
    if worker.as_ref().is_none_or(|worker| worker.spare.is_none()) {
        give_back(idle, worker.take());
        // However much is to be removed, the worker's next job need not wait for that.
        let removed = tokio::task::spawn_blocking(move || workspace.remove());
        if let Err(error) = removed.await {
            tracing::error!(job.id = %job.id, error = %chain(&error), "a job's folders could not be removed");
        }
    }
    if let Outcome::Ended(ended) = &outcome {
        for (level, text) in remarks(ended) {
            log.system(level, &text, now());
        }
        if ended.unkillable > 0 {
            tracing::error!(job.id = %job.id, processes = ended.unkillable, "processes of a job cannot be killed");
        }
    }
    let Some(mut end) = ending else {
        return Done { end: None, worker };
    };
    match output {
        Ok(output) => end.output = output.map(|output| log.masks().mask_json(output)),
        Err(message) => log.system(LogLevel::Error, &message, now()),
    }
    if let Some(fault) = &mut end.fault {
        fault.message = log.masks().mask_text(&fault.message);
    }
    Done {
        end: Some(end),
        worker,
    }
}

/// Of an attempt that came to no process.
fn not_run(fault: Fault, worker: WorkerSlot) -> Done {
    Done {
        end: Some(failed(fault)),
        worker: Some(worker),
    }
}

fn failed(fault: Fault) -> AttemptEnd {
    AttemptEnd {
        status: JobStatus::Failed,
        end: ProcessEnd::default(),
        output: None,
        fault: Some(fault),
    }
}

fn with_reason(end: AttemptEnd, place: &Place) -> AttemptEnd {
    let reason = place.cancel_request().and_then(|request| request.reason);
    let message = reason.map_or_else(|| "cancelled".to_owned(), |reason| format!("cancelled: {reason}"));
    AttemptEnd {
        fault: Some(Fault::new(FaultCode::Cancelled, message)),
        ..end
    }
}

/// What earlier attempts took of the job's limit.
async fn earlier_log_bytes(context: &Context, job: &Job) -> u64 {
    let mut bytes = 0_u64;
    for attempt in 1..job.attempt {
        match context.store.reader().log_size(job.id, attempt).await {
            Ok(size) => bytes += u64::try_from(size.stdout + size.stderr).unwrap_or(0),
            Err(error) => {
                tracing::warn!(job.id = %job.id, error = %chain(&error), "an earlier log could not be measured");
            }
        }
    }
    bytes
}

/// An end now, with no more of a log.
fn end_now(job: &Arc<Job>, end: AttemptEnd) -> EndJob {
    EndJob {
        job: Arc::clone(job),
        end,
        log: Vec::new(),
        now: now(),
        jitter: chance(),
    }
}

/// Stores the end, however long the store is away: only a lost lease makes it pointless. Calls `handed_over` as soon as the
/// store has it to write.
async fn finish(
    context: &Context,
    end: &EndJob,
    abandon: &CancellationToken,
    place: &mut Place,
    handed_over: impl FnOnce(),
) {
    let job = &end.job;
    let ran = job.started_at.map(|started| end.now.since(started));
    let writer = context.store.writer();
    let mut first = Some(writer.hand_over(end.clone()).await);
    handed_over();
    let write = || {
        let first = first.take();
        async {
            let answer = match first {
                Some(answer) => answer,
                None => writer.hand_over(end.clone()).await,
            };
            answer?.durable().await
        }
    };
    let Some(result) = persist(job, abandon, write).await else {
        return;
    };
    place.settled();
    match result {
        EndResult::Ended(status) => {
            metrics::job_ended(status, job.command.kind(), ran);
            tracing::info!(job.id = %job.id, job.status = %status, duration_ms = ran.map(crate::telemetry::millis), "ended");
        }
        EndResult::Retried(run_at) => {
            let pause_ms = crate::telemetry::millis(run_at.since(now()));
            tracing::info!(job.id = %job.id, job.attempt = job.attempt, pause_ms, "failed and will be tried again");
        }
        EndResult::Stale => {
            tracing::warn!(job.id = %job.id, job.attempt = job.attempt, "ended too late: another node had decided about it");
        }
    }
}

async fn release(context: &Context, job: &Arc<Job>, abandon: &CancellationToken, place: &mut Place) {
    let write = || {
        context.store.writer().write(ReleaseJob {
            job: Arc::clone(job),
            now: now(),
        })
    };
    let released = persist(job, abandon, write).await;
    if released == Some(true) {
        place.settled();
    } else if released == Some(false) {
        // Somebody asked for it to be cancelled in the same moment; then that is how it ends.
        let fault = Fault::new(FaultCode::Cancelled, "cancelled before it started");
        let end = AttemptEnd {
            status: JobStatus::Cancelled,
            ..failed(fault)
        };
        finish(context, &end_now(job, end), abandon, place, || ()).await;
    }
}

/// Writes until it is written. None where that has lost its sense.
async fn persist<T, F>(job: &Job, abandon: &CancellationToken, mut write: impl FnMut() -> F) -> Option<T>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut pause = FIRST_PAUSE;
    loop {
        match write().await {
            Ok(written) => return Some(written),
            Err(StoreError::Closed) => return None,
            Err(error) => {
                tracing::warn!(job.id = %job.id, error = %chain(&error), retry_ms = crate::telemetry::millis(pause), "an attempt's end waits for the store");
            }
        }
        abandon.run_until_cancelled(tokio::time::sleep(pause)).await?;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
