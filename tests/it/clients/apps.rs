//! What applications use: graphql-ws, graphql-sse, Apollo Client and urql, each resuming where it was.

use super::node::drive;
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    a_listener_that_is_cut_off_200_times_sees_every_event_once,
    apollo_client_caches_persists_and_resumes,
    urql_caches_and_subscribes,
    event_streams_resume_by_the_last_event_id,
);

async fn a_listener_that_is_cut_off_200_times_sees_every_event_once(db: TestDb) {
    let mut app = Setup::new(&db).start().await;
    drive(&mut app, "cuts.mjs", &["200"]).await;
    app.stop().await;
}

async fn apollo_client_caches_persists_and_resumes(db: TestDb) {
    let mut app = Setup::new(&db).start().await;
    drive(&mut app, "apollo.mjs", &[]).await;
    app.stop().await;
}

async fn urql_caches_and_subscribes(db: TestDb) {
    let mut app = Setup::new(&db).start().await;
    drive(&mut app, "urql.mjs", &[]).await;
    app.stop().await;
}

async fn event_streams_resume_by_the_last_event_id(db: TestDb) {
    let mut app = Setup::new(&db).start().await;
    drive(&mut app, "sse.mjs", &[]).await;
    app.stop().await;
}
