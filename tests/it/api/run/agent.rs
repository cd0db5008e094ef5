//! Agents that a configured command runs, and those that are left to workers.

use serde_json::{Value, json};

use crate::api::fixture::{messages, refusals};
use crate::support::app::{Setup, TestApp};
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    an_agent_is_told_what_to_do,
    the_pattern_that_says_most_is_meant,
    an_agent_may_fail,
    a_command_that_is_not_there_is_refused,
);

fn agent(target: &str, inputs: Value) -> Value {
    json!({ "command": { "agent": { "target": target, "inputs": inputs, "config": { "model": "small" } } } })
}

/// A server whose agents run by these entries.
async fn with_agents(db: &TestDb, entries: &[(&str, &str)]) -> TestApp {
    let app = Setup::new(db).flag("--config", "agents.toml");
    let lines: String = entries
        .iter()
        .map(|(pattern, command)| format!("{pattern:?} = {command:?}\n"))
        .collect();
    app.file("agents.toml", &format!("[agents]\n{lines}"))
        .start()
        .await
}

/// Hands back all that it was given.
const TELL: &str = r#"
import json, os, sys
told = {name: os.environ.get("RUNQL_" + name) for name in ("TARGET", "INPUTS", "CONFIG", "ATTEMPT", "PARAMETERS")}
json.dump(
    {"stdin": json.load(sys.stdin), "env": told, "job": os.environ["RUNQL_JOB_ID"], "args": sys.argv[1:],
     "mine": os.environ["MINE"], "folder": os.path.basename(os.getcwd())},
    open(os.environ["RUNQL_OUTPUT"], "w"))
print('{"level": "warning", "message": "told"}')
print("::progress current=1 total=2::half")
"#;

async fn an_agent_is_told_what_to_do(db: TestDb) {
    let app = with_agents(
        &db,
        &[(
            "review-*",
            "python3 -c 'import os; exec(os.environ[\"CODE\"])' --flag 'a b'",
        )],
    )
    .await;
    let inputs = json!({ "text": "a \"b\" $(id) ü", "list": [1, null] });
    let mut request = agent("review-7", inputs.clone());
    request["env"] = json!([{ "name": "CODE", "value": TELL }, { "name": "MINE", "value": "x" }]);
    request["workingDir"] = json!("reviews");
    let job = app.completed(request).await;
    assert_eq!(
        (&job["kind"], &job["name"]),
        (&json!("AGENT"), &json!("review-7"))
    );
    let output = &job["output"];
    let config = json!({ "model": "small" });
    assert_eq!(
        output["stdin"],
        json!({ "jobId": job["id"], "target": "review-7", "inputs": inputs, "config": config })
    );
    let parsed =
        |name: &str| -> Value { serde_json::from_str(output["env"][name].as_str().unwrap()).unwrap() };
    assert_eq!((parsed("INPUTS"), parsed("CONFIG")), (inputs, config));
    assert_eq!(
        (
            &output["env"]["TARGET"],
            &output["env"]["ATTEMPT"],
            &output["env"]["PARAMETERS"]
        ),
        (&json!("review-7"), &json!("1"), &json!(null))
    );
    assert_eq!(
        (
            &output["job"],
            &output["args"],
            &output["mine"],
            &output["folder"]
        ),
        (
            &job["id"],
            &json!(["--flag", "a b"]),
            &json!("x"),
            &json!("reviews")
        )
    );
    assert_eq!(job["progress"]["step"], "half");
    app.nothing_left().await;
    app.stop().await;
}

async fn the_pattern_that_says_most_is_meant(db: TestDb) {
    let app = with_agents(
        &db,
        &[
            ("*-test", "echo any test"),
            ("code-*", "echo any code"),
            ("code-fix-*", "echo any fix"),
            ("code-fix-now", "echo exactly"),
        ],
    )
    .await;
    for (target, printed) in [
        ("code-fix-now", "exactly\n"),
        ("code-fix-later", "any fix\n"),
        ("code-review", "any code\n"),
        ("unit-test", "any test\n"),
        // Both have as much text: the last in the order of their letters is taken.
        ("code-test", "any code\n"),
    ] {
        let job = app.completed(agent(target, json!({}))).await;
        assert_eq!(job["stdout"], printed, "{target}");
    }
    // No command fits: it waits for a worker that is registered for it.
    let waiting = app.run(agent("paint", json!({}))).await;
    app.completed(agent("unit-test", json!({}))).await;
    let job = app.job(&waiting).await;
    assert_eq!(
        (&job["status"], &job["attempt"]),
        (&json!("PENDING"), &json!(0)),
        "{job:#}"
    );
    app.stop().await;
}

async fn an_agent_may_fail(db: TestDb) {
    let app = with_agents(
        &db,
        &[
            ("fails", "bash -c 'echo sorry >&2; exit 7'"),
            ("slow", "sleep 1000"),
        ],
    )
    .await;
    let failed = app.run(agent("fails", json!({}))).await;
    let failed = app.ended(&failed).await;
    assert_eq!(
        (&failed["status"], &failed["exitCode"], &failed["stderr"]),
        (&json!("FAILED"), &json!(7), &json!("sorry\n")),
        "{failed:#}"
    );
    let mut request = agent("slow", json!({}));
    request["timeoutMs"] = json!(200);
    let slow = app.run(request).await;
    assert_eq!(app.ended(&slow).await["status"], "TIMEOUT");
    app.nothing_left().await;
    app.stop().await;
}

async fn a_command_that_is_not_there_is_refused(db: TestDb) {
    let app = with_agents(&db, &[("a", "no-such-program --now"), ("b", "./relative.sh")]).await;
    for (target, words) in [
        ("a", "no program `no-such-program`"),
        ("b", "`./relative.sh` is relative"),
    ] {
        let payload = app.try_run(agent(target, json!({}))).await;
        assert_eq!(refusals(&payload), ["NOT_FOUND input.command.agent.target"]);
        let message = messages(&payload);
        assert!(
            message.starts_with("the command that the settings name for this agent cannot run: ")
                && message.contains(words),
            "{message}"
        );
    }
    app.stop().await;
}
