//! The examples of `docs/subscriptions.md`, run as pages would run them.

use super::node::drive;
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    the_example_for_graphql_ws_resumes,
    the_example_for_apollo_client_resumes,
    the_example_for_event_source_resumes,
);

async fn the_example_for_graphql_ws_resumes(db: TestDb) {
    resumes(&db, "graphql-ws").await;
}

async fn the_example_for_apollo_client_resumes(db: TestDb) {
    resumes(&db, "Apollo Client").await;
}

async fn the_example_for_event_source_resumes(db: TestDb) {
    resumes(&db, "EventSource").await;
}

async fn resumes(db: &TestDb, section: &str) {
    let mut app = Setup::new(db).start().await;
    drive(&mut app, "examples.mjs", &[section]).await;
    app.stop().await;
}
