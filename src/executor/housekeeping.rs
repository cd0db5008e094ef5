//! What any node does for all: wakes jobs whose moment has come, ends what dead nodes left, deletes what is old.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::Context;
use super::time::{chance, now};
use crate::domain::{JobStatus, Timestamp};
use crate::failpoint::failpoint;
use crate::store::{
    BackAgain, Backend, CleanupBatch, CleanupFilter, DeleteAudit, EndResult, ExpireLeases, MOST_AT_ONCE,
    Place, PromoteDue, StoreError, SweepPlans, Whose,
};
use crate::telemetry::chain;

/// How often to look for due jobs and ended leases without a hint: hints may be lost, and clocks may jump.
const LOOK: Duration = Duration::from_secs(1);

/// The least time between two looks, so that a flood of hints costs no more than a look in a while.
const REST: Duration = Duration::from_millis(5);

/// How often to look whether a newer version has changed the tables.
const LOOK_AT_VERSION: Duration = Duration::from_secs(2);

/// How often old jobs are looked for.
const RETENTION_PERIOD: Duration = Duration::from_secs(60);

/// The least pause between two batches of a clean-up, so that other writes pass.
const BATCH_PAUSE: Duration = Duration::from_millis(5);

/// The longest one.
const LONGEST_BATCH_PAUSE: Duration = Duration::from_millis(50);

/// Jobs in the first batch of a clean-up, before it is known what they cost, and the fewest in any: a batch has its
/// price, however small it is, and a busy machine would make them ever smaller without gain.
const SMALLEST_BATCH: usize = 32;

/// A batch that takes longer makes the next one smaller: other writes wait for it. Its commit does not count: on a slow
/// disk that takes as long for a few jobs as for many.
const LONG_BATCH: Duration = Duration::from_millis(100);

/// Puts jobs into line whose moment has come.
pub(super) async fn promote(context: Arc<Context>, stop: CancellationToken) {
    let mut queued = context.hints.queued();
    loop {
        let wait = match context.store.reader().next_due().await {
            Ok(Some(due)) if due <= now() => {
                if let Err(error) = context.store.writer().write(PromoteDue { now: now() }).await {
                    tracing::warn!(error = %chain(&error), "due jobs could not be put into line");
                    LOOK
                } else {
                    Duration::ZERO
                }
            }
            Ok(Some(due)) => due.since(now()).min(LOOK),
            Ok(None) => LOOK,
            Err(error) => {
                tracing::warn!(error = %chain(&error), "due jobs could not be looked for");
                LOOK
            }
        };
        if stop.run_until_cancelled(tokio::time::sleep(REST)).await.is_none() {
            return;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
            _ = queued.changed() => {}
        }
    }
}

/// Ends attempts whose node went silent, and plans whose time is over.
pub(super) async fn expire(context: Arc<Context>, stop: CancellationToken) {
    let shortest = Duration::from_millis(25);
    let period = (context.options.lease / 4).clamp(shortest, LOOK);
    // A server that has its file to itself knows that its own jobs run, however long it could not say so.
    let whose = match context.store.backend() {
        Backend::Sqlite => Whose::Registered,
        Backend::Postgres => Whose::All,
    };
    loop {
        let looked = async {
            let reader = context.store.reader();
            // A look that finds nothing needs no transaction.
            if reader.next_expiry().await?.is_some_and(|end| end < now()) {
                end_expired(&context, now(), whose).await?;
            }
            if context.store.backend() == Backend::Postgres {
                context.store.writer().write(SweepPlans { now: now() }).await?;
            }
            reader.next_expiry().await
        };
        let wait = match looked.await {
            Ok(Some(next)) => next.since(now()).clamp(shortest, period),
            Ok(None) => period,
            Err(error) => {
                tracing::warn!(error = %chain(&error), "expired leases could not be looked for");
                period
            }
        };
        if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
            return;
        }
    }
}

async fn end_expired(context: &Context, before: Timestamp, whose: Whose) -> Result<usize, StoreError> {
    let mut ended = 0;
    loop {
        let operation = ExpireLeases {
            before,
            whose,
            now: now(),
            jitter: chance(),
        };
        let expired = context.store.writer().write(operation).await?;
        for (job, result) in &expired.jobs {
            match result {
                EndResult::Ended(status) => {
                    tracing::warn!(job.id = %job, job.status = %status, "ended: its lease ran out");
                }
                EndResult::Retried(_) => {
                    tracing::warn!(job.id = %job, "goes back to the queue: its lease ran out");
                }
                EndResult::Stale => {}
            }
        }
        ended += expired.jobs.len();
        if !expired.more {
            return Ok(ended);
        }
    }
}

/// Puts in order what a server that was killed left behind. Runs before this server takes any job.
///
/// # Errors
///
/// [`StoreError`] where the store failed; the start can be tried again.
pub(super) async fn recover(context: &Context) -> Result<(), StoreError> {
    if context.store.backend() == Backend::Sqlite {
        // The lock on the file says that no other server lives, so nobody holds these jobs.
        let ended = end_expired(context, Timestamp::from_micros(i64::MAX), Whose::Servers).await?;
        if ended > 0 {
            tracing::warn!(
                jobs = ended,
                "the last server did not end in order: its running jobs were taken over"
            );
        }
    }
    // While no server was there, no worker could tell that it lives.
    let back = BackAgain {
        lease: context.options.lease,
        now: now(),
    };
    let held = context.store.writer().write(back).await?;
    if held > 0 {
        tracing::info!(
            jobs = held,
            "registered workers get a lease to tell that they still run their jobs"
        );
    }
    failpoint!("start.recovered");
    let root = context.options.work_dir.clone();
    let left = tokio::task::spawn_blocking(move || {
        crate::program::remove_spares(&root);
        crate::program::left_behind(&root)
    });
    let left = left.await.unwrap_or_default();
    let ids: Vec<_> = left.iter().map(|(id, _)| *id).collect();
    let known = context.store.reader().jobs(&ids).await?;
    for (id, path) in left {
        if known.get(&id).is_none_or(|job| job.status != JobStatus::Running)
            && let Err(error) = crate::program::remove_tree(&path)
        {
            tracing::warn!(path = %path.display(), error = %error, "a folder that a dead server left cannot be removed");
        }
    }
    Ok(())
}

/// A newer version of this program has changed the tables.
#[derive(Debug, thiserror::Error)]
#[error(
    "the database was migrated by a newer version of runql, so this one ends in order: start the newer one here too"
)]
pub(super) struct Outdated;

/// Ends this server where a newer version has changed the tables. Until it has looked it goes on; that is safe, since a
/// migration leaves all that the version before it reads and writes as it was.
pub(super) async fn end_where_outdated(
    context: Arc<Context>,
    stop: CancellationToken,
) -> Result<(), Outdated> {
    if context.store.backend() == Backend::Sqlite {
        // Nobody else has the file.
        stop.cancelled().await;
        return Ok(());
    }
    loop {
        match context.store.is_outdated().await {
            Ok(true) => return Err(Outdated),
            Ok(false) => {}
            Err(error) => tracing::debug!(error = %chain(&error), "the version of the tables cannot be read"),
        }
        if stop
            .run_until_cancelled(tokio::time::sleep(LOOK_AT_VERSION))
            .await
            .is_none()
        {
            return Ok(());
        }
    }
}

/// Deletes ended jobs that are older than the settings keep them.
pub(super) async fn retain(context: Arc<Context>, age: Duration, stop: CancellationToken) {
    loop {
        let filter = CleanupFilter {
            finished_before: Some(now().before(age)),
            statuses: JobStatus::ALL
                .iter()
                .copied()
                .filter(|status| status.is_final())
                .collect(),
        };
        match stop.run_until_cancelled(clean_up(&context, filter)).await {
            None => return,
            Some(Ok(0)) => {}
            Some(Ok(deleted)) => tracing::info!(jobs = deleted, "old jobs were deleted"),
            Some(Err(error)) => tracing::warn!(error = %chain(&error), "old jobs could not be deleted"),
        }
        if stop
            .run_until_cancelled(tokio::time::sleep(RETENTION_PERIOD.min(age)))
            .await
            .is_none()
        {
            return;
        }
    }
}

/// Deletes lines of the audit log that are older than the settings keep them.
pub(super) async fn forget_audit(context: Arc<Context>, age: Duration, stop: CancellationToken) {
    loop {
        let before = now().before(age);
        let pause = match context.store.writer().write(DeleteAudit { before }).await {
            Ok(0) => RETENTION_PERIOD.min(age),
            Ok(_) => BATCH_PAUSE,
            Err(error) => {
                tracing::warn!(error = %chain(&error), "old lines of the audit log could not be deleted");
                RETENTION_PERIOD
            }
        };
        if stop
            .run_until_cancelled(tokio::time::sleep(pause))
            .await
            .is_none()
        {
            return;
        }
    }
}

/// Deletes the jobs that a filter names, batch by batch, each as large as a short time allows: a job may have one line
/// of log or a million. What a failure leaves, or a caller who goes away, is there for the next call.
pub(super) async fn clean_up(context: &Context, filter: CleanupFilter) -> Result<u64, StoreError> {
    let mut deleted = 0;
    let mut batch_size = SMALLEST_BATCH;
    let mut after = Place::default();
    loop {
        let batch = CleanupBatch {
            filter: filter.clone(),
            after,
            most: batch_size,
        };
        let began = Instant::now();
        let done = context.store.writer().write(batch).await?;
        deleted += done.deleted;
        failpoint!("cleanup.batch");
        let Some(next) = done.next else {
            return Ok(deleted);
        };
        after = next;
        if done.took > LONG_BATCH {
            batch_size = (batch_size / 2).max(SMALLEST_BATCH);
        } else if done.took < LONG_BATCH / 2 {
            batch_size = (batch_size * 2).min(MOST_AT_ONCE);
        }
        // Others get their turn.
        tokio::time::sleep(began.elapsed().clamp(BATCH_PAUSE, LONGEST_BATCH_PAUSE)).await;
    }
}
