//! The example of a program that embeds the executor, run as its author would.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use crate::support::wait::within;

#[tokio::test]
async fn the_example_runs_jobs_without_a_server() {
    // Cargo builds examples beside the program, but names only the program's place.
    let program = Path::new(env!("CARGO_BIN_EXE_runql"))
        .with_file_name("examples")
        .join("embed");
    let run = Command::new(program)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = within("the example's end", run).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let events: Vec<&str> = said.lines().filter(|line| line.starts_with("event")).collect();
    let expected = ["CREATED", "STARTED", "COMPLETED"].map(|event| format!("event  {event} hello.sh"));
    assert_eq!(events[..3], expected, "{said}");
    let expected = ["CREATED", "STARTED", "FAILED"].map(|event| format!("event  {event} bash"));
    assert_eq!(events[3..], expected, "{said}");
    for line in [
        "result hello.sh COMPLETED Some(0)",
        "Hello, embedder!",
        "result bash FAILED Some(3)",
        "listed 2 jobs",
    ] {
        assert!(said.contains(line), "{line:?} is missing:\n{said}");
    }
}
