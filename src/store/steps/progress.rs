//! How far a plan is, and how it ends.

use entity::job;

use super::{Ended, illegal};
use crate::domain::{
    Fault, FaultCode, Job, JobEventType, JobId, JobStatus, Move, Progress, Timestamp, transition,
};
use crate::store::error::StoreError;
use crate::store::moves::event;
use crate::store::record;
use crate::store::tx::{NewEvent, Tx};

/// The plan as it is, where it runs.
pub(super) async fn running(tx: &Tx, plan: JobId) -> Result<Option<Job>, StoreError> {
    let statement = tx.statement(
        "SELECT * FROM job WHERE id = ? AND status = 'RUNNING'",
        [plan.uuid().into()],
    );
    let row = tx.row(statement).await?;
    row.map(|row| record::job(row.model::<job::Model>()?)).transpose()
}

/// Writes how far a plan is, and tells.
pub(super) async fn advance(
    tx: &mut Tx,
    plan: &Job,
    done: i32,
    step: Option<String>,
    fault: Option<Fault>,
) -> Result<(), StoreError> {
    let now = tx.now();
    let before = plan.progress.as_ref();
    let progress = Progress {
        current: before.map_or(0, |progress| progress.current) + done,
        total: before.and_then(|progress| progress.total),
        step: step.or_else(|| before.and_then(|progress| progress.step.clone())),
        updated_at: now,
    };
    let statement = tx.statement(
        "UPDATE job SET progress_current = ?, progress_step = ?, progress_at = ?, updated_at = ?, error_code = ?,
            error_message = ? WHERE id = ? AND status = 'RUNNING'",
        [
            progress.current.into(),
            progress.step.clone().into(),
            now.micros().into(),
            now.micros().into(),
            fault.as_ref().map(|fault| fault.code.as_str()).into(),
            fault.as_ref().map(|fault| record::plain_text(&fault.message)).into(),
            plan.id.uuid().into(),
        ],
    );
    tx.later(statement).await?;
    tx.add_event(NewEvent {
        job: plan.id,
        kind: JobEventType::Progressed,
        at: now,
        status: JobStatus::Running,
        previous: Some(JobStatus::Running),
        attempt: plan.attempt,
        progress: Some(progress),
        fault: None,
    });
    Ok(())
}

/// Ends a plan whose steps have all ended, not before the last of them: the end that is stored last may be the earlier
/// one by its own clock.
pub(super) async fn end(tx: &mut Tx, plan: &Job, fault: Option<Fault>) -> Result<(), StoreError> {
    let last = tx.statement(
        "SELECT MAX(finished_at) AS last FROM job WHERE parent_id = ?",
        [plan.id.uuid().into()],
    );
    if let Some(row) = tx.row(last).await?
        && let Some(last) = row.get("last")?
    {
        tx.see(Timestamp::from_micros(last));
    }
    let now = tx.now();
    let (status, fault) = match (fault, &plan.cancel) {
        (Some(fault), _) if fault.code == FaultCode::Timeout => (JobStatus::Timeout, Some(fault)),
        (_, Some(request)) => {
            let message = match &request.reason {
                Some(reason) => format!("cancelled: {reason}"),
                None => "cancelled".to_owned(),
            };
            (
                JobStatus::Cancelled,
                Some(Fault::new(FaultCode::Cancelled, message)),
            )
        }
        (Some(fault), None) => (JobStatus::Failed, Some(fault)),
        (None, None) => (JobStatus::Completed, None),
    };
    // A plan is tried once: its steps have attempts of their own.
    let step = transition(plan.status, plan.attempt, plan.attempt, Move::End(status)).map_err(illegal)?;
    let statement = tx.statement(
        "UPDATE job SET status = ?, finished_at = ?, updated_at = ?, lease_until = NULL,
            progress_current = progress_total, progress_at = ?, error_code = ?, error_message = ?
         WHERE id = ? AND status = 'RUNNING'",
        [
            step.to.as_str().into(),
            now.micros().into(),
            now.micros().into(),
            now.micros().into(),
            fault.as_ref().map(|fault| fault.code.as_str()).into(),
            fault
                .as_ref()
                .map(|fault| record::plain_text(&fault.message))
                .into(),
            plan.id.uuid().into(),
        ],
    );
    tx.later(statement).await?;
    tx.count_move(&plan.name, Some(step.from), Some(step.to));
    let started = plan.started_at.unwrap_or(now);
    let (took, waited) = (now.since(started), started.since(plan.run_at));
    tx.counters.count_times(&plan.name, Some(took), Some(waited), 1);
    tx.add_event(event(plan, step, now, fault.clone()));
    tx.add_ended(Ended::of(plan, step, fault), now);
    Ok(())
}
