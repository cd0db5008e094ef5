//! What scripts and pipelines have in common: each is a file that is found by a name, has an id made from it, and is
//! listed by it.

use std::io;

use async_graphql::Context;
use uuid::Uuid;

use super::job::Job;
use crate::domain::JobKind;
use crate::executor::Executor;
use crate::graphql::context::{ContextExt as _, on_files};
use crate::graphql::cursor::{Cursor, Files};
use crate::graphql::error::{ApiError, ApiResult};
use crate::graphql::loader::LastJob;
use crate::graphql::page::PageArgs;

/// Whether an id is of the form that files' ids have.
pub(in crate::graphql) fn has_id_like(id: Uuid) -> bool {
    id.get_version_num() == 5
}

/// A file that a catalog lists.
pub(in crate::graphql) trait Listed: Sized + Send + 'static {
    /// The namespace of the ids: an id is a hash of this and of the name, so the same name has the same id on every
    /// server.
    const NAMESPACE: Uuid;
    /// Which listing it stands in.
    const FILES: Files;
    /// The kind of the jobs that run it.
    const KIND: JobKind;

    /// All of them, by name, as they are now. Blocks.
    fn list(executor: &Executor) -> io::Result<Vec<Self>>;

    /// What `run` calls it.
    fn name(&self) -> &str;

    /// What it is for.
    fn description(&self) -> Option<&str>;

    fn uuid(&self) -> Uuid {
        Uuid::new_v5(&Self::NAMESPACE, self.name().as_bytes())
    }

    /// The one of this id.
    async fn find_by_id(ctx: &Context<'_>, id: Uuid) -> ApiResult<Option<Self>> {
        let executor = ctx.executor().clone();
        on_files(move || first::<Self>(&executor, |file| file.uuid() == id)).await?
    }

    /// The latest job that runs or ran it.
    async fn latest_job(&self, ctx: &Context<'_>) -> ApiResult<Option<Job>> {
        let key = LastJob {
            kind: Self::KIND,
            name: self.name().to_owned(),
        };
        Ok(ctx.loaders().load_one(key).await?.map(Job))
    }

    fn speaks_of(&self, text: &str) -> bool {
        let holds = |field: &str| field.to_lowercase().contains(text);
        holds(self.name()) || self.description().is_some_and(holds)
    }
}

/// The first that is wanted. Blocks.
pub(super) fn first<T: Listed>(executor: &Executor, wanted: impl Fn(&T) -> bool) -> ApiResult<Option<T>> {
    let all = T::list(executor).map_err(|fault| ApiError::internal(&fault))?;
    Ok(all.into_iter().find(wanted))
}

/// Those whose name or description holds `search`, in any case. `connect` makes the page of its entries with their
/// cursors, of whether there are others before and after them, and of how many there are on all pages.
pub(super) async fn page<T: Listed, C>(
    ctx: &Context<'_>,
    search: Option<String>,
    args: &PageArgs,
    connect: impl FnOnce(Vec<(String, T)>, bool, bool, usize) -> C,
) -> ApiResult<C> {
    let request = args.request(ctx.limits().max_page_size, |cursor| {
        Cursor::file(cursor, T::FILES)
    })?;
    let executor = ctx.executor().clone();
    let mut files = on_files(move || T::list(&executor))
        .await?
        .map_err(|fault| ApiError::internal(&fault))?;
    if let Some(search) = search.map(|text| text.to_lowercase()) {
        files.retain(|file| file.speaks_of(&search));
    }
    let total = files.len();
    if let Some(after) = &request.after {
        files.retain(|file| file.name() > after.as_str());
    }
    let limit = usize::try_from(request.limit).unwrap_or(usize::MAX);
    let has_next = files.len() > limit;
    let entries = files.into_iter().take(limit).map(|file| {
        let cursor = Cursor::File(T::FILES, file.name().to_owned());
        (cursor.encode(), file)
    });
    Ok(connect(
        entries.collect(),
        request.after.is_some(),
        has_next,
        total,
    ))
}
