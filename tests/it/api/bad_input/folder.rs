//! Working directories that would lead out of the work root.

use std::os::unix::fs::symlink;

use serde_json::json;

use super::refused;
use crate::api::fixture::{Stored, request, shell};
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    folders_outside_of_the_work_root,
    a_link_that_is_made_after_the_request
);

async fn folders_outside_of_the_work_root(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let work = app.folder().join("work");
    std::fs::create_dir_all(work.join("inside")).unwrap();
    symlink(app.folder(), work.join("out")).unwrap();
    symlink("/", work.join("inside/root")).unwrap();
    std::fs::write(work.join("file"), "").unwrap();
    let before = Stored::now(&db).await;
    let absolute = work.join("inside").display().to_string();
    let long = "x".repeat(1_025);
    for name in [
        "",
        ".",
        "..",
        "../elsewhere",
        "inside/../../elsewhere",
        "/tmp",
        &absolute,
        "a\u{0}b",
        ".jobs",
        ".jobs/x",
        "inside/.git",
        "out",
        "out/elsewhere",
        "inside/root/tmp",
        &long,
    ] {
        let input = request(shell("true"), json!({ "workingDir": name }));
        refused(&app, input, &["NOT_ALLOWED input.workingDir"]).await;
    }
    before.unchanged().await;
    assert!(!app.folder().join("elsewhere").exists());
    app.stop().await;
}

/// What was right when it was asked for and is not any more fails the job; nothing runs outside.
async fn a_link_that_is_made_after_the_request(db: TestDb) {
    let app = Setup::new(&db)
        .flag("--auto-start-workers", "false")
        .start()
        .await;
    let id = app
        .run(request(
            shell("touch was-here"),
            json!({ "workingDir": "later/below" }),
        ))
        .await;
    let outside = app.folder().join("outside");
    std::fs::create_dir_all(&outside).unwrap();
    std::fs::create_dir_all(app.folder().join("work")).unwrap();
    symlink(&outside, app.folder().join("work/later")).unwrap();
    app.data("mutation { startWorkers { errors { code } } }", json!({}))
        .await;
    let job = app.ended(&id).await;
    assert_eq!(
        (&job["status"], &job["error"]["code"]),
        (&json!("FAILED"), &json!("SPAWN_FAILED"))
    );
    assert_eq!(
        std::fs::read_dir(&outside).unwrap().count(),
        0,
        "something was made outside"
    );
    app.stop().await;
}
