//! What belongs to a job and is no object by itself: its attempts, its error, its progress, its labels.

use async_graphql::{Context, ID, Object, SimpleObject};

use super::worker::Worker;
use crate::domain;
use crate::graphql::error::ApiResult;
use crate::graphql::scalar::DateTime;
use crate::graphql::words::{JobErrorCode, JobStatus};

/// One try at a job.
pub(in crate::graphql) struct Attempt(pub(super) domain::Attempt);

/// One try at a job. There is more than one where `maxAttempts` allows it and the earlier ones failed.
#[Object]
impl Attempt {
    /// 1 for the first.
    async fn number(&self) -> u32 {
        self.0.number
    }

    /// How it ended, or RUNNING.
    async fn status(&self) -> JobStatus {
        self.0.status.into()
    }

    /// Who ran it; null where that worker is no longer known.
    async fn worker(&self, ctx: &Context<'_>) -> ApiResult<Option<Worker>> {
        Worker::load(ctx, self.0.worker).await
    }

    /// When its process was to start.
    async fn started_at(&self) -> DateTime {
        self.0.started_at.into()
    }

    /// When it ended; null while it runs.
    async fn finished_at(&self) -> Option<DateTime> {
        self.0.finished_at.map(Into::into)
    }

    /// The code with which its process ended; null where a signal ended it, or it never started.
    async fn exit_code(&self) -> Option<i32> {
        self.0.end.exit_code
    }

    /// The signal that ended its process: SIGKILL, SIGTERM, …
    async fn signal(&self) -> Option<&str> {
        self.0.end.signal.as_deref()
    }

    /// Why it did not complete.
    async fn error(&self) -> Option<JobError> {
        self.0.fault.as_ref().map(Into::into)
    }
}

/// Why a job or an attempt did not complete.
#[derive(SimpleObject)]
pub(in crate::graphql) struct JobError {
    /// The kind of fault, for programs.
    code: JobErrorCode,
    /// One sentence, for people.
    message: String,
}

impl From<&domain::Fault> for JobError {
    fn from(fault: &domain::Fault) -> Self {
        Self {
            code: fault.code.into(),
            message: fault.message.clone(),
        }
    }
}

/// How far a job is, as it says itself.
#[derive(SimpleObject)]
pub(in crate::graphql) struct Progress {
    /// How many steps are done.
    current: i32,
    /// Steps in all; null where that is not known.
    total: Option<i32>,
    /// 0 to 100; null where the total is not known.
    percentage: Option<f64>,
    /// What the step under way is called.
    step: Option<String>,
    /// When the job said so.
    updated_at: DateTime,
}

impl From<&domain::Progress> for Progress {
    fn from(progress: &domain::Progress) -> Self {
        Self {
            current: progress.current,
            total: progress.total,
            percentage: progress.percentage(),
            step: progress.step.clone(),
            updated_at: progress.updated_at.into(),
        }
    }
}

/// Who asked for a job, and what for.
#[derive(SimpleObject)]
pub(in crate::graphql) struct JobMetadata {
    /// Who asked, in one word of theirs: `ui`, `server`, `test`, …
    source: Option<String>,
    /// The conversation that the job belongs to.
    conversation_id: Option<ID>,
    /// The job's labels.
    tags: Vec<Tag>,
}

/// A label of a job.
#[derive(SimpleObject)]
pub(in crate::graphql) struct Tag {
    /// Its name.
    key: String,
    /// Its value.
    value: String,
}

impl From<&domain::Metadata> for JobMetadata {
    fn from(metadata: &domain::Metadata) -> Self {
        let tags = metadata.tags.iter().map(|tag| Tag {
            key: tag.key.clone(),
            value: tag.value.clone(),
        });
        Self {
            source: metadata.source.clone(),
            conversation_id: metadata.conversation_id.clone().map(ID),
            tags: tags.collect(),
        }
    }
}
