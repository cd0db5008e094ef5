//! Arguments that are wrong, servers that refuse, and variables in the place of flags.

use std::process::Output;

use super::Remote;
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;
use crate::support::wait::within;

both_stores!(
    a_refusal_ends_it_with_the_reason,
    a_folder_is_for_one_worker,
    variables_stand_for_flags,
);

async fn ended(args: &[&str], env: &[(&str, &str)]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_runql"));
    command
        .arg("worker")
        .args(args)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .envs(env.iter().copied())
        .current_dir(folder.path())
        .kill_on_drop(true);
    within("the worker's end", command.output()).await.unwrap()
}

/// Arguments, variables, and a word of the complaint.
type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str);

#[tokio::test]
async fn arguments_that_are_wrong_end_it_with_2() {
    let server = ["--server", "http://127.0.0.1:1"];
    let cases: [Case<'_>; 10] = [
        (&["--", "true"], &[], "--server"),
        (&server, &[], "after `--`"),
        (&["--server", "ftp://x", "--", "true"], &[], "--server"),
        (&["--server", "http://u:p@x", "--", "true"], &[], "--server"),
        (&["--parallel", "0", "--", "true"], &[], "--parallel"),
        (&["--name", "me", "--", "true"], &[], "worker-007-gpu"),
        (&["--kind", "local", "--", "true"], &[], "--kind"),
        (&["--supports", "", "--", "true"], &[], "--supports"),
        (&["--", "true"], &[("RUNQL_SERVER", "nowhere")], "RUNQL_SERVER"),
        (
            &["--server", "http://127.0.0.1:1", "--", "no-such-program"],
            &[],
            "no-such-program",
        ),
    ];
    for (args, env, word) in cases {
        let output = ended(args, env).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(word), "{args:?}: {said}");
        assert!(!said.contains("u:p"), "a password was shown: {said}");
    }
}

async fn a_refusal_ends_it_with_the_reason(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let url = app.url();
    // The name is kept for the workers of servers.
    let output = ended(
        &["--server", &url, "--name", "worker-001-local", "--", "true"],
        &[],
    )
    .await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("worker-001-local") && said.contains("does not take this worker"),
        "{said}"
    );
    // There is something else at this address.
    let health = format!("{url}/no-such-place");
    let output = ended(
        &["--server", &health, "--name", "worker-001-x", "--", "true"],
        &[],
    )
    .await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("is this the address of a RunQL server?"), "{said}");
    app.stop().await;
}

async fn a_folder_is_for_one_worker(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let first = Remote::start(&app.url(), &[]);
    first.registered().await;
    let mut second = Remote::in_folder(first.folder.clone(), &app.url(), &[], &super::EVAL);
    assert_eq!(second.exit().await, Some(1));
    second.says("another worker uses the work folder").await;
    first.stop().await;
    app.stop().await;
}

async fn variables_stand_for_flags(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let folder = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_runql"));
    command
        .args([
            "worker",
            "--name",
            "worker-123-given",
            "--",
            "bash",
            "-c",
            "echo $KEY $OTHER",
        ])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .envs([
            ("RUNQL_SERVER", format!("{}/graphql", app.url()).as_str()),
            ("RUNQL_SUPPORTS", "no-*,bench-*"),
            ("RUNQL_WORKER_NAME", "worker-999-beaten"),
            ("RUNQL_PASS_ENV", "KEY"),
            ("RUNQL_LOG_FORMAT", "json"),
            ("KEY", "handed-on"),
            ("OTHER", "kept"),
        ]);
    let worker = Remote::spawn(command, folder);
    assert_eq!(worker.registered().await, "worker-123-given");
    let job = app.completed(super::line("")).await;
    assert_eq!(job["stdout"], "handed-on\n");
    worker.stop().await;
    app.stop().await;
}
