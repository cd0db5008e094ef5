//! Stopping the steps of a plan, and what waits for a completion that cannot come.

use entity::{job, plan};
use futures_util::future::BoxFuture;
use sea_orm::{EntityTrait, Value as SqlValue};
use uuid::Uuid;

use super::{Ended, HAVE_STEPS, illegal, label};
use crate::domain::{Fault, FaultCode, Job, JobId, JobStatus, Move, Timestamp, transition};
use crate::store::error::StoreError;
use crate::store::remote_report::timed_out;
use crate::store::transaction::SelectInTx;
use crate::store::tx::{NewEvent, Tx};
use crate::store::writer::Operation;
use crate::store::{dialect, record};

/// Cancels all that waits for the completion of these jobs, or of what is cancelled with them.
pub(super) async fn cancel_dependents(tx: &mut Tx, failed: &[&Ended]) -> Result<(), StoreError> {
    let message = match failed {
        [one] => format!(
            "{} is {}, and this one waited for it to complete",
            one.label, one.status
        ),
        _ => "a job that it depends on did not complete".to_owned(),
    };
    let fault = Fault::new(FaultCode::DependencyFailed, message);
    let picked = format!(
        "SELECT job_id FROM job_dependency WHERE depends_on {} AND NOT on_end
         UNION
         SELECT job_dependency.job_id FROM picked
         JOIN job_dependency ON job_dependency.depends_on = picked.id AND NOT job_dependency.on_end",
        dialect::among_ids(tx.backend()),
    );
    if let Some(hint) = dialect::walk_by_indexes(tx.backend()) {
        tx.batch(hint).await?;
    }
    let ids = dialect::id_list(failed.iter().map(|job| job.id.uuid()));
    cancel_pending(tx, &picked, vec![ids], &fault, &Stop::default(), true).await
}

/// Who asked for steps to stop, and how.
#[derive(Debug, Clone, Default)]
pub(in crate::store) struct Stop {
    /// In the words of who asked.
    pub(in crate::store) reason: Option<String>,
    /// The time between SIGTERM and SIGKILL, in milliseconds; none is the server's own.
    pub(in crate::store) grace_ms: Option<i64>,
}

/// Cancels the steps of a plan, and theirs: those that wait at once, those that run by asking.
pub(in crate::store) async fn stop_steps(
    tx: &mut Tx,
    plan: JobId,
    fault: &Fault,
    stop: &Stop,
) -> Result<(), StoreError> {
    const BELOW: &str = "SELECT id FROM job WHERE parent_id = ?
        UNION ALL SELECT job.id FROM picked JOIN job ON job.parent_id = picked.id";
    tx.flush_jobs().await?;
    cancel_pending(tx, BELOW, vec![plan.uuid().into()], fault, stop, false).await?;
    let sql = format!(
        "WITH RECURSIVE picked(id) AS ({BELOW})
         UPDATE job SET cancel_at = ?, cancel_reason = ?, cancel_grace_ms = ?, updated_at = ?
         WHERE id {}
         RETURNING id",
        still(tx, "status = 'RUNNING' AND cancel_at IS NULL"),
    );
    let now = SqlValue::from(tx.now().micros());
    let reason = stop.reason.clone().unwrap_or_else(|| fault.message.clone());
    let values = [
        plan.uuid().into(),
        now.clone(),
        reason.into(),
        stop.grace_ms.into(),
        now,
    ];
    let statement = tx.statement(&sql, values);
    for row in tx.rows(statement).await? {
        let id = JobId::from_uuid(row.get("id")?);
        tx.committed.cancels.insert(id);
    }
    Ok(())
}

/// Those of the picked jobs that are so, and that no other node is moving just then.
fn still(tx: &Tx, condition: &str) -> String {
    let picked = dialect::among_rows(tx.backend(), "SELECT id FROM picked");
    let lock = dialect::for_update_skip_locked(tx.backend());
    let jobs = format!("SELECT id FROM job WHERE {condition} AND id {picked}{lock}");
    dialect::among_rows(tx.backend(), &jobs)
}

/// Cancels those of the picked jobs that have not started.
async fn cancel_pending(
    tx: &mut Tx,
    picked: &str,
    mut values: Vec<SqlValue>,
    fault: &Fault,
    stop: &Stop,
    cascaded: bool,
) -> Result<(), StoreError> {
    let sql = format!(
        "WITH RECURSIVE picked(id) AS ({picked})
         UPDATE job SET status = 'CANCELLED', wait = NULL, finished_at = ?, updated_at = ?, cancel_at = ?,
            cancel_reason = ?, error_code = ?, error_message = ?
         WHERE id {}
         RETURNING id, kind, name, attempt, max_attempts, parent_id, step_key, gated",
        still(tx, "status = 'PENDING'"),
    );
    let now = tx.now();
    let message = record::plain_text(&fault.message);
    let fault = Fault::new(fault.code, message);
    values.extend([
        now.micros().into(),
        now.micros().into(),
        now.micros().into(),
        stop.reason.as_deref().map(record::plain_text).into(),
        fault.code.as_str().into(),
        fault.message.clone().into(),
    ]);
    let statement = tx.statement(&sql, values);
    for row in tx.rows(statement).await? {
        let attempt = u32::try_from(row.get::<i32>("attempt")?).unwrap_or(0);
        let most = u32::try_from(row.get::<i32>("max_attempts")?).unwrap_or(1);
        let step = transition(JobStatus::Pending, attempt, most, Move::Cancel).map_err(illegal)?;
        let id = JobId::from_uuid(row.get("id")?);
        let name: String = row.get("name")?;
        let key: Option<String> = row.get("step_key")?;
        tx.count_move(&name, Some(step.from), Some(step.to));
        tx.add_event(NewEvent {
            job: id,
            kind: step.event,
            at: now,
            status: step.to,
            previous: Some(step.from),
            attempt: step.attempt,
            progress: None,
            fault: Some(fault.clone()),
        });
        let ended = Ended {
            id,
            kind: row.get::<String>("kind")?.parse()?,
            label: label(key.as_deref(), &name),
            parent: row.get::<Option<Uuid>>("parent_id")?.map(JobId::from_uuid),
            status: step.to,
            fault: Some(fault.clone()),
            unstarted: true,
            admitted: !row.get::<bool>("gated")?,
            cascaded,
        };
        tx.add_ended(ended, now);
    }
    Ok(())
}

/// Ends a plan's time: its steps are stopped, and with the last of them it ends as TIMEOUT.
pub(in crate::store) async fn time_out(tx: &mut Tx, plan: &Job) -> Result<(), StoreError> {
    let fault = timed_out(plan);
    let statement = tx.statement(
        // Until the last step has ended there is nothing more to be over.
        "UPDATE job SET lease_until = ?, error_code = ?, error_message = ?, updated_at = ?
         WHERE id = ? AND status = 'RUNNING'",
        [
            i64::MAX.into(),
            fault.code.as_str().into(),
            fault.message.clone().into(),
            tx.now().micros().into(),
            plan.id.uuid().into(),
        ],
    );
    tx.later(statement).await?;
    let fault = Fault::new(FaultCode::Cancelled, format!("its plan {}", fault.message));
    stop_steps(tx, plan.id, &fault, &Stop::default()).await
}

/// Stops once more the steps of plans that are being stopped: one that another node was claiming at that moment was
/// stepped over.
#[derive(Debug)]
pub struct SweepPlans {
    /// When.
    pub now: Timestamp,
}

impl Operation for SweepPlans {
    type Output = ();

    fn apply<'t>(&'t self, tx: &'t mut Tx) -> BoxFuture<'t, Result<(), StoreError>> {
        Box::pin(async move {
            let sql = format!(
                "SELECT * FROM job WHERE status = 'RUNNING' AND kind IN {HAVE_STEPS}
                 AND (cancel_at IS NOT NULL OR error_code IS NOT NULL)"
            );
            let rows = tx.rows(tx.statement(&sql, [])).await?;
            if rows.is_empty() {
                return Ok(());
            }
            tx.order().await?;
            tx.see(self.now);
            for row in rows {
                let plan = record::job(row.model::<job::Model>()?)?;
                let rules = plan::Entity::find_by_id(plan.id.uuid()).one_in(tx).await?;
                let timed_out = plan
                    .fault
                    .as_ref()
                    .is_some_and(|fault| fault.code == FaultCode::Timeout);
                if plan.cancel.is_some() || timed_out || rules.is_some_and(|rules| rules.stop_on_error) {
                    let fault = Fault::new(FaultCode::Cancelled, "its plan was stopped");
                    stop_steps(tx, plan.id, &fault, &Stop::default()).await?;
                }
            }
            Ok(())
        })
    }
}
