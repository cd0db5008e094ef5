//! Numbers, names and labels out of their bounds, and a queue that is full.

use serde_json::{Value, json};

use super::refused;
use crate::api::fixture::{Stored, request, shell};
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    inputs_out_of_their_bounds,
    all_faults_are_told_at_once,
    a_queue_that_is_full,
);

/// Each alone, so that none hides behind another.
async fn inputs_out_of_their_bounds(db: TestDb) {
    let app = Setup::new(&db).flag("--max-timeout-minutes", 60).start().await;
    let before = Stored::now(&db).await;
    for (rest, expected) in numbers().into_iter().chain(variables()).chain(labels()) {
        refused(&app, request(shell("true"), rest), &[expected]).await;
    }
    before.unchanged().await;
    app.stop().await;
}

fn numbers() -> Vec<(Value, &'static str)> {
    vec![
        (json!({ "timeoutMs": 0 }), "INVALID input.timeoutMs"),
        (json!({ "timeoutMs": -1 }), "INVALID input.timeoutMs"),
        (
            json!({ "timeoutMs": 3_600_001 }),
            "LIMIT_EXCEEDED input.timeoutMs",
        ),
        (
            json!({ "timeoutMs": 9_007_199_254_740_991_i64 }),
            "LIMIT_EXCEEDED input.timeoutMs",
        ),
        (json!({ "priority": 101 }), "INVALID input.priority"),
        (json!({ "priority": -101 }), "INVALID input.priority"),
        (json!({ "priority": i32::MIN }), "INVALID input.priority"),
        (json!({ "maxAttempts": 0 }), "INVALID input.maxAttempts"),
        (json!({ "maxAttempts": -1 }), "INVALID input.maxAttempts"),
        (json!({ "maxAttempts": 1_001 }), "INVALID input.maxAttempts"),
        (json!({ "backoffMs": -1 }), "INVALID input.backoffMs"),
        (json!({ "backoffMs": 3_600_001 }), "INVALID input.backoffMs"),
        (json!({ "dependsOn": ["x"] }), "INVALID input.dependsOn.0"),
    ]
}

fn variables() -> Vec<(Value, &'static str)> {
    let env = |name: &str, value: &str| json!({ "env": [{ "name": "FINE", "value": "" }, { "name": name, "value": value }] });
    let long = "x".repeat(200_000);
    let many: Vec<Value> = (0..257)
        .map(|n| json!({ "name": format!("V{n}"), "value": "" }))
        .collect();
    vec![
        (env("", "x"), "INVALID input.env.1.name"),
        (env("A=B", "x"), "INVALID input.env.1.name"),
        (env("A\u{0}", "x"), "INVALID input.env.1.name"),
        (env("A B", "x"), "INVALID input.env.1.name"),
        (env("1ST", "x"), "INVALID input.env.1.name"),
        (env("GRÖSSE", "x"), "INVALID input.env.1.name"),
        (env("RUNQL_JOB_ID", "x"), "INVALID input.env.1.name"),
        (env("RUNQL_ANYTHING", "x"), "INVALID input.env.1.name"),
        (env("PARAM_NAME", "x"), "INVALID input.env.1.name"),
        (env("FINE", "x"), "INVALID input.env.1.name"),
        (env("NUL", "a\u{0}b"), "INVALID input.env.1.value"),
        (env("LONG", &long), "LIMIT_EXCEEDED input.env.1.value"),
        (json!({ "env": many }), "LIMIT_EXCEEDED input.env"),
    ]
}

fn labels() -> Vec<(Value, &'static str)> {
    let tag = |key: &str, value: &str| json!({ "metadata": { "tags": [{ "key": "fine", "value": "" }, { "key": key, "value": value }] } });
    let long = "x".repeat(256);
    let many: Vec<Value> = (0..65)
        .map(|n| json!({ "key": n.to_string(), "value": "" }))
        .collect();
    vec![
        (json!({ "queue": "" }), "INVALID input.queue"),
        (json!({ "queue": "two words" }), "INVALID input.queue"),
        (json!({ "queue": "a\u{0}" }), "INVALID input.queue"),
        (json!({ "queue": "x".repeat(65) }), "INVALID input.queue"),
        (json!({ "idempotencyKey": "" }), "INVALID input.idempotencyKey"),
        (
            json!({ "idempotencyKey": "a\u{0}" }),
            "INVALID input.idempotencyKey",
        ),
        (json!({ "idempotencyKey": long }), "INVALID input.idempotencyKey"),
        (
            json!({ "metadata": { "source": "" } }),
            "INVALID input.metadata.source",
        ),
        (
            json!({ "metadata": { "source": "\u{0}" } }),
            "INVALID input.metadata.source",
        ),
        (
            json!({ "metadata": { "conversationId": long } }),
            "INVALID input.metadata.conversationId",
        ),
        (tag("", "x"), "INVALID input.metadata.tags.1.key"),
        (tag("a\u{0}", "x"), "INVALID input.metadata.tags.1.key"),
        (tag("a", "\u{0}"), "INVALID input.metadata.tags.1.value"),
        (tag("a", &long), "INVALID input.metadata.tags.1.value"),
        (
            json!({ "metadata": { "tags": many } }),
            "LIMIT_EXCEEDED input.metadata.tags",
        ),
    ]
}

async fn all_faults_are_told_at_once(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let input = json!({
        "command": { "exec": { "program": "no-such-program", "args": ["\u{0}"] } },
        "priority": 500, "maxAttempts": 0, "timeoutMs": 0, "workingDir": "../out",
        "env": [{ "name": "1", "value": "" }],
    });
    refused(
        &app,
        input,
        &[
            "INVALID input.priority",
            "INVALID input.maxAttempts",
            "INVALID input.env.0.name",
            "NOT_ALLOWED input.workingDir",
            "NOT_FOUND input.command.exec.program",
            "INVALID input.command.exec.args.0",
            "INVALID input.timeoutMs",
        ],
    )
    .await;
    app.stop().await;
}

async fn a_queue_that_is_full(db: TestDb) {
    let app = Setup::new(&db)
        .flag("--queue-limit", 2)
        .flag("--auto-start-workers", "false")
        .start()
        .await;
    let first = app
        .run(request(shell("true"), json!({ "idempotencyKey": "k" })))
        .await;
    app.shell("true").await;
    let before = Stored::now(&db).await;
    let message = refused(&app, request(shell("true"), json!({})), &["LIMIT_EXCEEDED input"]).await;
    assert!(
        message.contains("the queue is full") && message.contains('2'),
        "{message}"
    );
    // A request that was taken before is answered all the same.
    let known = app
        .try_run(request(shell("true"), json!({ "idempotencyKey": "k" })))
        .await;
    assert_eq!(
        (&known["job"]["id"], &known["deduplicated"]),
        (&json!(first), &json!(true))
    );
    before.unchanged().await;
    // There is room once jobs have started.
    app.data("mutation { startWorkers { errors { code } } }", Value::Null)
        .await;
    app.ended(&first).await;
    app.completed(request(shell("true"), json!({}))).await;
    app.stop().await;
}
