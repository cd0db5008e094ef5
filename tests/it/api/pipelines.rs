//! The pipelines that there are: found afresh each time, with what they take, their steps and what is wrong with them.

use serde_json::{Value, json};

use super::fixture::{ids, operation_errors};
use crate::support::app::{Setup, TestApp};
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(a_pipeline_says_what_it_is, pages_and_searches);

const FIELDS: &str = "fragment F on Pipeline {
    id target description runnable problem inputsSchema steps { key name kind dependsOn } sizeBytes modifiedAt sha256
    lastJob { id }
}";

async fn pipeline(app: &TestApp, target: &str) -> Value {
    let query = format!("query($target: String!) {{ pipeline(target: $target) {{ ...F }} }} {FIELDS}");
    app.data(&query, json!({ "target": target })).await["pipeline"].take()
}

async fn targets(app: &TestApp, arguments: &str) -> Vec<String> {
    let query = format!("{{ pipelines{arguments} {{ nodes {{ target }} }} }}");
    let nodes = app.data(&query, Value::Null).await["pipelines"]["nodes"].take();
    nodes
        .as_array()
        .unwrap()
        .iter()
        .map(|node| node["target"].as_str().unwrap().to_owned())
        .collect()
}

const DEPLOY: &str = r#"
description: Deploys the site
inputs:
  version: { type: string, required: true, description: Which one }
  region: { type: string, enum: [eu, us], default: eu }
steps:
  - key: build
    run: { command: { script: { name: build.sh, parameters: { version: "${{ inputs.version }}" } } } }
  - key: publish
    dependsOn: [build]
    run: { command: { task: { problemId: "publish-${{ inputs.region }}" } } }
"#;

async fn a_pipeline_says_what_it_is(db: TestDb) {
    let app = Setup::new(&db).start().await;
    assert_eq!(targets(&app, "").await, [""; 0], "there is no folder yet");
    app.pipeline("deploy/web.yaml", DEPLOY);
    app.pipeline(
        "broken.yml",
        "steps:\n- run: { command: { scirpt: { name: a } } }\n",
    );
    let steps = json!([{ "run": { "command": { "exec": { "program": "true" } } } }]);
    app.pipeline("plain.json", &json!({ "steps": steps }).to_string());
    assert_eq!(targets(&app, "").await, ["broken", "deploy/web", "plain"]);

    let web = pipeline(&app, "deploy/web").await;
    assert_eq!(
        (
            &web["target"],
            &web["description"],
            &web["runnable"],
            &web["problem"],
            &web["lastJob"]
        ),
        (
            &json!("deploy/web"),
            &json!("Deploys the site"),
            &json!(true),
            &json!(null),
            &json!(null)
        )
    );
    assert_eq!(
        web["inputsSchema"],
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {
                "version": { "type": "string", "description": "Which one" },
                "region": { "type": "string", "enum": ["eu", "us"], "default": "eu" },
            },
            "required": ["version"],
            "additionalProperties": false,
        })
    );
    assert_eq!(
        web["steps"],
        json!([
            { "key": "build", "name": "build.sh", "kind": "SCRIPT", "dependsOn": [] },
            { "key": "publish", "name": "publish-${{ inputs.region }}", "kind": "TASK", "dependsOn": ["build"] },
        ])
    );
    assert_eq!(web["sizeBytes"], DEPLOY.len());
    assert_eq!(web["sha256"].as_str().unwrap().len(), 64);
    let moment: chrono::DateTime<chrono::Utc> = web["modifiedAt"].as_str().unwrap().parse().unwrap();
    assert!(moment <= chrono::Utc::now());

    let broken = pipeline(&app, "broken").await;
    assert_eq!(
        (&broken["runnable"], &broken["inputsSchema"]),
        (&json!(false), &json!(null))
    );
    assert_eq!(
        broken["problem"],
        "line 2: unknown variant `scirpt`, expected one of script, exec, shell, awsCli, task, agent, pipeline, plan"
    );
    assert_eq!(broken["steps"], json!([]));
    // Mended, it is as good as any other.
    app.pipeline("broken.yml", DEPLOY);
    let mended = pipeline(&app, "broken").await;
    assert_eq!(
        (&mended["runnable"], &mended["id"]),
        (&json!(true), &broken["id"])
    );
    for target in ["none", "deploy", "deploy/web.yaml", "../pipelines/plain", ""] {
        assert_eq!(pipeline(&app, target).await, json!(null), "{target:?}");
    }

    let query = format!("query($id: ID!) {{ node(id: $id) {{ __typename ...F }} }} {FIELDS}");
    let found = app.data(&query, json!({ "id": web["id"] })).await;
    assert_eq!(
        (&found["node"]["__typename"], &found["node"]["steps"]),
        (&json!("Pipeline"), &web["steps"])
    );
    app.script("plain", "#!/bin/sh\n");
    let both = app
        .data(
            "{ script(name: \"plain\") { id } pipeline(target: \"plain\") { id } }",
            Value::Null,
        )
        .await;
    assert_ne!(both["script"]["id"], both["pipeline"]["id"]);
    app.stop().await;
}

async fn pages_and_searches(db: TestDb) {
    let app = Setup::new(&db).flag("--pipelines-dir", "elsewhere").start().await;
    for n in 0..5 {
        let text = format!(
            "description: Does Thing {}\nsteps: [{{run: {{command: {{task: {{problemId: x}}}}}}}}]\n",
            n % 2
        );
        let path = app.folder().join("elsewhere");
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join(format!("job-{n}.yaml")), text).unwrap();
    }
    let query = "query($first: Int, $after: String, $search: String) { pipelines(first: $first, after: $after, search: $search) {
        edges { cursor node { id target } } nodes { id } pageInfo { hasNextPage hasPreviousPage endCursor } totalCount } }";
    let mut cursor = Value::Null;
    let mut seen = Vec::new();
    for (size, more) in [(2, true), (2, true), (1, false)] {
        let page = app.data(query, json!({ "first": 2, "after": cursor })).await["pipelines"].take();
        let edges = page["edges"].as_array().unwrap();
        assert_eq!((edges.len(), &page["totalCount"]), (size, &json!(5)));
        assert_eq!(page["pageInfo"]["hasNextPage"], more);
        assert_eq!(page["pageInfo"]["hasPreviousPage"], cursor != Value::Null);
        seen.extend(ids(&page["nodes"]));
        cursor = page["pageInfo"]["endCursor"].clone();
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 5);
    assert_eq!(targets(&app, "(search: \"B-3\")").await, ["job-3"]);
    assert_eq!(targets(&app, "(search: \"thing 1\")").await, ["job-1", "job-3"]);
    // A cursor of another listing begins at no place here.
    app.script("a.sh", "true");
    let scripts = app
        .data("{ scripts { pageInfo { endCursor } } }", Value::Null)
        .await;
    let of_scripts = scripts["scripts"]["pageInfo"]["endCursor"].clone();
    for (variables, code) in [
        (json!({ "after": of_scripts }), "BAD_USER_INPUT"),
        (json!({ "after": "nonsense" }), "BAD_USER_INPUT"),
        (json!({ "first": -1 }), "BAD_USER_INPUT"),
        (json!({ "first": 1_001 }), "LIMIT_EXCEEDED"),
    ] {
        let answer = app.answer(query, variables).await;
        assert!(operation_errors(&answer)[0].starts_with(code), "{answer:#}");
    }
    app.stop().await;
}
