//! Each scope opens its own part of the API and nothing else.

use std::collections::BTreeMap;

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{ask, code, data, token};
use crate::support::app::{Setup, TestApp};
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    each_token_reaches_its_part_of_the_api,
    a_batch_is_checked_operation_by_operation
);

/// Every root field, with a call that gets past the validation; a mutation that is not in here fails the test.
fn calls(mutation: &str) -> &'static str {
    match mutation {
        "run" => r#"run(input: { command: { script: { name: "none.sh" } } }) { errors { code } }"#,
        "runMany" => "runMany(inputs: []) { errors { code } }",
        "cancel" => r#"cancel(input: { id: "x" }) { errors { code } }"#,
        "rerun" => r#"rerun(input: { id: "x" }) { errors { code } }"#,
        "cleanup" => "cleanup(input: { dryRun: true }) { deletedCount }",
        "scaleWorkers" => "scaleWorkers(input: { size: -1 }) { errors { code } }",
        "startWorkers" => "startWorkers { errors { code } }",
        "stopWorkers" => "stopWorkers { errors { code } }",
        "registerWorker" => r#"registerWorker(input: { name: "x", backendType: "x" }) { errors { code } }"#,
        "heartbeat" => r#"heartbeat(input: { workerId: "x" }) { errors { code } }"#,
        "claim" => r#"claim(input: { workerId: "x" }) { errors { code } }"#,
        "report" => r#"report(input: { workerId: "x", jobId: "x", attempt: 1 }) { errors { code } }"#,
        "createToken" => r#"createToken(input: { name: "", scopes: [] }) { errors { code } }"#,
        "rotateToken" => r#"rotateToken(input: { id: "x" }) { errors { code } }"#,
        "revokeToken" => r#"revokeToken(input: { id: "x" }) { errors { code } }"#,
        other => panic!("the mutation {other} has no call here: which scope does it need?"),
    }
}

async fn mutations(app: &TestApp, token: &str) -> Vec<String> {
    let query = "{ __schema { mutationType { fields { name } } } }";
    let found = data(app, token, query, json!({})).await;
    let fields = found["__schema"]["mutationType"]["fields"].as_array().unwrap();
    fields
        .iter()
        .map(|field| field["name"].as_str().unwrap().to_owned())
        .collect()
}

async fn each_token_reaches_its_part_of_the_api(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let expected: BTreeMap<&str, &[&str]> = [
        ("read", &[][..]),
        ("run", &["run", "runMany", "cancel", "rerun"]),
        ("worker", &["registerWorker", "heartbeat", "claim", "report"]),
        (
            "admin",
            &[
                "cleanup",
                "scaleWorkers",
                "startWorkers",
                "stopWorkers",
                "createToken",
                "rotateToken",
                "revokeToken",
            ],
        ),
    ]
    .into();
    for (scope, allowed) in expected {
        let secret = token(&app, scope, scope, &[]).await;
        for mutation in mutations(&app, &secret).await {
            let (status, answer) = ask(
                &app,
                Some(&secret),
                &format!("mutation {{ {} }}", calls(&mutation)),
                json!({}),
            )
            .await;
            let was_allowed = code(&answer) != "FORBIDDEN";
            assert_eq!(
                was_allowed,
                allowed.contains(&&*mutation),
                "{scope} {mutation}: {answer:#}"
            );
            if !was_allowed {
                assert_eq!(status, StatusCode::FORBIDDEN);
                assert_eq!(answer.get("data"), None, "{answer:#}");
            }
        }
        for (query, needed) in [
            ("{ jobs { nodes { id } } }", "read"),
            ("{ node(id: \"x\") { id } }", "read"),
            ("{ a: health { status } }", "read"),
            (
                "{ ...F } fragment F on Query { stats { counts { total } } }",
                "read",
            ),
            ("{ tokens { name } }", "admin"),
            ("{ auditLog { nodes { action } } }", "admin"),
        ] {
            let (_, answer) = ask(&app, Some(&secret), query, json!({})).await;
            assert_eq!(
                code(&answer) != "FORBIDDEN",
                scope == needed,
                "{scope} {query}: {answer:#}"
            );
        }
        // Both at once: nothing of it is done.
        let both = format!("mutation {{ {} {} }}", calls("run"), calls("createToken"));
        let (_, answer) = ask(&app, Some(&secret), &both, json!({})).await;
        assert_eq!(code(&answer), "FORBIDDEN");
    }
    app.stop().await;
}

async fn a_batch_is_checked_operation_by_operation(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let secret = token(&app, "reader", "read", &[]).await;
    let sent = app
        .http()
        .post(format!("{}/graphql", app.url()))
        .bearer_auth(&secret)
        .json(&json!([
            { "query": "{ viewer { tokenName } }" },
            { "query": format!("mutation {{ {} }}", calls("startWorkers")) },
        ]));
    let answers: Vec<Value> = sent.send().await.unwrap().json().await.unwrap();
    assert_eq!(answers[0]["data"]["viewer"]["tokenName"], "reader");
    assert_eq!(code(&answers[1]), "FORBIDDEN");
    app.stop().await;
}
