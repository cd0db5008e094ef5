//! A sandbox that cannot be had stops the start, and what there is of it is told once.

use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use tokio::process::Command;

use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;
use crate::support::wait::within;

both_stores!(what_is_in_force_is_told_once);

async fn what_is_in_force_is_told_once(db: TestDb) {
    let app = Setup::new(&db)
        .flag("--sandbox", "require")
        .flag("--job-memory", "1GiB")
        .start()
        .await;
    let told = app.told();
    let lines: Vec<&String> = told
        .iter()
        .filter(|line| line.contains("\"message\":\"sandbox\""))
        .collect();
    assert_eq!(lines.len(), 1, "{told:#?}");
    assert!(lines[0].contains("\"memory_bytes\":1073741824"), "{}", lines[0]);
    app.stop().await;
}

async fn started_with(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_runql"));
    command
        .args(["serve", "--listen", "127.0.0.1:0"])
        .args(arguments)
        .env_clear()
        .current_dir(folder.path())
        .kill_on_drop(true);
    within("the refusal", command.output()).await.unwrap()
}

#[tokio::test]
async fn what_cannot_be_had_is_refused_with_its_reason() {
    for (arguments, reason) in [
        (
            &["--run-as", "no-such-user"][..],
            "there is no user `no-such-user`",
        ),
        (
            &["--run-as", "root:no-such-group"],
            "there is no group `no-such-group`",
        ),
        (
            &["--job-cgroup", "/no/such/group"],
            "/no/such/group is no control group of version 2",
        ),
        (&["--job-cpus", "1.5"], "--job-cpus needs a control group"),
        (&["--job-write", "."], "runql.db lies there"),
        (&["--job-write", "/no/such/folder"], "/no/such/folder"),
        // Where this is root, the folder of the test is its own alone.
        (&["--run-as", "3999998", "--work-dir", "."], "3999998"),
    ] {
        let output = started_with(arguments).await;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {told}");
        assert!(told.contains(reason), "{arguments:?}: {told}");
    }
}
