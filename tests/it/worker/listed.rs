//! A worker of a server that executes only listed operations.

use serde_json::{Value, json};

use super::{Remote, line};
use crate::support::app::{Setup, TestApp};
use crate::support::both_stores;
use crate::support::db::TestDb;
use crate::support::wait::until;

both_stores!(the_own_worker_is_served_without_being_listed);

const RUN: &str = "mutation Run($input: RunInput!) { run(input: $input) { job { id } errors { message } } }";
const STATUS: &str = "query Status($id: ID!) { job(id: $id) { status } }";

async fn completes(app: &TestApp, input: Value) {
    let id = app.data(RUN, json!({ "input": input })).await["run"]["job"]["id"].take();
    until("the job is done", async || {
        let job = app.data(STATUS, json!({ "id": id })).await["job"].take();
        if job["status"] == "COMPLETED" {
            Ok(())
        } else {
            Err(job)
        }
    })
    .await;
}

async fn the_own_worker_is_served_without_being_listed(db: TestDb) {
    let listed = json!({ "run": RUN, "status": STATUS });
    let app = Setup::new(&db)
        .file("operations.json", &listed.to_string())
        .flag("--persisted-operations", "operations.json")
        .start()
        .await;
    let worker = Remote::start(&app.url(), &[]);
    completes(&app, line("echo hello")).await;
    worker.stop().await;
    app.stop().await;
}
