//! A page of jobs.

use std::borrow::Cow;

use async_graphql::parser::types::Field;
use async_graphql::registry::Registry;
use async_graphql::resolver_utils::resolve_list;
use async_graphql::{Context, ContextSelectionSet, OutputType, Positioned, ServerResult, Value};

use super::job::{Job, JobFields};
use crate::domain;
use crate::graphql::context::ContextExt as _;
use crate::graphql::cursor::Cursor;
use crate::graphql::error::ApiResult;
use crate::graphql::page::connection;
use crate::graphql::resolve;
use crate::graphql::scalar::SafeInt;
use crate::store::{JobOrder, JobPage};

/// The jobs of a page. Mostly all that is selected of them is at hand.
struct Jobs(Vec<Job>);

impl<'a> FromIterator<&'a Job> for Jobs {
    fn from_iter<I: IntoIterator<Item = &'a Job>>(jobs: I) -> Self {
        Self(jobs.into_iter().cloned().collect())
    }
}

impl OutputType for Jobs {
    fn type_name() -> Cow<'static, str> {
        <Vec<Job> as OutputType>::type_name()
    }

    fn qualified_type_name() -> String {
        Vec::<Job>::qualified_type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        Vec::<Job>::create_type_info(registry)
    }

    async fn resolve(&self, ctx: &ContextSelectionSet<'_>, field: &Positioned<Field>) -> ServerResult<Value> {
        let jobs: Vec<JobFields> = self.0.iter().cloned().map(JobFields::from).collect();
        match resolve::list(ctx, &jobs).await? {
            Some(jobs) => Ok(jobs),
            None => resolve_list(ctx, field, &self.0, Some(self.0.len())).await,
        }
    }
}

connection! {
    /// A page of jobs.
    JobConnection,
    /// A job and its place in the listing.
    JobEdge of Job,
    nodes: Jobs,
    source: domain::JobFilter,
    {
        /// How many jobs there are on all pages. Counted only where it is asked for, which takes time where the
        /// filter asks for more than statuses and a name.
        async fn total_count(&self, ctx: &Context<'_>) -> ApiResult<SafeInt> {
            Ok(SafeInt(ctx.reader().count(&self.source).await?))
        }
    }
}

impl JobConnection {
    /// A page as the store found it.
    pub(in crate::graphql) fn of(page: JobPage, order: JobOrder, filter: domain::JobFilter) -> Self {
        let entries = page
            .jobs
            .into_iter()
            .map(|(place, job)| (Cursor::Job { order, place }.encode(), Job::from(job)));
        Self::new(entries, page.has_previous, page.has_next, filter)
    }
}
