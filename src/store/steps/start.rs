//! Letting steps in, and starting plans.

use entity::{job, plan};
use futures_util::future::BoxFuture;
use sea_orm::{EntityTrait, Value as SqlValue};

use super::{Ended, HAVE_STEPS, account, illegal};
use crate::domain::{Job, JobId, Move, Timestamp, transition};
use crate::store::error::StoreError;
use crate::store::moves::event;
use crate::store::transaction::SelectInTx;
use crate::store::tx::Tx;
use crate::store::{dialect, record};

/// Lets in the next steps of a plan that bounds how many are under way, `left` of which have just ended.
pub(super) async fn admit(tx: &mut Tx, plan: JobId, left: i32) -> Result<(), StoreError> {
    let Some(rules) = plan::Entity::find_by_id(plan.uuid()).one_in(tx).await? else {
        return Ok(());
    };
    let Some(free) = rules.free_slots else {
        return Ok(());
    };
    let free = free.saturating_add(left);
    let sql = format!(
        "SELECT * FROM job{} WHERE parent_id = ? AND status = 'PENDING' AND gated AND blockers = 0
         ORDER BY step_index LIMIT ?",
        dialect::indexed_by(tx.backend(), "job_gate"),
    );
    let statement = tx.statement(&sql, [plan.uuid().into(), i64::from(free).into()]);
    let next = tx.rows(statement).await?;
    let used = i32::try_from(next.len()).unwrap_or(i32::MAX);
    let statement = tx.statement(
        "UPDATE plan SET free_slots = ? WHERE job_id = ?",
        [(free - used).into(), plan.uuid().into()],
    );
    tx.later(statement).await?;
    let mut admitted = Vec::with_capacity(next.len());
    for row in next {
        admitted.push(record::job(row.model::<job::Model>()?)?);
    }
    if !admitted.is_empty() {
        let sql = format!(
            "UPDATE job SET gated = FALSE WHERE id {}",
            dialect::among_ids(tx.backend())
        );
        tx.later(tx.statement(&sql, [id_list(&admitted)])).await?;
    }
    make_ready(tx, admitted).await
}

fn id_list(jobs: &[Job]) -> SqlValue {
    dialect::id_list(jobs.iter().map(|job| job.id.uuid()))
}

/// Puts jobs into line that nothing blocks any more; plans among them start.
pub(super) fn make_ready(tx: &mut Tx, jobs: Vec<Job>) -> BoxFuture<'_, Result<(), StoreError>> {
    Box::pin(async move {
        let now = tx.now();
        let (plans, jobs): (Vec<Job>, Vec<Job>) = jobs
            .into_iter()
            .partition(|job| job.run_at <= now && job.command.kind().has_steps());
        if !jobs.is_empty() {
            // They could start from now on, which is where their time in the queue begins.
            let sql = format!(
                "UPDATE job SET updated_at = ?, wait = CASE WHEN run_at > ? THEN 'SCHEDULED' ELSE 'QUEUED' END,
                    run_at = CASE WHEN run_at > ? THEN run_at ELSE ? END
                 WHERE status = 'PENDING' AND id {}",
                dialect::among_ids(tx.backend()),
            );
            let at = SqlValue::from(now.micros());
            let values = [at.clone(), at.clone(), at.clone(), at, id_list(&jobs)];
            tx.later(tx.statement(&sql, values)).await?;
            tx.committed.queued = true;
        }
        for plan in plans {
            start(tx, &plan, now).await?;
        }
        Ok(())
    })
}

/// Starts a plan: lets in the steps that it may.
pub(in crate::store) async fn start(tx: &mut Tx, plan: &Job, now: Timestamp) -> Result<(), StoreError> {
    let step =
        transition(plan.status, plan.attempt, plan.retry.max_attempts, Move::Claim).map_err(illegal)?;
    let statement = tx.statement(
        "UPDATE job SET status = 'RUNNING', wait = NULL, attempt = ?, run_at = ?, started_at = ?, updated_at = ?,
            lease_until = ? WHERE id = ? AND status = 'PENDING'",
        [
            record::number(step.attempt).into(),
            now.micros().into(),
            now.micros().into(),
            now.micros().into(),
            now.after(plan.timeout).micros().into(),
            plan.id.uuid().into(),
        ],
    );
    if tx.execute(statement).await? == 0 {
        return Ok(());
    }
    tx.count_move(&plan.name, Some(step.from), Some(step.to));
    tx.add_event(event(plan, step, now, None));
    tx.note_started(plan, now);
    tx.committed.queued = true;
    ended_before(tx, plan.id).await?;
    let rules = plan::Entity::find_by_id(plan.id.uuid()).one_in(tx).await?;
    if rules.is_some_and(|rules| rules.free_slots.is_some()) {
        return admit(tx, plan.id, 0).await;
    }
    let sql = format!(
        "UPDATE job SET gated = FALSE, updated_at = ?,
            wait = CASE WHEN blockers > 0 THEN 'BLOCKED' WHEN run_at > ? THEN 'SCHEDULED' ELSE 'QUEUED' END,
            run_at = CASE WHEN run_at > ? THEN run_at ELSE ? END
         WHERE parent_id = ? AND status = 'PENDING' AND kind NOT IN {HAVE_STEPS}",
    );
    let at = SqlValue::from(now.micros());
    let values = [at.clone(), at.clone(), at.clone(), at, plan.id.uuid().into()];
    tx.later(tx.statement(&sql, values)).await?;
    let sql = format!(
        "UPDATE job SET gated = FALSE WHERE parent_id = ? AND status = 'PENDING' AND kind IN {HAVE_STEPS} RETURNING *"
    );
    let mut free = Vec::new();
    for row in tx.rows(tx.statement(&sql, [plan.id.uuid().into()])).await? {
        let row = row.model::<job::Model>()?;
        if row.blockers == 0 {
            free.push(record::job(row)?);
        }
    }
    free.sort_unstable_by_key(|job| job.id);
    make_ready(tx, free).await
}

/// Takes the steps into account that were cancelled while their plan still waited: nobody else will.
async fn ended_before(tx: &mut Tx, plan: JobId) -> Result<(), StoreError> {
    let statement = tx.statement(
        "SELECT * FROM job WHERE parent_id = ? AND finished_at IS NOT NULL ORDER BY step_index",
        [plan.uuid().into()],
    );
    let mut steps = Vec::new();
    for row in tx.rows(statement).await? {
        steps.push(Ended::before(&record::job(row.model::<job::Model>()?)?));
    }
    if steps.is_empty() {
        return Ok(());
    }
    account(tx, plan, &steps.iter().collect::<Vec<_>>()).await
}
