//! What a script is given: its parameters with their defaults, as variables and as a document, and its timeout.

use serde_json::{Value, json};

use crate::api::fixture::{request, script};
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    declared_parameters_are_completed_and_handed_over,
    without_a_declaration_anything_is_handed_over,
    the_output_is_the_json_that_was_written,
    the_timeout_is_the_requests_the_scripts_or_the_servers,
);

/// Hands back all that it was given.
const TELL: &str = r#"#!/usr/bin/env bash
# /// runql
# description = "Tells what it was given"
#
# [parameters.name]
# type = "string"
# required = true
#
# [parameters.count]
# type = "integer"
# default = 3
#
# [parameters.dry-run]
# type = "boolean"
# default = true
#
# [parameters.ratio]
# type = "number"
# default = 0.5
#
# [parameters.list]
# type = "array"
# default = [1, 2]
# ///
variables=$(env | grep '^PARAM_' | LC_ALL=C sort | tr '\n' ';')
printf '{"document": %s, "parameters": %s, "context": %s, "variables": "%s", "job": "%s", "attempt": %s, "args": "%s"}' \
  "$(cat)" "$RUNQL_PARAMETERS" "$RUNQL_CONTEXT" "$variables" "$RUNQL_JOB_ID" "$RUNQL_ATTEMPT" "$*" > "$RUNQL_OUTPUT"
"#;

async fn declared_parameters_are_completed_and_handed_over(db: TestDb) {
    let app = Setup::new(&db).start().await;
    app.script("tools/tell.sh", TELL);
    let context = json!({ "user": "grace", "deep": { "list": [null, true] } });
    let given = json!({
        "name": "tools/tell.sh", "args": ["one", "two three"],
        "parameters": { "name": "Ada L.", "count": 7 }, "context": context,
    });
    let job = app.completed(json!({ "command": { "script": given } })).await;
    let parameters = json!({ "name": "Ada L.", "count": 7, "dry-run": true, "ratio": 0.5, "list": [1, 2] });
    assert_eq!(
        job["output"],
        json!({
            "document": { "jobId": job["id"], "parameters": parameters, "context": context },
            "parameters": parameters,
            "context": context,
            "variables": "PARAM_COUNT=7;PARAM_DRY_RUN=true;PARAM_NAME=Ada L.;PARAM_RATIO=0.5;",
            "job": job["id"],
            "attempt": 1,
            "args": "one two three",
        })
    );
    let query = "query($id: ID!) { job(id: $id) { name kind command { __typename
        ... on ScriptCommand { script interpreter args parameters context } } } }";
    let shown = app.data(query, json!({ "id": job["id"] })).await;
    assert_eq!(
        shown["job"],
        json!({
            "name": "tools/tell.sh", "kind": "SCRIPT",
            "command": {
                "__typename": "ScriptCommand", "script": "tools/tell.sh", "interpreter": null,
                "args": ["one", "two three"], "parameters": parameters, "context": context,
            },
        })
    );
    app.stop().await;
}

async fn without_a_declaration_anything_is_handed_over(db: TestDb) {
    let app = Setup::new(&db).start().await;
    app.script(
        "any.sh",
        "cat > \"$RUNQL_OUTPUT\"; printf %s \"${PARAM_TEXT-none}\"",
    );
    let parameters = json!({ "text": "a\nb", "nul": "x\u{0}y", "big": 9_007_199_254_740_991_i64, "map": {} });
    let given = json!({ "script": { "name": "any.sh", "parameters": parameters } });
    let job = app.completed(json!({ "command": given })).await;
    assert_eq!(
        job["output"],
        json!({ "jobId": job["id"], "parameters": parameters, "context": {} })
    );
    assert_eq!(job["stdout"], "a\nb");
    // Left out and null are the same: nothing.
    for nothing in [
        json!({ "name": "any.sh" }),
        json!({ "name": "any.sh", "parameters": null, "context": null }),
    ] {
        let job = app.completed(json!({ "command": { "script": nothing } })).await;
        assert_eq!(job["output"]["parameters"], json!({}));
        assert_eq!(job["stdout"], "none");
    }
    app.stop().await;
}

async fn the_output_is_the_json_that_was_written(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let written: [(&str, Value); 5] = [
        (
            r#"printf '{"a": [1, 2.5, "\\u0000 ü"]}' > "$RUNQL_OUTPUT""#,
            json!({ "a": [1, 2.5, "\u{0} ü"] }),
        ),
        (r#"printf '"text"' > "$RUNQL_OUTPUT""#, json!("text")),
        (r#"printf 'null' > "$RUNQL_OUTPUT""#, Value::Null),
        (r#": > "$RUNQL_OUTPUT""#, Value::Null),
        ("true", Value::Null),
    ];
    for (line, output) in written {
        let job = app
            .completed(json!({ "command": { "shell": { "command": line } } }))
            .await;
        assert_eq!(job["output"], output, "{line}");
    }
    // What is no JSON is told in the log, and is no output; what a failed job wrote is none either.
    let job = app
        .completed(json!({ "command": { "shell": { "command": "echo '{' > \"$RUNQL_OUTPUT\"" } } }))
        .await;
    assert_eq!(job["output"], Value::Null);
    let query = "query($id: ID!) { job(id: $id) {
        logs(filter: { streams: [SYSTEM], minLevel: ERROR }) { nodes { message } }
    } }";
    let lines = app.data(query, json!({ "id": job["id"] })).await["job"]["logs"]["nodes"].take();
    let line = lines[0]["message"].as_str().unwrap();
    assert!(line.starts_with("the output is not JSON"), "{lines:#}");
    let failed = app.shell("echo 1 > \"$RUNQL_OUTPUT\"; exit 3").await;
    let job = app.ended(&failed).await;
    assert_eq!(
        (&job["status"], &job["exitCode"], &job["output"]),
        (&json!("FAILED"), &json!(3), &Value::Null)
    );
    assert_eq!(job["error"]["code"], "EXIT_CODE");
    app.stop().await;
}

async fn the_timeout_is_the_requests_the_scripts_or_the_servers(db: TestDb) {
    let app = Setup::new(&db)
        .flag("--default-timeout-minutes", 2)
        .flag("--max-timeout-minutes", 60)
        .start()
        .await;
    let with_header =
        |timeout: &str| format!("#!/bin/sh\n# /// runql\n# timeout = \"{timeout}\"\n# ///\ntrue\n");
    app.script("short.sh", &with_header("90s"));
    app.script("long.sh", &with_header("2h"));
    app.script("plain.sh", "#!/bin/sh\ntrue\n");
    let cases = [
        (script("short.sh"), json!({}), 90_000),
        (script("short.sh"), json!({ "timeoutMs": 1_500 }), 1_500),
        (script("long.sh"), json!({}), 3_600_000),
        (script("plain.sh"), json!({}), 120_000),
        (script("plain.sh"), json!({ "timeoutMs": null }), 120_000),
        (script("plain.sh"), json!({ "timeoutMs": 3_600_000 }), 3_600_000),
    ];
    for (command, rest, expected) in cases {
        let id = app.run(request(command.clone(), rest.clone())).await;
        assert_eq!(app.job(&id).await["timeoutMs"], expected, "{command} {rest}");
        app.ended(&id).await;
    }
    app.stop().await;
}
