//! Lines that say more than their text: levels, fields, secrets, progress.

use serde_json::{Value, json};

use super::{lines, shell};
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    structured_lines_have_levels_and_fields,
    commands_in_lines_are_obeyed,
    secrets_are_masked_everywhere,
    progress_is_told_step_by_step,
);

async fn structured_lines_have_levels_and_fields(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let line = r#"echo '{"level":"warn","message":"Low on disk","free":7,"disk":{"name":"a"}}'
        echo '{"level":"info","msg":"short"}'
        echo '{"level":"loud","message":"an unknown level is plain text"}'
        echo '{"message":"no level is plain text"}'
        echo '{"level":"error","message":"cut off'"#;
    let job = app.completed(shell(line)).await;
    let found = lines(
        &app,
        job["id"].as_str().unwrap(),
        json!({ "streams": ["STDOUT"] }),
    )
    .await;
    let found: Vec<Value> = found
        .iter()
        .map(|line| json!([line["level"], line["message"], line["context"]]))
        .collect();
    let expected = [
        json!(["WARNING", "Low on disk", { "free": 7, "disk": { "name": "a" } }]),
        json!(["INFO", "short", null]),
        json!([
            "INFO",
            r#"{"level":"loud","message":"an unknown level is plain text"}"#,
            null
        ]),
        json!(["INFO", r#"{"message":"no level is plain text"}"#, null]),
        json!(["INFO", r#"{"level":"error","message":"cut off"#, null]),
    ];
    assert_eq!(found, expected);
    // The bytes are those that were printed.
    let bytes = app.bytes(job["id"].as_str().unwrap(), "stdout").await;
    assert!(bytes.starts_with(br#"{"level":"warn","message":"Low on disk""#));
    app.stop().await;
}

async fn commands_in_lines_are_obeyed(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let line = "echo '::debug::looking'; echo '::notice::found'; echo '::warning file=a.py,line=3::odd'
        echo '::error::broken'; echo ' ::error::not at the start'; echo '::unknown::as it is'";
    let job = app.completed(shell(line)).await;
    let found = lines(
        &app,
        job["id"].as_str().unwrap(),
        json!({ "streams": ["STDOUT"] }),
    )
    .await;
    let found: Vec<Value> = found
        .iter()
        .map(|line| json!([line["level"], line["message"], line["context"]]))
        .collect();
    let expected = [
        json!(["DEBUG", "looking", null]),
        json!(["INFO", "found", null]),
        json!(["WARNING", "odd", { "file": "a.py", "line": "3" }]),
        json!(["ERROR", "broken", null]),
        json!(["INFO", " ::error::not at the start", null]),
        json!(["INFO", "::unknown::as it is", null]),
    ];
    assert_eq!(found, expected);
    app.stop().await;
}

async fn secrets_are_masked_everywhere(db: TestDb) {
    let app = Setup::new(&db).start().await;
    // Never in the command itself, which is shown as it was given.
    let line = r#"s=$(printf 'hunt%s' er2secret); echo "before $s"; echo "::add-mask::$s"; echo "after $s."
        sleep 0.1; echo "$s$s" >&2; printf 'no end %s' "$s""#;
    let job = app.completed(shell(line)).await;
    let id = job["id"].as_str().unwrap();
    let stdout = String::from_utf8(app.bytes(id, "stdout").await).unwrap();
    assert_eq!(
        stdout,
        "before hunter2secret\n::add-mask::***\nafter ***.\nno end ***"
    );
    assert_eq!(app.bytes(id, "stderr").await, b"******\n");
    assert_eq!(job["stdout"], stdout);
    let found = lines(&app, id, json!({ "search": "hunter2" })).await;
    assert_eq!(found.len(), 1, "{found:?}");
    app.stop().await;
}

async fn progress_is_told_step_by_step(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let line = r#"for n in 1 2 3 4; do
            echo "::progress current=$n total=4::step $n"
            until [ -e "$HOME/seen-$n" ]; do sleep 0.01; done
        done"#;
    let id = app.shell(line).await;
    for n in 1..=4 {
        crate::support::wait::until("the step's progress", async || {
            let progress = app.job(&id).await["progress"].take();
            let expected = json!({
                "current": n, "total": 4, "percentage": f64::from(n) * 25.0, "step": format!("step {n}"),
            });
            if progress == expected {
                Ok(())
            } else {
                Err(progress)
            }
        })
        .await;
        std::fs::write(app.folder().join(format!("seen-{n}")), "").unwrap();
    }
    let job = app.ended(&id).await;
    assert_eq!(
        (&job["status"], &job["progress"]["current"]),
        (&json!("COMPLETED"), &json!(4))
    );
    let query =
        "query($id: ID!) { job(id: $id) { events { nodes { type status progress { current step } } } } }";
    let data = app.data(query, json!({ "id": id })).await;
    let events = data["job"]["events"]["nodes"].as_array().unwrap();
    let types: Vec<&str> = events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    let mut expected = vec!["CREATED", "STARTED"];
    expected.extend(["PROGRESSED"; 4]);
    expected.push("COMPLETED");
    assert_eq!(types, expected);
    for (n, event) in (1..).zip(&events[2..6]) {
        assert_eq!(
            event["progress"],
            json!({ "current": n, "step": format!("step {n}") })
        );
        assert_eq!(event["status"], "RUNNING");
    }
    app.stop().await;
}
