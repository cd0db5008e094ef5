//! Leases through an outage: short ones are outlasted, and nobody runs what another may still run.

use serde_json::{Value, json};

use crate::life::{lines, printed, shell, shell_with, system};
use crate::support::app::{Setup, TestApp};
use crate::support::db::TestDb;
use crate::support::forwarder::Forwarder;
use crate::support::on_postgres;
use crate::support::wait::until;

on_postgres!(
    a_lease_that_ran_out_while_the_database_was_away_stops_the_job,
    a_node_that_is_cut_off_stops_before_another_starts,
    a_short_outage_is_outlasted,
);

/// Two nodes and a job of two attempts, whose first one runs on the node that can be cut off from the database.
struct Nodes {
    wire: Forwarder,
    /// Behind the wire.
    far: TestApp,
    near: TestApp,
    id: String,
    /// Where the job finds `HOLD`, on whichever node it runs.
    hold: tempfile::TempDir,
}

impl Nodes {
    /// The job is a line of bash, whose first attempt runs once it has printed `sign`.
    async fn start(db: &TestDb, lease_ms: u64, line: &str, sign: &str) -> Self {
        let wire = Forwarder::cut_off(db).await;
        wire.mend();
        let hold = tempfile::tempdir().unwrap();
        let node = || {
            Setup::new(db)
                .flag("--lease-ms", lease_ms)
                .flag("--job-write", hold.path().display())
        };
        let far = node().through(wire.url()).start().await;
        let env = json!([{ "name": "HOLD", "value": hold.path() }]);
        let more = json!({ "maxAttempts": 2, "backoffMs": 0, "env": env });
        let id = far.run(shell_with(line, more)).await;
        printed(&far, &id, sign).await;
        // Only now, so that it cannot have taken the job.
        let near = node().start().await;
        Self {
            wire,
            far,
            near,
            id,
            hold,
        }
    }

    /// Waits until the near node has run the job once more, and gives it.
    async fn taken_over(&self) -> Value {
        let job = self.near.ended(&self.id).await;
        assert_eq!(
            (&job["status"], &job["attempt"]),
            (&json!("COMPLETED"), &json!(2)),
            "{job:#}"
        );
        assert_eq!(job["attempts"][0]["error"]["code"], "WORKER_LOST");
        self.far.nothing_left().await;
        job
    }

    /// Lets the far node come back, which changes nothing about the job, and works again.
    async fn mended(&self, job: &Value) {
        self.wire.mend();
        self.far.ready().await;
        self.far.completed(shell("echo back")).await;
        assert_eq!(self.far.job(&self.id).await, *job);
    }

    async fn stop(self) {
        self.far.stop().await;
        self.near.stop().await;
    }
}

/// Nobody may run it twice: the server that cannot renew its lease stops before another may start.
async fn a_lease_that_ran_out_while_the_database_was_away_stops_the_job(db: TestDb) {
    // The second attempt fails where the first one's process still lives.
    let line = r#"if [ "$RUNQL_ATTEMPT" = 2 ]; then [ ! -e "/proc/$(cat "$HOLD/first")" ]; exit; fi
        echo $$ > "$HOLD/first"; echo "attempt $RUNQL_ATTEMPT"; exec sleep 1000"#;
    let nodes = Nodes::start(&db, 1_500, line, "attempt 1").await;
    nodes.wire.cut();
    let job = nodes.taken_over().await;
    nodes.mended(&job).await;
    let Nodes { far, id, .. } = &nodes;
    let first = lines(far, id, json!({ "attempt": 1, "streams": ["STDOUT"] })).await;
    assert_eq!(first.len(), 1, "{first:?}");
    assert!(!system(far, id).await.is_empty());
    nodes.stop().await;
}

/// By the clocks of the processes themselves: each writes down when it lived.
async fn a_node_that_is_cut_off_stops_before_another_starts(db: TestDb) {
    let line = r#"while :; do date +%s%N >> "$HOLD/attempt-$RUNQL_ATTEMPT"; echo "attempt $RUNQL_ATTEMPT"
        [ "$RUNQL_ATTEMPT" = 1 ] || exit 0; sleep 0.02; done"#;
    let nodes = Nodes::start(&db, 3_000, line, "attempt 1").await;
    // It stays open, and nothing comes: only its own clock tells the node that it is alone.
    nodes.wire.lose();
    let job = nodes.taken_over().await;
    let times = |attempt: u32| -> Vec<u128> {
        let text = std::fs::read_to_string(nodes.hold.path().join(format!("attempt-{attempt}"))).unwrap();
        text.lines().map(|line| line.parse().unwrap()).collect()
    };
    let (last, first) = (*times(1).last().unwrap(), times(2)[0]);
    assert!(last < first, "both lived for {} ms", (last - first) / 1_000_000);
    nodes.mended(&job).await;
    nodes.stop().await;
}

async fn a_short_outage_is_outlasted(db: TestDb) {
    let line = r#"echo up; while [ ! -e "$HOLD/go" ]; do sleep 0.01; done; echo done"#;
    let nodes = Nodes::start(&db, 15_000, line, "up").await;
    nodes.wire.cut();
    until("a heartbeat failed", async || {
        let told = nodes.far.told();
        if told.iter().any(|line| line.contains("the heartbeat")) {
            Ok(())
        } else {
            Err(told.len())
        }
    })
    .await;
    nodes.wire.mend();
    std::fs::write(nodes.hold.path().join("go"), "").unwrap();
    let job = nodes.near.ended(&nodes.id).await;
    assert_eq!(
        (&job["status"], &job["attempt"], &job["stdout"]),
        (&json!("COMPLETED"), &json!(1), &json!("up\ndone\n")),
        "{job:#}"
    );
    nodes.stop().await;
}
