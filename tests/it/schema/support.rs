//! An executor and its schema in this process, for tests that look at how the schema works rather than at what a
//! client sees.

use std::sync::Arc;

use async_graphql::{Request, Response};
use runql::domain::{Caller, JobKind};
use runql::executor::{Executor, Options};
use runql::graphql::{Limits, Schema, build};
use runql::supervisor::Supervisor;
use serde_json::Value;
use tempfile::TempDir;

pub(super) struct Local {
    pub(super) schema: Schema,
    supervisor: Supervisor,
    grace: std::time::Duration,
    _folder: TempDir,
}

impl Local {
    /// An executor on a SQLite file of its own, which may run programs.
    pub(super) async fn start(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let url = format!("sqlite://{}?mode=rwc", path("test.db").display());
        let mut options = Options::new(url, path("scripts"), path("work"));
        options.spawner = Some(env!("CARGO_BIN_EXE_runql").into());
        options.allow = [JobKind::Exec].into();
        let grace = options.shutdown_grace * 2;
        let mut supervisor = Supervisor::new();
        let executor = Executor::start(options, &mut supervisor).await.unwrap();
        Self {
            schema: build(executor, limits),
            supervisor,
            grace,
            _folder: folder,
        }
    }

    /// Executes an operation.
    pub(super) async fn execute(&self, request: impl Into<Request>) -> Response {
        let caller = Arc::new(Caller::anybody("test", None));
        self.schema.execute(request.into().data(caller)).await
    }

    /// Executes an operation that must succeed.
    pub(super) async fn data(&self, request: impl Into<Request>) -> Value {
        let response = self.execute(request).await;
        assert!(response.errors.is_empty(), "{:?}", response.errors);
        response.data.into_json().unwrap()
    }

    /// The code and the message of the one error of an operation that is refused.
    pub(super) async fn refusal(&self, request: impl Into<Request>) -> (String, String) {
        let response = self.execute(request).await;
        let [error] = &response.errors[..] else {
            panic!("not one error: {response:?}");
        };
        let code = error.extensions.as_ref().and_then(|all| all.get("code")).cloned();
        let Some(async_graphql::Value::String(code)) = code else {
            panic!("no code: {error:?}");
        };
        (code, error.message.clone())
    }

    pub(super) async fn stop(self) {
        self.supervisor.shutdown(self.grace).await;
    }
}
