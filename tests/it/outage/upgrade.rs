//! Versions: the tables are made once, whoever comes first, and a version that does not know them leaves them alone.

use futures_util::future::join_all;
use sea_orm::ConnectionTrait;
use serde_json::json;

use crate::life::{printed, shell};
use crate::support::app::Setup;
use crate::support::db::{TestDb, texts};
use crate::support::{both_stores, on_postgres};

both_stores!(a_newer_database_is_refused_with_a_reason);
on_postgres!(
    five_servers_start_at_once_on_an_empty_database,
    an_older_server_ends_in_order_once_a_newer_has_migrated,
);

const NEWER: &str = "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m29991231_000001_later', 0)";

async fn five_servers_start_at_once_on_an_empty_database(db: TestDb) {
    db.without_tables().await;
    let apps = join_all((0..5).map(|_| Setup::new(&db).flag("--workers", 1).start())).await;
    let raw = db.raw().await;
    let applied = texts(&raw, "SELECT version FROM seaql_migrations").await;
    assert_eq!(
        applied.len(),
        applied.iter().collect::<std::collections::BTreeSet<_>>().len()
    );
    for app in &apps {
        app.completed(shell("echo here")).await;
    }
    for app in apps {
        app.stop().await;
    }
}

async fn a_newer_database_is_refused_with_a_reason(db: TestDb) {
    Setup::new(&db).start().await.stop().await;
    db.raw().await.execute_unprepared(NEWER).await.unwrap();
    let mut app = Setup::new(&db).launch().await;
    assert_eq!(app.exit().await, Some(1));
    let told = app.told().join("\n");
    assert!(told.contains("migrated by a newer version of runql"), "{told}");
}

/// As a rolling upgrade does: the newer server migrates while the older one runs.
async fn an_older_server_ends_in_order_once_a_newer_has_migrated(db: TestDb) {
    let mut app = Setup::new(&db).flag("--shutdown-grace-ms", 20_000).start().await;
    let env = json!({ "env": [{ "name": "HOLD", "value": app.folder() }] });
    let id = app
        .run(crate::life::shell_with(
            r#"echo up; while [ ! -e "$HOLD/go" ]; do sleep 0.01; done; echo whole"#,
            env,
        ))
        .await;
    printed(&app, &id, "up").await;
    let raw = db.raw().await;
    raw.execute_unprepared(NEWER).await.unwrap();
    crate::support::wait::until("it goes down", async || {
        let told = app.told();
        if told.iter().any(|line| line.contains("shutting down")) {
            Ok(())
        } else {
            Err(told.len())
        }
    })
    .await;
    std::fs::write(app.folder().join("go"), "").unwrap();
    assert_eq!(app.exit().await, Some(1));
    let told = app.told().join("\n");
    assert!(
        told.contains("migrated by a newer version of runql, so this one ends in order"),
        "{told}"
    );
    assert_eq!(
        texts(&raw, "SELECT status FROM job").await,
        ["COMPLETED"],
        "it was let end"
    );
    app.nothing_left().await;
}
