//! The job.

use std::borrow::Cow;
use std::sync::Arc;

use async_graphql::parser::types::Field;
use async_graphql::registry::Registry;
use async_graphql::{
    Context, ContextSelectionSet, ID, MergedObject, Object, OutputType, Positioned, ServerResult, Value,
};

use super::attempt::{Attempt, JobError, JobMetadata, Progress};
use super::command::Command;
use super::event::{self, JobEventConnection};
use super::job_page::JobConnection;
use super::log::{self, LogConnection};
use super::stats::StatusCounts;
use super::worker::Worker;
use crate::domain;
use crate::graphql::context::{ContextExt as _, list_cost, page_cost, text_cost};
use crate::graphql::cursor::Cursor;
use crate::graphql::error::ApiResult;
use crate::graphql::input::LogFilter;
use crate::graphql::loader::{ChildCounts, Dependencies, EarlierAttempts, Supported};
use crate::graphql::page::PageArgs;
use crate::graphql::resolve::{self, AtHand};
use crate::graphql::scalar::{DateTime, Json, SafeInt};
use crate::graphql::words::{JobKind, JobStatus, WaitReason};
use crate::store::{JobOrder, JobOrderField};

/// A job, as it was when it was read.
#[derive(Debug, Clone)]
pub(in crate::graphql) struct Job(pub(in crate::graphql) Arc<domain::Job>);

impl From<domain::Job> for Job {
    fn from(job: domain::Job) -> Self {
        Self(Arc::new(job))
    }
}

impl Job {
    /// The job of this id, at once: who asks for one job does not wait for others to join the question.
    pub(in crate::graphql) async fn read(ctx: &Context<'_>, id: domain::JobId) -> ApiResult<Option<Self>> {
        Ok(ctx.reader().job(id).await?.map(Self::from))
    }

    /// The job of this id, together with the others that are asked for at the same time.
    async fn load(ctx: &Context<'_>, id: Option<domain::JobId>) -> ApiResult<Option<Self>> {
        let Some(id) = id else { return Ok(None) };
        Ok(ctx.loaders().load_one(id).await?.map(Self))
    }
}

impl OutputType for Job {
    fn type_name() -> Cow<'static, str> {
        JobFields::type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        JobFields::create_type_info(registry)
    }

    async fn resolve(&self, ctx: &ContextSelectionSet<'_>, _: &Positioned<Field>) -> ServerResult<Value> {
        resolve::object(ctx, &JobFields::from(self.clone())).await
    }
}

/// One execution: of a script, a command, a task, an agent, or a plan of many steps. Everything that runs
/// is a job, so there is one way to list, watch, cancel and retry it; the steps of a plan are jobs too, as
/// its children.
#[derive(MergedObject)]
#[graphql(name = "Job")]
pub(in crate::graphql) struct JobFields(JobToAsk, JobAtHand);

impl JobFields {
    /// For the interface that has it, too.
    pub(super) async fn id(&self, _: &Context<'_>) -> async_graphql::Result<ID> {
        Ok(self.0.0.id.into())
    }
}

impl From<Job> for JobFields {
    fn from(Job(job): Job) -> Self {
        Self(JobToAsk(Arc::clone(&job)), JobAtHand(job))
    }
}

impl AtHand for JobFields {
    type AtHand = JobAtHand;

    fn at_hand(&self) -> &JobAtHand {
        &self.1
    }
}

/// What is known of a job that was read.
pub(in crate::graphql) struct JobAtHand(Arc<domain::Job>);

#[Object]
impl JobAtHand {
    /// A UUID of version 7, so ids sort by the moment at which the jobs were asked for.
    async fn id(&self) -> ID {
        self.0.id.into()
    }

    /// The kind of its command.
    async fn kind(&self) -> JobKind {
        self.0.command.kind().into()
    }

    /// What people call it: the script's name, the program, the shell, `aws` with its service and
    /// operation, the task's problem id, the agent's or pipeline's target, the plan's description.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// Where it stands.
    async fn status(&self) -> JobStatus {
        self.0.status.into()
    }

    /// What it runs, as it was asked for.
    async fn command(&self) -> Command {
        Command::of(&self.0)
    }

    /// The queue that it was put into.
    async fn queue(&self) -> &str {
        &self.0.queue
    }

    /// Higher runs first: −100 to 100, 0 where the request says nothing.
    async fn priority(&self) -> i32 {
        self.0.priority
    }

    /// The number of its latest attempt; 0 where it has never started.
    async fn attempt(&self) -> u32 {
        self.0.attempt
    }

    /// How often it may be tried; 1 is no retry.
    async fn max_attempts(&self) -> u32 {
        self.0.retry.max_attempts
    }

    /// How long one attempt may take before it is stopped.
    async fn timeout_ms(&self) -> SafeInt {
        SafeInt::millis(self.0.timeout)
    }

    /// When it was asked for.
    async fn created_at(&self) -> DateTime {
        self.0.created_at.into()
    }

    /// When it last changed.
    async fn updated_at(&self) -> DateTime {
        self.0.updated_at.into()
    }

    /// It does not start before this moment: when it was asked for, or later where the request or a retry
    /// says so.
    async fn run_at(&self) -> DateTime {
        self.0.run_at.into()
    }

    /// When its latest attempt started.
    async fn started_at(&self) -> Option<DateTime> {
        self.0.started_at.map(Into::into)
    }

    /// When it ended; null until then.
    async fn finished_at(&self) -> Option<DateTime> {
        self.0.finished_at.map(Into::into)
    }

    /// How long its latest attempt took, or has taken so far; null before the first and between two.
    async fn duration_ms(&self, ctx: &Context<'_>) -> Option<SafeInt> {
        self.0.duration(ctx.executor().now()).map(SafeInt::millis)
    }

    /// The code with which its process ended; null until then, and where a signal ended it or it never started.
    async fn exit_code(&self) -> Option<i32> {
        self.0.end.exit_code
    }

    /// The signal that ended its process: SIGKILL, SIGTERM, …
    async fn signal(&self) -> Option<&str> {
        self.0.end.signal.as_deref()
    }

    /// What the job handed back: the JSON value in the file that RUNQL_OUTPUT named. Null until it is COMPLETED, and
    /// where it handed back nothing.
    async fn output(&self) -> Option<Json> {
        self.0.output.clone().map(Json)
    }

    /// Why it did not complete; null unless it is FAILED, TIMEOUT or CANCELLED, or waits to be tried again.
    async fn error(&self) -> Option<JobError> {
        let fault = self.0.fault.as_ref();
        // A plan knows before its end that it will not complete; it has not failed until then.
        let told = fault.filter(|_| self.0.status != domain::JobStatus::Running);
        told.map(Into::into)
    }

    /// How far it is, where it says so.
    async fn progress(&self) -> Option<Progress> {
        self.0.progress.as_ref().map(Into::into)
    }

    /// Who asked for it, and what for.
    async fn metadata(&self) -> JobMetadata {
        (&self.0.metadata).into()
    }

    /// This step's key within its plan; null where it is no step.
    async fn key(&self) -> Option<&str> {
        self.0.step_key.as_deref()
    }

    /// Where the whole log is, as text over HTTP with range requests: a path on this server.
    async fn log_url(&self) -> String {
        format!("/jobs/{}/log", self.0.id)
    }
}

/// What the store has to be asked for.
pub(in crate::graphql) struct JobToAsk(Arc<domain::Job>);

#[Object]
impl JobToAsk {
    /// What a PENDING job waits for; null once it has started or ended.
    async fn wait_reason(&self, ctx: &Context<'_>) -> ApiResult<Option<WaitReason>> {
        if self.0.status != domain::JobStatus::Pending {
            return Ok(None);
        }
        let wait = self.0.wait.unwrap_or(domain::WaitReason::Queued);
        if wait != domain::WaitReason::Queued {
            return Ok(Some(wait.into()));
        }
        // What goes to registered workers waits for them, not for the server's own.
        let Some(route) = &self.0.route else {
            let running = ctx.executor().pool().running;
            return Ok(Some(if running { wait.into() } else { WaitReason::Paused }));
        };
        let supported = ctx.loaders().load_one(Supported(route.clone())).await?;
        Ok(Some(match supported {
            Some(true) => wait.into(),
            Some(false) | None => WaitReason::NoWorker,
        }))
    }

    /// Who runs it or ran it last; null before the first start, and where that worker is no longer known.
    async fn worker(&self, ctx: &Context<'_>) -> ApiResult<Option<Worker>> {
        Worker::load(ctx, self.0.worker).await
    }

    /// The plan or pipeline that this job is a step of; null where it is none.
    async fn parent(&self, ctx: &Context<'_>) -> ApiResult<Option<Job>> {
        Job::load(ctx, self.0.parent).await
    }

    /// The steps of a plan or pipeline, in the order of its list; none for any other job.
    #[graphql(complexity = "page_cost(first, None, child_complexity)")]
    async fn children(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "At most so many; 50 where left out.")] first: Option<i32>,
        #[graphql(desc = "Those that follow this cursor.")] after: Option<String>,
    ) -> ApiResult<JobConnection> {
        let order = JobOrder {
            field: JobOrderField::StepIndex,
            descending: false,
        };
        let args = PageArgs {
            first,
            after,
            ..PageArgs::default()
        };
        let page = args.request(ctx.limits().max_page_size, |cursor| Cursor::job(cursor, order))?;
        let filter = domain::JobFilter {
            parent: Some(self.0.id),
            ..domain::JobFilter::default()
        };
        // The store need not be asked for the steps of a job that can have none.
        if !self.0.command.kind().has_steps() {
            return Ok(JobConnection::new([], page.after.is_some(), false, filter));
        }
        let found = ctx.reader().list(&filter, order, page).await?;
        Ok(JobConnection::of(found, order, filter))
    }

    /// How many of its steps stand where; null where it has none.
    async fn child_stats(&self, ctx: &Context<'_>) -> ApiResult<Option<StatusCounts>> {
        if !self.0.command.kind().has_steps() {
            return Ok(None);
        }
        Ok(ctx
            .loaders()
            .load_one(ChildCounts(self.0.id))
            .await?
            .map(StatusCounts))
    }

    /// The jobs that it waits for: all of them must be COMPLETED before it starts.
    #[graphql(complexity = "list_cost(child_complexity)")]
    async fn depends_on(&self, ctx: &Context<'_>) -> ApiResult<Vec<Job>> {
        let loaders = ctx.loaders();
        let ids = loaders
            .load_one(Dependencies(self.0.id))
            .await?
            .unwrap_or_default();
        let mut found = loaders.load_many(ids.iter().copied()).await?;
        // A job that was deleted since is left out.
        Ok(ids.iter().filter_map(|id| found.remove(id)).map(Job).collect())
    }

    /// All tries at this job, the first one first.
    #[graphql(complexity = "list_cost(child_complexity)")]
    async fn attempts(&self, ctx: &Context<'_>) -> ApiResult<Vec<Attempt>> {
        let latest = self.0.latest_attempt();
        // A job at its first attempt has no earlier ones, which most jobs are.
        let earlier = if self.0.attempt == 0 || (self.0.attempt == 1 && latest.is_some()) {
            None
        } else {
            ctx.loaders().load_one(EarlierAttempts(self.0.id)).await?
        };
        let mut attempts: Vec<_> = earlier.unwrap_or_default();
        attempts.extend(latest);
        Ok(attempts.into_iter().map(Attempt).collect())
    }

    /// Lines of its log, in the order in which they were printed.
    #[graphql(complexity = "page_cost(first, last, child_complexity)")]
    async fn logs(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which lines; all of the latest attempt where left out.")] filter: Option<LogFilter>,
        #[graphql(desc = "The first so many; 50 where neither `first` nor `last` is given.")] first: Option<
            i32,
        >,
        #[graphql(desc = "Those that follow this cursor.")] after: Option<String>,
        #[graphql(desc = "The last so many, for the end of the log.")] last: Option<i32>,
        #[graphql(desc = "Those that come before this cursor.")] before: Option<String>,
    ) -> ApiResult<LogConnection> {
        let args = PageArgs {
            first,
            after,
            last,
            before,
        };
        log::page(ctx, &self.0, filter.unwrap_or_default(), &args).await
    }

    /// The end of what the latest attempt printed to standard output, as text. What is no UTF-8 shows as �.
    #[graphql(complexity = "text_cost(last_bytes)")]
    async fn stdout(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "At most so many bytes, and never more than 1 MiB (1048576).",
            default_with = "Some(65_536)"
        )]
        last_bytes: Option<i32>,
    ) -> ApiResult<String> {
        log::tail(ctx, &self.0, domain::LogStream::Stdout, last_bytes).await
    }

    /// The end of what the latest attempt printed to standard error, as text. What is no UTF-8 shows as �.
    #[graphql(complexity = "text_cost(last_bytes)")]
    async fn stderr(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "At most so many bytes, and never more than 1 MiB (1048576).",
            default_with = "Some(65_536)"
        )]
        last_bytes: Option<i32>,
    ) -> ApiResult<String> {
        log::tail(ctx, &self.0, domain::LogStream::Stderr, last_bytes).await
    }

    /// Its history: what happened to it, the oldest first.
    #[graphql(complexity = "page_cost(first, None, child_complexity)")]
    async fn events(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "At most so many; 50 where left out.")] first: Option<i32>,
        #[graphql(desc = "Those that follow this cursor.")] after: Option<String>,
    ) -> ApiResult<JobEventConnection> {
        let args = PageArgs {
            first,
            after,
            ..PageArgs::default()
        };
        event::page(ctx, &self.0, &args).await
    }
}
