//! Secrets by name: handed to the process, stored nowhere, masked wherever they would be seen; and which programs and
//! variables are let through.

use serde_json::{Value, json};

use super::{data, token};
use crate::support::app::{Setup, TestApp};
use crate::support::both_stores;
use crate::support::db::{TestDb, rows_of};

both_stores!(
    a_secret_is_seen_by_its_process_alone,
    a_secret_that_is_not_there_is_refused,
    a_secret_that_is_gone_at_the_start_fails_the_job,
    a_pipeline_names_its_secrets,
    only_listed_programs_run,
    a_narrowed_token_cannot_choose_what_code_runs,
);

const SECRET: &str = "hunter2-and-more";
const KEY: &str = "-----BEGIN KEY-----\nfirst line of it\nsecond line of it\n-----END KEY-----";

async fn app(db: &TestDb) -> TestApp {
    let app = Setup::new(db)
        .flag("--secrets-dir", "secrets")
        .flag("--secret-env", "FROM_SERVER")
        .env("FROM_SERVER", "variable-secret")
        .env("NOT_OFFERED", "never")
        .file("secrets/DB_PASSWORD", &format!("{SECRET}\n"))
        .file("secrets/KEY", KEY)
        .start()
        .await;
    app.script("noop.sh", "#!/bin/sh\n:\n");
    app
}

fn with_secrets(line: &str, secrets: &[(&str, &str)]) -> Value {
    let env: Vec<Value> = secrets
        .iter()
        .map(|(name, secret)| json!({ "name": name, "secret": secret }))
        .collect();
    json!({ "command": { "shell": { "command": line } }, "env": env })
}

async fn a_secret_is_seen_by_its_process_alone(db: TestDb) {
    let app = app(&db).await;
    let secrets = [
        ("PASSWORD", "DB_PASSWORD"),
        ("OTHER", "FROM_SERVER"),
        ("KEY", "KEY"),
    ];
    let line = r#"
        [ "${#PASSWORD}" = 16 ] && [ "${#OTHER}" = 15 ] && [ -z "$NOT_OFFERED" ] || exit 9
        echo "password=$PASSWORD"; echo "{\"level\": \"error\", \"message\": \"$OTHER\"}" >&2
        echo "$KEY"; printf %s "$PASSWORD" | head -c 7; sleep 0.2; printf %s "$PASSWORD" | tail -c +8; echo
        echo "::progress current=1 total=2::step with $PASSWORD"
        echo "{\"out\": \"$PASSWORD\", \"$OTHER\": [\"$PASSWORD!\"]}" > "$RUNQL_OUTPUT"
    "#;
    let job = app.completed(with_secrets(line, &secrets)).await;
    assert_eq!(job["output"], json!({ "out": "***", "***": ["***!"] }));
    assert_eq!(job["progress"]["step"], "step with ***");
    let stdout = job["stdout"].as_str().unwrap();
    assert!(
        stdout.starts_with("password=***\n***\n***\n***\n***\n***\n"),
        "{stdout}"
    );
    // What fails tells no more.
    let failing = app
        .run(with_secrets("echo $PASSWORD >&2; exit 3", &secrets))
        .await;
    let failed = app.ended(&failing).await;
    assert_eq!(failed["error"]["code"], "EXIT_CODE", "{failed:#}");
    let raw = db.raw().await;
    for table in ["job", "attempt", "job_event", "log_chunk", "audit"] {
        let rows = rows_of(&raw, table).await.join("\n");
        let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
        for hidden in [SECRET, "variable-secret", "first line of it"] {
            assert!(!rows.contains(hidden), "{table} holds {hidden}: {rows}");
            assert!(
                !rows.to_lowercase().contains(&hex(hidden)),
                "{table} holds {hidden} in its bytes"
            );
        }
    }
    raw.close().await.unwrap();
    let told = app.told().join("\n");
    assert!(
        !told.contains(SECRET) && !told.contains("variable-secret"),
        "{told}"
    );
    app.stop().await;
}

async fn refused(app: &TestApp, input: Value) -> (String, String) {
    let payload = app.try_run(input).await;
    let error = &payload["errors"][0];
    let path = error["path"]
        .as_array()
        .unwrap()
        .iter()
        .map(|part| part.as_str().unwrap());
    (
        error["code"].as_str().unwrap().to_owned(),
        path.collect::<Vec<_>>().join("."),
    )
}

async fn a_secret_that_is_not_there_is_refused(db: TestDb) {
    let app = app(&db).await;
    for name in ["NONE", "NOT_OFFERED", "../scripts/noop.sh", "/etc/passwd", ""] {
        let input = with_secrets("true", &[("A", name)]);
        assert_eq!(
            refused(&app, input).await,
            ("NOT_FOUND".into(), "input.env.0.secret".into()),
            "{name}"
        );
    }
    let mut both = with_secrets("true", &[("A", "KEY")]);
    both["env"][0]["value"] = json!("x");
    assert_eq!(
        refused(&app, both).await,
        ("INVALID".into(), "input.env.0.secret".into())
    );
    app.stop().await;
}

async fn a_secret_that_is_gone_at_the_start_fails_the_job(db: TestDb) {
    let app = app(&db).await;
    app.data("mutation { stopWorkers { errors { code } } }", json!({}))
        .await;
    let id = app.run(with_secrets("true", &[("A", "KEY")])).await;
    std::fs::remove_file(app.folder().join("secrets/KEY")).unwrap();
    app.data("mutation { startWorkers { errors { code } } }", json!({}))
        .await;
    let job = app.ended(&id).await;
    assert_eq!(job["error"]["code"], "SPAWN_FAILED", "{job:#}");
    assert!(
        job["error"]["message"]
            .as_str()
            .unwrap()
            .contains("there is no secret `KEY`"),
        "{job:#}"
    );
    app.stop().await;
}

async fn a_pipeline_names_its_secrets(db: TestDb) {
    let app = app(&db).await;
    app.script(
        "show.sh",
        "#!/bin/sh\necho \"$PASSWORD\" | wc -c; echo \"$PASSWORD\"\n",
    );
    let step = "steps:\n  - key: a\n    run:\n      command:\n        script:\n          name: show.sh\n      env:\n        - name: PASSWORD\n";
    app.pipeline("deploy.yaml", &format!("{step}          secret: DB_PASSWORD\n"));
    app.pipeline(
        "wrong.yaml",
        &format!("{step}          secret: DB_PASSWORD\n          value: x\n"),
    );
    let plan = app
        .completed(json!({ "command": { "pipeline": { "target": "deploy" } } }))
        .await;
    let query = "query($id: ID!) { job(id: $id) { children { nodes { stdout } } } }";
    let data = app.data(query, json!({ "id": plan["id"] })).await;
    assert_eq!(data["job"]["children"]["nodes"][0]["stdout"], "17\n***\n");
    let data = app
        .data("{ pipeline(target: \"wrong\") { problem } }", json!({}))
        .await;
    let problem = data["pipeline"]["problem"].as_str().unwrap();
    assert!(problem.contains("either a `value` or a `secret`"), "{problem}");
    app.stop().await;
}

async fn only_listed_programs_run(db: TestDb) {
    let app = Setup::new(&db)
        .flag("--allow", "exec")
        .flag("--allow-programs", "echo,/bin/true")
        .start()
        .await;
    let exec = |program: &str| json!({ "command": { "exec": { "program": program, "args": ["x"] } } });
    app.completed(exec("echo")).await;
    app.completed(exec("/bin/true")).await;
    for program in ["true", "/bin/echo", "bash", "./echo", "/bin/../bin/true"] {
        let refused = refused(&app, exec(program)).await;
        assert_eq!(
            refused,
            ("NOT_ALLOWED".into(), "input.command.exec.program".into()),
            "{program}"
        );
    }
    // Nor by the back door.
    for name in ["PATH", "LD_PRELOAD", "BASH_ENV", "GIT_SSH_COMMAND"] {
        let mut input = exec("echo");
        input["env"] = json!([{ "name": name, "value": "x" }]);
        assert_eq!(
            refused(&app, input).await,
            ("NOT_ALLOWED".into(), "input.env.0.name".into()),
            "{name}"
        );
    }
    app.stop().await;
}

async fn a_narrowed_token_cannot_choose_what_code_runs(db: TestDb) {
    let app = app(&db).await;
    let narrow = token(&app, "narrow", "run", &["--names", "noop.sh"]).await;
    let open = token(&app, "open", "run", &[]).await;
    let run = "mutation($input: RunInput!) { run(input: $input) { job { id } errors { code path } } }";
    let input = json!({ "input": {
        "command": { "script": { "name": "noop.sh" } },
        "env": [{ "name": "FINE", "value": "x" }, { "name": "BASH_ENV", "value": "$(touch /tmp/x)" }],
    } });
    let refused = data(&app, &narrow, run, input.clone()).await["run"].take();
    assert_eq!(
        refused["errors"],
        json!([{ "code": "NOT_ALLOWED", "path": ["input", "env", "1", "name"] }]),
        "{refused:#}"
    );
    let mut harmless = input;
    harmless["input"]["env"].as_array_mut().unwrap().pop();
    for secret in [&narrow, &open] {
        let taken = data(&app, secret, run, harmless.clone()).await["run"].take();
        assert_eq!(taken["errors"], json!([]), "{taken:#}");
    }
    app.stop().await;
}
