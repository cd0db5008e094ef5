//! Who did what, from where.

use runql::store::Backend;
use sea_orm::ConnectionTrait;
use serde_json::{Value, json};

use super::{ask, data, runql, token};
use crate::support::app::{Setup, TestApp};
use crate::support::both_stores;
use crate::support::db::TestDb;
use crate::support::wait::until;

both_stores!(
    what_is_done_is_noted,
    what_is_refused_or_done_twice_is_not_noted,
    the_log_is_paged_and_filtered,
    old_lines_are_deleted,
    a_trusted_proxy_tells_the_address,
);

const LOG: &str = "query($filter: AuditLogFilter, $first: Int, $after: String) {
    auditLog(filter: $filter, first: $first, after: $after) {
        nodes { action actor tokenId address targetId detail }
        pageInfo { hasNextPage endCursor }
    }
}";

async fn log(app: &TestApp, token: &str, variables: Value) -> Vec<Value> {
    let mut found = data(app, token, LOG, variables).await;
    found["auditLog"]["nodes"].as_array_mut().unwrap().split_off(0)
}

fn shell(line: &str) -> Value {
    json!({ "command": { "shell": { "command": line } } })
}

async fn what_is_done_is_noted(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let anonymous = app.completed(shell("echo secret-argument")).await;
    let root = token(&app, "root", "read,run,worker,admin", &["--expires", "1d"]).await;
    let run = "mutation($input: RunInput!) { run(input: $input) { job { id } errors { message } } }";
    let mut waits = shell("true");
    waits["runAt"] = json!("2100-01-01T00:00:00Z");
    let made = data(&app, &root, run, json!({ "input": waits })).await["run"]["job"]["id"].take();
    let id = made.as_str().unwrap();
    let todo = format!(
        r#"mutation {{
            cancel(input: {{ id: "{id}", reason: "no need" }}) {{ errors {{ code }} }}
            rerun(input: {{ id: "{id}" }}) {{ job {{ id }} errors {{ code }} }}
            scaleWorkers(input: {{ size: 2 }}) {{ errors {{ code }} }}
            stopWorkers {{ errors {{ code }} }}
            startWorkers {{ errors {{ code }} }}
            registerWorker(input: {{ name: "worker-001-gpu", backendType: "gpu" }}) {{ worker {{ id }} }}
            cleanup(input: {{ statuses: [CANCELLED] }}) {{ deletedCount }}
        }}"#
    );
    let done = data(&app, &root, &todo, json!({})).await;
    let (code, _, _) = runql(&app, &["token", "create", "--name", "bot", "--scopes", "run"]).await;
    assert_eq!(code, 0);
    runql(&app, &["token", "rotate", "bot"]).await;
    runql(&app, &["token", "revoke", "bot"]).await;

    let mut lines = log(&app, &root, json!({})).await;
    lines.reverse();
    let told: Vec<(&str, &str)> = lines
        .iter()
        .map(|line| (line["action"].as_str().unwrap(), line["actor"].as_str().unwrap()))
        .collect();
    let by_hand = "command line (ada)";
    assert_eq!(
        told,
        [
            ("RUN", "anonymous"),
            ("CREATE_TOKEN", by_hand),
            ("RUN", "root"),
            ("CANCEL", "root"),
            ("RERUN", "root"),
            ("SCALE_WORKERS", "root"),
            ("STOP_WORKERS", "root"),
            ("START_WORKERS", "root"),
            ("REGISTER_WORKER", "root"),
            ("CLEANUP", "root"),
            ("CREATE_TOKEN", by_hand),
            ("ROTATE_TOKEN", by_hand),
            ("REVOKE_TOKEN", by_hand),
        ]
    );
    let line = |action: &str, actor: &str| {
        let found = lines
            .iter()
            .find(|line| line["action"] == action && line["actor"] == actor);
        found.unwrap()
    };
    let first = line("RUN", "anonymous");
    assert_eq!(
        (&first["targetId"], &first["address"], &first["tokenId"]),
        (&anonymous["id"], &json!("127.0.0.1"), &json!(null))
    );
    assert_eq!(
        first["detail"],
        json!({ "kind": "SHELL", "name": "bash", "queue": "default" })
    );
    assert_eq!(line("CANCEL", "root")["detail"], json!({ "reason": "no need" }));
    assert_eq!(line("CANCEL", "root")["targetId"], made);
    assert_eq!(line("RERUN", "root")["detail"]["of"], made);
    assert_eq!(line("RERUN", "root")["targetId"], done["rerun"]["job"]["id"]);
    assert_eq!(
        line("SCALE_WORKERS", "root")["detail"],
        json!({ "size": 2, "previousSize": 3 })
    );
    assert_eq!(
        line("REGISTER_WORKER", "root")["targetId"],
        done["registerWorker"]["worker"]["id"]
    );
    assert_eq!(
        line("CLEANUP", "root")["detail"],
        json!({ "statuses": ["CANCELLED"] })
    );
    assert_eq!(
        line("CREATE_TOKEN", by_hand)["detail"]["scopes"],
        json!(["READ", "RUN", "WORKER", "ADMIN"])
    );
    assert!(line("RUN", "root")["tokenId"].is_string());
    assert_eq!(line("REVOKE_TOKEN", by_hand)["address"], json!(null));
    let all = serde_json::to_string(&lines).unwrap();
    assert!(
        !all.contains("secret-argument") && !all.contains("runql_"),
        "{all}"
    );
    app.stop().await;
}

async fn what_is_refused_or_done_twice_is_not_noted(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let admin = token(&app, "root", "run,admin", &[]).await;
    let run = "mutation($input: RunInput!) { run(input: $input) { job { id } errors { message } } }";
    let none = json!({ "input": { "command": { "script": { "name": "none.sh" } } } });
    data(&app, &admin, run, none).await;
    let mut keyed = shell("true");
    keyed["idempotencyKey"] = json!("once");
    for _ in 0..3 {
        data(&app, &admin, run, json!({ "input": keyed })).await;
    }
    let unknown =
        r#"mutation { cancel(input: { id: "01990000-0000-7000-8000-000000000000" }) { errors { code } } }"#;
    data(&app, &admin, unknown, json!({})).await;
    let reader = token(&app, "reader", "read", &[]).await;
    ask(&app, Some(&reader), run, json!({ "input": keyed })).await;
    let lines = log(&app, &admin, json!({ "filter": { "actor": "root" } })).await;
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert_eq!(
        log(&app, &admin, json!({ "filter": { "actor": "reader" } }))
            .await
            .len(),
        0
    );
    app.stop().await;
}

async fn the_log_is_paged_and_filtered(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let admin = token(&app, "root", "run,admin", &[]).await;
    let many = "mutation($inputs: [RunInput!]!) { runMany(inputs: $inputs) { jobs { id } } }";
    let inputs: Vec<Value> = (0..25).map(|n| shell(&format!("exit {n}"))).collect();
    let jobs = data(&app, &admin, many, json!({ "inputs": inputs })).await["runMany"]["jobs"].take();
    let mut after = Value::Null;
    let mut seen = Vec::new();
    loop {
        let variables = json!({ "first": 10, "after": after, "filter": { "actions": ["RUN"] } });
        let mut page = data(&app, &admin, LOG, variables).await["auditLog"].take();
        let nodes = page["nodes"].as_array().unwrap();
        seen.extend(nodes.iter().map(|line| line["targetId"].clone()));
        if page["pageInfo"]["hasNextPage"] == false {
            break;
        }
        assert_eq!(nodes.len(), 10);
        after = page["pageInfo"]["endCursor"].take();
    }
    let ids: Vec<Value> = jobs
        .as_array()
        .unwrap()
        .iter()
        .map(|job| job["id"].clone())
        .collect();
    seen.reverse();
    assert_eq!(seen, ids);
    let one = log(&app, &admin, json!({ "filter": { "targetId": ids[7] } })).await;
    assert_eq!((one.len(), &one[0]["targetId"]), (1, &ids[7]));
    assert_eq!(
        log(&app, &admin, json!({ "filter": { "actions": ["CLEANUP"] } }))
            .await
            .len(),
        0
    );
    app.stop().await;
}

async fn old_lines_are_deleted(db: TestDb) {
    let mut app = Setup::new(&db).flag("--audit-retention", "1m").start().await;
    let admin = token(&app, "root", "admin", &[]).await;
    assert_eq!(log(&app, &admin, json!({})).await.len(), 1);
    app.signal("TERM");
    assert_eq!(app.exit().await, Some(0));
    // The shortest age that can be set is a minute, so the line is made older than that.
    let id = match db.backend() {
        Backend::Postgres => "'01900000-0000-7000-8000-000000000000'",
        Backend::Sqlite => "x'01900000000070008000000000000000'",
    };
    let raw = db.raw().await;
    let older = format!("UPDATE audit SET id = {id}, at = 1");
    let done = raw.execute_unprepared(&older).await.unwrap();
    assert_eq!(done.rows_affected(), 1);
    raw.close().await.unwrap();
    app.restart().await;
    until("the old line is gone", async || {
        let left = log(&app, &admin, json!({})).await;
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
    app.stop().await;
}

async fn a_trusted_proxy_tells_the_address(db: TestDb) {
    let app = Setup::new(&db)
        .flag("--trusted-proxies", "127.0.0.0/8,10.0.0.0/8")
        .start()
        .await;
    let admin = token(&app, "root", "run,admin", &[]).await;
    for (told, expected) in [
        ("203.0.113.9", "203.0.113.9"),
        ("6.6.6.6, 203.0.113.9, 10.1.2.3", "203.0.113.9"),
        ("10.9.9.9", "10.9.9.9"),
        ("nonsense", "127.0.0.1"),
    ] {
        let request = app
            .http()
            .post(format!("{}/graphql", app.url()))
            .bearer_auth(&admin)
            .header("x-forwarded-for", told)
            .json(&json!({
                "query": "mutation($input: RunInput!) { run(input: $input) { job { id } } }",
                "variables": { "input": shell("true") },
            }));
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        let id = &answer["data"]["run"]["job"]["id"];
        let lines = log(&app, &admin, json!({ "filter": { "targetId": id } })).await;
        assert_eq!(lines[0]["address"], expected, "{told}");
    }
    app.stop().await;
}
