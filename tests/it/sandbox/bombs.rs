//! Jobs that take all they can get.

use serde_json::json;

use super::{healthy, shell_with};
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;
use crate::support::machine::Memory;

both_stores!(
    a_limit_that_ended_a_job_is_named,
    bombs_of_memory_files_and_output_hurt_nobody_else,
    a_bomb_of_forks_ends_with_its_job,
);

async fn a_limit_that_ended_a_job_is_named(db: TestDb) {
    let app = Setup::new(&db)
        .flag("--job-cpu-seconds", 1)
        .flag("--job-file-size", "1MiB")
        .start()
        .await;
    let cpu = "used up its processor time of 1 seconds (--job-cpu-seconds)";
    let size = "wrote more than the 1048576 bytes that a file may have (--job-file-size)";
    for (line, code, message) in [
        (
            "while :; do :; done",
            "SIGNALLED",
            format!("{cpu}, and was ended by SIGXCPU"),
        ),
        (
            "trap '' XCPU; while :; do :; done",
            "SIGNALLED",
            format!("{cpu}, and was ended by SIGKILL"),
        ),
        (
            "bash -c 'while :; do :; done'; exit $?",
            "EXIT_CODE",
            format!("exited with code 152, which says that a program of it {cpu}"),
        ),
        (
            "exec head -c 2M /dev/zero > big",
            "SIGNALLED",
            format!("{size}, and was ended by SIGXFSZ"),
        ),
        (
            "head -c 2M /dev/zero > big; exit $?",
            "EXIT_CODE",
            format!("exited with code 153, which says that a program of it {size}"),
        ),
        (
            "exit 152",
            "EXIT_CODE",
            format!("exited with code 152, which says that a program of it {cpu}"),
        ),
        ("exit 7", "EXIT_CODE", "exited with code 7".to_owned()),
        (
            "kill -KILL $$",
            "SIGNALLED",
            "ended by SIGKILL, which the server did not send; the system does so where memory runs out"
                .to_owned(),
        ),
    ] {
        let id = app.run(shell_with(line, json!({}))).await;
        let job = app.ended(&id).await;
        assert_eq!(
            job["error"],
            json!({ "code": code, "message": message }),
            "{line}: {job:#}"
        );
    }
    app.stop().await;
}

async fn bombs_of_memory_files_and_output_hurt_nobody_else(db: TestDb) {
    let app = Setup::new(&db)
        .flag("--workers", 6)
        .flag("--job-memory", "128MiB")
        .flag("--job-file-size", "4MiB")
        .flag("--job-open-files", 100)
        .flag("--log-bytes-per-job", "1MiB")
        .start()
        .await;
    healthy(&app).await;
    let before = Memory::forget_peak(&app);
    let bombs = [
        "python3 -c 'x = bytearray(1 << 32)'",
        "python3 -c 'x = []\nwhile True: x.append(bytearray(1 << 20))'",
        "for n in $(seq 20); do head -c 100M /dev/zero > file-$n; done",
        "python3 -c 'import os\nwhile True: os.open(\"/\", 0)'",
        "head -c 300M /dev/zero",
    ];
    let mut ids = Vec::new();
    for line in bombs {
        ids.push(app.run(shell_with(line, json!({}))).await);
    }
    healthy(&app).await;
    for (line, id) in bombs.iter().zip(&ids) {
        let job = app.ended(id).await;
        let expected = if line.starts_with("head") {
            "COMPLETED"
        } else {
            "FAILED"
        };
        assert_eq!(job["status"], expected, "{line}: {job:#}");
    }
    healthy(&app).await;
    let after = Memory::of(&app);
    // What six jobs at once hold of output and log is a few MiB each.
    assert!(after.peak < before.now + 128 * 1024, "{before:?} {after:?}");
    app.stop().await;
}

async fn a_bomb_of_forks_ends_with_its_job(db: TestDb) {
    // The kernel counts processes by user: only root can give jobs one of their own. For anybody else the bomb is one
    // that stops by itself, and the end is the same.
    let root = rustix::process::geteuid().is_root();
    let uid = 3_000_000 + std::process::id();
    let mut setup = Setup::new(&db);
    if root {
        setup = setup.flag("--run-as", uid).flag("--job-processes", 60).closed();
    }
    let app = setup.start().await;
    if root {
        open_to_all(app.folder());
    }
    let line = "bomb() { bomb & bomb & sleep 1000; }; trap '' TERM; n=0
        while [ $n -lt 40 ]; do sleep 1000 & n=$((n+1)); done; echo armed
        if [ $FOREVER = yes ]; then (bomb) 2> /dev/null & fi; exec sleep 1000";
    let forever = if root { "yes" } else { "no" };
    let bomb = app
        .run(json!({
            "command": { "exec": { "program": "dash", "args": ["-c", line] } }, "timeoutMs": 1_500,
            "env": [{ "name": "FOREVER", "value": forever }],
        }))
        .await;
    let job = app.ended(&bomb).await;
    assert_eq!(
        (&job["status"], &job["stdout"]),
        (&json!("TIMEOUT"), &json!("armed\n")),
        "{job:#}"
    );
    app.nothing_left().await;
    healthy(&app).await;
    if root {
        let job = app
            .completed(shell_with(
                "id -u; id -G; stat -c %u . ..; echo \"$USER\"; echo '{}' > \"$RUNQL_OUTPUT\"",
                json!({}),
            ))
            .await;
        let expected = format!("{uid}\n").repeat(5);
        assert_eq!((&job["stdout"], &job["output"]), (&json!(expected), &json!({})));
        for _ in 0..2 {
            let line = "id -u; stat -c %u .; echo more >> file; wc -l < file";
            let job = app
                .completed(shell_with(line, json!({ "workingDir": "of/them" })))
                .await;
            assert!(
                job["stdout"]
                    .as_str()
                    .unwrap()
                    .starts_with(&format!("{uid}\n{uid}\n")),
                "{job:#}"
            );
        }
    }
    app.stop().await;
}

/// Folders of tests are their maker's alone.
fn open_to_all(folder: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
}
