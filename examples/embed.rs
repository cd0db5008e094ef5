//! Runs jobs inside another program, without a server: submit, listen with a handler of one's own, read the result.
//!
//! `cargo run --example embed` runs `scripts/hello.sh` in a folder of its own below the system's temporary one.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::Context;
use futures_util::StreamExt;
use runql::domain::{Command, JobFilter, JobKind, LogStream, Script, Shell};
use runql::executor::{EventQuery, Executor, JobRequest, Options};
use runql::store::{JobOrder, JobOrderField, PageRequest};
use runql::supervisor::Supervisor;

fn main() -> anyhow::Result<ExitCode> {
    // The executor starts this same program again to supervise processes, so this comes first.
    if let Some(code) = runql::process::run_spawner_if_asked() {
        return Ok(code);
    }
    tokio::runtime::Runtime::new()?.block_on(run())?;
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stdout, reason = "an example speaks to a person")]
async fn run() -> anyhow::Result<()> {
    let folder = std::env::temp_dir().join(format!("runql-embed-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let database = format!("sqlite://{}?mode=rwc", folder.join("jobs.db").display());
    let options = Options {
        allow: BTreeSet::from([JobKind::Shell]),
        ..Options::new(database, "scripts", folder.join("work"))
    };
    let grace = options.shutdown_grace * 2;

    let mut supervisor = Supervisor::new();
    let executor = Executor::start(options, &mut supervisor).await?;

    // A handler of one's own: every event from here on, in the order in which it was committed.
    let events = executor.events(None, EventQuery::default()).await?;
    let handler = async {
        let mut events = std::pin::pin!(events.take(6));
        while let Some(event) = events.next().await {
            let event = event?;
            println!("event  {} {}", event.event.kind, event.job.name);
        }
        anyhow::Ok(())
    };

    let jobs = async {
        let parameters = serde_json::json!({ "name": "embedder" });
        let script = Command::Script(Script {
            script: "hello.sh".to_owned(),
            interpreter: None,
            args: Vec::new(),
            parameters: parameters.as_object().cloned().unwrap_or_default(),
            context: serde_json::Map::new(),
        });
        let shell = Command::Shell(Shell {
            command: "echo done; exit 3".to_owned(),
            shell: "bash".to_owned(),
        });
        for command in [script, shell] {
            let submitted = executor.submit(JobRequest::new(command)).await?;
            let job = executor
                .wait(submitted.job.id)
                .await?
                .context("the job is gone")?;
            let output = executor
                .reader()
                .log_tail(job.id, job.attempt, LogStream::Stdout, 1_024)
                .await?;
            println!("result {} {} {:?}", job.name, job.status, job.end.exit_code);
            println!("       {}", String::from_utf8_lossy(&output).trim_end());
        }
        anyhow::Ok(())
    };
    tokio::try_join!(handler, jobs)?;

    let newest_first = JobOrder {
        field: JobOrderField::CreatedAt,
        descending: true,
    };
    let page = PageRequest {
        limit: 10,
        after: None,
        before: None,
        from_end: false,
    };
    let listed = executor
        .reader()
        .list(&JobFilter::default(), newest_first, page)
        .await?;
    println!("listed {} jobs", listed.jobs.len());

    supervisor.shutdown(grace).await;
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}
