//! What mutations answer with. What the caller can mend is told here, as `errors`; what is the server's own fault is
//! an error of the whole operation.

use std::time::Duration;

use async_graphql::{ID, SimpleObject};

use super::job::Job;
use super::worker::{Worker, WorkerPool};
use crate::domain::{self, JobId};
use crate::executor::{Refusal, SubmitError};
use crate::graphql::error::ApiResult;
use crate::graphql::scalar::SafeInt;
use crate::graphql::words::UserErrorCode;
use crate::store::Inserted;

/// An input that was refused. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, SimpleObject)]
pub(in crate::graphql) struct UserError {
    /// The kind of refusal, for programs.
    code: UserErrorCode,
    /// What is wrong and what to do, for people.
    message: String,
    /// Where in the arguments: `["input", "command", "script", "name"]`.
    path: Vec<String>,
}

impl UserError {
    /// A refusal of what stands below the argument `input`.
    pub(in crate::graphql) fn of_input(refusal: Refusal) -> Self {
        Self::below(["input".to_owned()], refusal)
    }

    /// A refusal of what stands below an entry of the argument `inputs`, or of all entries together.
    fn of_inputs(index: usize, refusal: Refusal) -> Self {
        if refusal.path.is_empty() {
            return Self::below(["inputs".to_owned()], refusal);
        }
        Self::below(["inputs".to_owned(), index.to_string()], refusal)
    }

    fn below(argument: impl IntoIterator<Item = String>, refusal: Refusal) -> Self {
        Self {
            code: refusal.code.into(),
            message: refusal.message,
            path: argument.into_iter().chain(refusal.path).collect(),
        }
    }
}

/// What `run` and `rerun` did.
#[derive(Default, SimpleObject)]
pub(in crate::graphql) struct RunPayload {
    /// The job, stored; null where `errors` says why there is none.
    job: Option<Job>,
    /// Whether the idempotency key was seen before, so that `job` is the earlier one and nothing new was
    /// stored.
    deduplicated: bool,
    /// What was refused; empty where the job was stored.
    errors: Vec<UserError>,
}

impl RunPayload {
    pub(in crate::graphql) fn of(submitted: Result<Inserted, SubmitError>) -> ApiResult<Self> {
        match submitted {
            Ok(inserted) => Ok(Self {
                job: Some(inserted.job.into()),
                deduplicated: inserted.deduplicated,
                errors: Vec::new(),
            }),
            Err(SubmitError::Refused { refusals }) => {
                Ok(Self::refused(refusals.into_iter().map(|(_, refusal)| refusal)))
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(in crate::graphql) fn refused(refusals: impl IntoIterator<Item = Refusal>) -> Self {
        Self {
            errors: refusals.into_iter().map(UserError::of_input).collect(),
            ..Self::default()
        }
    }
}

/// What `runMany` did.
#[derive(SimpleObject)]
pub(in crate::graphql) struct RunManyPayload {
    /// The jobs in the order of the inputs, all of them stored; null where `errors` says why there is none.
    jobs: Option<Vec<Job>>,
    /// What was refused; empty where all jobs were stored.
    errors: Vec<UserError>,
}

impl RunManyPayload {
    pub(in crate::graphql) fn of(submitted: Result<Vec<Inserted>, SubmitError>) -> ApiResult<Self> {
        match submitted {
            Ok(inserted) => Ok(Self {
                jobs: Some(inserted.into_iter().map(|one| one.job.into()).collect()),
                errors: Vec::new(),
            }),
            Err(SubmitError::Refused { refusals }) => Ok(Self::refused(refusals)),
            Err(error) => Err(error.into()),
        }
    }

    pub(in crate::graphql) fn refused(refusals: impl IntoIterator<Item = (usize, Refusal)>) -> Self {
        let errors = refusals
            .into_iter()
            .map(|(index, refusal)| UserError::of_inputs(index, refusal));
        Self {
            jobs: None,
            errors: errors.collect(),
        }
    }
}

/// What `cancel` did.
#[derive(SimpleObject)]
pub(in crate::graphql) struct CancelPayload {
    /// The job: CANCELLED where it had not started, else RUNNING until its processes have ended. With a CONFLICT, the
    /// job as it had ended before; null with any other error.
    job: Option<Job>,
    /// What was refused; empty where the job is or will be cancelled.
    errors: Vec<UserError>,
}

impl CancelPayload {
    pub(in crate::graphql) fn done(job: Job) -> Self {
        Self {
            job: Some(job),
            errors: Vec::new(),
        }
    }

    pub(in crate::graphql) fn refused(job: Option<Job>, refusal: Refusal) -> Self {
        Self {
            job,
            errors: vec![UserError::of_input(refusal)],
        }
    }
}

/// What `cleanup` did.
#[derive(SimpleObject)]
pub(in crate::graphql) struct CleanupPayload {
    /// How many jobs were deleted, or would be.
    deleted_count: SafeInt,
    /// What was refused; then nothing was deleted.
    errors: Vec<UserError>,
}

impl CleanupPayload {
    pub(in crate::graphql) fn done(deleted: u64) -> Self {
        Self {
            deleted_count: SafeInt::of(deleted),
            errors: Vec::new(),
        }
    }

    pub(in crate::graphql) fn refused(refusals: Vec<Refusal>) -> Self {
        Self {
            deleted_count: SafeInt(0),
            errors: refusals.into_iter().map(UserError::of_input).collect(),
        }
    }
}

/// What `scaleWorkers`, `startWorkers` and `stopWorkers` did.
#[derive(Default, SimpleObject)]
pub(in crate::graphql) struct WorkerPoolPayload {
    /// The pool after the change; null where `errors` says why there was none.
    pub(in crate::graphql) worker_pool: Option<WorkerPool>,
    /// How many workers there were before.
    pub(in crate::graphql) previous_size: Option<usize>,
    /// What was refused; empty where the pool was changed.
    pub(in crate::graphql) errors: Vec<UserError>,
}

/// What `registerWorker` and `heartbeat` did.
#[derive(Default, SimpleObject)]
pub(in crate::graphql) struct WorkerPayload {
    /// The worker; null where `errors` says why there is none.
    worker: Option<Worker>,
    /// Among the jobs that it reported, those that it should stop: cancelled, or given to another worker.
    stop_job_ids: Vec<ID>,
    /// How long the worker holds a job after a sign of life: a heartbeat, a claim or a report. It is OFFLINE once it was
    /// silent for so long, and its jobs are taken from it. Null where `errors` says why there is no worker.
    lease_ms: Option<SafeInt>,
    /// What was refused.
    errors: Vec<UserError>,
}

impl WorkerPayload {
    pub(in crate::graphql) fn done(worker: domain::Worker, stop: Vec<JobId>, lease: Duration) -> Self {
        Self {
            worker: Some(Worker(worker)),
            stop_job_ids: stop.into_iter().map(Into::into).collect(),
            lease_ms: Some(SafeInt::millis(lease)),
            errors: Vec::new(),
        }
    }
}

/// What `claim` did.
#[derive(Default, SimpleObject)]
pub(in crate::graphql) struct ClaimPayload {
    /// The jobs that the worker has now, which may be none.
    jobs: Vec<Job>,
    /// What was refused; then no job was taken.
    errors: Vec<UserError>,
}

impl ClaimPayload {
    pub(in crate::graphql) fn done(jobs: Vec<domain::Job>) -> Self {
        Self {
            jobs: jobs.into_iter().map(Into::into).collect(),
            errors: Vec::new(),
        }
    }
}

/// What `report` did.
#[derive(Default, SimpleObject)]
pub(in crate::graphql) struct ReportPayload {
    /// The job after the report; null where `errors` says why it was not taken.
    job: Option<Job>,
    /// What was refused; then nothing of the report was stored.
    errors: Vec<UserError>,
}

impl ReportPayload {
    pub(in crate::graphql) fn done(job: domain::Job) -> Self {
        Self {
            job: Some(job.into()),
            errors: Vec::new(),
        }
    }
}

/// Payloads that hold nothing but a refusal.
macro_rules! refusable {
    ($($payload:ident),+) => {$(
        impl $payload {
            /// The answer where the input was refused.
            pub(in crate::graphql) fn refused(refusal: Refusal) -> Self {
                Self { errors: vec![UserError::of_input(refusal)], ..Self::default() }
            }
        }
    )+};
}
refusable!(WorkerPoolPayload, WorkerPayload, ClaimPayload, ReportPayload);

/// Payloads that may hold several refusals.
macro_rules! refusable_for_many {
    ($($payload:ident),+) => {$(
        impl $payload {
            /// The answer where inputs were refused.
            pub(in crate::graphql) fn refused_all(refusals: Vec<Refusal>) -> Self {
                let errors = refusals.into_iter().map(UserError::of_input).collect();
                Self { errors, ..Self::default() }
            }
        }
    )+};
}
refusable_for_many!(WorkerPayload, ClaimPayload, ReportPayload);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::RefusalCode;

    fn refusal() -> Refusal {
        Refusal::new(
            RefusalCode::NotFound,
            &["command", "script", "name"],
            "no such script",
        )
    }

    #[test]
    fn a_refusal_is_told_with_its_place_in_the_arguments() {
        let payload = RunPayload::of(Err(SubmitError::Refused {
            refusals: vec![(0, refusal())],
        }))
        .unwrap();
        assert!(payload.job.is_none());
        assert_eq!(payload.errors[0].path, ["input", "command", "script", "name"]);
        assert_eq!(payload.errors[0].code, UserErrorCode::NotFound);

        let payload = RunManyPayload::of(Err(SubmitError::Refused {
            refusals: vec![(3, refusal())],
        }))
        .unwrap();
        assert!(payload.jobs.is_none());
        assert_eq!(
            payload.errors[0].path,
            ["inputs", "3", "command", "script", "name"]
        );
    }

    #[test]
    fn a_fault_of_ours_is_no_refusal() {
        assert!(RunPayload::of(Err(SubmitError::Scripts(std::io::Error::other("gone")))).is_err());
    }
}
