//! Reports: lines, progress and results, as everybody else sees them afterwards.

use serde_json::{Value, json};

use super::{claim_one, join, lines, report, shown, task, task_with};
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    lines_come_back_as_they_were_told,
    reports_of_one_moment_keep_all_lines,
    the_log_ends_at_its_limit,
    progress_and_result,
    what_failed_is_tried_again,
);

/// Stream, level, message and context of each line.
fn told(lines: &[Value]) -> Vec<Value> {
    lines
        .iter()
        .map(|line| json!([line["stream"], line["level"], line["message"], line["context"]]))
        .collect()
}

async fn lines_come_back_as_they_were_told(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let worker = join(&app, "worker-001-gpu", &["*"], 1).await;
    app.run(task("t")).await;
    let id = claim_one(&app, &worker).await;
    let long = "ü".repeat(20_000);
    let first = json!({ "logs": [
        { "message": "plain" },
        { "message": "bad", "stream": "STDERR", "level": "ERROR" },
        { "message": "with fields", "level": "WARNING", "context": { "ms": 12, "who": { "id": [1, null] } } },
        { "message": "one\ntwo\n\nfour\n", "level": "DEBUG" },
        { "message": "" },
        { "message": "{\"level\":\"error\",\"message\":\"said so itself\",\"n\":1}" },
        { "message": "::warning file=a.py::said so too" },
        { "message": "{\"level\":\"error\",\"message\":\"m\"}", "level": "CRITICAL" },
        { "message": "windows\r" },
        { "message": "empty context", "context": {} },
        { "message": "line\nfeed", "context": { "a": 1 } },
    ] });
    report(&app, &worker, &id, 1, first).await;
    report(&app, &worker, &id, 1, json!({ "logs": [{ "message": long }] })).await;
    let result = json!({ "logs": [{ "message": "last" }], "result": { "success": true } });
    report(&app, &worker, &id, 1, result).await;
    let all = lines(&app, &id).await;
    let seen = told(&all);
    assert_eq!(
        seen[..16],
        [
            json!(["SYSTEM", "INFO", "attempt 1 started on worker-001-gpu", null]),
            json!(["STDOUT", "INFO", "plain", null]),
            json!(["STDERR", "ERROR", "bad", null]),
            json!(["STDOUT", "WARNING", "with fields", { "ms": 12, "who": { "id": [1, null] } }]),
            json!(["STDOUT", "DEBUG", "one", null]),
            json!(["STDOUT", "DEBUG", "two", null]),
            json!(["STDOUT", "DEBUG", "", null]),
            json!(["STDOUT", "DEBUG", "four", null]),
            json!(["STDOUT", "INFO", "", null]),
            json!(["STDOUT", "ERROR", "said so itself", { "n": 1 }]),
            json!(["STDOUT", "WARNING", "said so too", { "file": "a.py" }]),
            json!(["STDOUT", "CRITICAL", "m", null]),
            json!(["STDOUT", "INFO", "windows", null]),
            json!(["STDOUT", "INFO", "empty context", null]),
            json!(["STDOUT", "INFO", "line\nfeed", { "a": 1 }]),
            json!(["STDOUT", "INFO", "ü".repeat(8_191), null]),
        ]
    );
    let numbers: Vec<i64> = all.iter().map(|line| line["number"].as_i64().unwrap()).collect();
    assert_eq!(
        numbers,
        (1..=i64::try_from(all.len()).unwrap()).collect::<Vec<_>>()
    );
    let count = seen.len();
    assert_eq!(
        seen[count - 2..],
        [
            json!(["STDOUT", "INFO", "last", null]),
            json!(["SYSTEM", "INFO", "completed", null])
        ]
    );
    let pieces: String = seen[15..count - 2]
        .iter()
        .map(|line| line[2].as_str().unwrap())
        .collect();
    assert_eq!(pieces, long);
    // The bytes are those of a process that prints the same.
    let stdout = String::from_utf8(app.bytes(&id, "stdout").await).unwrap();
    assert!(stdout.starts_with("plain\n{\"level\":\"WARNING\",\"message\":\"with fields\",\"ms\":12,"));
    assert!(stdout.ends_with(&format!("{long}\nlast\n")));
    assert_eq!(app.bytes(&id, "stderr").await, b"bad\n");
    app.stop().await;
}

async fn reports_of_one_moment_keep_all_lines(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let worker = join(&app, "worker-001-gpu", &["*"], 1).await;
    app.run(task("t")).await;
    let id = claim_one(&app, &worker).await;
    // Many of them share a transaction.
    let reports = (0..40).map(|n| {
        let logs: Vec<Value> = (0..5).map(|m| json!({ "message": format!("{n}-{m}") })).collect();
        report(&app, &worker, &id, 1, json!({ "logs": logs }))
    });
    futures_util::future::join_all(reports).await;
    let all = lines(&app, &id).await;
    let numbers: Vec<i64> = all.iter().map(|line| line["number"].as_i64().unwrap()).collect();
    assert_eq!(numbers, (1..=201).collect::<Vec<_>>());
    for n in 0..40 {
        let of_one: Vec<&str> = all
            .iter()
            .filter_map(|line| line["message"].as_str())
            .filter(|message| message.starts_with(&format!("{n}-")))
            .collect();
        let expected: Vec<String> = (0..5).map(|m| format!("{n}-{m}")).collect();
        assert_eq!(of_one, expected);
    }
    // Moments are kept between the start and now, in whatever order they come.
    let times = [
        "1999-01-01T00:00:00Z",
        "2999-01-01T00:00:00Z",
        "1999-01-01T00:00:00Z",
    ];
    let logs: Vec<Value> = times
        .iter()
        .map(|at| json!({ "message": at, "timestamp": at }))
        .collect();
    report(&app, &worker, &id, 1, json!({ "logs": logs })).await;
    let all = lines(&app, &id).await;
    let job = app.job(&id).await;
    let moments: Vec<&str> = all[201..]
        .iter()
        .map(|line| line["timestamp"].as_str().unwrap())
        .collect();
    assert_eq!(
        (moments[0], moments[2]),
        (job["startedAt"].as_str().unwrap(), moments[0])
    );
    assert!(moments[1] > moments[0] && moments[1] < "2900", "{moments:?}");
    app.stop().await;
}

async fn the_log_ends_at_its_limit(db: TestDb) {
    let app = Setup::new(&db).flag("--log-bytes-per-job", 1_024).start().await;
    let worker = join(&app, "worker-001-gpu", &["*"], 1).await;
    let id = app
        .run(task_with("t", json!({ "maxAttempts": 2, "backoffMs": 0 })))
        .await;
    claim_one(&app, &worker).await;
    let hundred = json!({ "message": "x".repeat(99) });
    for _ in 0..3 {
        report(&app, &worker, &id, 1, json!({ "logs": vec![hundred.clone(); 5] })).await;
    }
    let notice = "the log has reached its limit of 1024 bytes; what follows is not kept";
    let all = told(&lines(&app, &id).await);
    assert_eq!(all.len(), 13, "{all:#?}");
    assert_eq!(all[11], json!(["STDOUT", "INFO", "x".repeat(24), null]));
    assert_eq!(all[12], json!(["SYSTEM", "WARNING", notice, null]));
    assert_eq!(app.bytes(&id, "stdout").await.len(), 1_024);
    // The limit is the job's, not the attempt's; what the server says is kept.
    report(
        &app,
        &worker,
        &id,
        1,
        json!({ "result": { "success": false, "error": "no" } }),
    )
    .await;
    claim_one(&app, &worker).await;
    report(
        &app,
        &worker,
        &id,
        2,
        json!({ "logs": [hundred], "result": { "success": true } }),
    )
    .await;
    let all = told(&lines(&app, &id).await);
    assert_eq!(
        all,
        [
            json!(["SYSTEM", "INFO", "attempt 2 started on worker-001-gpu", null]),
            json!(["SYSTEM", "WARNING", notice, null]),
            json!(["SYSTEM", "INFO", "completed", null]),
        ]
    );
    app.stop().await;
}

async fn progress_and_result(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let worker = join(&app, "worker-001-gpu", &["*"], 2).await;
    app.run(task("good")).await;
    let good = claim_one(&app, &worker).await;
    let job = report(
        &app,
        &worker,
        &good,
        1,
        json!({ "progress": { "current": 2, "total": 8, "step": "solve" } }),
    )
    .await;
    assert_eq!(
        job["progress"],
        json!({ "current": 2, "total": 8, "step": "solve", "percentage": 25.0 })
    );
    let result = json!({
        "progress": { "current": 8, "total": 8 },
        "result": { "success": true, "exitCode": 0, "output": { "score": 0.5 } },
    });
    report(&app, &worker, &good, 1, result).await;
    let job = app.job(&good).await;
    assert_eq!(
        (
            &job["status"],
            &job["exitCode"],
            &job["output"],
            &job["worker"]["id"]
        ),
        (
            &json!("COMPLETED"),
            &json!(0),
            &json!({ "score": 0.5 }),
            &json!(worker)
        )
    );
    let events = app
        .data(
            "query($id: ID!) { job(id: $id) { events(first: 10) { nodes { type attempt } } } }",
            json!({ "id": good }),
        )
        .await;
    let kinds: Vec<&str> = events["job"]["events"]["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        ["CREATED", "STARTED", "PROGRESSED", "PROGRESSED", "COMPLETED"]
    );

    for (result, message) in [
        (
            json!({ "success": false, "error": "wrong answer", "exitCode": 3 }),
            "wrong answer",
        ),
        (
            json!({ "success": false, "exitCode": 3, "output": 1 }),
            "exited with code 3",
        ),
        (
            json!({ "success": false }),
            "the worker reported that it failed, and not why",
        ),
    ] {
        app.run(task("bad")).await;
        let bad = claim_one(&app, &worker).await;
        report(&app, &worker, &bad, 1, json!({ "result": result })).await;
        let job = app.job(&bad).await;
        assert_eq!(job["error"], json!({ "code": "REPORTED", "message": message }));
        assert_eq!((&job["status"], &job["output"]), (&json!("FAILED"), &Value::Null));
    }
    let worker = shown(&app, &worker).await;
    assert_eq!(
        (
            &worker["tasksCompleted"],
            &worker["tasksFailed"],
            &worker["status"]
        ),
        (&json!(1), &json!(3), &json!("IDLE"))
    );
    app.stop().await;
}

async fn what_failed_is_tried_again(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let worker = join(&app, "worker-001-gpu", &["*"], 1).await;
    let id = app
        .run(task_with("t", json!({ "maxAttempts": 2, "backoffMs": 0 })))
        .await;
    claim_one(&app, &worker).await;
    let what = json!({ "progress": { "current": 1 }, "logs": [{ "message": "first" }],
        "result": { "success": false, "error": "not yet", "exitCode": 9 } });
    let job = report(&app, &worker, &id, 1, what).await;
    assert_eq!(
        (&job["status"], &job["progress"]),
        (&json!("PENDING"), &Value::Null)
    );
    let again = super::claim(&app, &worker, 1).await;
    assert_eq!((&again[0]["id"], &again[0]["attempt"]), (&json!(id), &json!(2)));
    report(&app, &worker, &id, 2, json!({ "result": { "success": true } })).await;
    let job = app.job(&id).await;
    assert_eq!(job["status"], "COMPLETED");
    assert_eq!(
        job["attempts"],
        json!([
            { "number": 1, "status": "FAILED", "exitCode": 9, "signal": null, "error": { "code": "REPORTED" },
              "worker": { "name": "worker-001-gpu" } },
            { "number": 2, "status": "COMPLETED", "exitCode": null, "signal": null, "error": null,
              "worker": { "name": "worker-001-gpu" } },
        ])
    );
    app.stop().await;
}
