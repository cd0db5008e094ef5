//! What the usual scanners of GraphQL servers look for, each with what this one answers: the checks of graphql-cop, and
//! some of its kin. docs/security.md explains those that find something.

use reqwest::Method;
use serde_json::{Value, json};

use super::{closed, code, token};
use crate::support::app::{Setup, TestApp};
use crate::support::both_stores;
use crate::support::db::TestDb;
use crate::support::wait::within;

both_stores!(each_check_of_a_scanner_finds_what_it_should);

struct Scan<'a> {
    app: &'a TestApp,
    token: Option<&'a str>,
}

impl Scan<'_> {
    fn request(&self, method: Method, query: &str) -> reqwest::RequestBuilder {
        let url = format!("{}/graphql{query}", self.app.url());
        let request = self.app.http().request(method, url);
        match self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn sent(request: reqwest::RequestBuilder) -> (u16, Value) {
        let answer = within("an answer", request.send()).await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    async fn post(&self, body: &Value) -> Value {
        Self::sent(self.request(Method::POST, "").json(body)).await.1
    }

    async fn refuses(&self, query: &str, expected: &str) {
        let answer = self.post(&json!({ "query": query })).await;
        assert_eq!(code(&answer), expected, "{query}: {answer:#}");
        assert!(answer.get("data").is_none(), "{query}: {answer:#}");
    }

    async fn all(&self) {
        // Aliases, fields, directives and operations without measure.
        let aliases: String = (0..101).map(|n| format!("a{n}: __typename ")).collect();
        self.refuses(&format!("{{ {aliases} }}"), "LIMIT_EXCEEDED").await;
        let fields = "__typename ".repeat(5_001);
        self.refuses(&format!("{{ {fields} }}"), "LIMIT_EXCEEDED").await;
        let directives = "@include(if: true) ".repeat(50);
        self.refuses(&format!("{{ __typename {directives} }}"), "LIMIT_EXCEEDED")
            .await;
        let unknown = "@aa ".repeat(50);
        self.refuses(&format!("{{ __typename {unknown} }}"), "LIMIT_EXCEEDED")
            .await;
        let batch = vec![json!({ "query": "{ __typename }" }); 21];
        assert_eq!(code(&self.post(&json!(batch)).await), "LIMIT_EXCEEDED");
        // Circles, of fragments and of the introspection.
        let circle = "{ ...A } fragment A on Query { ...B } fragment B on Query { ...A }";
        self.refuses(circle, "GRAPHQL_VALIDATION_FAILED").await;
        let types = "{ __schema { types { fields { type { fields { type { fields { type { fields { name } } } } } } } } } }";
        self.refuses(types, "LIMIT_EXCEEDED").await;
        // Requests that a foreign page could make: by GET, by a form.
        let mutation = "?query=mutation%20%7B%20startWorkers%20%7B%20previousSize%20%7D%20%7D";
        let (status, answer) = Self::sent(self.request(Method::GET, mutation)).await;
        assert_eq!((status, answer.get("data")), (405, None), "{answer:#}");
        for kind in [
            "application/x-www-form-urlencoded",
            "text/plain",
            "multipart/form-data; boundary=x",
        ] {
            let form = self
                .request(Method::POST, "")
                .header("content-type", kind)
                .body("query=%7B__typename%7D");
            assert_eq!(Self::sent(form).await.0, 415, "{kind}");
        }
        let foreign = self
            .request(Method::POST, "")
            .header("origin", "https://evil.test")
            .json(&json!({ "query": "{ __typename }" }));
        let answer = within("an answer", foreign.send()).await.unwrap();
        assert!(answer.headers().get("access-control-allow-origin").is_none());
        assert_eq!(
            answer.status().as_u16(),
            if self.token.is_some() { 200 } else { 403 }
        );
        // What a server tells of its inside: traces, stacks.
        let traced = self
            .request(Method::POST, "")
            .header("x-apollo-tracing", "1")
            .json(&json!({ "query": "{ __typename }" }));
        let (_, answer) = Self::sent(traced).await;
        assert_eq!(answer, json!({ "data": { "__typename": "Query" } }));
        for body in [
            json!({ "query": 1 }),
            json!({ "query": "{ jobs(first: \"\u{0}\") { x } }" }),
            json!("x"),
        ] {
            let text = self.post(&body).await.to_string();
            for piece in [".rs", "panicked", "stack", "/src/"] {
                assert!(!text.contains(piece), "{piece} in {text}");
            }
        }
        // These are found, and are meant: the schema is no secret where introspection is on.
        let answer = self
            .post(&json!({ "query": "{ __schema { queryType { name } } }" }))
            .await;
        assert_eq!(answer["data"]["__schema"]["queryType"]["name"], "Query");
        let (status, _) = Self::sent(self.request(Method::GET, "?query=%7B__typename%7D")).await;
        assert_eq!(status, 200, "queries go by GET, mutations do not");
    }
}

async fn each_check_of_a_scanner_finds_what_it_should(db: TestDb) {
    let app = Setup::new(&db).start().await;
    Scan {
        app: &app,
        token: None,
    }
    .all()
    .await;
    let token = token(&app, "scanner", "admin", &[]).await;
    closed(&app).await;
    Scan {
        app: &app,
        token: Some(&token),
    }
    .all()
    .await;
    // Without the token nothing of it is reached.
    let scan = Scan {
        app: &app,
        token: None,
    };
    for body in [
        json!({ "query": "{ __typename }" }),
        json!({ "query": "{ __schema { queryType { name } } }" }),
    ] {
        let (status, answer) = Scan::sent(scan.request(Method::POST, "").json(&body)).await;
        assert_eq!((status, code(&answer)), (401, "UNAUTHENTICATED"), "{answer:#}");
    }
    app.stop().await;
}
