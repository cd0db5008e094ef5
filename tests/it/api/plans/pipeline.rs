//! Pipelines from file to finished steps: what is filled in, how far they are, and what is refused.

use serde_json::{Value, json};

use super::{children, open, statuses, steps_are, wait_for};
use crate::api::fixture::{Stored, messages, refusals, request};
use crate::support::app::{Setup, TestApp};
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    a_pipeline_fills_its_steps,
    a_value_from_a_client_stays_a_value,
    progress_names_the_step,
    a_pipeline_runs_plans_agents_and_pipelines,
    a_step_that_fails_fails_the_pipeline,
    a_pipeline_is_run_again_as_its_file_is_now,
    what_does_not_fit_is_refused,
    a_pipeline_that_runs_itself_is_refused,
);

fn pipeline(target: &str, inputs: Value, config: Value) -> Value {
    let target = json!({ "target": target, "inputs": inputs, "config": config });
    request(json!({ "pipeline": target }), json!({}))
}

/// Hands back the parameters that it was given.
const ECHO: &str = "#!/bin/sh\nprintf '%s' \"$RUNQL_PARAMETERS\" > \"$RUNQL_OUTPUT\"\n";

async fn outputs(app: &TestApp, id: &str) -> Vec<Value> {
    let query = "query($id: ID!) { job(id: $id) { children { nodes { output } } } }";
    let data = app.data(query, json!({ "id": id })).await;
    let nodes = data["job"]["children"]["nodes"].as_array().unwrap();
    nodes.iter().map(|node| node["output"].clone()).collect()
}

async fn a_pipeline_fills_its_steps(db: TestDb) {
    let app = Setup::new(&db).start().await;
    app.script("echo.sh", ECHO);
    app.pipeline(
        "tools/fill.yaml",
        r#"
inputs:
  count: { type: integer, required: true }
  tags: { type: array, default: [a, 1] }
  options: { type: object, default: { deep: { on: true } } }
steps:
  - key: first
    run:
      command:
        script:
          name: echo.sh
          parameters:
            count: ${{ inputs.count }}
            text: n=${{ inputs.count }}, on=${{ inputs.options.deep.on }} in ${{ config.place }}
            tags: ${{ inputs.tags }}
            options: ${{ inputs.options }}
      priority: ${{ inputs.count }}
      queue: ${{ config.place }}
  - run: { command: { script: { name: "${{ config.script }}", args: ["${{ inputs.count }}"], parameters: {} } } }
"#,
    );
    let config = json!({ "place": "eu", "script": "echo.sh", "unused": null });
    let job = app
        .completed(pipeline("tools/fill", json!({ "count": 7 }), config.clone()))
        .await;
    assert_eq!(
        (&job["kind"], &job["name"], &job["progress"]["percentage"]),
        (&json!("PIPELINE"), &json!("tools/fill"), &json!(100.0))
    );
    let id = job["id"].as_str().unwrap();
    let filled = json!({
        "count": 7, "text": "n=7, on=true in eu", "tags": ["a", 1], "options": { "deep": { "on": true } },
    });
    assert_eq!(outputs(&app, id).await, [filled, json!({})]);
    let query = "query($id: ID!) {
        job(id: $id) {
            command { ... on PipelineCommand { target inputs config } }
            children { nodes { key kind priority queue command { ... on ScriptCommand { args } } } }
        }
        pipeline(target: \"tools/fill\") { lastJob { id } }
        script(name: \"echo.sh\") { lastJob { key } }
    }";
    let data = app.data(query, json!({ "id": id })).await;
    let inputs = json!({ "count": 7, "tags": ["a", 1], "options": { "deep": { "on": true } } });
    assert_eq!(
        data["job"]["command"],
        json!({ "target": "tools/fill", "inputs": inputs, "config": config })
    );
    assert_eq!(
        data["job"]["children"]["nodes"],
        json!([
            { "key": "first", "kind": "SCRIPT", "priority": 7, "queue": "eu", "command": { "args": [] } },
            { "key": "1", "kind": "SCRIPT", "priority": 0, "queue": "default", "command": { "args": ["7"] } },
        ])
    );
    assert_eq!(
        (
            &data["pipeline"]["lastJob"]["id"],
            &data["script"]["lastJob"]["key"]
        ),
        (&job["id"], &json!("1"))
    );
    app.stop().await;
}

async fn a_value_from_a_client_stays_a_value(db: TestDb) {
    let app = Setup::new(&db).start().await;
    app.script("echo.sh", ECHO);
    app.pipeline(
        "safe.yaml",
        r#"
inputs: { text: { type: string } }
steps:
  - run: { command: { script: { name: echo.sh, parameters: { whole: "${{ inputs.text }}", within: "<${{ inputs.text }}>" } } } }
  - run:
      command: { shell: { command: 'printf "%s" "$TEXT"' } }
      env: [{ name: TEXT, value: "${{ inputs.text }}" }]
"#,
    );
    for text in [
        "${{ config.secret }}",
        "$(touch HACKED) `touch HACKED` \"; touch HACKED; '",
        "${{ inputs.text }}${{",
        "a: b\n- [c]\n",
    ] {
        let config = json!({ "secret": "hidden" });
        let job = app
            .completed(pipeline("safe", json!({ "text": text }), config))
            .await;
        let id = job["id"].as_str().unwrap();
        let within = format!("<{text}>");
        assert_eq!(
            outputs(&app, id).await[0],
            json!({ "whole": text, "within": within })
        );
        assert_eq!(children(&app, id).await[1]["stdout"], text);
    }
    app.stop().await;
}

async fn progress_names_the_step(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let held = wait_for(&app, "go").replace('\'', "''");
    app.pipeline(
        "slow.yaml",
        &format!(
            "steps:\n- key: prepare\n  run: {{ command: {{ exec: {{ program: 'true' }} }} }}\n\
             - key: wait\n  run: {{ command: {{ shell: {{ command: '{held}' }} }} }}\n\
             - key: last\n  run: {{ command: {{ exec: {{ program: 'true' }} }} }}\n\
             - key: very-last\n  run: {{ command: {{ exec: {{ program: 'true' }} }} }}\n"
        ),
    );
    let id = app.run(pipeline("slow", json!({}), json!({}))).await;
    steps_are(
        &app,
        &id,
        &[
            "prepare COMPLETED",
            "wait RUNNING",
            "last PENDING",
            "very-last PENDING",
        ],
    )
    .await;
    let job = app.job(&id).await;
    assert_eq!(
        (&job["status"], &job["startedAt"].is_string()),
        (&json!("RUNNING"), &true)
    );
    let progress = &job["progress"];
    assert_eq!(
        (&progress["current"], &progress["total"], &progress["percentage"]),
        (&json!(1), &json!(4), &json!(25.0)),
        "{job:#}"
    );
    assert!(progress["step"].is_string(), "{job:#}");
    open(&app, "go");
    let job = app.ended(&id).await;
    assert_eq!(
        (&job["status"], &job["progress"]["current"]),
        (&json!("COMPLETED"), &json!(4))
    );
    app.stop().await;
}

async fn a_pipeline_runs_plans_agents_and_pipelines(db: TestDb) {
    let app = Setup::new(&db).flag("--agent", "echo-*=cat").start().await;
    app.pipeline(
        "inner.json",
        &json!({
            "inputs": { "word": { "type": "string", "required": true } },
            "steps": [{ "run": { "command": { "agent": { "target": "echo-1", "inputs": { "word": "${{ inputs.word }}" } } } } }],
        })
        .to_string(),
    );
    app.pipeline(
        "outer.yaml",
        r#"
inputs: { words: { type: array, items: { type: string }, required: true }, first: { type: string, required: true } }
strategy: { parallel: {} }
steps:
  - key: inner
    run: { command: { pipeline: { target: inner, inputs: { word: "${{ inputs.first }}!" } } } }
  - key: plan
    run:
      command:
        plan:
          steps:
            - key: a
              run: { command: { exec: { program: echo, args: "${{ inputs.words }}" } } }
            - { dependsOn: [a], run: { command: { exec: { program: "true" } } } }
"#,
    );
    let inputs = json!({ "first": "hello", "words": ["x y", "${{ z }}"] });
    let job = app.completed(pipeline("outer", inputs, json!({}))).await;
    let steps = children(&app, job["id"].as_str().unwrap()).await;
    let below = async |index: usize| children(&app, steps[index]["id"].as_str().unwrap()).await;
    let printed: Value = serde_json::from_str(below(0).await[0]["stdout"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&printed["target"], &printed["inputs"]),
        (&json!("echo-1"), &json!({ "word": "hello!" }))
    );
    assert_eq!(below(1).await[0]["stdout"], "x y ${{ z }}\n");
    app.stop().await;
}

async fn a_step_that_fails_fails_the_pipeline(db: TestDb) {
    let app = Setup::new(&db).start().await;
    app.pipeline(
        "fails.yaml",
        "steps:\n- key: a\n  run: { command: { shell: { command: exit 4 } } }\n\
         - key: b\n  run: { command: { exec: { program: 'true' } } }\n",
    );
    let id = app.run(pipeline("fails", json!({}), json!({}))).await;
    let job = app.ended(&id).await;
    assert_eq!(
        (&job["status"], &job["error"]["code"]),
        (&json!("FAILED"), &json!("STEP_FAILED"))
    );
    assert_eq!(statuses(&app, &id).await, ["a FAILED", "b CANCELLED"]);
    app.stop().await;
}

async fn a_pipeline_is_run_again_as_its_file_is_now(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let file = |word: &str| {
        format!(
            "inputs: {{ n: {{ type: integer, default: 1 }} }}\n\
             steps:\n- run: {{ command: {{ exec: {{ program: echo, args: [{word}, '${{{{ inputs.n }}}}'] }} }} }}\n"
        )
    };
    app.pipeline("again.yaml", &file("old"));
    let job = app
        .completed(pipeline("again", json!({ "n": 5 }), json!({})))
        .await;
    app.pipeline("again.yaml", &file("newer"));
    let query = "mutation($id: ID!) { rerun(input: { id: $id }) { job { id } errors { message } } }";
    let payload = app.data(query, json!({ "id": job["id"] })).await["rerun"].take();
    let again = payload["job"]["id"]
        .as_str()
        .unwrap_or_else(|| panic!("{payload:#}"));
    assert_eq!(app.ended(again).await["status"], "COMPLETED");
    assert_eq!(children(&app, again).await[0]["stdout"], "newer 5\n");
    app.stop().await;
}

async fn what_does_not_fit_is_refused(db: TestDb) {
    let app = Setup::new(&db).flag("--allow", "exec").start().await;
    app.pipeline("broken.yaml", "steps:\n- rum: 1\n");
    app.pipeline(
        "strict.yaml",
        r#"
inputs: { n: { type: integer, required: true, maximum: 9 } }
steps:
  - run: { command: { exec: { program: "true" } }, priority: "${{ config.priority }}" }
  - run: { command: { script: { name: "${{ config.script }}" } } }
  - run: { command: { pipeline: { target: strict, inputs: { n: "${{ inputs.n }}" } } } }
"#,
    );
    app.pipeline(
        "shell.yaml",
        "steps:\n- run: { command: { shell: { command: 'true' } } }\n",
    );
    app.script("a.sh", "true");
    let before = Stored::now(&db).await;
    let good = || json!({ "priority": 1, "script": "a.sh" });
    for (request, expected, words) in [
        (
            pipeline("strcit", json!({}), json!({})),
            "NOT_FOUND input.command.pipeline.target",
            "did you mean `strict`?",
        ),
        (
            pipeline("../strict", json!({}), json!({})),
            "INVALID input.command.pipeline.target",
            "`..`",
        ),
        (
            pipeline("broken", json!({}), json!({})),
            "INVALID input.command.pipeline.target",
            "the pipeline cannot run: line 2: unknown field `rum`",
        ),
        (
            pipeline("strict", json!({}), good()),
            "INVALID input.command.pipeline.inputs.n",
            "is required",
        ),
        (
            pipeline("strict", json!({ "n": 10 }), good()),
            "INVALID input.command.pipeline.inputs.n",
            "at most 9",
        ),
        (
            pipeline("strict", json!({ "n": 1, "m": 2 }), good()),
            "INVALID input.command.pipeline.inputs.m",
            "the pipeline takes `n`",
        ),
        (
            pipeline("strict", json!({ "n": 1 }), json!({ "priority": 1 })),
            "INVALID input.command.pipeline.config.script",
            "the pipeline uses `config.script`: it is missing",
        ),
        (
            pipeline(
                "strict",
                json!({ "n": 1 }),
                json!({ "priority": "high", "script": "a.sh" }),
            ),
            "INVALID input.command.pipeline.steps.0.run.priority",
            "takes a whole number",
        ),
        (
            pipeline("shell", json!({}), json!({})),
            "NOT_ALLOWED input.command.pipeline.steps.0.run.command.shell",
            "--allow shell",
        ),
    ] {
        let payload = app.try_run(request).await;
        assert_eq!(refusals(&payload), [expected], "{payload:#}");
        assert!(messages(&payload).contains(words), "{payload:#}");
    }
    // What the steps are refused for names the step.
    let config = json!({ "priority": 101, "script": "none.sh" });
    let payload = app.try_run(pipeline("strict", json!({ "n": 1 }), config)).await;
    let told = refusals(&payload);
    for expected in [
        "INVALID input.command.pipeline.steps.0.run.priority",
        "NOT_FOUND input.command.pipeline.steps.1.run.command.script.name",
    ] {
        assert!(told.contains(&expected.to_owned()), "{told:#?}");
    }
    before.unchanged().await;
    app.stop().await;
}

async fn a_pipeline_that_runs_itself_is_refused(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let step = "- run: { command: { pipeline: { target: self } } }\n";
    let before = Stored::now(&db).await;
    for steps in [1, 30] {
        app.pipeline("self.yaml", &format!("steps:\n{}", step.repeat(steps)));
        let payload = app.try_run(pipeline("self", json!({}), json!({}))).await;
        let told = refusals(&payload);
        assert!(
            told.iter()
                .all(|refusal| refusal.starts_with("LIMIT_EXCEEDED input.command.pipeline.steps")),
            "{told:#?}"
        );
        assert!(!told.is_empty());
    }
    before.unchanged().await;
    app.stop().await;
}
