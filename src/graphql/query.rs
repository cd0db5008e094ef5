//! Questions.

use async_graphql::{Context, ID, Object};
use uuid::Uuid;

use super::context::{ContextExt as _, list_cost, page_cost};
use super::cursor::Cursor;
use super::error::ApiResult;
use super::input::{AuditLogFilter, JobFilter, JobOrder, StatsFilter, WorkerFilter};
use super::page::PageArgs;
use super::types::{
    AuditEntry, AuditEntryConnection, Health, Job, JobConnection, Listed as _, Node, Pipeline,
    PipelineConnection, Script, ScriptConnection, Stats, Token, Viewer, Worker, WorkerPool, has_id_like,
    pipelines, scripts,
};
use crate::domain::{JobId, WorkerId};

/// The root of all queries.
#[derive(Debug)]
pub struct Query;

/// What can be asked. No query changes anything.
#[Object]
impl Query {
    /// Any object by its id; null where there is none. Ids are UUIDs and unique across types: version 7 for jobs and
    /// workers, version 5 for scripts and pipelines.
    async fn node(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The id of a job, a worker, a script or a pipeline.")] id: ID,
    ) -> ApiResult<Option<Node>> {
        let Ok(id) = Uuid::parse_str(&id) else {
            return Ok(None);
        };
        if has_id_like(id) {
            if let Some(script) = Script::find_by_id(ctx, id).await? {
                return Ok(Some(Node::Script(script)));
            }
            return Ok(Pipeline::find_by_id(ctx, id).await?.map(Node::Pipeline));
        }
        if let Some(job) = Job::read(ctx, JobId::from_uuid(id)).await? {
            return Ok(Some(Node::Job(job.into())));
        }
        let worker = Worker::load(ctx, Some(WorkerId::from_uuid(id))).await?;
        Ok(worker.map(Node::Worker))
    }

    /// One job by its id; null where no job has it.
    async fn job(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The job's id.")] id: ID,
    ) -> ApiResult<Option<Job>> {
        // What is no UUID is the id of nothing.
        match id.parse() {
            Ok(id) => Job::read(ctx, id).await,
            Err(_) => Ok(None),
        }
    }

    /// Jobs, newest first unless `orderBy` says otherwise. A page costs the same however deep it lies, and jobs that
    /// come in between shift nothing.
    #[graphql(complexity = "page_cost(first, last, child_complexity)")]
    #[expect(
        clippy::too_many_arguments,
        reason = "these are the arguments of the schema's field"
    )]
    async fn jobs(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which jobs; all where left out.")] filter: Option<JobFilter>,
        #[graphql(desc = "In which order; the newest first where left out.")] order_by: Option<JobOrder>,
        #[graphql(desc = "The first so many; 50 where neither `first` nor `last` is given.")] first: Option<
            i32,
        >,
        #[graphql(desc = "Those that follow this cursor.")] after: Option<String>,
        #[graphql(desc = "The last so many.")] last: Option<i32>,
        #[graphql(desc = "Those that come before this cursor.")] before: Option<String>,
    ) -> ApiResult<JobConnection> {
        let order = JobOrder::or_newest_first(order_by);
        let args = PageArgs {
            first,
            after,
            last,
            before,
        };
        let page = args.request(ctx.limits().max_page_size, |cursor| Cursor::job(cursor, order))?;
        let filter = filter.unwrap_or_default().into_domain()?;
        let found = ctx.reader().list(&filter, order, page).await?;
        Ok(JobConnection::of(found, order, filter))
    }

    /// The place of the latest event, from which `jobEvents(after:)` tells all that happens from then on. A page that
    /// asks for it before all else, and only then reads what it shows, misses nothing in between.
    async fn event_cursor(&self, ctx: &Context<'_>) -> ApiResult<String> {
        let last = ctx.reader().last_event().await?;
        Ok(Cursor::Event(last).encode())
    }

    /// The scripts below the scripts folder, by name. The folder is looked at each time, so a file that was
    /// just added is among them.
    #[graphql(complexity = "page_cost(first, None, child_complexity)")]
    async fn scripts(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "A piece of the name or of the description, in any case.")] search: Option<String>,
        #[graphql(desc = "At most so many; 50 where left out.")] first: Option<i32>,
        #[graphql(desc = "Those that follow this cursor.")] after: Option<String>,
    ) -> ApiResult<ScriptConnection> {
        scripts(ctx, search, &PageArgs::forward(first, after)).await
    }

    /// A script, or null where there is none of that name.
    async fn script(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Its path below the scripts folder, with `/`.")] name: String,
    ) -> ApiResult<Option<Script>> {
        Script::find(ctx, name).await
    }

    /// The pipelines below the pipelines folder, by target. The folder is looked at each time, so a file that was
    /// just added is among them. A file that cannot be read as a pipeline is listed with its problem.
    #[graphql(complexity = "page_cost(first, None, child_complexity)")]
    async fn pipelines(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "A piece of the target or of the description, in any case.")] search: Option<String>,
        #[graphql(desc = "At most so many; 50 where left out.")] first: Option<i32>,
        #[graphql(desc = "Those that follow this cursor.")] after: Option<String>,
    ) -> ApiResult<PipelineConnection> {
        pipelines(ctx, search, &PageArgs::forward(first, after)).await
    }

    /// A pipeline, or null where there is none of that target.
    async fn pipeline(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Its file's path below the pipelines folder, with `/` and without the extension.")]
        target: String,
    ) -> ApiResult<Option<Pipeline>> {
        Pipeline::find(ctx, target).await
    }

    /// Figures over all jobs, or over those that the filter names.
    async fn stats(
        &self,
        #[graphql(desc = "Over which jobs; all where left out.")] filter: Option<StatsFilter>,
    ) -> ApiResult<Stats> {
        Ok(Stats::new(filter.unwrap_or_default().into_window()?))
    }

    /// How the server is. It answers this also where its database is away.
    async fn health(&self, ctx: &Context<'_>) -> Health {
        Health::examine(ctx.executor()).await
    }

    /// The workers of all servers that share the database, and those that registered, by name.
    #[graphql(complexity = "list_cost(child_complexity)")]
    async fn workers(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which workers; all where left out.")] filter: Option<WorkerFilter>,
    ) -> ApiResult<Vec<Worker>> {
        let filter = filter.unwrap_or_default();
        let workers = ctx.reader().workers(ctx.executor().silent_since()).await?;
        let wanted = workers.into_iter().filter(|worker| filter.matches(worker));
        Ok(wanted.map(Worker).collect())
    }

    /// A worker, or null where there is none with that id.
    async fn worker(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The worker's id.")] id: ID,
    ) -> ApiResult<Option<Worker>> {
        Worker::load(ctx, id.parse().ok()).await
    }

    /// The workers of this server's own, and whether they take jobs.
    async fn worker_pool(&self, ctx: &Context<'_>) -> WorkerPool {
        WorkerPool(ctx.executor().pool())
    }

    /// Who the server takes the caller for, and what that allows.
    async fn viewer(&self, ctx: &Context<'_>) -> Viewer {
        Viewer::of(ctx.caller())
    }

    /// The tokens that clients sign their requests with, by name. Needs the scope ADMIN.
    #[graphql(complexity = "list_cost(child_complexity)")]
    async fn tokens(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Whether those are listed too that were revoked.", default = false)]
        include_revoked: bool,
    ) -> Vec<Token> {
        let tokens = ctx.executor().tokens().list().into_iter();
        let wanted = tokens.filter(|token| include_revoked || token.revoked_at.is_none());
        wanted.map(Token).collect()
    }

    /// Who did what, from where; the latest first. Needs the scope ADMIN.
    #[graphql(complexity = "page_cost(first, None, child_complexity)")]
    async fn audit_log(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which lines; all where left out.")] filter: Option<AuditLogFilter>,
        #[graphql(desc = "At most so many; 50 where left out.")] first: Option<i32>,
        #[graphql(desc = "Those that follow this cursor.")] after: Option<String>,
    ) -> ApiResult<AuditEntryConnection> {
        let page = PageArgs::forward(first, after).request(ctx.limits().max_page_size, Cursor::audit)?;
        let filter = filter.unwrap_or_default().into_filter()?;
        let found = ctx.reader().audit(&filter, page).await?;
        let entries = found.entries.into_iter();
        let entries = entries.map(|entry| (Cursor::Audit(entry.id).encode(), AuditEntry(entry)));
        Ok(AuditEntryConnection::new(
            entries,
            page.after.is_some(),
            found.has_next,
        ))
    }
}
