//! Scripts that are not there, that lead out of their folder, that cannot run, or that are given what they do not take.

use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use super::refused;
use crate::api::fixture::{Stored, request, script};
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    names_that_lead_nowhere_or_elsewhere,
    scripts_that_cannot_run,
    parameters_that_do_not_fit,
);

const NAME: &str = "input.command.script.name";

async fn names_that_lead_nowhere_or_elsewhere(db: TestDb) {
    let app = Setup::new(&db).start().await;
    app.script("reports/daily.sh", "true");
    let secret = app.folder().join("secret.sh");
    std::fs::write(&secret, "echo secret").unwrap();
    let scripts = app.folder().join("scripts");
    symlink(&secret, scripts.join("link.sh")).unwrap();
    symlink(app.folder(), scripts.join("up")).unwrap();
    symlink(scripts.join("loop.sh"), scripts.join("loop.sh")).unwrap();
    app.script("notes.txt", "no script");
    let before = Stored::now(&db).await;

    let message = refused(
        &app,
        request(script("reports/dayly.sh"), json!({})),
        &[&format!("NOT_FOUND {NAME}")],
    )
    .await;
    assert!(message.contains("`reports/daily.sh`"), "{message}");
    let absolute = secret.display().to_string();
    for (name, code) in [
        ("", "INVALID"),
        ("..", "INVALID"),
        ("../secret.sh", "INVALID"),
        ("reports/../../secret.sh", "INVALID"),
        ("reports/../reports/daily.sh", "INVALID"),
        (&absolute, "INVALID"),
        ("/etc/passwd", "INVALID"),
        ("reports/daily.sh\u{0}.txt", "INVALID"),
        ("reports\\daily.sh", "INVALID"),
        (".hidden.sh", "INVALID"),
        (&"x".repeat(2_000), "INVALID"),
        ("link.sh", "NOT_ALLOWED"),
        ("up/secret.sh", "NOT_ALLOWED"),
        ("reports", "INVALID"),
        ("notes.txt", "INVALID"),
        ("loop.sh", "NOT_FOUND"),
        ("nothing-like-it.sh", "NOT_FOUND"),
        ("reports/daily.sh/deeper", "NOT_FOUND"),
        (&"x".repeat(300), "NOT_FOUND"),
    ] {
        refused(
            &app,
            request(script(name), json!({})),
            &[&format!("{code} {NAME}")],
        )
        .await;
    }
    before.unchanged().await;
    app.stop().await;
}

async fn scripts_that_cannot_run(db: TestDb) {
    let app = Setup::new(&db)
        .flag("--interpreter", "odd=/no/such/interpreter --flag")
        .start()
        .await;
    app.script("gone.sh", "#!/usr/bin/env no-such-interpreter\ntrue\n");
    app.script("configured.odd", "true");
    app.script("nobody-runs.aether", "true");
    app.script("plain.sh", "true");
    app.script("header.sh", "# /// runql\n# timeuot = \"1s\"\n# ///\ntrue\n");
    let before = Stored::now(&db).await;
    for (name, interpreter, expected, mentions) in [
        (
            "gone.sh",
            Value::Null,
            format!("INVALID {NAME}"),
            "no-such-interpreter is not installed",
        ),
        (
            "configured.odd",
            Value::Null,
            format!("INVALID {NAME}"),
            "/no/such/interpreter is not installed",
        ),
        (
            "nobody-runs.aether",
            Value::Null,
            format!("INVALID {NAME}"),
            "no interpreter for `.aether`",
        ),
        ("header.sh", Value::Null, format!("INVALID {NAME}"), "timeuot"),
        (
            "plain.sh",
            json!("cobol"),
            "NOT_ALLOWED input.command.script.interpreter".to_owned(),
            "`cobol`",
        ),
        (
            "plain.sh",
            json!("/bin/rm"),
            "NOT_ALLOWED input.command.script.interpreter".to_owned(),
            "`/bin/rm`",
        ),
        (
            "plain.sh",
            json!("bash -x"),
            "NOT_ALLOWED input.command.script.interpreter".to_owned(),
            "bash",
        ),
        (
            "plain.sh",
            json!(""),
            "NOT_ALLOWED input.command.script.interpreter".to_owned(),
            "",
        ),
    ] {
        let command = json!({ "script": { "name": name, "interpreter": interpreter } });
        let message = refused(&app, json!({ "command": command }), &[&expected]).await;
        assert!(message.contains(mentions), "{message}");
    }
    before.unchanged().await;
    app.stop().await;
}

const DECLARED: &str = r#"#!/usr/bin/env bash
# /// runql
# [parameters.name]
# type = "string"
# required = true
# maxLength = 5
#
# [parameters.count]
# type = "integer"
# minimum = 1
#
# [parameters.color]
# type = "string"
# enum = ["red", "blue"]
#
# [parameters.deep]
# type = "object"
# [parameters.deep.properties.list]
# type = "array"
# items = { type = "integer" }
# ///
true
"#;

async fn parameters_that_do_not_fit(db: TestDb) {
    let app = Setup::new(&db).start().await;
    app.script("declared.sh", DECLARED);
    app.script("free.sh", "true");
    let before = Stored::now(&db).await;
    let at = |rest: &str| format!("INVALID input.command.script.parameters{rest}");
    for (parameters, expected) in [
        (json!({}), vec![at(".name")]),
        (json!({ "name": 1 }), vec![at(".name")]),
        (json!({ "name": "too long" }), vec![at(".name")]),
        (json!({ "name": null }), vec![at(".name")]),
        (json!({ "name": "a", "count": 0 }), vec![at(".count")]),
        (json!({ "name": "a", "count": 1.5 }), vec![at(".count")]),
        (json!({ "name": "a", "color": "green" }), vec![at(".color")]),
        (json!({ "name": "a", "colour": "red" }), vec![at(".colour")]),
        (
            json!({ "name": "a", "deep": { "list": [1, "2"] } }),
            vec![at(".deep.list.1")],
        ),
        (json!({ "count": 0 }), vec![at(".count"), at(".name")]),
        (json!([1]), vec![at("")]),
        (json!("name"), vec![at("")]),
        (json!(true), vec![at("")]),
    ] {
        let command = json!({ "script": { "name": "declared.sh", "parameters": parameters } });
        let payload = app.try_run(json!({ "command": command })).await;
        let mut found = crate::api::fixture::refusals(&payload);
        found.sort();
        assert_eq!(found, expected, "{payload:#}");
    }
    let huge = "x".repeat(200_000);
    for (field, value) in [
        ("parameters", json!({ "a": huge })),
        ("context", json!({ "a": huge })),
    ] {
        let command = json!({ "script": { "name": "free.sh", field: value } });
        let expected = format!("LIMIT_EXCEEDED input.command.script.{field}");
        refused(&app, json!({ "command": command }), &[&expected]).await;
    }
    let context = json!({ "script": { "name": "free.sh", "context": [1] } });
    refused(
        &app,
        json!({ "command": context }),
        &["INVALID input.command.script.context"],
    )
    .await;
    let args = json!({ "script": { "name": "free.sh", "args": ["fine", "not\u{0}fine", huge] } });
    let expected = [
        "INVALID input.command.script.args.1",
        "LIMIT_EXCEEDED input.command.script.args.2",
    ];
    refused(&app, json!({ "command": args }), &expected).await;
    before.unchanged().await;
    app.stop().await;
}
