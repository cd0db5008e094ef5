//! The wire to Postgres: cut, slow, stalled, and lost without a word.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::json;

use super::{Sent, get, in_trouble, runs, send, under_load, well};
use crate::life::{printed, shell, shell_with};
use crate::support::app::Setup;
use crate::support::db::TestDb;
use crate::support::forwarder::Forwarder;
use crate::support::on_postgres;
use crate::support::wait::until;

on_postgres!(
    a_database_that_is_away_at_the_start_is_waited_for,
    what_ends_while_the_database_is_away_is_stored_when_it_is_back,
    every_fault_of_the_wire_is_answered_in_time,
    a_slow_wire_only_slows,
    a_wire_that_loses_all_is_given_up_in_time,
    a_lost_node_holds_up_nobody,
);

async fn a_database_that_is_away_at_the_start_is_waited_for(db: TestDb) {
    let wire = Forwarder::cut_off(&db).await;
    let app = Setup::new(&db).through(wire.url()).launch().await;
    let (status, body) = get(&app, "/ready").await;
    assert_eq!(
        (status, &body["ready"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!(false))
    );
    let (status, body) = get(&app, "/health").await;
    assert_eq!(
        (status, &body["status"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!("UNHEALTHY"))
    );
    assert_eq!(body["database"]["connected"], false);
    until("the server knows why", async || {
        let (_, body) = get(&app, "/health").await;
        if body["database"]["problem"] == "UNREACHABLE" {
            Ok(())
        } else {
            Err(body)
        }
    })
    .await;
    assert_eq!(
        get(&app, "/ready").await.1["reason"],
        "the store is not open yet: the database cannot be reached"
    );
    let answer = app.answer("{ health { status } }", json!({})).await;
    assert_eq!(
        answer["errors"][0]["extensions"]["code"], "UNAVAILABLE",
        "{answer:#}"
    );
    until("the server says what it waits for", async || {
        let told = app.told();
        if told.iter().any(|line| line.contains("the store is away")) {
            Ok(())
        } else {
            Err(told)
        }
    })
    .await;
    wire.mend();
    app.ready().await;
    assert_eq!(get(&app, "/health").await.0, StatusCode::OK);
    app.completed(shell("echo late but here")).await;
    app.stop().await;
}

async fn what_ends_while_the_database_is_away_is_stored_when_it_is_back(db: TestDb) {
    let wire = Forwarder::cut_off(&db).await;
    wire.mend();
    let app = Setup::new(&db).through(wire.url()).start().await;
    let env = json!({ "env": [{ "name": "HOLD", "value": app.folder() }] });
    let hold = r#"while [ ! -e "$HOLD/cut" ]; do sleep 0.01; done"#;
    let talks = format!(
        r#"echo before; {hold}; for n in $(seq 3000); do echo "line $n"; done; echo '{{"sum": 7}}' > "$RUNQL_OUTPUT"; touch "$HOLD/talked""#
    );
    let fails = format!(r#"echo before; {hold}; echo oh no >&2; touch "$HOLD/failed"; exit 9"#);
    let (talks, fails) = (
        app.run(shell_with(&talks, env.clone())).await,
        app.run(shell_with(&fails, env)).await,
    );
    printed(&app, &talks, "before").await;
    printed(&app, &fails, "before").await;

    wire.cut();
    std::fs::write(app.folder().join("cut"), "").unwrap();
    for name in ["talked", "failed"] {
        until("the jobs ran to their ends without the database", async || {
            if app.folder().join(name).exists() {
                Ok(())
            } else {
                Err(name)
            }
        })
        .await;
    }
    app.nothing_left().await;
    until("the server is not ready", async || {
        match get(&app, "/ready").await {
            (StatusCode::SERVICE_UNAVAILABLE, _) => Ok(()),
            other => Err(other),
        }
    })
    .await;
    let answer = app.answer("{ stats { counts { total } } }", json!({})).await;
    assert_eq!(
        answer["errors"][0]["extensions"]["code"], "UNAVAILABLE",
        "{answer:#}"
    );

    wire.mend();
    app.ready().await;
    let job = app.ended(&talks).await;
    assert_eq!(
        (&job["status"], &job["output"]),
        (&json!("COMPLETED"), &json!({ "sum": 7 })),
        "{job:#}"
    );
    let expected: String = (1..=3_000).map(|n| format!("line {n}\n")).collect();
    let stdout = app.bytes(&talks, "stdout").await;
    assert_eq!(String::from_utf8(stdout).unwrap(), format!("before\n{expected}"));
    let job = app.ended(&fails).await;
    assert_eq!((&job["status"], &job["exitCode"]), (&json!("FAILED"), &json!(9)));
    assert_eq!((&job["attempt"], &job["stderr"]), (&json!(1), &json!("oh no\n")));
    app.completed(shell("echo as if nothing had been")).await;
    app.stop().await;
}

/// What was answered is stored, and what was refused is not, whatever happens to the wire.
async fn every_fault_of_the_wire_is_answered_in_time(db: TestDb) {
    let wire = Forwarder::cut_off(&db).await;
    wire.mend();
    let app = Setup::new(&db).through(wire.url()).start().await;
    let (stored, refused, open) = under_load(&app, &db, async {
        for fault in [
            Forwarder::cut,
            Forwarder::stall,
            Forwarder::lose_answers,
            Forwarder::lose,
        ] {
            runs(&app, true, 3).await;
            fault(&wire);
            runs(&app, false, 1).await;
            wire.mend();
            runs(&app, true, 3).await;
        }
    })
    .await;
    assert!(stored > 0 && refused + open > 0, "{stored} {refused} {open}");
    well(&app).await;
    app.completed(shell("echo as if nothing had been")).await;
    app.stop().await;
}

async fn a_slow_wire_only_slows(db: TestDb) {
    let wire = Forwarder::cut_off(&db).await;
    wire.mend();
    let app = Setup::new(&db).through(wire.url()).start().await;
    wire.slow_down(Duration::from_millis(300));
    let job = app.run(shell("echo late")).await;
    wire.slow_down(Duration::from_millis(100));
    let job = app.ended(&job).await;
    assert_eq!(
        (&job["status"], &job["attempt"]),
        (&json!("COMPLETED"), &json!(1)),
        "{job:#}"
    );
    assert_eq!(get(&app, "/ready").await.0, StatusCode::OK);
    wire.mend();
    app.stop().await;
}

/// Connections that stay open for ever and say nothing do not use up the pools.
async fn a_wire_that_loses_all_is_given_up_in_time(db: TestDb) {
    let wire = Forwarder::cut_off(&db).await;
    wire.mend();
    let app = Setup::new(&db).through(wire.url()).start().await;
    let env = json!({ "env": [{ "name": "HOLD", "value": app.folder() }] });
    let line = r#"echo before; while [ ! -e "$HOLD/go" ]; do sleep 0.01; done; echo after"#;
    let id = app.run(shell_with(line, env)).await;
    printed(&app, &id, "before").await;
    for _ in 0..2 {
        wire.lose();
        in_trouble(&app, &["NO_ANSWER", "UNREACHABLE"]).await;
        runs(&app, false, 1).await;
        wire.mend();
        well(&app).await;
        runs(&app, true, 1).await;
    }
    wire.lose();
    std::fs::write(app.folder().join("go"), "").unwrap();
    app.nothing_left().await;
    wire.mend();
    // A read that waits for a connection which was begun before is still refused.
    well(&app).await;
    let job = app.ended(&id).await;
    assert_eq!(
        (&job["status"], &job["attempt"], &job["stdout"]),
        (&json!("COMPLETED"), &json!(1), &json!("before\nafter\n")),
        "{job:#}"
    );
    app.stop().await;
}

/// A node that is cut off within a transaction holds the lock that orders commits. Postgres has to end its session: by
/// itself it would notice after hours that nobody is there.
async fn a_lost_node_holds_up_nobody(db: TestDb) {
    let wire = Forwarder::cut_off(&db).await;
    wire.mend();
    let near = Setup::new(&db).start().await;
    let far = Setup::new(&db)
        .through(wire.url())
        .flag("--auto-start-workers", false)
        .start()
        .await;
    let step = json!({ "key": "a", "run": { "command": { "shell": { "command": "sleep 600" } } } });
    let plan = near
        .run(json!({ "command": { "plan": { "strategy": { "serial": {} }, "steps": [step] } } }))
        .await;
    near.job_in(&plan, &["RUNNING"]).await;
    // The number of the lock: whoever cancels a plan takes it before it looks at the plan.
    wire.lose_after("491596444012");
    let lost = async |wire: &Forwarder| {
        until(
            "the wire is lost",
            async || if wire.sprung() { Ok(()) } else { Err(()) },
        )
        .await;
        runs(&near, true, 1).await;
    };
    let cancel = "mutation($id: ID!) { cancel(input: { id: $id }) { job { status } errors { message } } }";
    let cancelled = far.answer(cancel, json!({ "id": plan }));
    let (cancelled, ()) = tokio::join!(cancelled, lost(&wire));
    assert_eq!(
        cancelled["errors"][0]["extensions"]["code"], "UNAVAILABLE",
        "{cancelled:#}"
    );
    wire.mend();
    far.ready().await;
    // What is sent together with the commit is done before the answer is lost, and holds up nobody either.
    wire.lose_after("COMMIT");
    let (asked, ()) = tokio::join!(send(&far, "lost".to_owned()), lost(&wire));
    assert!(matches!(asked, Sent::Refused(_, true)), "{asked:?}");
    wire.mend();
    far.ready().await;
    assert_eq!(near.job(&plan).await["status"], "RUNNING");
    near.data(cancel, json!({ "id": plan })).await;
    near.completed(shell("echo back")).await;
    far.stop().await;
    near.stop().await;
}
