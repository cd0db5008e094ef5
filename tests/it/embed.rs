//! A program that embeds the executor: the example, run as its author would, and a start that is given up.

use std::future::poll_fn;
use std::path::Path;
use std::pin::pin;
use std::process::Stdio;
use std::task::Poll;

use runql::executor::{Executor, Options};
use runql::supervisor::Supervisor;
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

#[tokio::test]
async fn a_start_that_is_given_up_anywhere_is_in_the_way_of_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let url = format!("sqlite://{}?mode=rwc", path("test.db").display());
    let mut options = Options::new(url, path("scripts"), path("work"));
    options.spawner = Some(env!("CARGO_BIN_EXE_runql").into());
    let mut polls = 0;
    let supervisor = within("a start that comes to its end", async {
        loop {
            polls += 1;
            // What was given up before may still be about to let go of the file.
            loop {
                let mut supervisor = Supervisor::new();
                let started = given_up_after(polls, Executor::start(options.clone(), &mut supervisor)).await;
                match started {
                    Some(Ok(_)) => return supervisor,
                    Some(Err(_)) => tokio::task::yield_now().await,
                    None => break,
                }
            }
        }
    })
    .await;
    assert!(polls > 3, "it was given up at {polls} places");
    supervisor.shutdown(options.shutdown_grace * 2).await;
}

/// What comes of a future that is dropped where it is not done after so many polls.
async fn given_up_after<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(context).map(Some)
    })
    .await
}
