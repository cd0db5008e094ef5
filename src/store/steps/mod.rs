//! What the end of a job means for its plan, and for the jobs that wait for it.
//!
//! ```text
//!   jobs that ended ─┬─▶ those that wait: one dependency less, or CANCELLED where it must have completed ─┐
//!        ▲           └─▶ the plan: one step more is done; let the next in, stop, or end ──────────────────┤
//!        └─────────────────────────── jobs that end by that ◀─────────────────────────────────────────────┘
//! ```
//!
//! It runs at the end of the transaction in which the jobs ended, under the lock that orders commits, so that two
//! nodes never see to one plan at the same moment. What it costs does not grow with the size of the plan, unless the
//! plan is stopped. On Postgres it steps over jobs that another node is claiming or ending just then, since that node
//! may be waiting for the lock; a plan that is being stopped is looked at again by [`SweepPlans`].

mod progress;
mod start;
mod stop;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use entity::{job, job_dependency, plan};
use sea_orm::EntityTrait;
use uuid::Uuid;

pub(super) use start::start;
pub use stop::SweepPlans;
pub(super) use stop::{Stop, stop_steps, time_out};

use super::error::StoreError;
use super::transaction::SelectInTx;
use super::tx::Tx;
use super::{dialect, record};
use crate::domain::{Fault, FaultCode, Job, JobId, JobKind, JobStatus, Step};
use progress::{advance, end, running};
use start::{admit, make_ready};
use stop::cancel_dependents;

/// The kinds whose jobs run nothing themselves, for a statement.
pub(super) const HAVE_STEPS: &str = "('PLAN', 'PIPELINE')";

/// A job that came to its end in this transaction.
#[derive(Debug)]
pub(super) struct Ended {
    id: JobId,
    kind: JobKind,
    /// What a message calls it.
    label: String,
    parent: Option<JobId>,
    status: JobStatus,
    fault: Option<Fault>,
    /// Whether it never started.
    unstarted: bool,
    /// Whether its plan had let it in.
    admitted: bool,
    /// Whether all that must wait for its completion ended together with it.
    cascaded: bool,
}

impl Ended {
    /// A job that makes this step of the state machine.
    pub(super) fn of(job: &Job, step: Step, fault: Option<Fault>) -> Self {
        Self {
            id: job.id,
            kind: job.command.kind(),
            label: label(job.step_key.as_deref(), &job.name),
            parent: job.parent,
            status: step.to,
            fault,
            unstarted: step.from == JobStatus::Pending,
            admitted: job.admitted,
            cascaded: false,
        }
    }

    pub(super) const fn uuid(&self) -> Uuid {
        self.id.uuid()
    }

    /// Whether it is neither part of a plan nor one, so that only jobs which wait for it care for its end.
    pub(super) const fn is_no_step(&self) -> bool {
        self.parent.is_none() && !self.kind.has_steps()
    }

    /// A job that ended in an earlier transaction.
    fn before(job: &Job) -> Self {
        Self {
            id: job.id,
            kind: job.command.kind(),
            label: label(job.step_key.as_deref(), &job.name),
            parent: job.parent,
            status: job.status,
            fault: job.fault.clone(),
            unstarted: false,
            admitted: job.admitted,
            cascaded: true,
        }
    }
}

fn label(key: Option<&str>, name: &str) -> String {
    key.map_or_else(|| format!("`{name}`"), |key| format!("step `{key}`"))
}

/// Sees to the plans and dependents of all jobs that ended in this transaction, and of those that end by it.
pub(super) async fn settle(tx: &mut Tx) -> Result<(), StoreError> {
    loop {
        for (plan, key) in tx.take_steps_started() {
            if let Some(job) = running(tx, plan).await? {
                advance(tx, &job, 0, Some(key), job.fault.clone()).await?;
            }
        }
        let ended = tx.take_ended();
        if ended.is_empty() {
            return Ok(());
        }
        for gone in ended.iter().filter(|job| job.unstarted && job.kind.has_steps()) {
            let fault = match &gone.fault {
                Some(fault) if fault.code == FaultCode::DependencyFailed => fault.clone(),
                _ => Fault::new(FaultCode::Cancelled, "its plan was cancelled"),
            };
            stop_steps(tx, gone.id, &fault, &Stop::default()).await?;
        }
        let mut plans: BTreeMap<JobId, Vec<&Ended>> = BTreeMap::new();
        for step in &ended {
            if let Some(plan) = step.parent {
                plans.entry(plan).or_default().push(step);
            }
        }
        for (plan, steps) in plans {
            account(tx, plan, &steps).await?;
        }
        // A plan that stops has ended its steps by now, so that nobody looks for those one by one.
        release(tx, &ended).await?;
    }
}

/// Counts down what waited for these jobs, and cancels what waits for a completion that cannot come.
async fn release(tx: &mut Tx, ended: &[Ended]) -> Result<(), StoreError> {
    let by_id: HashMap<Uuid, &Ended> = ended.iter().map(|job| (job.id.uuid(), job)).collect();
    let mut released: BTreeMap<Uuid, i32> = BTreeMap::new();
    let mut failed: BTreeSet<Uuid> = BTreeSet::new();
    // No join: both databases would begin it with all PENDING jobs, and a long queue be walked at each end.
    let sql = format!(
        "SELECT *, (SELECT status FROM job WHERE id = job_id) AS status FROM job_dependency WHERE depends_on {}",
        dialect::among_ids(tx.backend()),
    );
    let statement = tx.statement(&sql, [dialect::id_list(by_id.keys().copied())]);
    for row in tx.rows(statement).await? {
        if row.get::<Option<String>>("status")?.as_deref() != Some(JobStatus::Pending.as_str()) {
            continue;
        }
        let row = row.model::<job_dependency::Model>()?;
        let awaited = by_id[&row.depends_on];
        if row.on_end || awaited.status == JobStatus::Completed {
            *released.entry(row.job_id).or_default() += 1;
        } else if !awaited.cascaded && !by_id.contains_key(&row.job_id) {
            failed.insert(row.depends_on);
        }
    }
    let failed: Vec<&Ended> = failed.iter().map(|id| by_id[id]).collect();
    if !failed.is_empty() {
        cancel_dependents(tx, &failed).await?;
    }
    let mut by_count: BTreeMap<i32, Vec<Uuid>> = BTreeMap::new();
    for (id, by) in released {
        by_count.entry(by).or_default().push(id);
    }
    let (mut ready, mut opened) = (Vec::new(), BTreeSet::new());
    let sql = format!(
        "UPDATE job SET blockers = blockers - ? WHERE status = 'PENDING' AND id {} RETURNING *",
        dialect::among_ids(tx.backend()),
    );
    for (by, ids) in by_count {
        let statement = tx.statement(&sql, [by.into(), dialect::id_list(ids)]);
        for row in tx.rows(statement).await? {
            let row = row.model::<job::Model>()?;
            if row.blockers > 0 {
                continue;
            }
            let job = record::job(row)?;
            if job.admitted {
                ready.push(job);
            } else {
                opened.extend(job.parent);
            }
        }
    }
    ready.sort_unstable_by_key(|job| job.id);
    make_ready(tx, ready).await?;
    for plan in opened {
        // One that has not started lets its steps in when it does.
        if running(tx, plan).await?.is_some() {
            admit(tx, plan, 0).await?;
        }
    }
    Ok(())
}

/// Takes the ends of steps into their plan: how far it is, whether it stops, whom it lets in, whether it has ended.
async fn account(tx: &mut Tx, plan: JobId, steps: &[&Ended]) -> Result<(), StoreError> {
    // One that was cancelled before it started has ended already.
    let Some(job) = running(tx, plan).await? else {
        return Ok(());
    };
    let bad = steps.iter().find(|step| step.status != JobStatus::Completed);
    let first_fault = bad.filter(|_| job.fault.is_none()).map(|step| {
        let why = step
            .fault
            .as_ref()
            .map_or_else(String::new, |fault| format!(": {}", fault.message));
        Fault::new(
            FaultCode::StepFailed,
            format!("{} is {}{why}", step.label, step.status),
        )
    });
    let fault = job.fault.clone().or_else(|| first_fault.clone());
    let done = i32::try_from(steps.len()).unwrap_or(i32::MAX);
    let progress = job.progress.as_ref();
    if progress.is_some_and(|progress| {
        progress
            .total
            .is_some_and(|total| progress.current + done >= total)
    }) {
        return end(tx, &job, fault).await;
    }
    advance(tx, &job, done, None, fault).await?;
    let Some(rules) = plan::Entity::find_by_id(plan.uuid()).one_in(tx).await? else {
        return Ok(());
    };
    if let Some(fault) = first_fault.filter(|_| rules.stop_on_error && job.cancel.is_none()) {
        let fault = Fault::new(
            FaultCode::DependencyFailed,
            format!("the plan stops at its first error: {}", fault.message),
        );
        stop_steps(tx, plan, &fault, &Stop::default()).await?;
    }
    if rules.free_slots.is_some() {
        let left = steps.iter().filter(|step| step.admitted).count();
        admit(tx, plan, i32::try_from(left).unwrap_or(i32::MAX)).await?;
    }
    Ok(())
}

fn illegal(illegal: crate::domain::IllegalMove) -> StoreError {
    StoreError::Unreadable(illegal.to_string())
}
