//! Scripts that can be run.

use std::io;

use async_graphql::{Context, ID, Object};
use uuid::Uuid;

use super::job::Job;
use super::listed::{self, Listed, first};
use crate::domain::JobKind;
use crate::executor::Executor;
use crate::graphql::context::{ContextExt as _, on_files};
use crate::graphql::cursor::Files;
use crate::graphql::error::ApiResult;
use crate::graphql::page::{PageArgs, connection};
use crate::graphql::scalar::{DateTime, Json, SafeInt};
use crate::script::{self, LookupError};

/// A script, as it was when it was looked at.
#[derive(Debug, Clone)]
pub(in crate::graphql) struct Script(script::Script);

impl Listed for Script {
    const NAMESPACE: Uuid = Uuid::from_u128(0x6f7e_0b2c_3a54_4d1e_9c8b_52d1_7a90_e6f3);
    const FILES: Files = Files::Scripts;
    const KIND: JobKind = JobKind::Script;

    fn list(executor: &Executor) -> io::Result<Vec<Self>> {
        let listing = executor.catalog().list()?;
        Ok(listing.scripts.into_iter().map(Self).collect())
    }

    fn name(&self) -> &str {
        &self.0.name
    }

    fn description(&self) -> Option<&str> {
        self.0.description.as_deref()
    }
}

impl Script {
    /// The script of this name.
    pub(in crate::graphql) async fn find(ctx: &Context<'_>, name: String) -> ApiResult<Option<Self>> {
        let executor = ctx.executor().clone();
        on_files(move || match executor.catalog().find(&name) {
            Ok(script) => Ok(Some(Self(script))),
            Err(
                LookupError::Invalid(_)
                | LookupError::Outside
                | LookupError::NotFound { .. }
                | LookupError::NotAScript,
            ) => Ok(None),
            // The listing shows such a script with its problem, and so does this.
            Err(LookupError::Unreadable(_)) => first(&executor, |script: &Self| script.0.name == name),
        })
        .await?
    }
}

/// A file below the scripts folder that can be run.
#[Object]
impl Script {
    /// A UUID of version 5, made from the name: it changes when the file is renamed, and only then.
    pub(super) async fn id(&self) -> ID {
        self.uuid().into()
    }

    /// Its path below the scripts folder, with `/`. `run` takes it.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// What it is for, as its header says.
    async fn description(&self) -> Option<&str> {
        self.0.description.as_deref()
    }

    /// What runs it; null where nothing says so.
    async fn interpreter(&self) -> Option<&str> {
        self.0.interpreter.as_deref()
    }

    /// False where its interpreter is not installed or its header is invalid; `problem` says what to do.
    async fn runnable(&self) -> bool {
        self.0.runnable
    }

    /// What is wrong with it, and what to do; null where it is runnable.
    async fn problem(&self) -> Option<&str> {
        self.0.problem.as_deref()
    }

    /// A JSON Schema that `parameters` must fit; null where the script declares none and takes any.
    async fn parameters_schema(&self) -> Option<Json> {
        let parameters = self.0.parameters.as_ref()?;
        Some(Json(parameters.schema().clone()))
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

connection! {
    /// A page of scripts.
    ScriptConnection,
    /// A script and its place in the listing.
    ScriptEdge of Script,
    source: usize,
    {
        /// How many scripts there are on all pages.
        async fn total_count(&self) -> usize {
            self.source
        }
    }
}

/// The scripts whose name or description holds `search`, in any case.
pub(in crate::graphql) async fn page(
    ctx: &Context<'_>,
    search: Option<String>,
    args: &PageArgs,
) -> ApiResult<ScriptConnection> {
    listed::page(ctx, search, args, ScriptConnection::new).await
}
