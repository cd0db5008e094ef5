//! Leases: renewing this node's, ending what nobody renewed, and waking what waited for its moment.

use entity::job;
use futures_util::future::BoxFuture;
use sea_orm::sea_query::Expr;
use sea_orm::{EntityTrait, QueryFilter};
use uuid::Uuid;

use super::error::StoreError;
use super::moves::{AttemptEnd, EndResult, end};
use super::remote_report::timed_out;
use super::steps::{self, HAVE_STEPS};
use super::transaction::InTx;
use super::tx::Tx;
use super::writer::Operation;
use super::{dialect, record};
use crate::domain::{
    CancelRequest, Fault, FaultCode, Job, JobId, JobStatus, ProcessEnd, Timestamp, WorkerId,
};

/// Expired leases that one transaction ends; the rest follows in the next.
const EXPIRED_AT_ONCE: i64 = 100;

/// Renews, in one statement, every lease that these workers hold, and tells that they are alive.
#[derive(Debug)]
pub struct RenewLeases {
    /// This node's workers.
    pub workers: Vec<WorkerId>,
    /// Until when they hold their jobs from now on.
    pub lease_until: Timestamp,
    /// When.
    pub now: Timestamp,
}

/// A job that is held, with what its holder must know.
#[derive(Debug, Clone)]
pub struct Held {
    /// The job.
    pub job: JobId,
    /// The attempt that is held.
    pub attempt: u32,
    /// Whether somebody wants it to stop.
    pub cancel: Option<CancelRequest>,
}

/// What a renewal found.
#[derive(Debug, Clone, Default)]
pub struct Renewed {
    /// All that is still held: what a worker runs beyond this list was taken from it.
    pub held: Vec<Held>,
    /// The workers that another node has taken over, since this one was silent for too long.
    pub lost: Vec<WorkerId>,
}

impl Operation for RenewLeases {
    type Output = Renewed;

    fn apply<'t>(&'t self, tx: &'t mut Tx) -> BoxFuture<'t, Result<Renewed, StoreError>> {
        Box::pin(async move {
            let (mine, lost) = super::worker::part(tx, &self.workers).await?;
            let ids: Vec<Uuid> = mine.iter().map(|worker| worker.uuid()).collect();
            if ids.is_empty() {
                return Ok(Renewed {
                    held: Vec::new(),
                    lost,
                });
            }
            entity::worker::Entity::update_many()
                .col_expr(
                    entity::worker::Column::LastHeartbeat,
                    Expr::value(self.now.micros()),
                )
                .col_expr(entity::worker::Column::Online, Expr::value(true))
                .filter(tx.among(entity::worker::Column::Id, &ids))
                .run_in(tx)
                .await?;
            let mut renew = job::Entity::update_many()
                .col_expr(job::Column::LeaseUntil, Expr::value(self.lease_until.micros()))
                .filter(dialect::is_running())
                .filter(tx.among(job::Column::WorkerId, &ids));
            renew.query().returning_all();
            let held = renew
                .rows_in(tx)
                .await?
                .iter()
                .map(|row| {
                    let job = record::job(row.model()?)?;
                    Ok(Held {
                        job: job.id,
                        attempt: job.attempt,
                        cancel: job.cancel,
                    })
                })
                .collect::<Result<_, StoreError>>()?;
            Ok(Renewed { held, lost })
        })
    }
}

/// Whose leases are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Everybody's.
    All,
    /// Those of workers that servers run themselves: a server that starts on a file that only it uses knows that no
    /// such worker is left.
    Servers,
    /// Those of registered workers: a server that runs on a file that only it uses knows that it is there itself, also
    /// where it could not write for a while.
    Registered,
}

/// Ends the attempts whose leases ran out before a moment: their node is gone.
#[derive(Debug)]
pub struct ExpireLeases {
    /// Leases until before this moment are over.
    pub before: Timestamp,
    /// Whose.
    pub whose: Whose,
    /// When.
    pub now: Timestamp,
    /// 0 to 1, to spread retries.
    pub jitter: f64,
}

/// What was ended.
#[derive(Debug, Clone, Default)]
pub struct Expired {
    /// The jobs, and what became of each.
    pub jobs: Vec<(JobId, EndResult)>,
    /// Whether there may be more.
    pub more: bool,
}

impl Operation for ExpireLeases {
    type Output = Expired;

    fn apply<'t>(&'t self, tx: &'t mut Tx) -> BoxFuture<'t, Result<Expired, StoreError>> {
        Box::pin(async move {
            let whose = match self.whose {
                Whose::All => "",
                Whose::Servers => " AND worker_id IN (SELECT id FROM worker WHERE internal)",
                // A plan has no worker.
                Whose::Registered => {
                    " AND (worker_id IS NULL OR worker_id NOT IN (SELECT id FROM worker WHERE internal))"
                }
            };
            let sql = format!(
                "SELECT * FROM job WHERE status = 'RUNNING' AND lease_until < ?{whose} ORDER BY lease_until LIMIT ?{}",
                dialect::for_update_skip_locked(tx.backend()),
            );
            let statement = tx.statement(&sql, [self.before.micros().into(), EXPIRED_AT_ONCE.into()]);
            let rows = tx.rows(statement).await?;
            let mut expired = Expired {
                jobs: Vec::new(),
                more: rows.len() == usize::try_from(EXPIRED_AT_ONCE).unwrap_or(0),
            };
            for row in rows {
                let job = record::job(row.model::<job::Model>()?)?;
                if job.command.kind().has_steps() {
                    tx.order().await?;
                    tx.see(self.now);
                    steps::time_out(tx, &job).await?;
                    continue;
                }
                let (status, fault) = lost(&job, self.now);
                let lost = AttemptEnd {
                    status,
                    end: ProcessEnd::default(),
                    output: None,
                    fault: Some(fault),
                };
                expired
                    .jobs
                    .push((job.id, end(tx, &job, &lost, self.now, self.jitter).await?));
            }
            Ok(expired)
        })
    }
}

/// What became of an attempt whose lease ran out. A server stops its own jobs when their time is up; a registered worker
/// holds no job for longer than that, so there a lease that ran out then is a timeout.
fn lost(job: &Job, now: Timestamp) -> (JobStatus, Fault) {
    let registered = job.route.is_some();
    let deadline = job.started_at.unwrap_or(now).after(job.timeout);
    if job.cancel.is_some() {
        let message = if registered {
            "cancelled; the worker that ran it did not say that it stopped"
        } else {
            "cancelled; the server that ran it went away before it could say so"
        };
        (JobStatus::Cancelled, Fault::new(FaultCode::Cancelled, message))
    } else if registered && now >= deadline {
        (JobStatus::Timeout, timed_out(job))
    } else {
        let message = if registered {
            "the worker that ran it went silent"
        } else {
            "the server that ran it went away"
        };
        (JobStatus::Failed, Fault::new(FaultCode::WorkerLost, message))
    }
}

/// Puts into line what waited for a moment that has come.
#[derive(Debug)]
pub struct PromoteDue {
    /// The moment.
    pub now: Timestamp,
}

impl Operation for PromoteDue {
    /// How many.
    type Output = u64;

    fn apply<'t>(&'t self, tx: &'t mut Tx) -> BoxFuture<'t, Result<u64, StoreError>> {
        Box::pin(async move {
            tx.flush_jobs().await?;
            let plans = self.start_plans(tx).await?;
            let sql = format!(
                "UPDATE job{} SET wait = 'QUEUED'
                 WHERE status = 'PENDING' AND wait IN ('SCHEDULED', 'BACKOFF') AND run_at <= ?
                 AND kind NOT IN {HAVE_STEPS}",
                dialect::indexed_by(tx.backend(), "job_due"),
            );
            let statement = tx.statement(&sql, [self.now.micros().into()]);
            let promoted = tx.execute(statement).await?;
            tx.committed.queued |= promoted > 0;
            Ok(promoted + plans)
        })
    }
}

impl PromoteDue {
    async fn start_plans(&self, tx: &mut Tx) -> Result<u64, StoreError> {
        let sql = format!(
            "SELECT * FROM job{} WHERE status = 'PENDING' AND wait IN ('SCHEDULED', 'BACKOFF') AND run_at <= ?
             AND kind IN {HAVE_STEPS}",
            dialect::indexed_by(tx.backend(), "job_due"),
        );
        let mut plans = 0;
        let statement = tx.statement(&sql, [self.now.micros().into()]);
        for row in tx.rows(statement).await? {
            tx.order().await?;
            tx.see(self.now);
            let plan = record::job(row.model::<job::Model>()?)?;
            steps::start(tx, &plan, self.now).await?;
            plans += 1;
        }
        Ok(plans)
    }
}
