//! Documents and variables that do not fit the schema: an error of the whole operation, and nothing is stored.

use serde_json::{Value, json};

use crate::api::fixture::{Stored, operation_errors};
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    exactly_one_command,
    values_of_wrong_types,
    documents_that_are_none
);

const RUN: &str = "mutation($input: RunInput!) { run(input: $input) { job { id } errors { code } } }";

async fn exactly_one_command(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let before = Stored::now(&db).await;
    let line = json!({ "command": "true" });
    for command in [
        json!({}),
        json!({ "shell": line, "exec": { "program": "true" } }),
        json!({ "shell": line, "exec": null }),
        json!({ "shell": null }),
        json!({ "unknown": line }),
        json!(null),
    ] {
        let answer = app.answer(RUN, json!({ "input": { "command": command } })).await;
        let errors = operation_errors(&answer);
        assert!(
            answer["data"].is_null() && errors.len() == 1,
            "{command}: {answer:#}"
        );
        assert!(
            errors[0].starts_with("BAD_USER_INPUT ") || errors[0].starts_with("GRAPHQL_VALIDATION_FAILED "),
            "{command}: {errors:?}"
        );
    }
    for command in [
        "{}",
        "{ shell: { command: \"true\" }, exec: { program: \"true\" } }",
    ] {
        let answer = app
            .answer(
                &format!("mutation {{ run(input: {{ command: {command} }}) {{ job {{ id }} }} }}"),
                Value::Null,
            )
            .await;
        assert!(
            operation_errors(&answer)[0].starts_with("GRAPHQL_VALIDATION_FAILED "),
            "{answer:#}"
        );
    }
    before.unchanged().await;
    app.stop().await;
}

async fn values_of_wrong_types(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let before = Stored::now(&db).await;
    for rest in [
        json!({ "priority": "high" }),
        json!({ "priority": 1.5 }),
        json!({ "priority": 3_000_000_000_i64 }),
        json!({ "timeoutMs": 1.5 }),
        json!({ "timeoutMs": 9_007_199_254_740_993_i64 }),
        json!({ "timeoutMs": "1000" }),
        json!({ "runAt": "tomorrow" }),
        json!({ "runAt": "2026-02-30T00:00:00Z" }),
        json!({ "runAt": 0 }),
        json!({ "env": [{ "value": "b" }] }),
        json!({ "env": { "A": "b" } }),
        json!({ "surprise": true }),
    ] {
        let mut input = json!({ "command": { "shell": { "command": "true" } } });
        input
            .as_object_mut()
            .unwrap()
            .extend(rest.as_object().unwrap().clone());
        let answer = app.answer(RUN, json!({ "input": input })).await;
        let errors = operation_errors(&answer);
        assert!(
            answer["data"].is_null() && !errors.is_empty(),
            "{rest}: {answer:#}"
        );
        assert!(
            errors[0].starts_with("BAD_USER_INPUT ") || errors[0].starts_with("GRAPHQL_VALIDATION_FAILED "),
            "{rest}: {errors:?}"
        );
    }
    before.unchanged().await;
    app.stop().await;
}

async fn documents_that_are_none(db: TestDb) {
    let app = Setup::new(&db).start().await;
    for (document, code) in [
        ("{ jobs { ", "GRAPHQL_PARSE_FAILED"),
        ("", "GRAPHQL_PARSE_FAILED"),
        ("{ nothing }", "GRAPHQL_VALIDATION_FAILED"),
        ("{ jobs }", "GRAPHQL_VALIDATION_FAILED"),
        ("query($id: ID!) { job(id: $id) { id } }", "BAD_USER_INPUT"),
        ("{ job { id } }", "GRAPHQL_VALIDATION_FAILED"),
        (
            "query A { health { status } } query B { health { status } }",
            "BAD_REQUEST",
        ),
    ] {
        let answer = app.answer(document, json!({})).await;
        let errors = operation_errors(&answer);
        assert!(errors[0].starts_with(code), "{document:?}: {answer:#}");
    }
    app.stop().await;
}
