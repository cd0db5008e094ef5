//! What a program gets of its task, and what becomes of what it prints and hands back.

use serde_json::{Value, json};

use super::{Remote, line, line_with, lines, printed, shown};
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;
use crate::support::wait::until;

both_stores!(
    a_task_goes_from_end_to_end,
    an_agent_goes_from_end_to_end,
    lines_keep_their_order_levels_and_bytes,
    progress_is_seen_while_it_runs,
    as_many_run_at_once_as_there_is_room,
    a_failure_is_told_with_its_code,
    what_fails_is_tried_again,
    an_output_that_is_too_large_fails_the_job_and_says_so,
    a_flood_arrives_whole,
);

async fn a_task_goes_from_end_to_end(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let remote = Remote::with_command(
        &app.url(),
        &[
            "--supports",
            "bench-*,other-*",
            "--parallel",
            "2",
            "--kind",
            "gpu",
        ],
        &[
            "bash",
            "-c",
            r#"read -r task; echo "$task"; echo "$RUNQL_PARAMETERS"
               echo "$RUNQL_JOB_ID|$RUNQL_ATTEMPT|$RUNQL_PROBLEM_ID|$PARAM_SIZE|$PARAM_MODE|$1"
               echo '{"answer": 42}' > "$RUNQL_OUTPUT""#,
            "name",
            "argument",
        ],
    );
    let name = remote.registered().await;
    assert!(name.starts_with("worker-") && name.ends_with("-gpu"), "{name}");
    let task = json!({ "problemId": "bench-7", "parameters": { "size": 3, "mode": "fast", "list": [1] } });
    let job = app
        .completed(json!({ "command": { "task": task }, "timeoutMs": 60_000 }))
        .await;
    let id = job["id"].as_str().unwrap();
    assert_eq!(job["output"], json!({ "answer": 42 }));
    assert_eq!((&job["exitCode"], &job["attempt"]), (&json!(0), &json!(1)));
    assert_eq!(job["worker"]["name"], name.as_str());
    let stdout = job["stdout"].as_str().unwrap();
    let said: Vec<&str> = stdout.lines().collect();
    let parameters = json!({ "size": 3, "mode": "fast", "list": [1], "max_steps": 30 });
    assert_eq!(
        serde_json::from_str::<Value>(said[0]).unwrap(),
        json!({
            "jobId": id, "attempt": 1, "kind": "TASK", "problemId": "bench-7", "parameters": parameters,
            "timeoutMs": 60_000,
        })
    );
    assert_eq!(serde_json::from_str::<Value>(said[1]).unwrap(), parameters);
    assert_eq!(said[2], format!("{id}|1|bench-7|3|fast|argument"));
    let worker = shown(&app, &name).await;
    assert_eq!(
        (&worker["status"], &worker["tasksCompleted"]),
        (&json!("IDLE"), &json!(1))
    );
    assert_eq!(worker["backendType"], "gpu");
    assert_eq!(
        worker["capabilities"],
        json!({ "maxParallelTasks": 2, "supportedProblems": ["bench-*", "other-*"] })
    );
    remote.stop().await;
    assert_eq!(shown(&app, &name).await["status"], "OFFLINE");
    app.stop().await;
}

async fn an_agent_goes_from_end_to_end(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let command = r#"cat; echo; echo "$RUNQL_TARGET|$RUNQL_INPUTS|$RUNQL_CONFIG""#;
    let remote = Remote::with_command(&app.url(), &["--supports", "reviewer"], &["bash", "-c", command]);
    let agent = json!({ "target": "reviewer", "inputs": { "text": "ü" }, "config": { "model": "small" } });
    let job = app.completed(json!({ "command": { "agent": agent } })).await;
    let stdout = job["stdout"].as_str().unwrap();
    let (document, rest) = stdout.split_once('\n').unwrap();
    let document: Value = serde_json::from_str(document).unwrap();
    assert_eq!(document["kind"], "AGENT");
    for field in ["target", "inputs", "config"] {
        assert_eq!(document[field], agent[field], "{document}");
    }
    assert_eq!(rest, "reviewer|{\"text\":\"ü\"}|{\"model\":\"small\"}\n");
    remote.stop().await;
    app.stop().await;
}

async fn lines_keep_their_order_levels_and_bytes(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let remote = Remote::start(&app.url(), &[]);
    let text = r#"echo plain; echo '{"level":"error","message":"broke","code":7}'; echo '::warning file=a.py::look'
        echo '::add-mask::s3cret'; echo 'the s3cret'; echo; printf 'tab\there\r\n'
        head -c 50000 /dev/zero | tr '\0' x; echo; printf 'no end'; sleep 0.2; echo complaint >&2"#;
    let id = app.run(line(text)).await;
    assert_eq!(app.ended(&id).await["status"], "COMPLETED");
    let stdout = app.bytes(&id, "stdout").await;
    let long = "x".repeat(50_000);
    let expected = format!(
        "plain\n{{\"level\":\"error\",\"message\":\"broke\",\"code\":7}}\n::warning file=a.py::look\n\
         ::add-mask::***\nthe ***\n\ntab\there\r\n{long}\nno end\n"
    );
    assert_eq!(String::from_utf8(stdout).unwrap(), expected);
    let all = lines(&app, &id).await;
    let seen = |index: usize| {
        (
            all[index]["level"].as_str().unwrap(),
            all[index]["message"].as_str().unwrap(),
        )
    };
    assert_eq!(seen(0), ("INFO", "plain"));
    assert_eq!(seen(1), ("ERROR", "broke"));
    assert_eq!(all[1]["context"], json!({ "code": 7 }));
    assert_eq!(seen(2), ("WARNING", "look"));
    let complaint = all.iter().find(|line| line["stream"] == "STDERR").unwrap();
    assert_eq!(
        (&complaint["level"], &complaint["message"]),
        (&json!("WARNING"), &json!("complaint"))
    );
    remote.stop().await;
    app.stop().await;
}

async fn progress_is_seen_while_it_runs(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let remote = Remote::start(&app.url(), &[]);
    let go = remote.folder.path().join("go");
    let text = format!(
        "echo '::progress current=2 total=5::build'; while [ ! -e {} ]; do sleep 0.01; done; echo '::progress current=5 total=5::'",
        go.display()
    );
    let id = app.run(line(&text)).await;
    until("the progress", async || {
        let progress = app.job(&id).await["progress"].take();
        let wanted = json!({ "current": 2, "total": 5, "percentage": 40.0, "step": "build" });
        if progress == wanted { Ok(()) } else { Err(progress) }
    })
    .await;
    std::fs::write(go, "").unwrap();
    let job = app.ended(&id).await;
    assert_eq!(job["progress"]["current"], 5, "{job:#}");
    remote.stop().await;
    app.stop().await;
}

async fn as_many_run_at_once_as_there_is_room(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let remote = Remote::start(&app.url(), &["--parallel", "3"]);
    let name = remote.registered().await;
    let go = remote.folder.path().join("go");
    let text = format!("echo up; while [ ! -e {} ]; do sleep 0.01; done", go.display());
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(app.run(line(&text)).await);
    }
    for id in &ids[..3] {
        printed(&app, id, "up").await;
    }
    for id in &ids[3..] {
        let job = app.job(id).await;
        assert_eq!(job["status"], "PENDING", "{job:#}");
    }
    assert_eq!(shown(&app, &name).await["status"], "BUSY");
    std::fs::write(go, "").unwrap();
    for id in &ids {
        assert_eq!(app.ended(id).await["status"], "COMPLETED");
    }
    assert_eq!(shown(&app, &name).await["tasksCompleted"], 5);
    remote.stop().await;
    app.stop().await;
}

async fn a_failure_is_told_with_its_code(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let remote = Remote::start(&app.url(), &[]);
    let id = app
        .run(line("echo '{}' > \"$RUNQL_OUTPUT\"; echo no >&2; exit 7"))
        .await;
    let job = app.ended(&id).await;
    assert_eq!((&job["status"], &job["exitCode"]), (&json!("FAILED"), &json!(7)));
    assert_eq!(
        job["error"],
        json!({ "code": "REPORTED", "message": "exited with code 7" })
    );
    assert_eq!((&job["output"], &job["stderr"]), (&Value::Null, &json!("no\n")));
    let id = app.run(line("kill -9 $$")).await;
    let job = app.ended(&id).await;
    let message = job["error"]["message"].as_str().unwrap();
    assert!(message.contains("SIGKILL"), "{job:#}");
    remote.stop().await;
    app.stop().await;
}

async fn what_fails_is_tried_again(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let remote = Remote::start(&app.url(), &[]);
    let text = r#"echo "attempt $RUNQL_ATTEMPT"; [ "$RUNQL_ATTEMPT" = 3 ]"#;
    let more = json!({ "maxAttempts": 3, "backoffMs": 0 });
    let id = app.run(line_with(text, more)).await;
    let job = app.ended(&id).await;
    assert_eq!(
        (&job["status"], &job["attempt"]),
        (&json!("COMPLETED"), &json!(3))
    );
    assert_eq!(job["stdout"], "attempt 3\n");
    remote.stop().await;
    app.stop().await;
}

async fn an_output_that_is_too_large_fails_the_job_and_says_so(db: TestDb) {
    let app = Setup::new(&db).flag("--max-request-bytes", "65536").start().await;
    let remote = Remote::start(&app.url(), &[]);
    let text =
        r#"echo before; (printf '"'; head -c 100000 /dev/zero | tr '\0' x; printf '"') > "$RUNQL_OUTPUT""#;
    let id = app.run(line(text)).await;
    let job = app.ended(&id).await;
    assert_eq!(
        (&job["status"], &job["exitCode"]),
        (&json!("FAILED"), &json!(0)),
        "{job:#}"
    );
    let message = job["error"]["message"].as_str().unwrap();
    assert!(message.contains("larger than a request"), "{message}");
    assert_eq!(job["stdout"], "before\n");
    remote.stop().await;
    app.stop().await;
}

async fn a_flood_arrives_whole(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let remote = Remote::start(&app.url(), &[]);
    let id = app.run(line("seq 50000; yes '' | head -n 10000")).await;
    assert_eq!(app.ended(&id).await["status"], "COMPLETED");
    let mut expected: String = (1..=50_000).map(|n| format!("{n}\n")).collect();
    expected.push_str(&"\n".repeat(10_000));
    let stdout = app.bytes(&id, "stdout").await;
    assert_eq!(stdout.len(), expected.len());
    assert!(stdout == expected.as_bytes(), "another text of the same length");
    remote.stop().await;
    app.stop().await;
}
