//! Keeps what this node holds: renews its leases, passes cancels on, and gives up in time.
//!
//! A heartbeat that fails is tried again until the lease is nearly over; then this node stops its own attempts,
//! before another node may start them a second time. A server that has its SQLite file to itself does not: there is
//! nobody who could take them.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Context;
use super::pool::PoolCommand;
use super::time::{chance, now};
use crate::domain::{Fault, FaultCode, Job, JobId, JobStatus, ProcessEnd, WorkerId};
use crate::failpoint::failpoint;
use crate::store::{AttemptEnd, Backend, EndJob, Held, ReleaseJob, RenewLeases, Renewed, StoreError};
use crate::telemetry::chain;

/// Heartbeats within one lease: two may fail before the third comes too late.
const HEARTBEATS: u32 = 3;

/// The pause before a failed heartbeat is tried again, as a share of the lease.
const RETRIES: u32 = 20;

/// Runs until `stop`.
pub(super) async fn keep(context: Arc<Context>, stop: CancellationToken) {
    let lease = context.options.lease;
    let mut cancels = context.hints.cancels();
    let mut renewed = Instant::now();
    let mut next = renewed;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep_until(next) => {}
            asked = cancels.recv() => match asked {
                Ok(Some(job)) if !context.running.holds(job) => continue,
                // The heartbeat tells of every cancel that is due, with its reason and grace: one way for all.
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
        }
        let before = Instant::now();
        let mine = context.running.list();
        // A store that hangs must not keep this node from giving up in time.
        let deadline = renewed + lease - lease / HEARTBEATS / 2;
        match tokio::time::timeout_at(deadline.max(before + lease / RETRIES), renew(&context)).await {
            Ok(Ok(renewed_now)) => {
                failpoint!("lease.renewed");
                renewed = before;
                next = before + lease / HEARTBEATS;
                if let Some(until) = context.held_until(before.into_std()) {
                    let held = renewed_now.held.iter().map(|held| (held.job, held.attempt));
                    context.running.hold(&held.collect(), until);
                }
                settle(&context, &mine, &renewed_now.held).await;
                rejoin(&context, renewed_now.lost).await;
            }
            failed => {
                if let Ok(Err(error)) = failed {
                    tracing::warn!(error = %chain(&error), "the heartbeat failed and will be tried again");
                } else {
                    tracing::warn!("the heartbeat got no answer and will be tried again");
                }
                next = Instant::now() + lease / RETRIES;
                if next >= deadline && context.store.backend() == Backend::Postgres {
                    give_up(&context, &mine);
                }
            }
        }
    }
}

/// Workers that another node took over while this one was silent are replaced by new ones.
async fn rejoin(context: &Context, lost: Vec<WorkerId>) {
    if lost.is_empty() {
        return;
    }
    tracing::error!(
        workers = lost.len(),
        "another node took over workers of this one, which was silent for too long"
    );
    // The pool's owner is gone only at the shutdown, when there is nothing to replace.
    let _ = context.commands.send(PoolCommand::Replace { lost }).await;
}

async fn renew(context: &Context) -> Result<Renewed, StoreError> {
    let now = now();
    let workers = context.members();
    let lease_until = now.after(context.options.lease);
    context
        .store
        .writer()
        .write(RenewLeases {
            workers,
            lease_until,
            now,
        })
        .await
}

/// Compares what the store says this node holds with what it runs.
async fn settle(context: &Context, mine: &[(JobId, u32)], held: &[Held]) {
    for held in held {
        if let Some(request) = &held.cancel {
            context
                .running
                .cancel(held.job, held.attempt, request, context.options.cancel_grace);
        }
    }
    let held: HashSet<(JobId, u32)> = held.iter().map(|held| (held.job, held.attempt)).collect();
    for &(job, attempt) in mine {
        if !held.contains(&(job, attempt)) && context.running.list().contains(&(job, attempt)) {
            // It may have ended in between; then stopping it does nothing.
            tracing::debug!(job.id = %job, job.attempt = attempt, "no longer held by this node");
            context.running.abandon(job, attempt);
        }
    }
    if held
        .iter()
        .any(|attempt| !context.running.list().contains(attempt))
    {
        put_right(context, &held).await;
    }
}

/// Sees to what is held in this node's name and does not run here: the answer to its claim was lost with a connection,
/// or its end could not be stored.
async fn put_right(context: &Context, held: &HashSet<(JobId, u32)>) {
    // While a claim is under way, what it took is held and not on the list yet. The next heartbeat looks again.
    let patience = context.options.lease / RETRIES;
    let Ok(_nothing_is_claimed) = tokio::time::timeout(patience, context.claiming.write()).await else {
        return;
    };
    let unsettled = context.running.unsettled(held);
    let running: HashSet<(JobId, u32)> = context.running.list().into_iter().collect();
    let members = context.members();
    for &(id, attempt) in held.difference(&running) {
        let job = match context.store.reader().job(id).await {
            Ok(Some(job)) => job,
            Ok(None) => continue,
            Err(error) => {
                tracing::warn!(job.id = %id, error = %chain(&error), "a job without a process could not be read");
                continue;
            }
        };
        let ours = job.worker.is_some_and(|worker| members.contains(&worker));
        if job.status != JobStatus::Running || job.attempt != attempt || !ours {
            continue;
        }
        if unsettled.contains(&(id, attempt)) {
            end_unstored(
                context,
                job,
                "the server that ran it could not store how it ended",
            )
            .await;
        } else if job.cancel.is_some() {
            end_unstored(context, job, "cancelled before it started").await;
        } else {
            give_back(context, job).await;
        }
    }
}

/// Ends an attempt that is held and will not run: one that ran is not started a second time because its end could not be
/// stored, and one that was cancelled is not started at all.
async fn end_unstored(context: &Context, job: Job, message: &str) {
    let id = job.id;
    tracing::warn!(job.id = %id, reason = message, "held here, but not run any more");
    let (status, code) = match job.cancel {
        Some(_) => (JobStatus::Cancelled, FaultCode::Cancelled),
        None => (JobStatus::Failed, FaultCode::WorkerLost),
    };
    let end = EndJob {
        job: Arc::new(job),
        end: AttemptEnd {
            status,
            end: ProcessEnd::default(),
            output: None,
            fault: Some(Fault::new(code, message)),
        },
        log: Vec::new(),
        now: now(),
        jitter: chance(),
    };
    if let Err(error) = context.store.writer().write(end).await {
        tracing::warn!(job.id = %id, error = %chain(&error), "a lost attempt could not be ended");
    }
}

async fn give_back(context: &Context, job: Job) {
    let id = job.id;
    tracing::warn!(job.id = %id, "claimed but never started; it goes back to the queue");
    let release = ReleaseJob {
        job: Arc::new(job),
        now: now(),
    };
    if let Err(error) = context.store.writer().write(release).await {
        tracing::warn!(job.id = %id, error = %chain(&error), "a job could not be given back");
    }
}

fn give_up(context: &Context, mine: &[(JobId, u32)]) {
    if !mine.is_empty() {
        tracing::error!(
            jobs = mine.len(),
            "the leases could not be renewed in time: this node stops its jobs"
        );
    }
    for &(job, attempt) in mine {
        context.running.abandon(job, attempt);
    }
}
