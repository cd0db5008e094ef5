//! Commands that this server does not run, or cannot.

use serde_json::json;

use super::refused;
use crate::api::fixture::{Stored, request, shell};
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(programs_and_lines_that_cannot_be, what_the_settings_do_not_allow,);

async fn programs_and_lines_that_cannot_be(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let plain = app.script("not-executable", "text");
    std::fs::set_permissions(&plain, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let before = Stored::now(&db).await;
    let program = "NOT_FOUND input.command.exec.program";
    for name in [
        "no-such-program",
        "",
        "no\u{0}such",
        "./relative",
        "bin/true",
        "/no/such",
        "/etc",
        &plain.display().to_string(),
    ] {
        refused(
            &app,
            json!({ "command": { "exec": { "program": name } } }),
            &[program],
        )
        .await;
    }
    let args = json!({ "exec": { "program": "true", "args": ["", "\u{0}"] } });
    refused(
        &app,
        json!({ "command": args }),
        &["INVALID input.command.exec.args.1"],
    )
    .await;
    let many = vec!["x".repeat(1_000); 1_100];
    let args = json!({ "exec": { "program": "true", "args": many } });
    refused(
        &app,
        json!({ "command": args }),
        &["LIMIT_EXCEEDED input.command.exec.args"],
    )
    .await;
    for (line, shell, expected) in [
        ("", "bash", "INVALID input.command.shell.command"),
        (" \n", "bash", "INVALID input.command.shell.command"),
        ("echo \u{0}", "bash", "INVALID input.command.shell.command"),
        ("true", "python3", "INVALID input.command.shell.shell"),
        ("true", "/bin/bash", "INVALID input.command.shell.shell"),
        ("true", "", "INVALID input.command.shell.shell"),
    ] {
        refused(
            &app,
            json!({ "command": { "shell": { "command": line, "shell": shell } } }),
            &[expected],
        )
        .await;
    }
    refused(
        &app,
        request(shell(&"x".repeat(200_000)), json!({})),
        &["LIMIT_EXCEEDED input.command.shell.command"],
    )
    .await;
    before.unchanged().await;
    app.stop().await;
}

async fn what_the_settings_do_not_allow(db: TestDb) {
    let app = Setup::new(&db).without("--allow").start().await;
    let before = Stored::now(&db).await;
    for (field, flag, command) in [
        ("exec", "exec", json!({ "program": "true" })),
        ("shell", "shell", json!({ "command": "true" })),
        (
            "awsCli",
            "aws_cli",
            json!({ "service": "sts", "operation": "get-caller-identity" }),
        ),
    ] {
        let expected = format!("NOT_ALLOWED input.command.{field}");
        let message = refused(&app, json!({ "command": { field: command } }), &[&expected]).await;
        assert!(message.contains(&format!("--allow {flag}")), "{message}");
    }
    before.unchanged().await;
    // Scripts run; but no variable of theirs may lead to other code.
    app.script("fine.sh", "echo fine");
    let job = app
        .completed(json!({ "command": { "script": { "name": "fine.sh" } } }))
        .await;
    assert_eq!(job["stdout"], "fine\n");
    let before = Stored::now(&db).await;
    for name in [
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "PATH",
        "BASH_ENV",
        "ENV",
        "PYTHONPATH",
        "NODE_OPTIONS",
        "PERL5LIB",
        "PS4",
    ] {
        let input = json!({
            "command": { "script": { "name": "fine.sh" } }, "env": [{ "name": "OK", "value": "" }, { "name": name, "value": "x" }],
        });
        refused(&app, input, &["NOT_ALLOWED input.env.1.name"]).await;
    }
    before.unchanged().await;
    app.stop().await;
}
