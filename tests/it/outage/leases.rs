//! Leases through an outage: short ones are outlasted, and nobody runs what another may still run.

use std::time::Duration;

use serde_json::json;

use crate::life::{lines, printed, shell, shell_with, system};
use crate::support::app::Setup;
use crate::support::db::TestDb;
use crate::support::forwarder::Forwarder;
use crate::support::on_postgres;
use crate::support::wait::until;

on_postgres!(
    a_lease_that_ran_out_while_the_database_was_away_stops_the_job,
    a_node_that_is_cut_off_stops_before_another_starts,
    a_short_outage_is_outlasted,
);

/// Nobody may run it twice: the server that cannot renew its lease stops before another may start.
async fn a_lease_that_ran_out_while_the_database_was_away_stops_the_job(db: TestDb) {
    let wire = Forwarder::cut_off(&db).await;
    wire.mend();
    let lease = Duration::from_millis(1_500);
    let shared = tempfile::tempdir().unwrap();
    let far = Setup::new(&db)
        .through(wire.url())
        .flag("--lease-ms", lease.as_millis())
        .flag("--job-write", shared.path().display())
        .start()
        .await;
    // The second attempt fails where the first one's process still lives.
    let line = r#"if [ "$RUNQL_ATTEMPT" = 2 ]; then [ ! -e "/proc/$(cat "$HOLD/first")" ]; exit; fi
        echo $$ > "$HOLD/first"; echo "attempt $RUNQL_ATTEMPT"; exec sleep 1000"#;
    let env = json!([{ "name": "HOLD", "value": shared.path() }]);
    let more = json!({ "maxAttempts": 2, "backoffMs": 0, "env": env });
    let id = far.run(shell_with(line, more)).await;
    printed(&far, &id, "attempt 1").await;
    let near = Setup::new(&db)
        .flag("--lease-ms", lease.as_millis())
        .flag("--job-write", shared.path().display())
        .start()
        .await;
    wire.cut();
    let job = near.ended(&id).await;
    assert_eq!(
        (&job["status"], &job["attempt"]),
        (&json!("COMPLETED"), &json!(2)),
        "{job:#}"
    );
    assert_eq!(job["attempts"][0]["error"]["code"], "WORKER_LOST");
    far.nothing_left().await;
    wire.mend();
    far.ready().await;
    // The node that came back late changes nothing.
    far.completed(shell("echo back")).await;
    assert_eq!(far.job(&id).await, job);
    let first = lines(&far, &id, json!({ "attempt": 1, "streams": ["STDOUT"] })).await;
    assert_eq!(first.len(), 1, "{first:?}");
    assert!(!system(&far, &id).await.is_empty());
    far.stop().await;
    near.stop().await;
}

/// By the clocks of the processes themselves: each writes down when it lived.
async fn a_node_that_is_cut_off_stops_before_another_starts(db: TestDb) {
    let wire = Forwarder::cut_off(&db).await;
    wire.mend();
    let lease = 3_000;
    let shared = tempfile::tempdir().unwrap();
    let far = Setup::new(&db)
        .through(wire.url())
        .flag("--lease-ms", lease)
        .flag("--job-write", shared.path().display())
        .start()
        .await;
    let line = r#"while :; do date +%s%N >> "$HOLD/attempt-$RUNQL_ATTEMPT"; echo "attempt $RUNQL_ATTEMPT"
        [ "$RUNQL_ATTEMPT" = 1 ] || exit 0; sleep 0.02; done"#;
    let env = json!([{ "name": "HOLD", "value": shared.path() }]);
    let more = json!({ "maxAttempts": 2, "backoffMs": 0, "env": env });
    let id = far.run(shell_with(line, more)).await;
    printed(&far, &id, "attempt 1").await;
    let near = Setup::new(&db)
        .flag("--lease-ms", lease)
        .flag("--job-write", shared.path().display())
        .start()
        .await;
    // It stays open, and nothing comes: only its own clock tells the node that it is alone.
    wire.lose();
    let job = near.ended(&id).await;
    assert_eq!(
        (&job["status"], &job["attempt"]),
        (&json!("COMPLETED"), &json!(2)),
        "{job:#}"
    );
    assert_eq!(job["attempts"][0]["error"]["code"], "WORKER_LOST");
    far.nothing_left().await;
    let times = |attempt: u32| -> Vec<u128> {
        let text = std::fs::read_to_string(shared.path().join(format!("attempt-{attempt}"))).unwrap();
        text.lines().map(|line| line.parse().unwrap()).collect()
    };
    let (last, first) = (*times(1).last().unwrap(), times(2)[0]);
    assert!(last < first, "both lived for {} ms", (last - first) / 1_000_000);
    wire.mend();
    far.ready().await;
    far.completed(shell("echo back")).await;
    assert_eq!(far.job(&id).await, job, "who comes back late changes nothing");
    far.stop().await;
    near.stop().await;
}

async fn a_short_outage_is_outlasted(db: TestDb) {
    let wire = Forwarder::cut_off(&db).await;
    wire.mend();
    let lease = 15_000;
    let far = Setup::new(&db)
        .through(wire.url())
        .flag("--lease-ms", lease)
        .start()
        .await;
    let near = Setup::new(&db).flag("--lease-ms", lease).start().await;
    near.data("mutation { stopWorkers { errors { message } } }", json!({}))
        .await;
    let line = r#"echo up; while [ ! -e "$HOLD/go" ]; do sleep 0.01; done; echo done"#;
    let env = json!({ "env": [{ "name": "HOLD", "value": far.folder() }], "maxAttempts": 2 });
    let id = far.run(shell_with(line, env)).await;
    printed(&far, &id, "up").await;
    near.data("mutation { startWorkers { errors { message } } }", json!({}))
        .await;
    wire.cut();
    until("a heartbeat failed", async || {
        let told = far.told();
        if told.iter().any(|line| line.contains("the heartbeat")) {
            Ok(())
        } else {
            Err(told.len())
        }
    })
    .await;
    wire.mend();
    std::fs::write(far.folder().join("go"), "").unwrap();
    let job = near.ended(&id).await;
    assert_eq!(
        (&job["status"], &job["attempt"], &job["stdout"]),
        (&json!("COMPLETED"), &json!(1), &json!("up\ndone\n")),
        "{job:#}"
    );
    far.stop().await;
    near.stop().await;
}
