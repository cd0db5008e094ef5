//! `Job.logs`: pages in both directions, and filters.

use serde_json::{Value, json};

use super::{lines, shell, shell_with};
use crate::support::app::{Setup, TestApp};
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    pages_in_both_directions_hold_every_line_once,
    filters_pick_lines,
    each_attempt_has_a_log_of_its_own,
);

async fn page(app: &TestApp, id: &str, arguments: Value) -> Value {
    let query =
        "query($id: ID!, $filter: LogFilter, $first: Int, $after: String, $last: Int, $before: String) {
        job(id: $id) { logs(filter: $filter, first: $first, after: $after, last: $last, before: $before) {
            edges { cursor node { number message } }
            pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
        } }
    }";
    let mut variables = arguments;
    variables["id"] = json!(id);
    app.data(query, variables).await["job"]["logs"].take()
}

fn numbers(page: &Value) -> Vec<i64> {
    let edges = page["edges"].as_array().unwrap().iter();
    edges
        .map(|edge| edge["node"]["number"].as_i64().unwrap())
        .collect()
}

async fn pages_in_both_directions_hold_every_line_once(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let job = app
        .completed(shell(
            "for n in $(seq 400); do echo $n; [ $((n % 50)) = 0 ] && sleep 0.06; done; true",
        ))
        .await;
    let id = job["id"].as_str().unwrap();
    let everything: Vec<i64> = (1..=402).collect();
    for size in [1_000, 402, 401, 37] {
        let (mut seen, mut after) = (Vec::new(), Value::Null);
        loop {
            let page = page(&app, id, json!({ "first": size, "after": after })).await;
            assert_eq!(page["pageInfo"]["hasPreviousPage"], after != Value::Null);
            assert_eq!(page["pageInfo"]["startCursor"], page["edges"][0]["cursor"]);
            seen.extend(numbers(&page));
            after = page["pageInfo"]["endCursor"].clone();
            if page["pageInfo"]["hasNextPage"] == false {
                break;
            }
            assert_eq!(numbers(&page).len(), size);
        }
        assert_eq!(seen, everything, "forward by {size}");

        let (mut seen, mut before) = (Vec::new(), Value::Null);
        loop {
            let page = page(&app, id, json!({ "last": size, "before": before })).await;
            assert_eq!(page["pageInfo"]["hasNextPage"], before != Value::Null);
            seen.splice(0..0, numbers(&page));
            before = page["pageInfo"]["startCursor"].clone();
            if page["pageInfo"]["hasPreviousPage"] == false {
                break;
            }
        }
        assert_eq!(seen, everything, "backward by {size}");
    }
    // With a filter, too: every tenth line has a 7 as its last digit.
    let (mut seen, mut after) = (0, Value::Null);
    loop {
        let filter = json!({ "search": "7", "streams": ["STDOUT"] });
        let page = page(&app, id, json!({ "first": 9, "after": after, "filter": filter })).await;
        seen += numbers(&page).len();
        after = page["pageInfo"]["endCursor"].clone();
        if page["pageInfo"]["hasNextPage"] == false {
            break;
        }
    }
    assert_eq!(
        seen,
        (1..=400).filter(|n: &i32| n.to_string().contains('7')).count()
    );
    app.stop().await;
}

async fn filters_pick_lines(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let line = r#"echo '{"level":"debug","message":"Looking around"}'
        echo plain words
        echo '{"level":"error","msg":"It BROKE"}'
        echo 'a grave word' >&2
        echo '{"level":"critical","message":"All is lost, it broke"}' >&2"#;
    let job = app.completed(shell(line)).await;
    let id = job["id"].as_str().unwrap();
    let table = [
        (
            json!({ "minLevel": "WARNING" }),
            vec!["It BROKE", "a grave word", "All is lost, it broke"],
        ),
        (json!({ "minLevel": "CRITICAL" }), vec!["All is lost, it broke"]),
        (
            json!({ "search": "BROKE" }),
            vec!["It BROKE", "All is lost, it broke"],
        ),
        (
            json!({ "search": "broke", "streams": ["STDOUT"] }),
            vec!["It BROKE"],
        ),
        (
            json!({ "streams": ["STDERR"] }),
            vec!["a grave word", "All is lost, it broke"],
        ),
        (json!({ "search": "nobody printed this" }), vec![]),
    ];
    for (filter, mut expected) in table {
        let found = lines(&app, id, filter.clone()).await;
        let mut found: Vec<&str> = found
            .iter()
            .map(|line| line["message"].as_str().unwrap())
            .collect();
        // The two streams are two pipes: which of two lines came first is not known.
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{filter}");
    }
    app.stop().await;
}

async fn each_attempt_has_a_log_of_its_own(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let line = r#"echo "attempt $RUNQL_ATTEMPT"; [ "$RUNQL_ATTEMPT" = 3 ]"#;
    let more = json!({ "maxAttempts": 3, "backoffMs": 0 });
    let id = app.run(shell_with(line, more)).await;
    assert_eq!(app.ended(&id).await["status"], "COMPLETED");
    for (attempt, expected) in [(json!(1), 1), (json!(2), 2), (json!(3), 3), (Value::Null, 3)] {
        let filter = json!({ "streams": ["STDOUT"], "attempt": attempt });
        let found = lines(&app, &id, filter).await;
        assert_eq!(found.len(), 1);
        assert_eq!(found[0]["message"], format!("attempt {expected}"));
        assert_eq!(found[0]["number"], 2);
    }
    let url = format!("{}/jobs/{id}/log?stream=stdout&attempt=2", app.url());
    let text = app.http().get(url).send().await.unwrap().text().await.unwrap();
    assert_eq!(text, "attempt 2\n");
    app.stop().await;
}
