//! Ends that are written together, and whether anybody waits for the jobs that ended: asked for, and answered once an
//! operation wants to know. On Postgres what is asked goes with the next statement that is awaited.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::{DbBackend, Statement};
use uuid::Uuid;

use super::dialect;
use super::error::StoreError;
use super::steps::Ended;
use super::transaction::Asked;
use super::tx::Tx;
use crate::domain::{Job, JobId};

/// What is asked about ends.
#[derive(Default)]
pub(super) struct Ends {
    /// Which rows are written.
    asked: Option<Asked>,
    /// Whether each was written, or was found to be another's: none until the answer is there.
    written: BTreeMap<(JobId, u32), Option<bool>>,
    /// Whether any job waits for one of these.
    waits: Vec<Asked>,
    waited_for: BTreeSet<Uuid>,
}

impl Tx {
    /// Asks for the rows of these jobs, at these attempts, to be written as ended. The statement gives the id and the
    /// attempt of each that was.
    pub(super) async fn ask_ends(
        &mut self,
        statement: Statement,
        ends: Vec<(JobId, u32)>,
    ) -> Result<(), StoreError> {
        self.take_ends().await?;
        self.ends.asked = Some(self.ask(statement).await?);
        self.ask_who_waits_for(ends.iter().map(|(job, _)| job.uuid()).collect())
            .await?;
        self.ends.written.extend(ends.into_iter().map(|end| (end, None)));
        Ok(())
    }

    /// Whether the row of this job, at its attempt, is asked for to be written as ended.
    pub(super) fn is_ending(&self, job: &Job) -> bool {
        self.ends.written.contains_key(&(job.id, job.attempt))
    }

    /// Whether the row of a job was written as ended; none where that is still to be done. Told once.
    pub(super) async fn written_end(&mut self, job: &Job) -> Result<Option<bool>, StoreError> {
        if self.is_ending(job) {
            self.take_ends().await?;
        }
        Ok(self.ends.written.remove(&(job.id, job.attempt)).flatten())
    }

    /// Takes note of which ends were written.
    async fn take_ends(&mut self) -> Result<(), StoreError> {
        let Some(asked) = self.ends.asked.take() else {
            return Ok(());
        };
        for row in self.answer(asked).await? {
            let attempt: i32 = row.get("attempt")?;
            let end = (JobId::from_uuid(row.get("id")?), attempt.unsigned_abs());
            self.ends.written.insert(end, Some(true));
        }
        for written in self.ends.written.values_mut() {
            written.get_or_insert(false);
        }
        Ok(())
    }

    /// Asks whether any job waits for one of these, whose ends are written. That sees what was committed before: the rows
    /// of the jobs that ended are this transaction's by then, and whoever has a job wait for another locks the other's
    /// row, so it was there before, or finds the job ended.
    async fn ask_who_waits_for(&mut self, ended: Vec<Uuid>) -> Result<(), StoreError> {
        let among = dialect::among_ids(self.backend());
        let sql = format!("SELECT EXISTS (SELECT 1 FROM job_dependency WHERE depends_on {among}) AS awaited");
        let statement = self.statement(&sql, [dialect::id_list(ended.iter().copied())]);
        let asked = self.ask(statement).await?;
        self.ends.waits.push(asked);
        self.ends.waited_for.extend(ended);
        Ok(())
    }

    /// Whether other jobs may care for what ended or started here. It takes no statement of its own to find out where none
    /// does.
    pub(super) async fn has_company(&mut self) -> Result<bool, StoreError> {
        let is_sure = self.backend() != DbBackend::Postgres
            || !self.steps_started.is_empty()
            || !self.new_dependencies.is_empty()
            || !self.ended.iter().all(Ended::is_no_step);
        if is_sure {
            return Ok(true);
        }
        let ended = self.ended.iter().map(Ended::uuid);
        let not_asked: Vec<Uuid> = ended.filter(|id| !self.ends.waited_for.contains(id)).collect();
        if !not_asked.is_empty() {
            self.ask_who_waits_for(not_asked).await?;
        }
        let mut awaited = false;
        for asked in std::mem::take(&mut self.ends.waits) {
            for row in self.answer(asked).await? {
                awaited |= row.get::<bool>("awaited")?;
            }
        }
        Ok(awaited)
    }
}
