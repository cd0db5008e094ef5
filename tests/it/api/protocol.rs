//! Requests as the protocol allows them, and the limits of one request.

use serde_json::{Value, json};

use super::fixture::operation_errors;
use crate::support::app::{Setup, TestApp};
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    queries_by_get_and_mutations_by_post_only,
    limits_are_the_settings,
    a_request_keeps_its_id
);

async fn get(app: &TestApp, query: &str, variables: &str) -> (u16, Value) {
    let request = app.http().get(format!("{}/graphql", app.url()));
    let request = request.query(&[("query", query), ("variables", variables)]);
    let answer = request
        .header("accept", "application/graphql-response+json")
        .send()
        .await
        .unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

async fn queries_by_get_and_mutations_by_post_only(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let (status, answer) = get(
        &app,
        "query($n: Int) { jobs(first: $n) { totalCount } }",
        r#"{"n": 1}"#,
    )
    .await;
    assert_eq!(
        (status, answer),
        (200, json!({ "data": { "jobs": { "totalCount": 0 } } }))
    );
    let run = "mutation { run(input: { command: { shell: { command: \"true\" } } }) { job { id } } }";
    let (status, answer) = get(&app, run, "{}").await;
    assert_eq!(status, 405, "{answer:#}");
    let put = app
        .http()
        .put(format!("{}/graphql", app.url()))
        .json(&json!({ "query": "{ __typename }" }));
    let put = put.send().await.unwrap();
    assert_eq!(
        (put.status().as_u16(), &put.headers()["allow"]),
        (405, &"GET, POST".parse().unwrap())
    );
    // Two documents in one request, answered in their order; the failure of one is its own.
    let batch = json!([{ "query": "{ nothing }" }, { "query": "{ jobs { totalCount } }" }]);
    let answer = app
        .http()
        .post(format!("{}/graphql", app.url()))
        .json(&batch)
        .send()
        .await
        .unwrap();
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(
        answer[0]["errors"][0]["extensions"]["code"],
        "GRAPHQL_VALIDATION_FAILED"
    );
    assert_eq!(answer[1], json!({ "data": { "jobs": { "totalCount": 0 } } }));
    app.stop().await;
}

async fn limits_are_the_settings(db: TestDb) {
    let app = Setup::new(&db)
        .flag("--max-query-depth", 5)
        .flag("--max-query-cost", 300)
        .flag("--max-aliases", 3)
        .flag("--max-page-size", 20)
        .flag("--max-batch", 2)
        .flag("--max-request-bytes", 4_096)
        .start()
        .await;
    for (document, expected) in [
        (
            "{ jobs(first: 1) { nodes { parent { parent { parent { id } } } } } }",
            "The operation nests fields 6 levels",
        ),
        (
            "{ jobs(first: 20) { nodes { id name status kind queue priority attempt stdout } } }",
            "The operation costs",
        ),
        (
            "{ a: __typename b: __typename c: __typename d: __typename }",
            "The document has 4 aliases",
        ),
        (
            "{ jobs(first: 21) { nodes { id } } }",
            "`first` is 21; a page of this server has at most 20 entries",
        ),
    ] {
        let answer = app.answer(document, Value::Null).await;
        let errors = operation_errors(&answer);
        assert!(
            errors[0].starts_with(&format!("LIMIT_EXCEEDED {expected}")),
            "{errors:?}"
        );
        assert!(answer["data"].is_null());
    }
    app.data("{ a: __typename b: __typename c: __typename }", Value::Null)
        .await;
    app.data("{ jobs(first: 20) { nodes { id name } } }", Value::Null)
        .await;
    // Where no size is given, the default is not above the limit either.
    app.data("{ jobs { pageInfo { hasNextPage } } }", Value::Null)
        .await;
    let post = async |body: String| {
        let request = app
            .http()
            .post(format!("{}/graphql", app.url()))
            .header("content-type", "application/json");
        let answer = request.body(body).send().await.unwrap();
        (
            answer.status().as_u16(),
            answer.json::<Value>().await.unwrap()["errors"][0]["extensions"]["code"].take(),
        )
    };
    let one = json!({ "query": "{ __typename }" });
    assert_eq!(
        post(json!([one, one, one]).to_string()).await,
        (400, json!("LIMIT_EXCEEDED"))
    );
    let long = json!({ "query": format!("{{ __typename }} # {}", "x".repeat(5_000)) });
    assert_eq!(post(long.to_string()).await, (413, json!("LIMIT_EXCEEDED")));
    assert_eq!(post("{".to_owned()).await, (400, json!("BAD_REQUEST")));
    app.stop().await;
}

async fn a_request_keeps_its_id(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let ask = async |id: &str| {
        let request = app
            .http()
            .post(format!("{}/graphql", app.url()))
            .json(&json!({ "query": "{ nothing }" }));
        let answer = request.header("x-request-id", id).send().await.unwrap();
        let header = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["errors"][0]["extensions"]["requestId"], json!(header));
        header
    };
    assert_eq!(ask("my-own-id.42").await, "my-own-id.42");
    // What could mislead in a log is replaced.
    for odd in ["two words", &"x".repeat(200)] {
        let given = ask(odd).await;
        assert!(uuid::Uuid::parse_str(&given).is_ok(), "{given}");
    }
    app.stop().await;
}
