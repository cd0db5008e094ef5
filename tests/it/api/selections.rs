//! What is asked of a job, in every form in which it can be asked: the same is answered.
//!
//! Some of a job's fields are resolved in place and others side by side, and a selection that has to be put together
//! of two is left to the library altogether. Nobody can tell from the answer.

use serde_json::{Map, Value, json};

use crate::support::app::{Setup, TestApp};
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    every_field_of_a_job_in_every_form,
    fields_come_in_the_order_of_the_document
);

/// The fields of a job that can be asked for without arguments, each with a selection where it needs one.
async fn fields(app: &TestApp) -> Vec<(String, String)> {
    let query = "{ __type(name: \"Job\") { fields { name type { ...T ofType { ...T ofType { ...T ofType { ...T } } } } } } }
        fragment T on __Type { kind }";
    let data = app.data(query, json!({})).await;
    let mut fields = vec![("__typename".to_owned(), String::new())];
    for field in data["__type"]["fields"].as_array().unwrap() {
        let mut ty = &field["type"];
        while !ty["ofType"].is_null() {
            ty = &ty["ofType"];
        }
        let is_leaf = ["SCALAR", "ENUM"].contains(&ty["kind"].as_str().unwrap());
        let below = if is_leaf { "" } else { " { __typename }" };
        fields.push((field["name"].as_str().unwrap().to_owned(), below.to_owned()));
    }
    fields
}

async fn job(app: &TestApp, id: &str, selection: &str) -> Value {
    let query = format!("query($id: ID!) {{ job(id: $id) {{ {selection} }} }}");
    app.data(&query, json!({ "id": id })).await["job"].clone()
}

async fn every_field_of_a_job_in_every_form(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let ended = app
        .shell("echo out; echo '::progress current=1 total=2::half'; exit 3")
        .await;
    app.ended(&ended).await;
    let waiting = json!({ "command": { "shell": { "command": "true" } }, "runAt": "2999-01-01T00:00:00Z" });
    let waiting = app.run(waiting).await;
    let fields = fields(&app).await;
    assert!(fields.len() > 30, "{fields:?}");
    let all: String = fields
        .iter()
        .map(|(name, below)| format!("{name}{below} "))
        .collect();
    for id in [ended, waiting] {
        // A selection that is made twice is put together by the library.
        let whole = job(&app, &id, &format!("metadata {{ __typename }} {all}")).await;
        assert_eq!(whole.as_object().unwrap().len(), fields.len());
        assert_eq!(job(&app, &id, &all).await, whole);
        let mut one_by_one = Map::new();
        for (name, below) in &fields {
            let alone = job(&app, &id, &format!("x: {name}{below}")).await;
            one_by_one.insert(name.clone(), alone["x"].clone());
        }
        assert_eq!(Value::Object(one_by_one), whole);
        let mixed = "query($id: ID!, $no: Boolean = false) { job(id: $id) {
                a: id ... on Node { id } ...Some ... { b: status name } ... @include(if: $no) { kind }
                priority @skip(if: $no) children(first: 0) { nodes { id } } c: logs(last: 0) { nodes { number } }
            } }
            fragment Some on Job { name status }";
        let mixed = app.data(mixed, json!({ "id": id })).await["job"].clone();
        let expected = json!({
            "a": id, "id": id, "name": whole["name"], "status": whole["status"], "b": whole["status"],
            "priority": 0, "children": { "nodes": [] }, "c": { "nodes": [] },
        });
        assert_eq!(mixed, expected);
    }
    app.stop().await;
}

async fn fields_come_in_the_order_of_the_document(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let id = app.shell("true").await;
    app.ended(&id).await;
    let query =
        "query($id: ID!) { job(id: $id) { worker { name id } status attempts { number } id stdout name } }";
    let request = app.http().post(format!("{}/graphql", app.url()));
    let request = request.json(&json!({ "query": query, "variables": { "id": id } }));
    let text = request.send().await.unwrap().text().await.unwrap();
    let mut place = 0;
    for key in [
        "worker", "name", "id", "status", "attempts", "number", "id", "stdout", "name",
    ] {
        let found = text[place..].find(&format!("\"{key}\":"));
        place += found.unwrap_or_else(|| panic!("{key} does not come next: {text}")) + 1;
    }
    app.stop().await;
}
