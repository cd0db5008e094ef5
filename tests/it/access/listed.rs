//! A server that keeps its schema to itself, and one that executes only the operations of a list.

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{ask, code, runql};
use crate::support::app::{Setup, TestApp};
use crate::support::db::TestDb;
use crate::support::socket::{Said, Socket};
use crate::support::wait::within;
use crate::support::{both_stores, on_postgres};

both_stores!(the_schema_can_be_kept_back, only_listed_operations_are_executed,);
// A SQLite file serves one server, and here a second is to start on the store.
on_postgres!(a_list_that_cannot_be_read_ends_the_start);

const HELLO: &str = "query Hello { viewer { __typename } }";
const EVENTS: &str = "subscription Events { jobEvents { cursor } }";

async fn the_schema_can_be_kept_back(db: TestDb) {
    let app = Setup::new(&db).flag("--introspection", "false").start().await;
    let refused = "{ __schema { types { name } } }";
    for query in [
        refused,
        "{ ...F } fragment F on Query { t: __type(name: \"Job\") { name } }",
    ] {
        let (status, answer) = ask(&app, None, query, json!({})).await;
        assert_eq!(
            (status, code(&answer)),
            (StatusCode::FORBIDDEN, "FORBIDDEN"),
            "{answer:#}"
        );
        let message = answer["errors"][0]["message"].as_str().unwrap();
        assert!(message.contains("`runql schema` prints it"), "{message}");
    }
    let mut socket = Socket::listen(&app, refused, json!({})).await;
    assert_eq!(socket.refusal().await, "FORBIDDEN");
    // What one name is like is not told either.
    let (_, answer) = ask(&app, None, "{ jobz { nodes { id } } }", json!({})).await;
    assert_eq!(code(&answer), "GRAPHQL_VALIDATION_FAILED");
    assert!(!answer.to_string().contains("Did you mean"), "{answer:#}");
    let (status, answer) = ask(&app, None, "{ __typename viewer { __typename } }", json!({})).await;
    assert_eq!(
        (status, &answer["data"]["__typename"]),
        (StatusCode::OK, &json!("Query"))
    );
    for (path, status) in [("/schema.graphql", 404), ("/", 200)] {
        let answer = app
            .http()
            .get(format!("{}{path}", app.url()))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status().as_u16(), status, "{path}");
    }
    app.stop().await;
}

async fn post(app: &TestApp, body: &Value) -> (u16, Value) {
    let request = app
        .http()
        .post(format!("{}/graphql", app.url()))
        .header("accept", "application/graphql-response+json")
        .json(body);
    let answer = within("an answer", request.send()).await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

async fn only_listed_operations_are_executed(db: TestDb) {
    let operation = |id: &str, name: &str, kind: &str, body: &str| json!({ "id": id, "name": name, "type": kind, "body": body });
    let manifest = json!({
        "format": "apollo-persisted-query-manifest",
        "version": 1,
        "operations": [operation("hello", "Hello", "query", HELLO), operation("events", "Events", "subscription", EVENTS)],
    });
    let app = Setup::new(&db)
        .file("operations.json", &manifest.to_string())
        .flag("--persisted-operations", "operations.json")
        .start()
        .await;
    let hash = |id: &str| json!({ "persistedQuery": { "version": 1, "sha256Hash": id } });
    let data = json!({ "viewer": { "__typename": "Viewer" } });
    for body in [
        json!({ "query": HELLO }),
        json!({ "documentId": "hello" }),
        json!({ "extensions": hash("hello") }),
        json!({ "documentId": "hello", "operationName": "Hello" }),
    ] {
        assert_eq!(post(&app, &body).await, (200, json!({ "data": data })), "{body}");
    }
    let (_, answer) = post(
        &app,
        &json!([{ "documentId": "hello" }, { "query": "{ __typename }" }]),
    )
    .await;
    assert_eq!(
        (&answer[0]["data"], code(&answer[1])),
        (&data, "FORBIDDEN"),
        "{answer:#}"
    );
    let got = app
        .http()
        .get(format!("{}/graphql?documentId=hello", app.url()))
        .send()
        .await
        .unwrap();
    assert_eq!(got.json::<Value>().await.unwrap()["data"], data);

    let other = "query Hello { viewer { __typename } } ";
    let hex = "a".repeat(64);
    for (body, status, expected) in [
        (json!({ "query": other }), 403, "FORBIDDEN"),
        (
            json!({ "query": "mutation { cleanup(input: {}) { deletedCount } }", "documentId": "hello" }),
            403,
            "FORBIDDEN",
        ),
        (
            json!({ "query": other, "extensions": hash(&hex) }),
            403,
            "FORBIDDEN",
        ),
        (
            json!({ "extensions": hash(&hex) }),
            400,
            "PERSISTED_QUERY_NOT_FOUND",
        ),
        (
            json!({ "documentId": "nothing" }),
            400,
            "PERSISTED_QUERY_NOT_FOUND",
        ),
    ] {
        let (got, answer) = post(&app, &body).await;
        assert_eq!((got, code(&answer)), (status, expected), "{body}: {answer:#}");
    }

    let mut socket = Socket::connect(&app).await;
    socket.ask(json!({ "query": "{ __typename }" })).await;
    assert_eq!(socket.refusal().await, "FORBIDDEN");
    socket.ask(json!({ "documentId": "hello" })).await;
    assert_eq!(socket.said().await, Said::Next(json!({ "data": data })));
    let stream = app
        .http()
        .post(format!("{}/graphql", app.url()))
        .header("accept", "text/event-stream");
    let refused = stream
        .json(&json!({ "query": "subscription { jobEvents { cursor } }" }))
        .send()
        .await
        .unwrap();
    assert!(refused.text().await.unwrap().contains("FORBIDDEN"));
    app.stop().await;
}

async fn a_list_that_cannot_be_read_ends_the_start(db: TestDb) {
    let app = Setup::new(&db).start().await;
    std::fs::write(app.folder().join("broken.json"), "{\"a\": \"{\"}").unwrap();
    for (file, expected) in [
        (
            "missing.json",
            "the persisted operations in missing.json cannot be read",
        ),
        ("broken.json", "the operation `a` is not GraphQL"),
    ] {
        let arguments = [
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--workers",
            "0",
            "--persisted-operations",
            file,
        ];
        let (code, _, complaint) = within("the program's end", runql(&app, &arguments)).await;
        assert_ne!(code, 0);
        assert!(complaint.contains(expected), "{complaint}");
    }
    app.stop().await;
}
