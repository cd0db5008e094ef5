//! Gives jobs to free workers. It owns the pool: which workers there are, which are free, which jobs they run.
//!
//! ```text
//!   hint, worker free, tick ─▶ claim as many as are free ─▶ attempts (a set of tasks) ─▶ worker free
//!   scale, start, stop ──────▶ the pool changes ─▶ PoolState (a level that others read)
//! ```
//!
//! A worker is busy from the claim until its process is gone; nothing is claimed that nobody is free for. Several claims
//! can be under way, each for workers of its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{OwnedRwLockReadGuard, mpsc, oneshot};
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

use super::Context;
use super::attempt::{Entered, WorkerSlot, end_panicked, run};
use super::pool::{MOST_WORKERS, PoolChange, PoolCommand, PoolError, PoolState};
use super::time::now;
use crate::domain::{Job, WorkerId};
use crate::failpoint::failpoint;
use crate::store::{ClaimJobs, FreeWorkers, JoinPool, LeavePool, PoolMember, ReleaseJob, StoreError};
use crate::telemetry::chain;

/// How often to look for work without a hint: another node's hint may be lost.
const LOOK: Duration = Duration::from_millis(500);

/// The pause after a claim that failed.
const PAUSE: Duration = Duration::from_millis(200);

/// A claim that was answered.
struct Claim {
    /// Whom it was made for.
    workers: FreeWorkers,
    /// None where it failed.
    jobs: Option<Vec<Job>>,
    asked: Instant,
    /// Until when the processes may run by the lease of the claim, where leases are lost.
    held_until: Option<Instant>,
    under_way: OwnedRwLockReadGuard<()>,
}

/// The owner of the pool.
#[derive(Debug)]
pub(super) struct Dispatcher {
    context: Arc<Context>,
    commands: mpsc::Receiver<PoolCommand>,
    attempts: JoinSet<()>,
    /// What each task runs, for the case that it panics.
    tasks: HashMap<Id, (PoolMember, Arc<Job>)>,
    /// Workers that are free, and that no claim is made for.
    idle: Vec<WorkerSlot>,
    /// Those that a claim is made for.
    asking: Vec<WorkerSlot>,
    claims: FuturesUnordered<BoxFuture<'static, Claim>>,
    /// Whom the latest claim is made for.
    latest: FreeWorkers,
    give_back: mpsc::UnboundedSender<WorkerSlot>,
    given_back: mpsc::UnboundedReceiver<WorkerSlot>,
    members: Vec<PoolMember>,
    size: usize,
    running: bool,
}

impl Dispatcher {
    pub(super) fn new(context: Arc<Context>, commands: mpsc::Receiver<PoolCommand>) -> Self {
        // As many as there are workers can wait in it, so it needs no bound of its own.
        let (give_back, given_back) = mpsc::unbounded_channel();
        let running = context.options.start_workers;
        Self {
            context,
            commands,
            attempts: JoinSet::new(),
            tasks: HashMap::new(),
            idle: Vec::new(),
            asking: Vec::new(),
            claims: FuturesUnordered::new(),
            latest: FreeWorkers::nobody(),
            give_back,
            given_back,
            members: Vec::new(),
            size: 0,
            running,
        }
    }

    /// Takes in the workers that the settings ask for.
    pub(super) async fn join(&mut self) -> Result<(), StoreError> {
        self.grow(self.context.options.workers).await
    }

    /// Runs until `stop`, and then until its attempts have ended.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut queued = self.context.hints.queued();
        let mut coming = self.context.hints.coming();
        let mut look = true;
        loop {
            if look && self.running && !self.idle.is_empty() {
                // Seen before the look, so a hint that comes during it leads to another one.
                queued.borrow_and_update();
                coming.borrow_and_update();
                look = false;
                self.claim();
            }
            tokio::select! {
                () = stop.cancelled() => break,
                Some(claim) = self.claims.next() => look |= self.claimed(claim).await,
                Some(worker) = self.given_back.recv() => {
                    self.take_back(worker).await;
                    look = true;
                }
                Some(ended) = self.attempts.join_next_with_id() => self.ended(ended).await,
                Some(command) = self.commands.recv() => {
                    self.obey(command).await;
                    look = true;
                }
                _ = queued.changed() => look = true,
                _ = coming.changed() => look = true,
                () = tokio::time::sleep(LOOK) => look = true,
            }
        }
        self.settle().await;
        self.shut_down().await;
    }

    /// Claims for every free worker: by the latest claim, where that waits for its turn, else by another one. A worker
    /// whose job has just ended so gets its next one by the commit that ends it, whatever other claims are under way.
    fn claim(&mut self) {
        let free = std::mem::take(&mut self.idle).into_iter();
        let (joined, free): (Vec<_>, Vec<_>) = free.partition(|worker| self.latest.join(worker.member.id));
        self.asking.extend(joined);
        if free.is_empty() {
            return;
        }
        let workers: FreeWorkers = free.iter().map(|worker| worker.member.id).collect();
        self.asking.extend(free);
        self.latest = workers.clone();
        let context = Arc::clone(&self.context);
        let claim = async move {
            // Held until all that was claimed is on the list: the keeper takes what is not for lost.
            let under_way = Arc::clone(&context.claiming).read_owned().await;
            // Taken before the lease, so that it is over before that.
            let asked = Instant::now();
            let held_until = context.held_until(asked);
            let now = now();
            let claim = ClaimJobs {
                workers: workers.clone(),
                lease_until: now.after(context.options.lease),
                now,
            };
            let jobs = context.store.writer().write(claim).await;
            if let Err(error) = &jobs {
                tracing::warn!(error = %chain(error), "no job could be claimed");
                tokio::time::sleep(PAUSE).await;
            }
            Claim {
                workers,
                jobs: jobs.ok(),
                asked,
                held_until,
                under_way,
            }
        };
        self.claims.push(Box::pin(claim));
    }

    /// Starts what was claimed. Tells whether there may be more.
    async fn claimed(&mut self, claim: Claim) -> bool {
        let Claim {
            workers,
            jobs,
            asked,
            held_until,
            under_way: _under_way,
        } = claim;
        let workers = workers.close();
        let jobs = jobs.unwrap_or_default();
        if !jobs.is_empty() {
            failpoint!("claim.answered");
        }
        let more = jobs.len() == workers.len();
        if asked.elapsed() >= self.context.options.lease / 2 {
            // The lease began when the claim was made, and another node may take the jobs before it is renewed.
            self.give_back_late(jobs).await;
        } else {
            self.start(jobs, held_until);
        }
        let (back, asking) = std::mem::take(&mut self.asking)
            .into_iter()
            .partition(|worker| workers.contains(&worker.member.id));
        self.asking = asking;
        self.idle.extend::<Vec<_>>(back);
        more
    }

    fn start(&mut self, jobs: Vec<Job>, held_until: Option<Instant>) {
        for job in jobs {
            let Some(place) = self
                .asking
                .iter()
                .position(|worker| Some(worker.member.id) == job.worker)
            else {
                tracing::error!(job.id = %job.id, "claimed for a worker that is not free");
                continue;
            };
            let worker = self.asking.swap_remove(place);
            let (member, job) = (worker.member.clone(), Arc::new(job));
            let attempt = run(
                Arc::clone(&self.context),
                Entered::new(&self.context, Arc::clone(&job), held_until),
                worker,
                self.give_back.clone(),
            );
            let task = self.attempts.spawn(attempt).id();
            self.tasks.insert(task, (member, job));
        }
    }

    /// Waits for the claims that are under way: who changes the pool must know which workers are free.
    async fn settle(&mut self) {
        while let Some(claim) = self.claims.next().await {
            self.claimed(claim).await;
        }
    }

    /// Gives jobs back whose claim was answered so late that this node may not start them.
    async fn give_back_late(&mut self, claimed: Vec<Job>) {
        for job in claimed {
            tracing::warn!(job.id = %job.id, "claimed too slowly to be started; it goes back to the queue");
            let id = job.id;
            let release = ReleaseJob {
                job: Arc::new(job),
                now: now(),
            };
            if let Err(error) = self.context.store.writer().write(release).await {
                // The keeper finds it held and not run, and gives it back.
                tracing::warn!(job.id = %id, error = %chain(&error), "a job could not be given back");
            }
        }
    }

    async fn take_back(&mut self, worker: WorkerSlot) {
        if !self.members.contains(&worker.member) {
            // Another node took its row over; its place here is taken by a new one.
            if let Some(slot) = worker.slot {
                slot.close().await;
            }
            return;
        }
        if self.members.len() > self.size {
            self.settle().await;
            return self.dismiss(vec![worker]).await;
        }
        self.idle.push(worker);
    }

    async fn ended(&mut self, ended: Result<(Id, ()), tokio::task::JoinError>) {
        let error = match ended {
            Ok((task, ())) => {
                self.tasks.remove(&task);
                return;
            }
            Err(error) => error,
        };
        let Some((member, job)) = self.tasks.remove(&error.id()) else {
            return;
        };
        // Its slot went down with the task, and with the slot every process of the job.
        tracing::error!(job.id = %job.id, error = %chain(&error), "an attempt panicked");
        let back = self
            .idle
            .iter()
            .chain(&self.asking)
            .any(|worker| worker.member == member)
            || self.tasks.values().any(|(other, _)| *other == member);
        self.attempts.spawn(end_panicked(Arc::clone(&self.context), job));
        if !back {
            self.take_back(WorkerSlot::new(member)).await;
        }
    }

    async fn obey(&mut self, command: PoolCommand) {
        self.settle().await;
        let previous = self.size;
        let (done, reply): (Result<(), PoolError>, oneshot::Sender<_>) = match command {
            PoolCommand::Scale { size, reply } if size > MOST_WORKERS => {
                (Err(PoolError::TooMany { limit: MOST_WORKERS }), reply)
            }
            PoolCommand::Replace { lost } => return self.replace(&lost).await,
            PoolCommand::Scale { size, reply } => (self.scale(size).await.map_err(PoolError::Store), reply),
            PoolCommand::Start { reply } => {
                self.running = true;
                (Ok(()), reply)
            }
            PoolCommand::Stop {
                cancel_running,
                reply,
            } => {
                self.running = false;
                if cancel_running {
                    self.cancel_all().await;
                }
                (Ok(()), reply)
            }
        };
        self.publish();
        let state = self.context.pool.borrow().clone();
        // Who asked may have gone away; the pool has changed all the same.
        let _ = reply.send(done.map(|()| PoolChange { previous, state }));
    }

    async fn cancel_all(&mut self) {
        for (job, _) in self.context.running.list() {
            let cancel = crate::store::CancelJob {
                id: job,
                reason: Some("the workers were stopped".to_owned()),
                grace: None,
                now: now(),
            };
            if let Err(error) = self.context.store.writer().write(cancel).await {
                tracing::warn!(job.id = %job, error = %chain(&error), "a running job could not be cancelled");
            }
        }
    }

    async fn scale(&mut self, size: usize) -> Result<(), StoreError> {
        if size > self.members.len() {
            return self.grow(size).await;
        }
        self.size = size;
        // Free workers go at once, busy ones when they come back.
        let surplus = (self.members.len() - size).min(self.idle.len());
        let leaving = self.idle.split_off(self.idle.len() - surplus);
        self.dismiss(leaving).await;
        Ok(())
    }

    async fn replace(&mut self, lost: &[WorkerId]) {
        self.members.retain(|member| !lost.contains(&member.id));
        let (gone, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.idle)
            .into_iter()
            .partition(|worker| lost.contains(&worker.member.id));
        self.idle = kept;
        for slot in gone.into_iter().filter_map(|worker| worker.slot) {
            slot.close().await;
        }
        if let Err(error) = self.grow(self.size).await {
            // The next heartbeat has nothing to renew for them, and an operator can scale again.
            tracing::error!(error = %chain(&error), "workers that were taken over could not be replaced");
        }
        self.publish();
    }

    async fn grow(&mut self, size: usize) -> Result<(), StoreError> {
        let now = now();
        let ids = (self.members.len()..size)
            .map(|_| WorkerId::from_uuid(uuid::Uuid::now_v7()))
            .collect();
        let silent_since = self.context.silent_since(now);
        let join = JoinPool {
            node: self.context.store.node(),
            ids,
            silent_since,
            now,
        };
        let joined = self.context.store.writer().write(join).await?;
        for member in joined {
            self.members.push(member.clone());
            self.idle.push(WorkerSlot::new(member));
        }
        self.size = size;
        self.publish();
        Ok(())
    }

    async fn dismiss(&mut self, leaving: Vec<WorkerSlot>) {
        let workers: Vec<WorkerId> = leaving.iter().map(|worker| worker.member.id).collect();
        if workers.is_empty() {
            return;
        }
        self.members.retain(|member| !workers.contains(&member.id));
        self.publish();
        let leave = LeavePool {
            node: self.context.store.node(),
            workers,
        };
        if let Err(error) = self.context.store.writer().write(leave).await {
            // Its row goes silent, and is shown as OFFLINE once a lease has passed.
            tracing::warn!(error = %chain(&error), "a worker could not be signed off");
        }
        for slot in leaving.into_iter().filter_map(|worker| worker.slot) {
            slot.close().await;
        }
    }

    fn publish(&self) {
        let members = self.members.iter().map(|member| member.id).collect();
        self.context.pool.send_replace(PoolState {
            running: self.running,
            size: self.size,
            workers: members,
        });
    }

    /// Lets attempts end within the grace, asks the rest to, and waits until no process is left.
    async fn shut_down(mut self) {
        self.running = false;
        self.publish();
        failpoint!("shutdown.jobs");
        if !self.attempts.is_empty() {
            tracing::info!(jobs = self.attempts.len(), "waiting for running jobs");
        }
        let grace = tokio::time::sleep(self.context.options.shutdown_grace);
        tokio::pin!(grace);
        let mut asked = false;
        let hurry = self.context.hurry.clone();
        let mut hurried = false;
        while !self.attempts.is_empty() {
            tokio::select! {
                Some(ended) = self.attempts.join_next_with_id() => self.ended(ended).await,
                () = &mut grace, if !asked => {
                    asked = true;
                    self.context.running.stop_all(self.context.options.cancel_grace);
                }
                () = hurry.cancelled(), if !hurried => {
                    (asked, hurried) = (true, true);
                    self.context.running.stop_all(Duration::ZERO);
                }
            }
        }
        while let Ok(worker) = self.given_back.try_recv() {
            self.idle.push(worker);
        }
        let all = std::mem::take(&mut self.idle);
        self.dismiss(all).await;
    }
}
