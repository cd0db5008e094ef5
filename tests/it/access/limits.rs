//! Tokens that may run only some scripts, kinds or queues.

use serde_json::{Value, json};

use super::{data, token};
use crate::support::app::{Setup, TestApp};
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    a_token_runs_only_what_it_is_narrowed_to,
    every_step_counts_but_those_of_a_pipeline,
    what_may_not_be_run_may_not_be_cancelled_nor_rerun,
);

const RUN: &str =
    "mutation($input: RunInput!) { run(input: $input) { job { id } errors { code path message } } }";

async fn run(app: &TestApp, token: &str, input: Value) -> Value {
    data(app, token, RUN, json!({ "input": input })).await["run"].take()
}

fn refusal(payload: &Value) -> (&str, String) {
    assert_eq!(payload["job"], json!(null), "{payload:#}");
    let error = &payload["errors"][0];
    let path = error["path"]
        .as_array()
        .unwrap()
        .iter()
        .map(|part| part.as_str().unwrap());
    (
        error["code"].as_str().unwrap(),
        path.collect::<Vec<_>>().join("."),
    )
}

fn script(name: &str) -> Value {
    json!({ "command": { "script": { "name": name } } })
}

async fn app_with_scripts(db: &TestDb) -> TestApp {
    let app = Setup::new(db).start().await;
    app.script("deploy/web.sh", "#!/bin/sh\necho web\n");
    app.script("other.sh", "#!/bin/sh\necho other\n");
    app
}

async fn a_token_runs_only_what_it_is_narrowed_to(db: TestDb) {
    let app = app_with_scripts(&db).await;
    let narrow = [
        "--names",
        "deploy/*",
        "--kinds",
        "script",
        "--queues",
        "fast,default",
    ];
    let secret = token(&app, "deployer", "run", &narrow).await;
    let taken = run(&app, &secret, script("deploy/web.sh")).await;
    assert_eq!(taken["errors"], json!([]), "{taken:#}");
    let not_allowed = |path: &str| ("NOT_ALLOWED", path.to_owned());
    let refused = run(&app, &secret, script("other.sh")).await;
    assert_eq!(refusal(&refused), not_allowed("input.command"));
    assert_eq!(
        refused["errors"][0]["message"],
        "this token may not run `other.sh`"
    );
    let shell = json!({ "command": { "shell": { "command": "true" } } });
    assert_eq!(
        refusal(&run(&app, &secret, shell).await),
        not_allowed("input.command")
    );
    let mut queued = script("deploy/web.sh");
    queued["queue"] = json!("slow");
    assert_eq!(
        refusal(&run(&app, &secret, queued).await),
        not_allowed("input.command")
    );
    let many = "mutation($inputs: [RunInput!]!) { runMany(inputs: $inputs) { jobs { id } errors { path } } }";
    let inputs = json!({ "inputs": [script("deploy/web.sh"), script("other.sh")] });
    let payload = data(&app, &secret, many, inputs).await["runMany"].take();
    assert_eq!(payload["jobs"], json!(null), "all or none");
    assert_eq!(payload["errors"], json!([{ "path": ["inputs", "1", "command"] }]));
    app.stop().await;
}

async fn every_step_counts_but_those_of_a_pipeline(db: TestDb) {
    let app = app_with_scripts(&db).await;
    app.pipeline(
        "release.yaml",
        "steps:\n  - key: a\n    run:\n      command:\n        script:\n          name: other.sh\n",
    );
    let narrow = ["--names", "deploy/*,release"];
    let secret = token(&app, "deployer", "run", &narrow).await;
    let plan = |names: [&str; 2]| {
        let steps = names.map(|name| json!({ "run": script(name) }));
        json!({ "command": { "plan": { "strategy": { "serial": {} }, "steps": steps } } })
    };
    let taken = run(&app, &secret, plan(["deploy/web.sh", "deploy/web.sh"])).await;
    assert_eq!(taken["errors"], json!([]), "{taken:#}");
    let refused = run(&app, &secret, plan(["deploy/web.sh", "other.sh"])).await;
    assert_eq!(
        refusal(&refused),
        ("NOT_ALLOWED", "input.command.plan.steps.1.run.command".to_owned())
    );
    // What a pipeline does is the server's own: who may run it may run its steps.
    let taken = run(
        &app,
        &secret,
        json!({ "command": { "pipeline": { "target": "release" } } }),
    )
    .await;
    assert_eq!(taken["errors"], json!([]), "{taken:#}");
    app.stop().await;
}

async fn what_may_not_be_run_may_not_be_cancelled_nor_rerun(db: TestDb) {
    let app = app_with_scripts(&db).await;
    let all = token(&app, "all", "run", &[]).await;
    let narrow = token(&app, "narrow", "run", &["--names", "deploy/*"]).await;
    let mut later = script("other.sh");
    later["runAt"] = json!("2100-01-01T00:00:00Z");
    let id = run(&app, &all, later).await["job"]["id"].take();
    let cancel =
        "mutation($id: ID!) { cancel(input: { id: $id }) { job { id } errors { code path message } } }";
    let refused = data(&app, &narrow, cancel, json!({ "id": id })).await["cancel"].take();
    assert_eq!(refusal(&refused), ("NOT_ALLOWED", "input.id".to_owned()));
    let done = data(&app, &all, cancel, json!({ "id": id })).await["cancel"].take();
    assert_eq!(done["errors"], json!([]), "{done:#}");
    let rerun =
        "mutation($id: ID!) { rerun(input: { id: $id }) { job { id } errors { code path message } } }";
    let refused = data(&app, &narrow, rerun, json!({ "id": id })).await["rerun"].take();
    assert_eq!(refusal(&refused), ("NOT_ALLOWED", "input.id".to_owned()));
    app.stop().await;
}
