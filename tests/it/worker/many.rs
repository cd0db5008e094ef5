//! Two servers and three workers on one database, one of them killed in the middle.

use std::collections::BTreeSet;

use serde_json::json;

use super::{Remote, line_with};
use crate::support::app::Setup;
use crate::support::db::TestDb;
use crate::support::on_postgres;
use crate::support::wait::until;

on_postgres!(each_task_is_done_once_although_a_worker_is_killed);

const TASKS: usize = 60;

async fn each_task_is_done_once_although_a_worker_is_killed(db: TestDb) {
    let setup = || Setup::new(&db).flag("--lease-ms", 1_500);
    let (one, two) = tokio::join!(setup().start(), setup().start());
    let mut workers = Vec::new();
    for url in [one.url(), two.url(), one.url()] {
        workers.push(Remote::start(&url, &["--parallel", "2"]));
    }
    for worker in &workers {
        worker.registered().await;
    }
    let ran = one.folder().join("ran");
    let text = format!(
        r#"echo "$RUNQL_JOB_ID $RUNQL_ATTEMPT" >> {}; echo "n $PARAM_N"; sleep 0.1; echo done"#,
        ran.display()
    );
    let mut ids = Vec::new();
    for n in 0..TASKS {
        let mut input = line_with(&text, json!({ "maxAttempts": 2, "backoffMs": 0 }));
        input["command"]["task"]["parameters"]["n"] = json!(n);
        let app = if n % 2 == 0 { &one } else { &two };
        ids.push(app.run(input).await);
    }
    let begun = || {
        let text = std::fs::read_to_string(&ran).unwrap_or_default();
        text.lines().map(str::to_owned).collect::<Vec<String>>()
    };
    until("a third of the tasks", async || {
        let begun = begun().len();
        if begun >= TASKS / 3 { Ok(()) } else { Err(begun) }
    })
    .await;
    let mut killed = workers.remove(0);
    killed.kill().await;
    killed.nothing_left().await;

    let mut names = BTreeSet::new();
    let mut again = 0;
    for (n, id) in ids.iter().enumerate() {
        let job = two.ended(id).await;
        assert_eq!(
            (&job["status"], &job["stdout"]),
            (&json!("COMPLETED"), &json!(format!("n {n}\ndone\n"))),
            "{job:#}"
        );
        let attempts = job["attempts"].as_array().unwrap();
        if attempts.len() > 1 {
            again += 1;
            assert_eq!(attempts[0]["error"]["code"], "WORKER_LOST", "{job:#}");
        }
        names.insert(job["worker"]["name"].as_str().unwrap().to_owned());
    }
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(
        again <= 2,
        "{again} tasks were tried again, and one worker runs two"
    );
    let begun = begun();
    let once: BTreeSet<&String> = begun.iter().collect();
    assert_eq!(once.len(), begun.len(), "an attempt was begun twice");
    assert!(
        (TASKS..=TASKS + again).contains(&begun.len()),
        "{} were begun",
        begun.len()
    );
    for worker in workers {
        worker.stop().await;
    }
    one.stop().await;
    two.stop().await;
}
