//! Listing jobs: every field of the filter, every order, and the totals that belong to them.

use serde_json::{Value, json};

use super::fixture::{ids, mutate, request, script, shell};
use crate::support::app::{Setup, TestApp};
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    every_field_filters,
    every_order_lists_what_has_that_moment,
    long_lists_are_met_and_too_many_tags_refused,
);

/// Jobs of many kinds, each with a letter by the order in which they were asked for.
struct Sample {
    app: TestApp,
    ids: Vec<String>,
}

impl Sample {
    async fn new(db: &TestDb) -> Self {
        let app = Setup::new(db).flag("--workers", 2).start().await;
        app.script("jobs/good.sh", "true");
        app.script("jobs/bad.sh", "exit 1");
        let tag = |key: &str, value: &str| json!({ "key": key, "value": value });
        let labelled = |source: &str, conversation: Value, tags: Vec<Value>| json!({ "metadata": { "source": source, "conversationId": conversation, "tags": tags } });
        let mut first = labelled("ui", json!("c1"), vec![tag("team", "blue"), tag("env", "prod")]);
        first["queue"] = json!("one");
        let mut second = labelled("test", json!(null), vec![tag("team", "blue")]);
        second["queue"] = json!("two");
        let third = labelled("ui", json!("c1"), vec![tag("team", "red")]);
        let mut ids = Vec::new();
        for input in [
            request(script("jobs/good.sh"), first),
            request(script("jobs/bad.sh"), second),
            request(json!({ "exec": { "program": "true" } }), third),
            request(shell("sleep 60"), json!({ "timeoutMs": 50 })),
        ] {
            // One after the other, so that no two have a moment in common.
            let id = app.run(input).await;
            app.ended(&id).await;
            ids.push(id);
        }
        ids.push(app.run(request(shell("sleep 60"), json!({}))).await);
        app.job_in(&ids[4], &["RUNNING"]).await;
        ids.push(
            app.run(request(shell("true"), json!({ "runAt": "2100-01-01T00:00:00Z" })))
                .await,
        );
        Self { app, ids }
    }

    fn letters(&self, list: &Value) -> String {
        let letter = |id: &String| {
            char::from(b'A' + u8::try_from(self.ids.iter().position(|it| it == id).unwrap()).unwrap())
        };
        ids(list).iter().map(letter).collect()
    }

    async fn listed(&self, filter: Value) -> String {
        let query = "query($filter: JobFilter) { jobs(filter: $filter) { nodes { id } totalCount } }";
        let page = self.app.data(query, json!({ "filter": filter })).await["jobs"].take();
        let letters = self.letters(&page["nodes"]);
        assert_eq!(page["totalCount"], letters.len(), "{filter}");
        letters
    }

    async fn end(self) {
        mutate(&self.app, "cancel", "job { id }", json!({ "id": self.ids[4] })).await;
        self.app.ended(&self.ids[4]).await;
        self.app.stop().await;
    }
}

async fn every_field_filters(db: TestDb) {
    let sample = Sample::new(&db).await;
    let moment = |n: usize, field: &str| {
        let (app, id, field) = (&sample.app, sample.ids[n].clone(), field.to_owned());
        async move { app.job(&id).await[field].take() }
    };
    let (created_b, created_d) = (moment(1, "createdAt").await, moment(3, "createdAt").await);
    let (finished_b, finished_d) = (moment(1, "finishedAt").await, moment(3, "finishedAt").await);
    let worker = sample.app.job(&sample.ids[4]).await["worker"]["id"].take();
    let id = |n: usize| json!(sample.ids[n]);
    let tag = |key: &str, value: &str| json!({ "key": key, "value": value });
    for (filter, expected) in [
        (Value::Null, "FEDCBA"),
        (json!({}), "FEDCBA"),
        (
            json!({ "ids": [id(0), id(5), "01981c6a-5ad1-7abc-8def-000000000000"] }),
            "FA",
        ),
        (json!({ "ids": [] }), ""),
        (json!({ "statuses": ["COMPLETED"] }), "CA"),
        (json!({ "statuses": ["FAILED", "TIMEOUT", "FAILED"] }), "DB"),
        (json!({ "statuses": ["PENDING", "RUNNING"] }), "FE"),
        (json!({ "statuses": ["CANCELLED"] }), ""),
        (json!({ "statuses": [] }), ""),
        (json!({ "kinds": ["SCRIPT"] }), "BA"),
        (json!({ "kinds": ["EXEC", "SHELL"] }), "FEDC"),
        (json!({ "kinds": ["PLAN", "TASK"] }), ""),
        (json!({ "name": "jobs/good.sh" }), "A"),
        (json!({ "name": "jobs/*" }), "BA"),
        (json!({ "name": "*" }), "FEDCBA"),
        (json!({ "name": "jobs" }), ""),
        (json!({ "name": "JOBS/*" }), ""),
        (json!({ "name": "" }), ""),
        (json!({ "queues": ["one"] }), "A"),
        (json!({ "queues": ["one", "two"] }), "BA"),
        (json!({ "queues": ["default"] }), "FEDC"),
        (json!({ "tags": [tag("team", "blue")] }), "BA"),
        (json!({ "tags": [tag("team", "blue"), tag("env", "prod")] }), "A"),
        (json!({ "tags": [tag("team", "green")] }), ""),
        (json!({ "tags": [] }), "FEDCBA"),
        (json!({ "source": "ui" }), "CA"),
        (json!({ "conversationId": "c1" }), "CA"),
        (json!({ "topLevel": true }), "FEDCBA"),
        (json!({ "topLevel": false }), ""),
        (json!({ "parentId": id(0) }), ""),
        (json!({ "created": { "since": created_b } }), "FEDCB"),
        (json!({ "created": { "until": created_b } }), "A"),
        (
            json!({ "created": { "since": created_b, "until": created_d } }),
            "CB",
        ),
        (
            json!({ "created": { "since": created_d, "until": created_b } }),
            "",
        ),
        // The API shows milliseconds and the store keeps microseconds: B ended within the one that is asked from.
        (json!({ "finished": { "since": finished_b } }), "DCB"),
        (
            json!({ "finished": { "since": finished_b, "until": finished_d } }),
            "CB",
        ),
        (json!({ "finished": {} }), "DCBA"),
        (
            json!({ "name": "jobs/*", "statuses": ["FAILED"], "tags": [tag("team", "blue")] }),
            "B",
        ),
        (json!({ "statuses": ["COMPLETED"], "name": "jobs/good.sh" }), "A"),
        (
            json!({ "source": "ui", "kinds": ["EXEC"], "conversationId": "c1" }),
            "C",
        ),
        (json!({ "source": "ui", "queues": ["two"] }), ""),
    ] {
        assert_eq!(sample.listed(filter.clone()).await, expected, "{filter}");
    }
    let of_worker = sample
        .listed(json!({ "workerId": worker, "statuses": ["RUNNING"] }))
        .await;
    assert_eq!(of_worker, "E");
    sample.end().await;
}

async fn every_order_lists_what_has_that_moment(db: TestDb) {
    let sample = Sample::new(&db).await;
    for (field, ascending) in [
        ("CREATED_AT", "ABCDEF"),
        ("STARTED_AT", "ABCDE"),
        ("FINISHED_AT", "ABCD"),
    ] {
        for (direction, expected) in [
            ("ASC", ascending.to_owned()),
            ("DESC", ascending.chars().rev().collect::<String>()),
        ] {
            let query = format!(
                "{{ jobs(orderBy: {{ field: {field}, direction: {direction} }}) {{ nodes {{ id }} }} }}"
            );
            let nodes = sample.app.data(&query, Value::Null).await["jobs"]["nodes"].take();
            assert_eq!(sample.letters(&nodes), expected, "{field} {direction}");
        }
    }
    sample.end().await;
}

async fn long_lists_are_met_and_too_many_tags_refused(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let id = app.run(request(shell("true"), json!({ "queue": "q" }))).await;
    let query = "query($filter: JobFilter) { jobs(filter: $filter) { nodes { id } totalCount } }";
    let listed = async |filter: Value| app.data(query, json!({ "filter": filter })).await["jobs"].take();
    // More than either database takes values in a statement; and some twice.
    let mut many: Vec<String> = (0..40_000)
        .map(|n| format!("01980000-0000-7000-8000-{n:012x}"))
        .collect();
    many.extend([id.clone(), id.clone()]);
    let queues: Vec<String> = (0..70_000)
        .map(|n| format!("q{n}"))
        .chain(["q".to_owned()])
        .collect();
    let statuses = ["PENDING", "RUNNING", "COMPLETED"].repeat(20_000);
    for filter in [
        json!({ "ids": many }),
        json!({ "queues": queues }),
        json!({ "statuses": statuses }),
    ] {
        let page = listed(filter).await;
        assert_eq!(page, json!({ "nodes": [{ "id": id }], "totalCount": 1 }));
    }
    let tags = |count: usize| {
        let tags: Vec<Value> = (0..count)
            .map(|n| json!({ "key": format!("k{n}"), "value": "v" }))
            .collect();
        json!({ "tags": tags })
    };
    assert_eq!(listed(tags(64)).await["totalCount"], 0);
    let refused = app.answer(query, json!({ "filter": tags(65) })).await;
    assert_eq!(
        refused["errors"][0]["extensions"]["code"], "LIMIT_EXCEEDED",
        "{refused}"
    );
    app.ended(&id).await;
    app.stop().await;
}
