//! The objects of the schema. Each wraps what a lower layer knows and converts it field by field; what is beyond the
//! row itself is asked of a loader or of the store, and only where it is selected.

mod attempt;
mod command;
mod event;
mod health;
mod job;
mod job_page;
mod listed;
mod log;
mod payload;
mod pipeline;
mod script;
mod stats;
mod token;
mod worker;

pub(super) use event::JobEvent;
pub(super) use health::{Health, Viewer};
pub(super) use job::{Job, JobFields};
pub(super) use job_page::JobConnection;
pub(super) use listed::{Listed, has_id_like};
pub(super) use log::LogBatch;
pub(super) use log::attempt_of;
pub(super) use payload::{
    CancelPayload, ClaimPayload, CleanupPayload, ReportPayload, RunManyPayload, RunPayload, WorkerPayload,
    WorkerPoolPayload,
};
pub(super) use pipeline::{Pipeline, PipelineConnection, page as pipelines};
pub(super) use script::{Script, ScriptConnection, page as scripts};
pub(super) use stats::Stats;
pub(super) use token::{AuditEntry, AuditEntryConnection, Token, TokenPayload};
pub(super) use worker::{Worker, WorkerPool};

use async_graphql::Interface;

/// What has an id of its own. `node` finds it again by that.
#[derive(Interface)]
#[graphql(field(
    name = "id",
    ty = "async_graphql::ID",
    desc = "A UUID, unique across all types. It never changes."
))]
pub(super) enum Node {
    Job(JobFields),
    Pipeline(Pipeline),
    Script(Script),
    Worker(Worker),
}
