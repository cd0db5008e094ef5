//! Walking through pages, forwards and backwards, and what cannot be a page.

use serde_json::{Value, json};

use super::fixture::{ids, operation_errors, request, run_many, shell};
use crate::support::app::{Setup, TestApp};
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    all_pages_both_ways,
    pages_by_a_moment_that_many_share,
    what_comes_in_between_shifts_nothing,
    what_is_no_page_is_told,
    ids_of_every_type_are_found,
);

const PAGE: &str =
    "query($filter: JobFilter, $order: JobOrder, $first: Int, $after: String, $last: Int, $before: String) {
    jobs(filter: $filter, orderBy: $order, first: $first, after: $after, last: $last, before: $before) {
        edges { cursor node { id } } nodes { id }
        pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
    }
}";

/// A server whose pool stands still, with so many jobs; the oldest first.
async fn with_jobs(db: &TestDb, count: usize) -> (TestApp, Vec<String>) {
    let app = Setup::new(db).flag("--auto-start-workers", "false").start().await;
    let inputs = vec![request(shell("true"), json!({})); count];
    let ids = run_many(&app, &inputs).await;
    (app, ids)
}

async fn page(app: &TestApp, variables: Value) -> (Vec<String>, Value) {
    let page = app.data(PAGE, variables).await["jobs"].take();
    let listed = ids(&page["nodes"]);
    let edges = page["edges"].as_array().unwrap();
    let of_edges: Vec<&str> = edges
        .iter()
        .map(|edge| edge["node"]["id"].as_str().unwrap())
        .collect();
    assert_eq!(of_edges, listed);
    let cursor = |edge: Option<&Value>| edge.map_or(Value::Null, |edge| edge["cursor"].clone());
    assert_eq!(page["pageInfo"]["startCursor"], cursor(edges.first()));
    assert_eq!(page["pageInfo"]["endCursor"], cursor(edges.last()));
    (listed, page["pageInfo"].clone())
}

/// All pages of this size, from the start or from the end.
async fn walk(app: &TestApp, size: usize, forwards: bool, order: &Value) -> Vec<String> {
    let (count, from, more, place) = if forwards {
        ("first", "after", "hasNextPage", "endCursor")
    } else {
        ("last", "before", "hasPreviousPage", "startCursor")
    };
    let mut all: Vec<String> = Vec::new();
    let mut cursor = Value::Null;
    loop {
        let (mut listed, info) = page(app, json!({ "order": order, count: size, from: cursor })).await;
        assert!(listed.len() == size || info[more] == false, "{info}");
        // The way back is there as soon as a cursor was given.
        let back = if forwards {
            "hasPreviousPage"
        } else {
            "hasNextPage"
        };
        assert_eq!(info[back], cursor != Value::Null);
        if forwards {
            all.append(&mut listed);
        } else {
            listed.append(&mut all);
            all = listed;
        }
        if info[more] == false {
            return all;
        }
        cursor = info[place].clone();
    }
}

async fn all_pages_both_ways(db: TestDb) {
    let (app, oldest_first) = with_jobs(&db, 23).await;
    let newest_first: Vec<String> = oldest_first.iter().rev().cloned().collect();
    let ascending = json!({ "field": "CREATED_AT", "direction": "ASC" });
    for size in [1, 7, 23, 24, 1_000] {
        for forwards in [true, false] {
            assert_eq!(
                walk(&app, size, forwards, &Value::Null).await,
                newest_first,
                "{size} {forwards}"
            );
            assert_eq!(
                walk(&app, size, forwards, &ascending).await,
                oldest_first,
                "{size} {forwards}"
            );
        }
    }
    // Between two places, from either end.
    let (_, all) = page(&app, json!({ "first": 3 })).await;
    let after = all["endCursor"].clone();
    let (_, all) = page(&app, json!({ "last": 3 })).await;
    let before = all["startCursor"].clone();
    let (between, _) = page(&app, json!({ "after": after, "before": before })).await;
    assert_eq!(between, newest_first[3..20]);
    let (first, info) = page(&app, json!({ "first": 2, "after": after, "before": before })).await;
    assert_eq!(
        (first.as_slice(), &info["hasNextPage"]),
        (&newest_first[3..5], &json!(true))
    );
    let (last, info) = page(&app, json!({ "last": 2, "after": after, "before": before })).await;
    assert_eq!(
        (last.as_slice(), &info["hasPreviousPage"]),
        (&newest_first[18..20], &json!(true))
    );
    let (none, info) = page(&app, json!({ "first": 0 })).await;
    assert_eq!(
        (none.len(), &info["startCursor"], &info["hasNextPage"]),
        (0, &json!(null), &json!(true))
    );
    app.stop().await;
}

/// Jobs that are cancelled together end at one moment, or nearly; the id decides between them.
async fn pages_by_a_moment_that_many_share(db: TestDb) {
    let (app, all) = with_jobs(&db, 12).await;
    let fields: Vec<String> = all
        .iter()
        .enumerate()
        .map(|(n, id)| format!("c{n}: cancel(input: {{ id: \"{id}\" }}) {{ errors {{ code }} }}"))
        .collect();
    app.data(&format!("mutation {{ {} }}", fields.join(" ")), Value::Null)
        .await;
    let literal = match db.backend() {
        runql::store::Backend::Sqlite => "UPDATE job SET finished_at = (SELECT MIN(finished_at) FROM job)",
        runql::store::Backend::Postgres => {
            "UPDATE job SET finished_at = (SELECT MIN(finished_at) FROM job AS every)"
        }
    };
    sea_orm::ConnectionTrait::execute_unprepared(&db.raw().await, literal)
        .await
        .unwrap();
    for (direction, expected) in [
        ("ASC", all.clone()),
        ("DESC", all.iter().rev().cloned().collect()),
    ] {
        let order = json!({ "field": "FINISHED_AT", "direction": direction });
        for forwards in [true, false] {
            assert_eq!(
                walk(&app, 5, forwards, &order).await,
                expected,
                "{direction} {forwards}"
            );
        }
    }
    app.stop().await;
}

async fn what_comes_in_between_shifts_nothing(db: TestDb) {
    let (app, oldest_first) = with_jobs(&db, 10).await;
    let newest_first: Vec<String> = oldest_first.into_iter().rev().collect();
    let (first, info) = page(&app, json!({ "first": 4 })).await;
    assert_eq!(first, newest_first[..4]);
    run_many(&app, &vec![request(shell("true"), json!({})); 5]).await;
    // The job that the cursor names may even be gone.
    let cancel = format!(
        "mutation {{ cancel(input: {{ id: \"{}\" }}) {{ errors {{ code }} }} }}",
        newest_first[3]
    );
    app.data(&cancel, Value::Null).await;
    app.data("mutation { cleanup(input: {}) { deletedCount } }", Value::Null)
        .await;
    let (second, _) = page(&app, json!({ "first": 4, "after": info["endCursor"] })).await;
    assert_eq!(second, newest_first[4..8]);
    app.stop().await;
}

async fn what_is_no_page_is_told(db: TestDb) {
    let (app, all) = with_jobs(&db, 3).await;
    let (_, info) = page(&app, json!({ "first": 1 })).await;
    let cursor = info["endCursor"].as_str().unwrap().to_owned();
    let mangled = format!(
        "{}{}",
        &cursor[..cursor.len() - 1],
        if cursor.ends_with('A') { 'B' } else { 'A' }
    );
    let query = "query($id: ID!) { job(id: $id) { events { pageInfo { endCursor } } } scripts { pageInfo { endCursor } } }";
    let data = app.data(query, json!({ "id": all[0] })).await;
    let of_events = data["job"]["events"]["pageInfo"]["endCursor"].clone();
    let other_order = json!({ "field": "STARTED_AT", "direction": "DESC" });
    let turned = json!({ "field": "CREATED_AT", "direction": "ASC" });
    for (variables, expected) in [
        (json!({ "after": "nonsense" }), "BAD_USER_INPUT"),
        (json!({ "after": "" }), "BAD_USER_INPUT"),
        (json!({ "after": mangled }), "BAD_USER_INPUT"),
        (json!({ "before": mangled }), "BAD_USER_INPUT"),
        (
            json!({ "after": of_events }),
            "BAD_USER_INPUT This cursor is of a listing of events",
        ),
        (
            json!({ "after": cursor, "order": other_order }),
            "BAD_USER_INPUT This cursor is of a listing in another order",
        ),
        (
            json!({ "after": cursor, "order": turned }),
            "BAD_USER_INPUT This cursor is of a listing in another order",
        ),
        (json!({ "first": -1 }), "BAD_USER_INPUT `first` is -1"),
        (json!({ "last": -1 }), "BAD_USER_INPUT `last` is -1"),
        (
            json!({ "first": 1, "last": 1 }),
            "BAD_USER_INPUT `first` and `last`",
        ),
        (
            json!({ "first": 1_001 }),
            "LIMIT_EXCEEDED `first` is 1001; a page of this server has at most 1000",
        ),
        (json!({ "last": 1_001 }), "LIMIT_EXCEEDED `last` is 1001"),
    ] {
        let answer = app.answer(PAGE, variables.clone()).await;
        let errors = operation_errors(&answer);
        assert!(
            errors.len() == 1 && errors[0].starts_with(expected),
            "{variables}: {errors:?}"
        );
        assert!(answer["data"].is_null());
    }
    // Without a size, a page has fifty entries.
    run_many(&app, &vec![request(shell("true"), json!({})); 60]).await;
    let (listed, info) = page(&app, json!({})).await;
    assert_eq!((listed.len(), &info["hasNextPage"]), (50, &json!(true)));
    app.stop().await;
}

async fn ids_of_every_type_are_found(db: TestDb) {
    let app = Setup::new(&db).start().await;
    app.script("a.sh", "true");
    let job = app
        .completed(json!({ "command": { "script": { "name": "a.sh" } } }))
        .await;
    let data = app
        .data(
            "{ script(name: \"a.sh\") { id } workerPool { workers { id } } }",
            Value::Null,
        )
        .await;
    for (id, kind) in [
        (&job["id"], "Job"),
        (&data["script"]["id"], "Script"),
        (&data["workerPool"]["workers"][0]["id"], "Worker"),
    ] {
        let query = "query($id: ID!) { node(id: $id) { __typename id ... on Job { status } ... on Script { sizeBytes }
            ... on Worker { internal } } }";
        let node = app.data(query, json!({ "id": id })).await["node"].take();
        assert_eq!((&node["__typename"], &node["id"]), (&json!(kind), id));
    }
    let worker = &data["workerPool"]["workers"][0]["id"];
    let found = app
        .data(
            "query($id: ID!) { worker(id: $id) { id } job(id: $id) { id } }",
            json!({ "id": worker }),
        )
        .await;
    assert_eq!(found, json!({ "worker": { "id": worker }, "job": null }));
    app.stop().await;
}
