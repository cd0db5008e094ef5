//! Two servers, three workers and one Postgres; one worker falls silent, one server is killed, and no task is lost.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::{claim, join, task_with};
use crate::support::app::Setup;
use crate::support::db::TestDb;
use crate::support::on_postgres;
use crate::support::wait::until;

on_postgres!(
    nothing_is_lost_with_a_worker_and_a_server,
    a_claim_hears_of_tasks_of_the_other_server,
    two_servers_see_the_same_room,
);

const TASKS: usize = 60;

/// A worker that takes up whatever is held in its name, so that a lost answer loses nothing, and goes to the next
/// server where one does not answer.
struct Elsewhere {
    id: String,
    servers: Vec<String>,
    http: reqwest::Client,
}

impl Elsewhere {
    async fn ask(&self, query: &str, variables: Value) -> Value {
        let body = json!({ "query": query, "variables": variables });
        loop {
            for server in &self.servers {
                let sent = self
                    .http
                    .post(format!("{server}/graphql"))
                    .json(&body)
                    .timeout(Duration::from_secs(5))
                    .send()
                    .await;
                let Ok(answer) = sent else { continue };
                let Ok(mut answer) = answer.json::<Value>().await else {
                    continue;
                };
                if answer["data"].is_object() {
                    return answer["data"].take();
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// Claims, and completes all that it holds; tells which jobs it was believed about.
    async fn round(&self) -> Vec<String> {
        let claim =
            "mutation($w: ID!) { claim(input: { workerId: $w, max: 2, waitMs: 50 }) { errors { code } } }";
        self.ask(claim, json!({ "w": self.id })).await;
        let holds = "query($w: ID!) { worker(id: $w) { currentJobs { id attempt } } }";
        let held = self.ask(holds, json!({ "w": self.id })).await["worker"]["currentJobs"].take();
        let mut done = Vec::new();
        for job in held.as_array().unwrap() {
            let report =
                "mutation($i: ReportInput!) { report(input: $i) { job { status } errors { code } } }";
            let input = json!({ "workerId": self.id, "jobId": job["id"], "attempt": job["attempt"],
                "logs": [{ "message": format!("done by {}", self.id) }], "result": { "success": true } });
            let payload = self.ask(report, json!({ "i": input })).await["report"].take();
            if payload["errors"] == json!([]) {
                assert_eq!(payload["job"]["status"], "COMPLETED");
                done.push(job["id"].as_str().unwrap().to_owned());
            }
        }
        done
    }
}

async fn nothing_is_lost_with_a_worker_and_a_server(db: TestDb) {
    let setup = || Setup::new(&db).flag("--lease-ms", 3_000);
    let (mut one, two) = tokio::join!(setup().start(), setup().start());
    let mut ids = BTreeSet::new();
    for n in 0..TASKS {
        let app = if n % 2 == 0 { &one } else { &two };
        let input = task_with(&format!("bench-{n}"), json!({ "maxAttempts": 2, "backoffMs": 0 }));
        ids.insert(app.run(input).await);
    }
    let silent = join(&one, "worker-003-gpu", &["bench-*"], 5).await;
    let taken = claim(&one, &silent, 5).await;
    assert_eq!(taken.len(), 5);
    let mut workers = Vec::new();
    for (number, servers) in [(1, [one.url(), two.url()]), (2, [two.url(), one.url()])] {
        workers.push(Elsewhere {
            id: join(&two, &format!("worker-{number:03}-gpu"), &["bench-*"], 2).await,
            servers: servers.to_vec(),
            http: reqwest::Client::new(),
        });
    }
    let mut done = Vec::new();
    while done.len() < TASKS / 3 {
        let (more, others) = tokio::join!(workers[0].round(), workers[1].round());
        done.extend(more);
        done.extend(others);
    }
    // In the middle of what the first worker says to it.
    let (more, ()) = tokio::join!(workers[0].round(), one.kill());
    done.extend(more);
    until("all tasks have ended", async || {
        for worker in &workers {
            done.extend(worker.round().await);
        }
        let query = "{ jobs(filter: { statuses: [PENDING, RUNNING] }) { totalCount } }";
        let left = two.data(query, Value::Null).await["jobs"]["totalCount"].take();
        if left == 0 { Ok(()) } else { Err(left) }
    })
    .await;
    let late: BTreeSet<&str> = taken.iter().map(|job| job["id"].as_str().unwrap()).collect();
    for id in &ids {
        let job = two.job(id).await;
        let attempt = if late.contains(id.as_str()) { 2 } else { 1 };
        assert_eq!(
            (&job["status"], &job["attempt"]),
            (&json!("COMPLETED"), &json!(attempt)),
            "{job:#}"
        );
        assert_eq!(job["stdout"].as_str().unwrap().lines().count(), 1, "{job:#}");
    }
    // Each end was taken once. The answer to one of them may have died with the server.
    let count = done.len();
    assert!((TASKS - 1..=TASKS).contains(&count), "{count} of {TASKS}");
    assert_eq!(done.into_iter().collect::<BTreeSet<_>>().len(), count);
    let shown = two
        .data("{ workers { name status tasksCompleted internal } }", Value::Null)
        .await;
    let of = |name: &str| {
        let workers = shown["workers"].as_array().unwrap();
        workers
            .iter()
            .find(|worker| worker["name"] == name)
            .unwrap()
            .clone()
    };
    let completed: i64 = ["worker-001-gpu", "worker-002-gpu"]
        .iter()
        .map(|name| of(name)["tasksCompleted"].as_i64().unwrap())
        .sum();
    assert_eq!(completed, i64::try_from(TASKS).unwrap());
    assert_eq!(of("worker-003-gpu")["status"], "OFFLINE");
    two.stop().await;
}

async fn a_claim_hears_of_tasks_of_the_other_server(db: TestDb) {
    let (one, two) = tokio::join!(Setup::new(&db).start(), Setup::new(&db).start());
    let worker = join(&one, "worker-001-gpu", &["*"], 1).await;
    let waits = super::try_claim(&two, json!({ "workerId": worker, "waitMs": 60_000 }));
    let (payload, id) = tokio::join!(waits, async { one.run(super::task("t")).await });
    assert_eq!(payload["jobs"][0]["id"], json!(id), "{payload:#}");
    // A cancel finds its way too, and the report may go to either.
    let beats = super::heartbeat(
        &two,
        json!({ "workerId": worker, "jobIds": [id], "waitMs": 60_000 }),
    );
    let (beat, ()) = tokio::join!(beats, super::cancel(&one, &id));
    assert_eq!(beat["stopJobIds"], json!([id]));
    let failed = json!({ "result": { "success": false } });
    assert_eq!(
        super::report(&one, &worker, &id, 1, failed).await["status"],
        "CANCELLED"
    );
    one.stop().await;
    two.stop().await;
}

async fn two_servers_see_the_same_room(db: TestDb) {
    let (one, two) = tokio::join!(Setup::new(&db).start(), Setup::new(&db).start());
    let worker = join(&one, "worker-001-gpu", &["*"], 3).await;
    for _ in 0..20 {
        one.run(super::task("t")).await;
    }
    let claims = futures_util::future::join_all((0..12).map(|n| {
        let app = if n % 2 == 0 { &one } else { &two };
        super::try_claim(app, json!({ "workerId": worker, "max": 2 }))
    }))
    .await;
    let mut taken = BTreeSet::new();
    for job in claims
        .iter()
        .flat_map(|payload| payload["jobs"].as_array().unwrap())
    {
        assert!(taken.insert(job["id"].as_str().unwrap()), "given twice: {job:#}");
    }
    assert_eq!(taken.len(), 3);
    one.stop().await;
    two.stop().await;
}
