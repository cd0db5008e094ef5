//! Programs and shell lines, and the environment that every job gets.

use std::collections::BTreeMap;

use serde_json::json;

use crate::api::fixture::{request, shell};
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    a_program_gets_its_arguments_as_they_are,
    a_line_goes_to_the_shell_that_was_asked_for,
    the_environment_is_clean,
    the_way_it_ended_is_told,
);

async fn a_program_gets_its_arguments_as_they_are(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let args = ["%s|", "a b", "$HOME", "*", "", "ü\n"];
    for program in ["printf", "/usr/bin/printf"] {
        let job = app
            .completed(json!({ "command": { "exec": { "program": program, "args": args } } }))
            .await;
        assert_eq!(job["stdout"], "a b|$HOME|*||ü\n|");
        assert_eq!((&job["kind"], &job["name"]), (&json!("EXEC"), &json!(program)));
        let query = "query($id: ID!) { job(id: $id) { command { ... on ExecCommand { program args } } } }";
        let shown = app.data(query, json!({ "id": job["id"] })).await;
        assert_eq!(
            shown["job"]["command"],
            json!({ "program": program, "args": args })
        );
    }
    app.stop().await;
}

async fn a_line_goes_to_the_shell_that_was_asked_for(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let line = "cat /proc/$$/comm; echo out; echo err >&2";
    for (given, expected) in [
        (json!(null), "bash"),
        (json!("bash"), "bash"),
        (json!("dash"), "dash"),
        (json!("sh"), "sh"),
    ] {
        let job = app
            .completed(json!({ "command": { "shell": { "command": line, "shell": given } } }))
            .await;
        assert_eq!(job["stdout"], format!("{expected}\nout\n"));
        assert_eq!(job["stderr"], "err\n");
        // The line itself is no name: it may hold anything.
        assert_eq!((&job["kind"], &job["name"]), (&json!("SHELL"), &json!(expected)));
        let query = "query($id: ID!) { job(id: $id) { command { ... on ShellCommand { command shell } } } }";
        let shown = app.data(query, json!({ "id": job["id"] })).await;
        assert_eq!(
            shown["job"]["command"],
            json!({ "command": line, "shell": expected })
        );
    }
    app.stop().await;
}

async fn the_environment_is_clean(db: TestDb) {
    let app = Setup::new(&db)
        .env("SECRET_OF_THE_SERVER", "x")
        .env("AWS_SECRET_ACCESS_KEY", "x")
        .env("LC_ALL", "C.UTF-8")
        .start()
        .await;
    let env = json!([
        { "name": "GREETING", "value": "hello = wörld\n" },
        { "name": "EMPTY", "value": "" },
        { "name": "HOME", "value": "/home/of/the/job" },
        { "name": "LD_LIBRARY_PATH", "value": "/opt/lib" },
    ]);
    let command = json!({ "exec": { "program": "env", "args": ["-0"] } });
    let job = app.completed(request(command, json!({ "env": env }))).await;
    let bytes = app.bytes(job["id"].as_str().unwrap(), "stdout").await;
    let text = String::from_utf8(bytes).unwrap();
    let found: BTreeMap<&str, &str> = text
        .split('\0')
        .filter_map(|variable| variable.trim_start_matches('\n').split_once('='))
        .collect();
    let names: Vec<&str> = found.keys().copied().collect();
    assert_eq!(
        names,
        [
            "EMPTY",
            "GREETING",
            "HOME",
            "LC_ALL",
            "LD_LIBRARY_PATH",
            "PATH",
            "PWD",
            "RUNQL_ATTEMPT",
            "RUNQL_CONTEXT",
            "RUNQL_JOB_ID",
            "RUNQL_OUTPUT",
            "RUNQL_PARAMETERS",
            "TMPDIR",
        ]
    );
    assert_eq!((found["GREETING"], found["EMPTY"]), ("hello = wörld\n", ""));
    assert_eq!(
        (found["HOME"], found["RUNQL_JOB_ID"]),
        ("/home/of/the/job", job["id"].as_str().unwrap())
    );
    assert_eq!(
        (
            found["RUNQL_PARAMETERS"],
            found["RUNQL_CONTEXT"],
            found["RUNQL_ATTEMPT"]
        ),
        ("{}", "{}", "1")
    );
    app.stop().await;
}

async fn the_way_it_ended_is_told(db: TestDb) {
    let app = Setup::new(&db).start().await;
    for (line, status, exit_code, signal, error) in [
        ("exit 0", "COMPLETED", json!(0), json!(null), json!(null)),
        ("exit 255", "FAILED", json!(255), json!(null), json!("EXIT_CODE")),
        (
            "kill -9 $$",
            "FAILED",
            json!(null),
            json!("SIGKILL"),
            json!("SIGNALLED"),
        ),
        (
            "kill -SEGV $$",
            "FAILED",
            json!(null),
            json!("SIGSEGV"),
            json!("SIGNALLED"),
        ),
    ] {
        let job = app.ended(&app.run(request(shell(line), json!({}))).await).await;
        assert_eq!(job["status"], status, "{line}");
        assert_eq!(
            (&job["exitCode"], &job["signal"]),
            (&exit_code, &signal),
            "{line}"
        );
        assert_eq!(job["error"]["code"], error, "{line}");
        assert_eq!(job["waitReason"], json!(null));
        assert!(job["durationMs"].as_i64().unwrap() >= 0);
    }
    app.stop().await;
}
