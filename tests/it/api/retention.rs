//! Old jobs are deleted by the server itself where the settings say how old.

use sea_orm::ConnectionTrait;
use serde_json::json;

use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;
use crate::support::wait::until;

both_stores!(what_is_older_than_the_setting_goes_by_itself);

/// The shortest age that can be set is a minute, so the job is made older than it is.
async fn what_is_older_than_the_setting_goes_by_itself(db: TestDb) {
    let mut app = Setup::new(&db).flag("--retention", "1h").start().await;
    let old = app.shell("echo old").await;
    let recent = app.shell("echo recent").await;
    let scheduled = app
        .run(json!({ "command": { "shell": { "command": "true" } }, "runAt": "2100-01-01T00:00:00Z" }))
        .await;
    app.ended(&old).await;
    app.ended(&recent).await;
    app.kill().await;
    let id = uuid::Uuid::parse_str(&old).unwrap();
    let literal = match db.backend() {
        runql::store::Backend::Sqlite => format!("X'{}'", id.simple()),
        runql::store::Backend::Postgres => format!("'{id}'"),
    };
    let two_hours = 2 * 3_600 * 1_000_000_i64;
    let changed = db
        .raw()
        .await
        .execute_unprepared(&format!(
            "UPDATE job SET finished_at = finished_at - {two_hours} WHERE id = {literal}"
        ))
        .await
        .unwrap();
    assert_eq!(changed.rows_affected(), 1);
    app.restart().await;
    until("the old job is deleted", async || {
        if app.job(&old).await == json!(null) {
            Ok(())
        } else {
            Err(())
        }
    })
    .await;
    assert_eq!(app.job(&recent).await["stdout"], "recent\n");
    assert_eq!(app.job(&scheduled).await["status"], "PENDING");
    let counts = app
        .data("{ stats { counts { total completed pending } } }", json!({}))
        .await;
    assert_eq!(
        counts["stats"]["counts"],
        json!({ "total": 2, "completed": 1, "pending": 1 })
    );
    app.stop().await;
}
