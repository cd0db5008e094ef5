//! In which order the steps of each strategy run, and what the plan tells meanwhile.

use serde_json::{Value, json};

use super::{children, graph, open, plan, run_plan, serial, statuses, step, step_after, steps_are, wait_for};
use crate::api::fixture::{moment, request, shell};
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    serial_steps_run_one_after_the_other,
    parallel_steps_run_at_once_up_to_the_limit,
    a_graph_runs_each_step_after_those_it_waits_for,
    plans_within_plans_run_in_their_turn,
    a_plan_waits_for_its_moment,
    steps_that_are_retried_keep_their_place,
    the_history_of_a_plan_is_told_in_order,
);

async fn serial_steps_run_one_after_the_other(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let steps = ["a", "b", "c"].map(|key| step(key, &format!("echo {key}")));
    let id = run_plan(&app, serial(), steps).await;
    let job = app.ended(&id).await;
    assert_eq!(job["status"], "COMPLETED", "{job:#}");
    assert_eq!((&job["kind"], &job["name"]), (&json!("PLAN"), &json!("plan")));
    assert_eq!(
        job["progress"],
        json!({ "current": 3, "total": 3, "percentage": 100.0, "step": "c" })
    );
    let children = children(&app, &id).await;
    for (step, key) in children.iter().zip(["a", "b", "c"]) {
        assert_eq!(step["stdout"], format!("{key}\n"));
        assert_eq!(step["parent"]["id"], *id);
    }
    for pair in children.windows(2) {
        assert!(moment(&pair[0]["finishedAt"]) <= moment(&pair[1]["startedAt"]));
        assert_eq!(pair[1]["dependsOn"][0]["key"], pair[0]["key"]);
    }
    let query = "query($id: ID!) { job(id: $id) {
        key parent { id } durationMs childStats { total completed pending }
        command { ... on PlanCommand { description strategy { ... on SerialStrategy { stopOnError } } } }
    } }";
    let told = app.data(query, json!({ "id": id })).await["job"].take();
    assert_eq!(
        told["childStats"],
        json!({ "total": 3, "completed": 3, "pending": 0 })
    );
    assert_eq!(told["command"]["strategy"], json!({ "stopOnError": true }));
    assert_eq!((&told["key"], &told["parent"]), (&json!(null), &json!(null)));
    let took = moment(&children[2]["finishedAt"]) - moment(&children[0]["startedAt"]);
    assert!(told["durationMs"].as_i64().unwrap() + 1 >= took.num_milliseconds());
    app.stop().await;
}

async fn parallel_steps_run_at_once_up_to_the_limit(db: TestDb) {
    let app = Setup::new(&db).flag("--workers", 4).start().await;
    let line = wait_for(&app, "go");
    let steps = || ["a", "b", "c", "d"].map(|key| step(key, &line));
    let all = run_plan(&app, json!({ "parallel": {} }), steps()).await;
    steps_are(&app, &all, &["a RUNNING", "b RUNNING", "c RUNNING", "d RUNNING"]).await;
    open(&app, "go");
    assert_eq!(app.ended(&all).await["status"], "COMPLETED");
    std::fs::remove_file(app.folder().join("go")).unwrap();

    let gates = ["a", "b", "c", "d"].map(|key| step(key, &wait_for(&app, key)));
    let two = run_plan(&app, json!({ "parallel": { "maxConcurrency": 2 } }), gates).await;
    steps_are(&app, &two, &["a RUNNING", "b RUNNING", "c PENDING", "d PENDING"]).await;
    let third = children(&app, &two).await[2].clone();
    assert_eq!(third["waitReason"], "BLOCKED");
    open(&app, "b");
    steps_are(
        &app,
        &two,
        &["a RUNNING", "b COMPLETED", "c RUNNING", "d PENDING"],
    )
    .await;
    open(&app, "c");
    steps_are(
        &app,
        &two,
        &["a RUNNING", "b COMPLETED", "c COMPLETED", "d RUNNING"],
    )
    .await;
    assert_eq!(
        app.job(&two).await["progress"],
        json!({ "current": 2, "total": 4, "percentage": 50.0, "step": "d" })
    );
    open(&app, "a");
    open(&app, "d");
    assert_eq!(app.ended(&two).await["status"], "COMPLETED");
    app.stop().await;
}

async fn a_graph_runs_each_step_after_those_it_waits_for(db: TestDb) {
    let app = Setup::new(&db).flag("--workers", 4).start().await;
    // A diamond, in an order in which no step comes after those it waits for.
    let steps = [
        step_after("last", &["left", "right"], "true"),
        step_after("left", &["first"], &wait_for(&app, "left")),
        step_after("right", &["first"], "true"),
        step("first", &wait_for(&app, "first")),
    ];
    let id = run_plan(&app, graph(), steps).await;
    steps_are(
        &app,
        &id,
        &["last PENDING", "left PENDING", "right PENDING", "first RUNNING"],
    )
    .await;
    open(&app, "first");
    steps_are(
        &app,
        &id,
        &[
            "last PENDING",
            "left RUNNING",
            "right COMPLETED",
            "first COMPLETED",
        ],
    )
    .await;
    open(&app, "left");
    assert_eq!(app.ended(&id).await["status"], "COMPLETED");
    let query = "query($id: ID!) { job(id: $id) { command { ... on PlanCommand { strategy {
        ... on DependencyGraphStrategy { dependencies { key dependsOn } }
    } } } } }";
    let told = app.data(query, json!({ "id": id })).await;
    assert_eq!(
        told["job"]["command"]["strategy"]["dependencies"],
        json!([
            { "key": "last", "dependsOn": ["left", "right"] },
            { "key": "left", "dependsOn": ["first"] },
            { "key": "right", "dependsOn": ["first"] },
            { "key": "first", "dependsOn": [] },
        ])
    );
    app.stop().await;
}

async fn plans_within_plans_run_in_their_turn(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let inner = plan(
        json!({ "parallel": {} }),
        [step("x", "echo x"), step("y", "echo y")],
    );
    let steps = [
        step("before", "true"),
        json!({ "key": "inner", "run": { "command": inner } }),
        json!({ "run": { "command": shell("echo after") } }),
    ];
    let id = run_plan(&app, serial(), steps).await;
    let job = app.ended(&id).await;
    assert_eq!(job["status"], "COMPLETED", "{job:#}");
    let outer = children(&app, &id).await;
    assert_eq!(outer[1]["kind"], "PLAN");
    assert_eq!(outer[2]["key"], "2", "its index, where left out");
    let inner = children(&app, outer[1]["id"].as_str().unwrap()).await;
    assert_eq!(inner.len(), 2);
    for step in &inner {
        assert!(moment(&outer[0]["finishedAt"]) <= moment(&step["startedAt"]));
        assert!(moment(&step["finishedAt"]) <= moment(&outer[2]["startedAt"]));
    }
    let query = "query($filter: JobFilter!) { jobs(filter: $filter) { totalCount } }";
    let count = async |filter: Value| {
        let data = app.data(query, json!({ "filter": filter })).await;
        data["jobs"]["totalCount"].as_i64().unwrap()
    };
    assert_eq!(count(json!({ "topLevel": true })).await, 1);
    assert_eq!(count(json!({ "parentId": id })).await, 3);
    assert_eq!(count(json!({ "kinds": ["PLAN"] })).await, 2);
    app.stop().await;
}

async fn a_plan_waits_for_its_moment(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let soon = chrono::Utc::now() + chrono::Duration::milliseconds(700);
    let command = plan(serial(), [step("a", "true"), step("b", "true")]);
    let id = app.run(request(command, json!({ "runAt": soon }))).await;
    let job = app.job(&id).await;
    if job["status"] == "PENDING" {
        assert_eq!(job["waitReason"], "SCHEDULED");
        assert_eq!(statuses(&app, &id).await, ["a PENDING", "b PENDING"]);
    }
    assert_eq!(app.ended(&id).await["status"], "COMPLETED");
    let first = children(&app, &id).await[0].clone();
    assert!(moment(&first["startedAt"]).timestamp_millis() >= soon.timestamp_millis());
    app.stop().await;
}

async fn steps_that_are_retried_keep_their_place(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let line = format!("[ $RUNQL_ATTEMPT = 3 ] && {}", wait_for(&app, "go"));
    let retried = request(shell(&line), json!({ "maxAttempts": 3, "backoffMs": 0 }));
    let steps = [json!({ "key": "a", "run": retried }), step("b", "true")];
    let id = run_plan(&app, serial(), steps).await;
    steps_are(&app, &id, &["a RUNNING", "b PENDING"]).await;
    open(&app, "go");
    let job = app.ended(&id).await;
    assert_eq!(job["status"], "COMPLETED", "{job:#}");
    assert_eq!(children(&app, &id).await[0]["attempt"], 3);
    app.stop().await;
}

async fn the_history_of_a_plan_is_told_in_order(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let id = run_plan(&app, serial(), [step("a", "true"), step("b", "true")]).await;
    app.ended(&id).await;
    let query = "query($id: ID!) { job(id: $id) { events { nodes {
        type status previousStatus progress { current total percentage step }
    } } } }";
    let events = app.data(query, json!({ "id": id })).await["job"]["events"]["nodes"].take();
    let progress = |event: &Value| {
        let progress = &event["progress"];
        format!(
            "{} {} {}",
            event["type"].as_str().unwrap(),
            progress["current"],
            progress["step"]
        )
    };
    let told: Vec<String> = events.as_array().unwrap().iter().map(progress).collect();
    assert_eq!(
        told,
        [
            "CREATED null null",
            "STARTED null null",
            "PROGRESSED 0 \"a\"",
            "PROGRESSED 1 \"a\"",
            "PROGRESSED 1 \"b\"",
            "COMPLETED null null",
        ]
    );
    app.stop().await;
}
