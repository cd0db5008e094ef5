//! The scripts that there are: found afresh each time, with what they say of themselves and of what is wrong with them.

use serde_json::{Value, json};

use super::fixture::{hidden, hidden_moment, hidden_number, operation_errors};
use crate::support::app::{Setup, TestApp};
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    a_script_says_what_it_is,
    the_folder_is_looked_at_afresh,
    pages_and_searches,
    the_last_job_of_each,
);

const FIELDS: &str = "fragment F on Script {
    id name description interpreter runnable problem parametersSchema sizeBytes modifiedAt sha256 lastJob { id }
}";

async fn script(app: &TestApp, name: &str) -> Value {
    let query = format!("query($name: String!) {{ script(name: $name) {{ ...F }} }} {FIELDS}");
    app.data(&query, json!({ "name": name })).await["script"].take()
}

async fn names(app: &TestApp, arguments: &str) -> Vec<String> {
    let query = format!("{{ scripts{arguments} {{ nodes {{ name }} }} }}");
    let nodes = app.data(&query, Value::Null).await["scripts"]["nodes"].take();
    nodes
        .as_array()
        .unwrap()
        .iter()
        .map(|node| node["name"].as_str().unwrap().to_owned())
        .collect()
}

const GREET: &str = r#"#!/usr/bin/env bash
# /// runql
# description = "Greets somebody"
# timeout = "10s"
#
# [parameters.name]
# type = "string"
# required = true
# maxLength = 20
# description = "Whom"
#
# [parameters.times]
# type = "integer"
# default = 1
# minimum = 1
# ///
echo hello
"#;

async fn a_script_says_what_it_is(db: TestDb) {
    let app = Setup::new(&db).start().await;
    app.script("tools/greet.sh", GREET);
    app.script("gone.rb", "#!/usr/bin/env no-such-interpreter\n");
    app.script("header.sh", "# /// runql\n# timeuot = \"1s\"\n# ///\n");
    let mut shown = Vec::new();
    for name in ["tools/greet.sh", "gone.rb", "header.sh"] {
        shown.push(script(&app, name).await);
    }
    assert_eq!(shown[0]["sizeBytes"], GREET.len());
    let redactions = [
        (
            "[].id",
            hidden("[id]", |id| {
                uuid::Uuid::parse_str(id).is_ok_and(|id| id.get_version_num() == 5)
            }),
        ),
        (
            "[].sha256",
            hidden("[sha256]", |hash| {
                hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit())
            }),
        ),
        ("[].modifiedAt", hidden_moment()),
        ("[].sizeBytes", hidden_number()),
    ];
    let mut settings = insta::Settings::clone_current();
    for (selector, redaction) in redactions {
        settings.add_redaction(selector, redaction);
    }
    settings.bind(|| insta::assert_json_snapshot!("scripts", shown));
    // Hash and size are those of the file as it is, and the id is that of the name.
    let before = script(&app, "tools/greet.sh").await;
    app.script("tools/greet.sh", "echo changed\n");
    let after = script(&app, "tools/greet.sh").await;
    assert_eq!((&before["id"], &after["sizeBytes"]), (&after["id"], &json!(13)));
    assert_ne!(before["sha256"], after["sha256"]);
    assert_eq!(
        (&after["description"], &after["parametersSchema"]),
        (&json!(null), &json!(null))
    );
    app.stop().await;
}

async fn the_folder_is_looked_at_afresh(db: TestDb) {
    let app = Setup::new(&db).start().await;
    assert_eq!(names(&app, "").await, [""; 0]);
    let path = app.script("new.sh", "echo new\n");
    app.script("sub/deep/er.py", "print(1)\n");
    app.script(".hidden.sh", "true");
    app.script("notes.txt", "no script");
    assert_eq!(names(&app, "").await, ["new.sh", "sub/deep/er.py"]);
    let job = app
        .completed(json!({ "command": { "script": { "name": "new.sh" } } }))
        .await;
    assert_eq!(job["stdout"], "new\n");
    std::fs::remove_file(path).unwrap();
    assert_eq!(names(&app, "").await, ["sub/deep/er.py"]);
    assert_eq!(script(&app, "new.sh").await, json!(null));
    std::fs::remove_dir_all(app.folder().join("scripts")).unwrap();
    assert_eq!(names(&app, "").await, [""; 0]);
    app.stop().await;
}

async fn pages_and_searches(db: TestDb) {
    let app = Setup::new(&db).start().await;
    for n in 0..7 {
        app.script(
            &format!("job-{n}.sh"),
            &format!("# /// runql\n# description = \"Does Thing {}\"\n# ///\n", n % 2),
        );
    }
    let query = "query($first: Int, $after: String, $search: String) { scripts(first: $first, after: $after, search: $search) {
        edges { cursor node { name } } pageInfo { hasNextPage hasPreviousPage endCursor } totalCount } }";
    let mut cursor = Value::Null;
    let mut seen = Vec::new();
    for (size, more) in [(3, true), (3, true), (1, false)] {
        let page = app.data(query, json!({ "first": 3, "after": cursor })).await["scripts"].take();
        let edges = page["edges"].as_array().unwrap();
        assert_eq!((edges.len(), &page["totalCount"]), (size, &json!(7)));
        assert_eq!(page["pageInfo"]["hasNextPage"], more);
        assert_eq!(page["pageInfo"]["hasPreviousPage"], cursor != Value::Null);
        seen.extend(
            edges
                .iter()
                .map(|edge| edge["node"]["name"].as_str().unwrap().to_owned()),
        );
        cursor = page["pageInfo"]["endCursor"].clone();
    }
    let all: Vec<String> = (0..7).map(|n| format!("job-{n}.sh")).collect();
    assert_eq!(seen, all);
    // By name or description, in any case.
    assert_eq!(names(&app, "(search: \"B-3\")").await, ["job-3.sh"]);
    assert_eq!(
        names(&app, "(search: \"thing 1\")").await,
        ["job-1.sh", "job-3.sh", "job-5.sh"]
    );
    assert_eq!(names(&app, "(search: \"nothing\")").await, [""; 0]);
    let found = app.data(query, json!({ "first": 2, "search": "thing 1" })).await["scripts"].take();
    assert_eq!(
        (&found["totalCount"], &found["pageInfo"]["hasNextPage"]),
        (&json!(3), &json!(true))
    );
    for (variables, code) in [
        (json!({ "after": "nonsense" }), "BAD_USER_INPUT"),
        (json!({ "first": -1 }), "BAD_USER_INPUT"),
        (json!({ "first": 1_001 }), "LIMIT_EXCEEDED"),
    ] {
        let answer = app.answer(query, variables).await;
        assert!(operation_errors(&answer)[0].starts_with(code), "{answer:#}");
    }
    app.stop().await;
}

async fn the_last_job_of_each(db: TestDb) {
    let app = Setup::new(&db).start().await;
    for name in ["a.sh", "b.sh", "never.sh"] {
        app.script(name, "true");
    }
    let run = async |name: &str| {
        app.run(json!({ "command": { "script": { "name": name } } }))
            .await
    };
    let (_, of_b, of_a) = (run("a.sh").await, run("b.sh").await, run("a.sh").await);
    // A job of that name that is no script's is not meant.
    app.run(json!({ "command": { "exec": { "program": "true" } } }))
        .await;
    let data = app
        .data("{ scripts { nodes { name lastJob { id } } } }", Value::Null)
        .await;
    assert_eq!(
        data["scripts"]["nodes"],
        json!([
            { "name": "a.sh", "lastJob": { "id": of_a } },
            { "name": "b.sh", "lastJob": { "id": of_b } },
            { "name": "never.sh", "lastJob": null },
        ])
    );
    app.stop().await;
}
