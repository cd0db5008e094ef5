//! Inputs as clients write them, read and converted.

use std::time::Duration;

use async_graphql::{InputType, Value};
use serde_json::json;

use super::*;
use crate::domain::{Command, EnvValue, JobStatus, NamePattern, Strategy, Timestamp};
use crate::executor::JobRequest;
use crate::store::JobOrderField;

fn read<T: InputType>(input: serde_json::Value) -> T {
    let value = Value::from_json(input).unwrap();
    match T::parse(Some(value)) {
        Ok(input) => input,
        Err(_) => panic!("the input is not read as {}", T::type_name()),
    }
}

fn request(input: serde_json::Value) -> Result<JobRequest, Vec<Refusal>> {
    read::<RunInput>(input).into_request()
}

fn refusals(input: serde_json::Value) -> Vec<String> {
    let refusals = request(input).unwrap_err();
    assert!(
        refusals
            .iter()
            .all(|refusal| refusal.code == RefusalCode::Invalid)
    );
    refusals.iter().map(|refusal| refusal.path.join(".")).collect()
}

#[test]
fn what_is_left_out_or_null_has_the_defaults_of_the_executor() {
    let script = json!({"script": {"name": "a.sh"}});
    let fields = [
        "queue",
        "priority",
        "timeoutMs",
        "runAt",
        "maxAttempts",
        "backoffMs",
        "env",
        "workingDir",
        "idempotencyKey",
        "dependsOn",
        "metadata",
    ];
    let mut nulls = json!({"command": {"script": {
        "name": "a.sh", "interpreter": null, "args": null, "parameters": null, "context": null,
    }}});
    for field in fields {
        nulls[field] = serde_json::Value::Null;
    }
    for input in [json!({"command": script}), nulls] {
        let request = request(input).unwrap();
        let expected = JobRequest::new(request.command.clone());
        assert_eq!(format!("{request:?}"), format!("{expected:?}"));
        let Command::Script(script) = request.command else {
            panic!("no script");
        };
        assert_eq!((script.script.as_str(), script.interpreter), ("a.sh", None));
        assert!(script.args.is_empty() && script.parameters.is_empty() && script.context.is_empty());
    }
}

#[test]
fn everything_that_is_given_arrives() {
    let id = "01980000-0000-7000-8000-000000000001";
    let request = request(json!({
        "command": {"script": {
            "name": "a.py", "interpreter": "python3", "args": ["x"], "parameters": {"n": 1}, "context": {"c": []},
        }},
        "queue": "slow", "priority": -7, "timeoutMs": 5_000_000_000_i64, "runAt": "2026-01-14T11:30:00+01:00",
        "maxAttempts": 3, "backoffMs": 250, "env": [{"name": "A", "value": "b"}], "workingDir": "w",
        "idempotencyKey": "k", "dependsOn": [id],
        "metadata": {"source": "ui", "conversationId": "c-1", "tags": [{"key": "k", "value": "v"}]},
    }))
    .unwrap();
    let Command::Script(script) = &request.command else {
        panic!("no script");
    };
    assert_eq!(script.parameters["n"], 1);
    assert_eq!(script.context["c"], json!([]));
    assert_eq!(script.args, ["x"]);
    assert_eq!(request.queue, "slow");
    assert_eq!((request.priority, request.max_attempts), (-7, 3));
    assert_eq!(request.timeout, Some(Duration::from_secs(5_000_000)));
    assert_eq!(request.backoff, Duration::from_millis(250));
    assert_eq!(request.run_at, Some(Timestamp::from_millis(1_768_386_600_000)));
    let value = EnvValue::Value("b".to_owned());
    assert_eq!(
        (request.env[0].name.as_str(), &request.env[0].value),
        ("A", &value)
    );
    assert_eq!(request.working_dir.as_deref(), Some("w"));
    assert_eq!(request.idempotency_key.as_deref(), Some("k"));
    assert_eq!(request.depends_on, [id.parse().unwrap()]);
    assert_eq!(request.metadata.source.as_deref(), Some("ui"));
    assert_eq!(request.metadata.conversation_id.as_deref(), Some("c-1"));
    assert_eq!(request.metadata.tags[0].key, "k");
}

#[test]
fn all_that_cannot_be_is_told_with_its_place() {
    let wrong = json!({
        "command": {"script": {"name": "a.sh", "parameters": [1], "context": "x"}},
        "timeoutMs": -1, "backoffMs": -5, "dependsOn": ["01980000-0000-7000-8000-000000000001", "no id"],
    });
    assert_eq!(
        refusals(wrong),
        [
            "command.script.parameters",
            "command.script.context",
            "timeoutMs",
            "backoffMs",
            "dependsOn.1"
        ]
    );
    let task = json!({"command": {"task": {"problemId": "p", "parameters": 3}}});
    assert_eq!(refusals(task), ["command.task.parameters"]);
    let target = json!({"command": {"pipeline": {"target": "p", "inputs": true, "config": {}}}});
    assert_eq!(refusals(target), ["command.pipeline.inputs"]);
}

#[test]
fn a_plan_nests_what_it_runs() {
    let run = json!({"command": {"exec": {"program": "true"}}});
    let nested = json!({"command": {"plan": {"strategy": {"parallel": {}}, "steps": [{"run": run}]}}});
    let plan = |strategy: serde_json::Value| {
        let steps = json!([{"run": run}, {"key": "b", "dependsOn": ["0"], "run": nested}]);
        let command = json!({"plan": {"description": "d", "strategy": strategy, "steps": steps}});
        match request(json!({"command": command})).map(|request| request.command) {
            Ok(Command::Plan(plan)) => Ok(plan.strategy),
            Ok(other) => panic!("no plan: {other:?}"),
            Err(refusals) => Err(refusals[0].path.join(".")),
        }
    };
    assert_eq!(
        plan(json!({"serial": {}})).unwrap(),
        Strategy::Serial { stop_on_error: true }
    );
    assert_eq!(
        plan(json!({"parallel": {"maxConcurrency": 2}})).unwrap(),
        Strategy::Parallel {
            max_concurrency: Some(2)
        }
    );
    assert_eq!(
        plan(json!({"dependencyGraph": {"continueOnError": false}})).unwrap(),
        Strategy::DependencyGraph {
            continue_on_error: false,
        }
    );
    assert_eq!(
        plan(json!({"parallel": {"maxConcurrency": 0}})).unwrap_err(),
        "command.plan.strategy.parallel.maxConcurrency"
    );
}

#[test]
fn exactly_one_command_is_given() {
    for wrong in [
        json!({}),
        json!({"exec": {"program": "x"}, "shell": {"command": "x"}}),
        json!({"exec": null}),
    ] {
        let value = Value::from_json(json!({"command": wrong})).unwrap();
        assert!(RunInput::parse(Some(value)).is_err(), "{wrong}");
    }
}

#[test]
fn only_what_has_ended_is_cleaned_up() {
    let cleanup = |input| read::<CleanupInput>(input).into_filter();
    let ended: Vec<JobStatus> = JobStatus::ALL
        .iter()
        .copied()
        .filter(|status| status.is_final())
        .collect();
    for input in [json!({}), json!({"statuses": null})] {
        let filter = cleanup(input).unwrap();
        assert_eq!(filter.statuses, ended);
        assert_eq!(filter.finished_before, None);
    }
    assert_eq!(cleanup(json!({"statuses": []})).unwrap().statuses, []);
    let refusals = cleanup(json!({"statuses": ["FAILED", "PENDING", "RUNNING"]})).unwrap_err();
    let paths: Vec<_> = refusals.iter().map(|refusal| refusal.path.join(".")).collect();
    assert_eq!(paths, ["statuses.1", "statuses.2"]);
    assert!(read::<CleanupInput>(json!({"dryRun": true})).is_dry_run());
    assert!(!read::<CleanupInput>(json!({"dryRun": null})).is_dry_run());
}

#[test]
fn a_filter_is_read_whole() {
    let (job, worker) = (
        "01980000-0000-7000-8000-000000000001",
        "01980000-0000-7000-8000-000000000002",
    );
    let filter = read::<JobFilter>(json!({
        "ids": [job], "statuses": ["FAILED", "TIMEOUT"], "kinds": ["AWS_CLI"], "name": "tools/*", "queues": ["q"],
        "workerId": worker, "parentId": job, "topLevel": false, "tags": [{"key": "k", "value": "v"}],
        "source": "ui", "conversationId": "c", "created": {"since": "2026-01-14T10:30:00Z"},
        "finished": {"until": "2026-01-14T10:30:00Z"},
    }))
    .into_domain()
    .unwrap();
    let moment = Timestamp::from_millis(1_768_386_600_000);
    assert_eq!(filter.ids, Some([job.parse().unwrap()].into()));
    assert_eq!(
        filter.statuses,
        Some([JobStatus::Failed, JobStatus::Timeout].into())
    );
    assert_eq!(filter.kinds, Some([crate::domain::JobKind::AwsCli].into()));
    assert_eq!(filter.name, Some(NamePattern::Prefix("tools/".to_owned())));
    assert_eq!(filter.queues, Some(["q".to_owned()].into()));
    assert_eq!(filter.worker, Some(worker.parse().unwrap()));
    assert_eq!(filter.parent, Some(job.parse().unwrap()));
    assert_eq!(filter.top_level, Some(false));
    assert_eq!(filter.tags[0].value, "v");
    assert_eq!(filter.source.as_deref(), Some("ui"));
    assert_eq!(filter.conversation_id.as_deref(), Some("c"));
    assert_eq!((filter.created.since, filter.created.until), (Some(moment), None));
    assert_eq!(filter.finished.unwrap().until, Some(moment));
    assert_eq!(
        read::<JobFilter>(json!({})).into_domain().unwrap(),
        crate::domain::JobFilter::default()
    );
}

#[test]
fn a_filter_with_an_id_that_is_none_is_told() {
    for (field, value) in [
        ("ids", json!(["x"])),
        ("workerId", json!("x")),
        ("parentId", json!("")),
    ] {
        let mut filter = json!({});
        filter[field] = value;
        let error = async_graphql::Error::from(read::<JobFilter>(filter).into_domain().unwrap_err());
        assert!(
            error.message.contains(&format!("`filter.{field}`")),
            "{}",
            error.message
        );
    }
}

#[test]
fn other_filters_and_orders_are_read() {
    let newest = JobOrder::or_newest_first(None);
    assert_eq!(
        (newest.field, newest.descending),
        (JobOrderField::CreatedAt, true)
    );
    let order = read::<JobOrder>(json!({"field": "FINISHED_AT", "direction": "ASC"}));
    let order = JobOrder::or_newest_first(Some(order));
    assert_eq!(
        (order.field, order.descending),
        (JobOrderField::FinishedAt, false)
    );

    let attempt = |attempt: i32| read::<LogFilter>(json!({"attempt": attempt})).attempt();
    assert_eq!(attempt(2).unwrap(), Some(2));
    assert!(attempt(0).is_err() && attempt(-1).is_err());
    assert_eq!(read::<LogFilter>(json!({})).attempt().unwrap(), None);

    assert_eq!(read::<ScaleWorkersInput>(json!({"size": 0})).size(), Ok(0));
    assert_eq!(
        read::<ScaleWorkersInput>(json!({"size": -1}))
            .size()
            .unwrap_err()
            .path,
        ["size"]
    );
    let cancel = read::<CancelInput>(json!({"id": "x", "graceMs": -1}));
    assert_eq!(cancel.id().unwrap_err().path, ["id"]);
    assert_eq!(cancel.grace().unwrap_err().path, ["graceMs"]);
}
