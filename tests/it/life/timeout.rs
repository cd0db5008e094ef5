//! Time limits: the signal first, so that a job can say goodbye, then the end.

use serde_json::json;

use super::{shell_with, system};
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    a_job_over_its_time_can_say_goodbye,
    a_job_over_its_time_that_ignores_it_is_killed,
    a_time_limit_is_a_reason_to_try_again,
);

async fn a_job_over_its_time_can_say_goodbye(db: TestDb) {
    let app = Setup::new(&db).flag("--cancel-grace-ms", 60_000).start().await;
    let line = "trap 'echo goodbye; exit 3' TERM; echo up; while :; do sleep 0.02; done";
    let id = app.run(shell_with(line, json!({ "timeoutMs": 300 }))).await;
    let job = app.ended(&id).await;
    assert_eq!((&job["status"], &job["exitCode"]), (&json!("TIMEOUT"), &json!(3)));
    assert_eq!(job["error"]["code"], "TIMEOUT");
    assert!(
        job["error"]["message"].as_str().unwrap().contains("300 ms"),
        "{job:#}"
    );
    assert_eq!(job["stdout"], "up\ngoodbye\n");
    assert!(job["durationMs"].as_u64().unwrap() >= 300);
    let said = system(&app, &id).await;
    assert!(said.last().unwrap().contains("300 ms"), "{said:?}");
    app.nothing_left().await;
    app.stop().await;
}

async fn a_job_over_its_time_that_ignores_it_is_killed(db: TestDb) {
    let app = Setup::new(&db).flag("--cancel-grace-ms", 200).start().await;
    let line = "trap '' TERM; sleep 1000 & sleep 1000";
    let id = app.run(shell_with(line, json!({ "timeoutMs": 100 }))).await;
    let job = app.ended(&id).await;
    assert_eq!(
        (&job["status"], &job["signal"]),
        (&json!("TIMEOUT"), &json!("SIGKILL"))
    );
    let took = job["durationMs"].as_u64().unwrap();
    assert!((300..5_300).contains(&took), "{job:#}");
    app.nothing_left().await;
    app.stop().await;
}

async fn a_time_limit_is_a_reason_to_try_again(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let line = r#"echo "attempt $RUNQL_ATTEMPT"; [ "$RUNQL_ATTEMPT" = 2 ] || sleep 1000"#;
    let more = json!({ "timeoutMs": 1_500, "maxAttempts": 2, "backoffMs": 0 });
    let id = app.run(shell_with(line, more)).await;
    let job = app.ended(&id).await;
    assert_eq!(
        (&job["status"], &job["attempt"]),
        (&json!("COMPLETED"), &json!(2)),
        "{job:#}"
    );
    assert_eq!(job["attempts"][0]["status"], "TIMEOUT");
    assert_eq!(job["attempts"][0]["error"]["code"], "TIMEOUT");
    assert_eq!(job["attempts"][1]["status"], "COMPLETED");
    assert_eq!(job["stdout"], "attempt 2\n");
    app.nothing_left().await;
    app.stop().await;
}
