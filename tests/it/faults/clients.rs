//! Clients that run jobs of every kind, cancel some, work for the server and clean up, whatever becomes of the servers.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};

use super::world::{Answered, PAUSE, Shared};

/// What a job does, and how it may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Is over at once.
    Quick,
    /// Runs for a while, and tells how far it is.
    Slow,
    /// Prints more than one piece of a log.
    Flood,
    /// Leaves processes behind that left its group.
    Leaky,
    /// Fails at its first attempt.
    Retried,
    /// Starts a little later.
    Scheduled,
    /// Would run for ever, and is cancelled.
    Cancelled,
    /// Runs into its time limit.
    TooLong,
    /// Is run by a registered worker, again where that one is lost.
    Task,
    /// Steps one after the other.
    Serial,
    /// Two of its steps at a time, one of which fails.
    Parallel,
    /// Steps that wait for others.
    Graph,
    /// A plan that is cancelled.
    CancelledPlan,
}

const KINDS: [Kind; 13] = [
    Kind::Quick,
    Kind::Slow,
    Kind::Flood,
    Kind::Leaky,
    Kind::Retried,
    Kind::Scheduled,
    Kind::Cancelled,
    Kind::TooLong,
    Kind::Task,
    Kind::Serial,
    Kind::Parallel,
    Kind::Graph,
    Kind::CancelledPlan,
];

/// Attempts of a job that may be lost more than once.
const MANY: i32 = 6;

/// The line that tells of a start: one write of few bytes, which the system does not take apart.
const TELL: &str = r#"echo "$RUNQL_JOB_ID $RUNQL_ATTEMPT" >> "$RAN""#;

impl Kind {
    /// Whether a client cancels it.
    fn is_cancelled(self) -> bool {
        matches!(self, Self::Cancelled | Self::CancelledPlan)
    }

    /// Whether it has steps.
    pub(super) fn is_plan(self) -> bool {
        matches!(
            self,
            Self::Serial | Self::Parallel | Self::Graph | Self::CancelledPlan
        )
    }

    fn input(self, shared: &Shared, rng: &mut Rng) -> Value {
        let shell = |line: &str, more: Value| {
            let mut input = json!({
                "command": { "shell": { "command": format!("{TELL}; {line}") } },
                "env": [{ "name": "RAN", "value": shared.ran }],
            });
            for (name, value) in more.as_object().unwrap() {
                input[name] = value.clone();
            }
            input
        };
        let plain = |line: &str| shell(line, json!({}));
        let step = |key: &str, after: &[&str], line: &str| json!({ "key": key, "dependsOn": after, "run": plain(line) });
        let plan = |strategy: Value, steps: Vec<Value>| json!({ "command": { "plan": { "strategy": strategy, "steps": steps } } });
        match self {
            Self::Quick => plain("echo out"),
            Self::Slow => {
                plain("for n in 1 2 3; do echo ::progress current=$n total=3::at it; sleep 0.1; done")
            }
            Self::Flood => plain("seq 20000; sleep 0.1; seq 20000"),
            Self::Leaky => plain(
                r#"(setsid sleep 1000 &); (setsid env -i bash -c 'exec -a "$0/leaky" sleep 1000' "$PWD" &); sleep 0.02"#,
            ),
            Self::Retried => shell(
                r#"[ "$RUNQL_ATTEMPT" -gt 1 ]"#,
                json!({ "maxAttempts": MANY, "backoffMs": rng.u32(0..60) }),
            ),
            Self::Scheduled => {
                let at = chrono::Utc::now() + Duration::from_millis(rng.u64(0..150));
                shell(
                    "true",
                    json!({ "runAt": at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true) }),
                )
            }
            Self::Cancelled => plain("trap '' HUP; sleep 1000 & wait"),
            Self::TooLong => shell("sleep 1000", json!({ "timeoutMs": 120 })),
            Self::Task => {
                json!({ "command": { "task": { "problemId": "fault" } }, "maxAttempts": rng.i32(1..=2) })
            }
            Self::Serial => plan(
                json!({ "serial": {} }),
                vec![
                    step("a", &[], "true"),
                    step("b", &[], "sleep 0.05"),
                    step("c", &[], "true"),
                ],
            ),
            Self::Parallel => plan(
                json!({ "parallel": { "maxConcurrency": 2 } }),
                vec![
                    step("a", &[], "sleep 0.05"),
                    step("b", &[], "exit 3"),
                    step("c", &[], "true"),
                ],
            ),
            Self::Graph => plan(
                json!({ "dependencyGraph": {} }),
                vec![
                    step("a", &[], "true"),
                    step("b", &["a"], if rng.bool() { "true" } else { "exit 1" }),
                    step("c", &["a"], "true"),
                    step("d", &["b", "c"], "true"),
                ],
            ),
            Self::CancelledPlan => plan(
                json!({ "parallel": {} }),
                vec![
                    step("a", &[], "true"),
                    step("b", &[], "sleep 1000"),
                    step("c", &[], "sleep 1000"),
                ],
            ),
        }
    }
}

const RUN: &str =
    "mutation($input: RunInput!) { run(input: $input) { job { id } errors { code message path } } }";
const CANCEL: &str =
    "mutation($input: CancelInput!) { cancel(input: $input) { job { id } errors { code message } } }";
const STATUS: &str = "query($id: ID!) { job(id: $id) { status } }";

/// Runs one job after the other, and waits for each to end unless the server goes away.
pub(super) async fn run_jobs(shared: Arc<Shared>, mut rng: Rng) {
    let mut turn = rng.usize(..KINDS.len());
    while !shared.rest.is_cancelled() {
        turn += 1;
        let kind = KINDS[turn % KINDS.len()];
        let Some(id) = run_job(&shared, kind, &mut rng).await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        if kind.is_cancelled() {
            tokio::time::sleep(Duration::from_millis(rng.u64(0..120))).await;
            shared.wants_cancelled(&id);
            // Also when no more is asked for: it would run for ever.
            let cancel = json!({ "input": { "id": id, "graceMs": rng.u32(0..100) } });
            let Some(payload) = shared.insist_until(&shared.over, CANCEL, &cancel).await else {
                return;
            };
            let refused = &payload["cancel"]["errors"];
            assert!(
                *refused == json!([]) || refused[0]["code"] == "CONFLICT",
                "{payload:#}"
            );
        }
        while !shared.rest.is_cancelled()
            && let Some(data) = shared.ask(STATUS, &json!({ "id": id })).await
        {
            let status = data["job"]["status"]
                .as_str()
                .unwrap_or_else(|| panic!("{id} was answered and is gone"));
            if status != "PENDING" && status != "RUNNING" {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Asks for a job: once, or with a key until there is an answer. None where nobody answered.
///
/// What would run for ever is asked for with a key, and until the end: it may be stored though no answer came, and then
/// nobody could cancel it, and it would keep a worker of the server that stays.
async fn run_job(shared: &Shared, kind: Kind, rng: &mut Rng) -> Option<String> {
    let mut input = kind.input(shared, rng);
    let mut idempotency_key = None;
    if kind.is_cancelled() || rng.bool() {
        let key = uuid::Uuid::now_v7().to_string();
        input["idempotencyKey"] = json!(key);
        // Shown again by the API, which does not show keys.
        input["metadata"] = json!({ "conversationId": key });
        idempotency_key = Some(key);
    }
    let variables = json!({ "input": input });
    let mut payload = if kind.is_cancelled() {
        shared.insist_until(&shared.over, RUN, &variables).await?
    } else if idempotency_key.is_some() {
        shared.insist(RUN, &variables).await?
    } else {
        shared.ask(RUN, &variables).await?
    };
    let payload = payload["run"].take();
    assert_eq!(payload["errors"], json!([]), "{payload:#}");
    let id = payload["job"]["id"].as_str().unwrap().to_owned();
    shared.promise(Answered {
        id: id.clone(),
        kind,
        idempotency_key,
    });
    Some(id)
}

/// A registered worker: takes tasks, and does each in three reports.
pub(super) async fn work(shared: Arc<Shared>) {
    while !shared.over.is_cancelled() {
        let register = json!({ "input": { "name": "worker-900-fault", "backendType": "fault",
            "capabilities": { "maxParallelTasks": 2, "supportedProblems": ["fault"] } } });
        let query = "mutation($input: RegisterWorkerInput!) { registerWorker(input: $input) { worker { id } errors { message } } }";
        let Some(data) = shared.insist_until(&shared.over, query, &register).await else {
            return;
        };
        let worker = data["registerWorker"]["worker"]["id"]
            .as_str()
            .unwrap_or_else(|| panic!("{data:#}"))
            .to_owned();
        for _ in 0..3 {
            let claim = json!({ "input": { "workerId": worker, "max": 2, "waitMs": 100 } });
            let query = "mutation($input: ClaimInput!) { claim(input: $input) { jobs { id attempt } errors { message } } }";
            let Some(data) = shared.ask(query, &claim).await else {
                break;
            };
            let jobs = data["claim"]["jobs"]
                .as_array()
                .unwrap_or_else(|| panic!("{data:#}"))
                .clone();
            let sign = json!({ "input": { "workerId": worker, "jobIds": jobs.iter().map(|job| &job["id"]).collect::<Vec<_>>() } });
            let query = "mutation($input: HeartbeatInput!) { heartbeat(input: $input) { stopJobIds errors { message } } }";
            let _ = shared.ask(query, &sign).await;
            for job in jobs {
                do_task(&shared, &worker, &job).await;
            }
        }
    }
}

async fn do_task(shared: &Shared, worker: &str, job: &Value) {
    use std::io::Write;
    let line = format!("{} {}\n", job["id"].as_str().unwrap(), job["attempt"]);
    let mut ran = std::fs::File::options()
        .create(true)
        .append(true)
        .open(&shared.ran)
        .unwrap();
    ran.write_all(line.as_bytes()).unwrap();
    let mut input = json!({ "workerId": worker, "jobId": job["id"], "attempt": job["attempt"] });
    for part in [
        json!({ "logs": [{ "message": "at it" }] }),
        json!({ "progress": { "current": 1, "total": 2 } }),
        json!({ "result": { "success": true } }),
    ] {
        for (name, value) in part.as_object().unwrap() {
            input[name] = value.clone();
        }
        let query =
            "mutation($input: ReportInput!) { report(input: $input) { job { id } errors { code message } } }";
        // Refused where the job was taken away meanwhile, or where the answer to its end was lost: both are known by it.
        let Some(data) = shared
            .insist_until(&shared.over, query, &json!({ "input": input }))
            .await
        else {
            return;
        };
        if data["report"]["errors"] != json!([]) {
            return;
        }
    }
}

/// Deletes what was cancelled.
pub(super) async fn clean_up(shared: Arc<Shared>) {
    while !shared.rest.is_cancelled() {
        let query =
            "mutation { cleanup(input: { statuses: [CANCELLED] }) { deletedCount errors { message } } }";
        if let Some(data) = shared.ask(query, &json!({})).await {
            assert_eq!(data["cleanup"]["errors"], json!([]), "{data:#}");
        }
        tokio::time::sleep(PAUSE).await;
    }
}
