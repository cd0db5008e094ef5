//! One plan on many servers.

use serde_json::{Value, json};

use super::{children, graph, open, plan, run_plan, serial, statuses, step, step_after, steps_are, wait_for};
use crate::api::fixture::{mutate, request};
use crate::support::app::Setup;
use crate::support::db::TestDb;
use crate::support::on_postgres;

on_postgres!(
    two_servers_run_the_steps_of_one_plan_once_each,
    a_plan_is_cancelled_wherever_its_steps_run,
    a_plan_outlives_the_server_that_stored_it,
);

async fn two_servers_run_the_steps_of_one_plan_once_each(db: TestDb) {
    let (one, two) = tokio::join!(Setup::new(&db).start(), Setup::new(&db).start());
    // Rows of ten, each step after two of the row before; one fails in the fifth row.
    let steps = (0..100).map(|n: usize| {
        let (row, place) = (n / 10, n % 10);
        let key = |row: usize, place: usize| format!("{row}.{}", place % 10);
        let line = if (row, place) == (4, 0) { "exit 1" } else { "true" };
        let awaited = [
            key(row.wrapping_sub(1), place),
            key(row.wrapping_sub(1), place + 1),
        ];
        let awaited: Vec<&str> = awaited.iter().map(String::as_str).collect();
        step_after(&key(row, place), if row == 0 { &[] } else { &awaited }, line)
    });
    let steps: Vec<Value> = steps.collect();
    let limited = json!({ "parallel": { "maxConcurrency": 4 } });
    let each = |count: usize| (0..count).map(|n| step(&n.to_string(), "true"));
    let (web, few, row) = tokio::join!(
        run_plan(&one, graph(), steps),
        run_plan(&two, limited, each(60)),
        run_plan(&two, serial(), each(30)),
    );
    for (id, status) in [(&few, "COMPLETED"), (&row, "COMPLETED"), (&web, "FAILED")] {
        let job = one.ended(id).await;
        assert_eq!(job["status"], status, "{job:#}");
        assert_eq!(job["progress"]["current"], job["progress"]["total"]);
        for step in children(&two, id).await {
            let ran = if step["status"] == "CANCELLED" { 0 } else { 1 };
            assert_eq!(step["attempt"], ran, "{step:#}");
        }
    }
    // What waits for the failed one, row by row: 2, 3, 4, 5, 6.
    let cancelled = statuses(&two, &web).await;
    let cancelled = cancelled
        .iter()
        .filter(|step| step.ends_with(" CANCELLED"))
        .count();
    assert_eq!(cancelled, 2 + 3 + 4 + 5 + 6);
    let counts = one
        .data(
            "{ stats { counts { total pending running completed failed cancelled } } }",
            json!({}),
        )
        .await;
    assert_eq!(
        counts["stats"]["counts"],
        json!({ "total": 193, "pending": 0, "running": 0, "completed": 171, "failed": 2, "cancelled": 20 })
    );
    one.stop().await;
    two.stop().await;
}

async fn a_plan_is_cancelled_wherever_its_steps_run(db: TestDb) {
    let start = || {
        Setup::new(&db)
            .flag("--workers", 2)
            .flag("--cancel-grace-ms", 100)
            .start()
    };
    let (one, two) = tokio::join!(start(), start());
    let steps = ["a", "b", "c", "d", "e"].map(|key| step(key, "exec sleep 1000"));
    let inner = json!({ "run": { "command": plan(json!({ "parallel": {} }), steps) } });
    let id = run_plan(&one, serial(), [inner, step("never", "true")]).await;
    let inner = children(&one, &id).await[0]["id"].as_str().unwrap().to_owned();
    let running = ["a RUNNING", "b RUNNING", "c RUNNING", "d RUNNING", "e PENDING"];
    steps_are(&one, &inner, &running).await;
    mutate(&two, "cancel", "job { id }", json!({ "id": id })).await;
    assert_eq!(one.ended(&id).await["status"], "CANCELLED");
    let all = statuses(&two, &inner).await;
    assert!(all.iter().all(|step| step.ends_with(" CANCELLED")), "{all:?}");
    one.nothing_left().await;
    two.nothing_left().await;
    one.stop().await;
    two.stop().await;
}

async fn a_plan_outlives_the_server_that_stored_it(db: TestDb) {
    let start = || {
        Setup::new(&db)
            .flag("--lease-ms", 500)
            .flag("--workers", 1)
            .start()
    };
    let (mut one, two) = tokio::join!(start(), start());
    let retried = |key: &str| {
        let command = json!({ "shell": { "command": wait_for(&two, "go") } });
        json!({ "key": key, "run": request(command, json!({ "maxAttempts": 3, "backoffMs": 0 })) })
    };
    let steps = [retried("a"), retried("b"), step("c", "true")];
    let parallel = json!({ "parallel": { "maxConcurrency": 2 } });
    let id = run_plan(&one, parallel, steps).await;
    steps_are(&two, &id, &["a RUNNING", "b RUNNING", "c PENDING"]).await;
    one.kill().await;
    open(&two, "go");
    let job = two.ended(&id).await;
    assert_eq!(job["status"], "COMPLETED", "{job:#}");
    let attempts: i64 = children(&two, &id)
        .await
        .iter()
        .map(|step| step["attempt"].as_i64().unwrap())
        .sum();
    assert_eq!(attempts, 4, "the step of the killed server was tried once more");
    one.nothing_left().await;
    two.stop().await;
}
