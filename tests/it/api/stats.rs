//! Figures over jobs, and the server's own health.

use serde_json::{Value, json};

use super::fixture::{mutate, request, script, shell};
use crate::support::app::{Setup, TestApp};
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    counts_rates_and_times,
    figures_of_a_name_and_of_a_window,
    health_tells_how_it_is
);

async fn stats(app: &TestApp, filter: Value) -> Value {
    let query = "query($filter: StatsFilter) { stats(filter: $filter) {
        counts { total pending running completed failed timeout cancelled } successRate
        duration { mean p50 p95 p99 max } queueWait { mean p50 p95 p99 max } finishedPerMinute
        byName { name counts { total completed failed } }
    } }";
    app.data(query, json!({ "filter": filter })).await["stats"].take()
}

/// Whether a percentile is what it should be, to within a bucket of the histogram and the rounding of milliseconds.
fn near(value: &Value, truth: f64) -> bool {
    let value = value.as_f64().unwrap();
    (value - truth).abs() <= truth * 0.045 + 1.5
}

async fn counts_rates_and_times(db: TestDb) {
    let app = Setup::new(&db).flag("--workers", 1).start().await;
    let nothing = stats(&app, Value::Null).await;
    assert_eq!(nothing["counts"]["total"], 0);
    for empty in [
        &nothing["successRate"],
        &nothing["duration"]["p50"],
        &nothing["queueWait"]["max"],
    ] {
        assert_eq!(*empty, json!(null));
    }
    let mut durations = Vec::new();
    let mut waits = Vec::new();
    for line in ["true", "sleep 0.1", "sleep 0.3", "exit 1"] {
        let job = app.ended(&app.run(request(shell(line), json!({}))).await).await;
        durations.push(job["durationMs"].as_f64().unwrap());
        let moment = |field: &str| super::fixture::moment(&job[field]);
        #[expect(clippy::cast_precision_loss, reason = "a few milliseconds")]
        waits.push((moment("startedAt") - moment("runAt")).num_milliseconds() as f64);
    }
    app.ended(
        &app.run(request(shell("sleep 60"), json!({ "timeoutMs": 150 })))
            .await,
    )
    .await;
    let running = app.shell("sleep 60").await;
    app.job_in(&running, &["RUNNING"]).await;
    let cancelled = app.shell("true").await;
    mutate(&app, "cancel", "job { id }", json!({ "id": cancelled })).await;
    app.shell("true").await;
    let found = stats(&app, Value::Null).await;
    assert_eq!(
        found["counts"],
        json!({ "total": 8, "pending": 1, "running": 1, "completed": 3, "failed": 1, "timeout": 1, "cancelled": 1 })
    );
    assert_eq!(found["successRate"], 0.5);
    assert_eq!(found["finishedPerMinute"], 6.0);
    assert_eq!(
        found["byName"],
        json!([{ "name": "bash", "counts": { "total": 8, "completed": 3, "failed": 1 } }])
    );
    // The timeout ran 150 ms and is third of the five that started; the longest slept for 300 ms.
    durations.sort_by(f64::total_cmp);
    let slowest = durations[3];
    for field in ["p95", "p99", "max"] {
        assert!(
            near(&found["duration"][field], slowest),
            "{slowest} but {}",
            found["duration"]
        );
    }
    let mean = found["duration"]["mean"].as_f64().unwrap();
    assert!(
        mean > (slowest + 250.0) / 5.0 - 1.5 && mean < slowest,
        "{found:#}"
    );
    let longest = waits.iter().copied().fold(0.0, f64::max);
    assert!(
        found["queueWait"]["max"].as_f64().unwrap() >= longest * 0.95 - 1.5,
        "{longest} but {}",
        found["queueWait"]
    );
    app.data("mutation { stopWorkers { errors { code } } }", Value::Null)
        .await;
    mutate(&app, "cancel", "job { id }", json!({ "id": running })).await;
    app.ended(&running).await;
    app.stop().await;
}

async fn figures_of_a_name_and_of_a_window(db: TestDb) {
    let app = Setup::new(&db).start().await;
    for name in ["a.sh", "b.sh", "c.sh"] {
        app.script(name, if name == "b.sh" { "exit 1" } else { "true" });
    }
    let mut created = Vec::new();
    for name in ["a.sh", "b.sh", "b.sh", "c.sh", "c.sh", "c.sh"] {
        let job = app.ended(&app.run(request(script(name), json!({}))).await).await;
        created.push(job["createdAt"].clone());
    }
    let name = |name: &str, total: i32, completed: i32| json!({ "name": name, "counts": { "total": total, "completed": completed, "failed": total - completed } });
    let all = stats(&app, Value::Null).await;
    assert_eq!(
        all["byName"],
        json!([name("c.sh", 3, 3), name("b.sh", 2, 0), name("a.sh", 1, 1)])
    );
    let limited = app
        .data("{ stats { byName(first: 1) { name } } }", Value::Null)
        .await;
    assert_eq!(limited["stats"]["byName"], json!([{ "name": "c.sh" }]));
    // The counters and a count over the rows say the same.
    let since_ever = json!({ "created": { "since": "2001-01-01T00:00:00Z" } });
    let counted = stats(&app, since_ever).await;
    for field in [
        "counts",
        "successRate",
        "duration",
        "queueWait",
        "finishedPerMinute",
        "byName",
    ] {
        assert_eq!(counted[field], all[field], "{field}");
    }
    let of_b = stats(&app, json!({ "name": "b.sh" })).await;
    assert_eq!(
        (&of_b["counts"]["total"], &of_b["successRate"]),
        (&json!(2), &json!(0.0))
    );
    assert_eq!(
        (&of_b["finishedPerMinute"], &of_b["byName"]),
        (&json!(2.0), &json!([name("b.sh", 2, 0)]))
    );
    let window = json!({ "created": { "since": created[2], "until": created[4] } });
    let within = stats(&app, window).await;
    assert_eq!(within["counts"]["total"], 2);
    assert_eq!(within["byName"], json!([name("b.sh", 1, 0), name("c.sh", 1, 1)]));
    let of_both = stats(
        &app,
        json!({ "name": "c.sh", "created": { "until": created[4] } }),
    )
    .await;
    assert_eq!(
        (&of_both["counts"]["total"], &of_both["counts"]["completed"]),
        (&json!(1), &json!(1))
    );
    let of_none = stats(&app, json!({ "name": "b*" })).await;
    assert_eq!(
        (&of_none["counts"]["total"], &of_none["byName"]),
        (&json!(0), &json!([]))
    );
    app.stop().await;
}

async fn health_tells_how_it_is(db: TestDb) {
    let app = Setup::new(&db).flag("--workers", 2).start().await;
    let query = "{ health { status version timestamp uptimeMs database { backend connected latencyMs }
        workers { total idle busy offline } queue { total pending running } } viewer { tokenName scopes } }";
    let running = app.shell("sleep 60").await;
    app.job_in(&running, &["RUNNING"]).await;
    let data = app.data(query, Value::Null).await;
    let health = &data["health"];
    let backend = match db.backend() {
        runql::store::Backend::Sqlite => "SQLITE",
        runql::store::Backend::Postgres => "POSTGRES",
    };
    assert_eq!(
        (&health["status"], &health["version"]),
        (&json!("HEALTHY"), &json!(env!("CARGO_PKG_VERSION")))
    );
    assert_eq!(
        (&health["database"]["backend"], &health["database"]["connected"]),
        (&json!(backend), &json!(true))
    );
    assert!(
        health["database"]["latencyMs"].as_f64().unwrap() > 0.0 && health["uptimeMs"].as_i64().unwrap() >= 0
    );
    assert_eq!(
        health["workers"],
        json!({ "total": 2, "idle": 1, "busy": 1, "offline": 0 })
    );
    assert_eq!(health["queue"], json!({ "total": 1, "pending": 0, "running": 1 }));
    assert_eq!(
        data["viewer"],
        json!({ "tokenName": null, "scopes": ["READ", "RUN", "WORKER", "ADMIN"] })
    );
    app.data("mutation { stopWorkers { errors { code } } }", Value::Null)
        .await;
    assert_eq!(app.data(query, Value::Null).await["health"]["status"], "DEGRADED");
    app.data("mutation { startWorkers { errors { code } } }", Value::Null)
        .await;
    assert_eq!(app.data(query, Value::Null).await["health"]["status"], "HEALTHY");
    mutate(&app, "cancel", "job { id }", json!({ "id": running })).await;
    app.ended(&running).await;
    app.stop().await;
}
