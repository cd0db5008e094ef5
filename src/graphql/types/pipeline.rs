//! Pipelines that can be run.

use std::io;

use async_graphql::{Context, ID, Object, SimpleObject};
use uuid::Uuid;

use super::job::Job;
use super::listed::{self, Listed};
use crate::domain;
use crate::executor::Executor;
use crate::graphql::context::{ContextExt as _, on_files};
use crate::graphql::cursor::Files;
use crate::graphql::error::{ApiError, ApiResult};
use crate::graphql::page::{PageArgs, connection};
use crate::graphql::scalar::{DateTime, Json, SafeInt};
use crate::graphql::words::JobKind;
use crate::pipeline::{self, LookupError, StepSketch};

/// A pipeline, as it was when it was looked at.
#[derive(Debug, Clone)]
pub(in crate::graphql) struct Pipeline(pipeline::Pipeline);

impl Listed for Pipeline {
    const NAMESPACE: Uuid = Uuid::from_u128(0x2f0c_9d71_58be_4c35_a1d6_0be4_93c7_7d18);
    const FILES: Files = Files::Pipelines;
    const KIND: domain::JobKind = domain::JobKind::Pipeline;

    fn list(executor: &Executor) -> io::Result<Vec<Self>> {
        let listing = executor.pipelines().list()?;
        Ok(listing.pipelines.into_iter().map(Self).collect())
    }

    fn name(&self) -> &str {
        &self.0.target
    }

    fn description(&self) -> Option<&str> {
        self.0.description()
    }
}

impl Pipeline {
    /// The pipeline of this target.
    pub(in crate::graphql) async fn find(ctx: &Context<'_>, target: String) -> ApiResult<Option<Self>> {
        let pipelines = ctx.executor().pipelines();
        on_files(move || match pipelines.find(&target) {
            Ok(pipeline) => Ok(Some(Self(pipeline))),
            Err(LookupError::Invalid(_) | LookupError::Outside | LookupError::NotFound { .. }) => Ok(None),
            Err(fault @ LookupError::Unreadable(_)) => Err(ApiError::internal(&fault)),
        })
        .await?
    }
}

/// A plan kept in a file below the pipelines folder, which `run` takes with inputs.
#[Object]
impl Pipeline {
    /// A UUID of version 5, made from the target: it changes when the file is renamed, and only then.
    pub(super) async fn id(&self) -> ID {
        self.uuid().into()
    }

    /// Its file's path below the pipelines folder, with `/` and without the extension. `run` takes it.
    async fn target(&self) -> &str {
        &self.0.target
    }

    /// What it is for, as its file says.
    async fn description(&self) -> Option<&str> {
        self.0.description()
    }

    /// False where its file cannot be read as a pipeline; `problem` says why.
    async fn runnable(&self) -> bool {
        self.0.problem.is_none()
    }

    /// What is wrong with its file, with the line where it is known; null where it is runnable.
    async fn problem(&self) -> Option<&str> {
        self.0.problem.as_deref()
    }

    /// A JSON Schema that `inputs` must fit; null where the file has a problem. It allows no inputs but those that the
    /// file declares.
    async fn inputs_schema(&self) -> Option<Json> {
        Some(Json(self.0.inputs()?.schema().clone()))
    }

    /// Its steps, in the file's order; none where that has a problem.
    #[graphql(complexity = "crate::graphql::context::list_cost(child_complexity)")]
    async fn steps(&self) -> Vec<PipelineStep> {
        self.0.steps().iter().map(PipelineStep::from).collect()
    }

    /// The file's size.
    async fn size_bytes(&self) -> SafeInt {
        SafeInt::of(self.0.size_bytes)
    }

    /// When the file was last written.
    async fn modified_at(&self) -> DateTime {
        self.0.modified_at.into()
    }

    /// The SHA-256 hash of the file, in hexadecimal; empty where it cannot be read.
    async fn sha256(&self) -> &str {
        &self.0.sha256
    }

    /// The latest job that runs or ran it.
    async fn last_job(&self, ctx: &Context<'_>) -> ApiResult<Option<Job>> {
        self.latest_job(ctx).await
    }
}

/// A step of a pipeline, as its file has it.
#[derive(SimpleObject)]
pub(in crate::graphql) struct PipelineStep {
    /// Its key, by which others wait for it; its index, from 0, where the file names none.
    key: String,
    /// What its job will be called, with expressions as they are written.
    name: String,
    /// What its job will run.
    kind: JobKind,
    /// The keys of the steps that it waits for.
    depends_on: Vec<String>,
}

impl From<&StepSketch> for PipelineStep {
    fn from(step: &StepSketch) -> Self {
        Self {
            key: step.key.clone(),
            name: step.name.clone(),
            kind: step.kind.into(),
            depends_on: step.depends_on.clone(),
        }
    }
}

connection! {
    /// A page of pipelines.
    PipelineConnection,
    /// A pipeline and its place in the listing.
    PipelineEdge of Pipeline,
    source: usize,
    {
        /// How many pipelines there are on all pages.
        async fn total_count(&self) -> usize {
            self.source
        }
    }
}

/// The pipelines whose target or description holds `search`, in any case.
pub(in crate::graphql) async fn page(
    ctx: &Context<'_>,
    search: Option<String>,
    args: &PageArgs,
) -> ApiResult<PipelineConnection> {
    listed::page(ctx, search, args, PipelineConnection::new).await
}
