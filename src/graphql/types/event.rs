//! What happened to jobs.

use std::sync::Arc;

use async_graphql::{Context, Object};

use super::attempt::{JobError, Progress};
use super::job::Job;
use crate::domain;
use crate::executor::LoadedEvent;
use crate::graphql::context::ContextExt as _;
use crate::graphql::cursor::Cursor;
use crate::graphql::error::ApiResult;
use crate::graphql::page::{PageArgs, connection};
use crate::graphql::scalar::DateTime;
use crate::graphql::words::{JobEventType, JobStatus};

/// An event with its job.
pub(in crate::graphql) struct JobEvent {
    event: domain::JobEvent,
    job: Arc<domain::Job>,
}

impl From<Arc<LoadedEvent>> for JobEvent {
    fn from(loaded: Arc<LoadedEvent>) -> Self {
        Self {
            event: loaded.event.clone(),
            job: Arc::clone(&loaded.job),
        }
    }
}

impl JobEvent {
    fn place(&self) -> String {
        Cursor::Event(self.event.seq).encode()
    }
}

/// One thing that happened to a job.
#[Object]
impl JobEvent {
    /// Its place among all events, for `after` when the listener comes back.
    async fn cursor(&self) -> String {
        self.place()
    }

    /// What happened.
    #[graphql(name = "type")]
    async fn kind(&self) -> JobEventType {
        self.event.kind.into()
    }

    /// When.
    async fn at(&self) -> DateTime {
        self.event.at.into()
    }

    /// The job's status right after the event.
    async fn status(&self) -> JobStatus {
        self.event.status.into()
    }

    /// The status right before it; null for CREATED.
    async fn previous_status(&self) -> Option<JobStatus> {
        self.event.previous.map(Into::into)
    }

    /// The attempt that it belongs to; 0 before the first start.
    async fn attempt(&self) -> u32 {
        self.event.attempt
    }

    /// How far the job was; only for PROGRESSED.
    async fn progress(&self) -> Option<Progress> {
        self.event.progress.as_ref().map(Into::into)
    }

    /// Why the attempt failed; only for events that end one badly.
    async fn error(&self) -> Option<JobError> {
        self.event.fault.as_ref().map(Into::into)
    }

    /// The job as it is when the event is sent, which may be after later events.
    async fn job(&self) -> Job {
        Job(Arc::clone(&self.job))
    }
}

connection! {
    /// A page of events.
    JobEventConnection,
    /// An event and its place. The `jobEvents` subscription takes the same cursors.
    JobEventEdge of JobEvent,
    {}
}

/// A page of what happened to a job.
pub(super) async fn page(
    ctx: &Context<'_>,
    job: &Arc<domain::Job>,
    args: &PageArgs,
) -> ApiResult<JobEventConnection> {
    let request = args.request(ctx.limits().max_page_size, Cursor::event)?;
    let found = ctx.reader().job_events(job.id, request).await?;
    let entries = found.events.into_iter().map(|event| {
        let event = JobEvent {
            event,
            job: Arc::clone(job),
        };
        (event.place(), event)
    });
    Ok(JobEventConnection::new(
        entries,
        request.after.is_some(),
        found.has_next,
    ))
}
