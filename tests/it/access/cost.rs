//! What an operation costs, who pays for it, and how long it may take.

use std::time::Instant;

use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use sea_orm::{ConnectionTrait as _, TransactionTrait as _};
use serde_json::{Value, json};

use super::{closed, code, token};
use crate::support::app::{Setup, TestApp};
use crate::support::db::TestDb;
use crate::support::socket::{Said, Socket};
use crate::support::wait::{until, within};
use crate::support::{both_stores, on_postgres};

both_stores!(
    the_cost_is_told_to_whoever_asks,
    each_token_and_each_address_pays_for_itself,
    what_is_not_paid_for_is_not_executed,
    every_operation_is_charged_over_each_transport,
    a_call_that_waits_for_work_may_wait,
);
on_postgres!(what_the_store_does_not_answer_is_given_up);

/// Costs 801 units.
const DEAR: &str = "{ jobs(first: 400) { nodes { id } } }";

/// A unit comes in by the second: what a test takes does not come back while it runs.
const RATE: &str = "1:1000";

async fn send(
    app: &TestApp,
    body: &Value,
    headers: &[(&'static str, &str)],
) -> (StatusCode, HeaderMap, Value) {
    let mut request = app.http().post(format!("{}/graphql", app.url())).json(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = within("an answer", request.send()).await.unwrap();
    let (status, headers) = (answer.status(), answer.headers().clone());
    (status, headers, answer.json().await.unwrap())
}

fn number(headers: &HeaderMap, name: &str) -> u64 {
    headers[name].to_str().unwrap().parse().unwrap()
}

async fn streamed(app: &TestApp, body: &Value) -> String {
    let request = app
        .http()
        .post(format!("{}/graphql", app.url()))
        .header("accept", "text/event-stream")
        .json(body);
    within("a stream", async {
        request.send().await.unwrap().text().await.unwrap()
    })
    .await
}

async fn the_cost_is_told_to_whoever_asks(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let asking = |query: &str| json!({ "query": query, "extensions": { "cost": true } });
    let cost = json!({ "requested": 801, "limit": 100_000, "depth": 3 });
    let (_, headers, answer) = send(&app, &asking(DEAR), &[]).await;
    assert_eq!(answer["extensions"]["cost"], cost, "{answer:#}");
    assert!(
        headers.get("ratelimit-limit").is_none(),
        "there is no limit by default"
    );
    let (_, _, answer) = send(
        &app,
        &json!({ "query": DEAR, "extensions": { "cost": false } }),
        &[],
    )
    .await;
    assert!(answer.get("extensions").is_none(), "{answer:#}");
    // Of a batch each is told for itself.
    let (_, _, answer) = send(&app, &json!([asking(DEAR), { "query": DEAR }]), &[]).await;
    assert_eq!(answer[0]["extensions"]["cost"], cost);
    assert!(answer[1].get("extensions").is_none());
    // One that is above the limit is told as well.
    let (_, _, answer) = send(
        &app,
        &asking("{ jobs(first: 1000) { nodes { children(first: 1000) { nodes { id } } } } }"),
        &[],
    )
    .await;
    assert_eq!(code(&answer), "LIMIT_EXCEEDED");
    assert_eq!(
        answer["extensions"]["cost"]["requested"], 2_002_001_u64,
        "{answer:#}"
    );

    let mut socket = Socket::connect(&app).await;
    socket.ask(asking(DEAR)).await;
    let Said::Next(answer) = socket.said().await else {
        panic!()
    };
    assert_eq!(answer["extensions"]["cost"], cost, "{answer:#}");
    assert_eq!(socket.said().await, Said::Complete);
    // Of a stream with its first result.
    let mut listening = asking("subscription($after: String) { jobEvents(after: $after) { cursor } }");
    listening["variables"] = app.data("{ after: eventCursor }", json!({})).await;
    app.shell("true").await;
    socket.ask(listening).await;
    let (Said::Next(first), Said::Next(second)) = (socket.said().await, socket.said().await) else {
        panic!()
    };
    assert_eq!(first["extensions"]["cost"]["requested"], 2, "{first:#}");
    assert!(second.get("extensions").is_none(), "{second:#}");

    let events = streamed(&app, &asking(DEAR)).await;
    assert!(events.contains(r#""requested":801"#), "{events}");
    app.stop().await;
}

async fn each_token_and_each_address_pays_for_itself(db: TestDb) {
    let app = Setup::new(&db)
        .flag("--rate-limit", RATE)
        .flag("--trusted-proxies", "127.0.0.0/8")
        .start()
        .await;
    let dear = json!({ "query": DEAR });
    let from = async |address: &str| send(&app, &dear, &[("x-forwarded-for", address)]).await;
    let (status, headers, _) = from("192.0.2.1").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(number(&headers, "ratelimit-limit"), 1_000);
    assert_eq!(number(&headers, "ratelimit-remaining"), 199);
    assert_eq!(number(&headers, "ratelimit-reset"), 801);
    let (status, headers, answer) = from("192.0.2.1").await;
    assert_eq!(
        (status, code(&answer)),
        (StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED"),
        "{answer:#}"
    );
    let retry = number(&headers, "retry-after");
    assert!((1..=602).contains(&retry), "{retry}");
    let retry_ms = answer["errors"][0]["extensions"]["retryAfterMs"]
        .as_u64()
        .unwrap();
    assert_eq!(retry, retry_ms.div_ceil(1_000));
    assert!((100..1_000).contains(&number(&headers, "ratelimit-remaining")));
    let message = answer["errors"][0]["message"].as_str().unwrap();
    assert!(
        message.contains("for this address")
            && message.contains("costs 801")
            && message.contains("Nothing was executed"),
        "{message}"
    );
    assert_eq!(from("192.0.2.2").await.0, StatusCode::OK);
    // All of a network of IPv6 is one client.
    assert_eq!(from("2001:db8:0:1::1").await.0, StatusCode::OK);
    assert_eq!(
        from("2001:db8:0:1:ffff::2").await.0,
        StatusCode::TOO_MANY_REQUESTS
    );
    assert_eq!(from("2001:db8:0:2::1").await.0, StatusCode::OK);

    // Who has a token pays by it, from wherever.
    let tokens = [
        token(&app, "one", "read", &[]).await,
        token(&app, "two", "read", &[]).await,
    ];
    closed(&app).await;
    for token in &tokens {
        let bearer = format!("Bearer {token}");
        let ask = async |address: &str| {
            send(
                &app,
                &dear,
                &[("authorization", &bearer), ("x-forwarded-for", address)],
            )
            .await
        };
        assert_eq!(ask("192.0.2.1").await.0, StatusCode::OK);
        let (status, _, answer) = ask("198.51.100.7").await;
        assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
        assert!(
            answer["errors"][0]["message"]
                .as_str()
                .unwrap()
                .contains("for this token")
        );
    }
    app.stop().await;
}

async fn what_is_not_paid_for_is_not_executed(db: TestDb) {
    let app = Setup::new(&db)
        .flag("--rate-limit", RATE)
        .flag("--trusted-proxies", "127.0.0.0/8")
        .start()
        .await;
    let run = "mutation { run(input: { command: { shell: { command: \"true\" } } }) {
        errors { code } job { id children(first: 400) { nodes { id } } }
    } }";
    let run = json!({ "query": run });
    let jobs = async || {
        let (_, _, answer) = send(
            &app,
            &json!({ "query": "{ jobs { totalCount } }" }),
            &[("x-forwarded-for", "192.0.2.99")],
        )
        .await;
        answer["data"]["jobs"]["totalCount"].as_u64().unwrap()
    };
    let (status, _, answer) = send(&app, &run, &[]).await;
    assert_eq!(status, StatusCode::OK, "{answer:#}");
    assert_eq!(jobs().await, 1);
    let (status, _, answer) = send(&app, &run, &[]).await;
    assert_eq!(
        (status, code(&answer)),
        (StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED")
    );
    assert!(answer.get("data").is_none(), "{answer:#}");
    assert_eq!(jobs().await, 1);
    // What can never be paid for is no question of time.
    let dearest = json!({ "query": "{ jobs(first: 1000) { nodes { id } } }" });
    let (status, headers, answer) = send(&app, &dearest, &[("x-forwarded-for", "192.0.2.3")]).await;
    assert_eq!(
        (status, code(&answer)),
        (StatusCode::OK, "LIMIT_EXCEEDED"),
        "{answer:#}"
    );
    assert!(headers.get("retry-after").is_none());
    let message = answer["errors"][0]["message"].as_str().unwrap();
    assert!(
        message.contains("costs 2001; the rate limit lets 1000 through at once"),
        "{message}"
    );
    app.stop().await;
}

async fn every_operation_is_charged_over_each_transport(db: TestDb) {
    let app = Setup::new(&db)
        .flag("--rate-limit", RATE)
        .flag("--trusted-proxies", "127.0.0.0/8")
        .start()
        .await;
    let from = async |address: &str, body: Value| send(&app, &body, &[("x-forwarded-for", address)]).await;
    // What is no GraphQL costs a unit, and so does what does not fit the schema.
    for (address, query) in [("192.0.2.1", "{"), ("192.0.2.2", "{ nothing }")] {
        let (_, headers, answer) = from(address, json!({ "query": query })).await;
        assert!(code(&answer).starts_with("GRAPHQL_"), "{answer:#}");
        assert_eq!(number(&headers, "ratelimit-remaining"), 999);
    }
    // What is no request at all has no headers, and costs as much.
    from("192.0.2.3", json!([])).await;
    let (_, headers, _) = from("192.0.2.3", json!({ "query": "{ __typename }" })).await;
    assert!(number(&headers, "ratelimit-remaining") <= 999);

    let dear = json!({ "query": DEAR });
    let (status, headers, answer) = from("192.0.2.4", json!([dear, dear])).await;
    assert_eq!(status, StatusCode::OK);
    let refused = answer
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| code(one) == "RATE_LIMITED");
    assert_eq!(refused.count(), 1, "{answer:#}");
    assert!(number(&headers, "ratelimit-remaining") < 200 && number(&headers, "retry-after") > 1);
    let (status, _, _) = from("192.0.2.4", json!([dear, dear])).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS, "all of them were refused");

    // From here on all come from the same address.
    let mut socket = Socket::connect(&app).await;
    socket.ask(dear.clone()).await;
    assert!(matches!(socket.said().await, Said::Next(_)));
    assert_eq!(socket.said().await, Said::Complete);
    socket.ask(dear.clone()).await;
    let Said::Error(errors) = socket.said().await else {
        panic!()
    };
    assert_eq!(errors[0]["extensions"]["code"], "RATE_LIMITED", "{errors:#}");
    assert!(errors[0]["extensions"]["retryAfterMs"].as_u64().unwrap() > 1_000);
    let events = streamed(&app, &dear).await;
    assert!(
        events.contains("RATE_LIMITED") && events.contains("event: complete"),
        "{events}"
    );
    // A subscription is charged when it starts, and for nothing that it delivers.
    let (_, _, mut cursor) = from("192.0.2.5", json!({ "query": "{ after: eventCursor }" })).await;
    let listening = "subscription($after: String) { jobEvents(after: $after) { cursor } }";
    socket
        .ask(json!({ "query": listening, "variables": cursor["data"].take() }))
        .await;
    for _ in 0..20 {
        let run = json!({ "query": "mutation { run(input: { command: { shell: { command: \"true\" } } }) { errors { code } } }" });
        let (_, _, answer) = from("192.0.2.5", run).await;
        assert_eq!(answer["data"]["run"]["errors"], json!([]), "{answer:#}");
        assert!(matches!(socket.said().await, Said::Next(_)));
    }
    app.stop().await;
}

async fn a_call_that_waits_for_work_may_wait(db: TestDb) {
    let app = Setup::new(&db).flag("--max-execution-ms", 4_000).start().await;
    let register = "mutation { registerWorker(input: { name: \"worker-001-idle\", backendType: \"idle\",
        capabilities: { maxParallelTasks: 1, supportedProblems: [\"x\"] } }) { worker { id } errors { message } } }";
    let worker = app.data(register, json!({})).await["registerWorker"]["worker"]["id"].take();
    let claim = "mutation($id: ID!) { claim(input: { workerId: $id, waitMs: 6000 }) { jobs { id } errors { message } } }";
    let start = Instant::now();
    let answer = app.data(claim, json!({ "id": worker })).await;
    assert_eq!(answer["claim"], json!({ "jobs": [], "errors": [] }));
    assert!(start.elapsed().as_secs() >= 5, "{:?}", start.elapsed());
    app.stop().await;
}

async fn what_the_store_does_not_answer_is_given_up(db: TestDb) {
    let app = Setup::new(&db).flag("--max-execution-ms", 500).start().await;
    let raw = db.raw().await;
    let held = raw.begin().await.unwrap();
    held.execute_unprepared("LOCK TABLE job IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let answer = app.answer("{ jobs { nodes { id } } }", json!({})).await;
    assert_eq!(code(&answer), "UNAVAILABLE", "{answer:#}");
    let run =
        "mutation { run(input: { command: { shell: { command: \"true\" } }, idempotencyKey: \"once\" }) {
        job { id } errors { code } } }";
    let answer = app.answer(run, json!({})).await;
    assert_eq!(code(&answer), "UNAVAILABLE", "{answer:#}");
    assert!(
        answer["errors"][0]["message"]
            .as_str()
            .unwrap()
            .contains("idempotencyKey"),
        "{answer:#}"
    );
    held.rollback().await.unwrap();
    // It may have been stored in the meantime; asked again it is the same job.
    let id = until("the store answers", async || {
        let mut answer = app.answer(run, json!({})).await;
        let id = answer["data"]["run"]["job"]["id"].take();
        if id.is_string() { Ok(id) } else { Err(answer) }
    })
    .await;
    let jobs = until("the store answers", async || {
        let mut answer = app.answer("{ jobs { nodes { id } } }", json!({})).await;
        let jobs = answer["data"]["jobs"]["nodes"].take();
        if jobs.is_array() { Ok(jobs) } else { Err(answer) }
    })
    .await;
    assert_eq!(jobs, json!([{ "id": id }]));
    app.stop().await;
}
