//! A job with everything that a request can say, read back whole.

use serde_json::json;

use crate::api::fixture::{hidden, hidden_id, hidden_moment, hidden_number};
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(all_that_was_said_is_read_back);

const EVERYTHING: &str = "query($id: ID!) { job(id: $id) {
    __typename id kind name status waitReason
    command { __typename ... on ShellCommand { command shell } }
    queue priority attempt maxAttempts timeoutMs createdAt updatedAt runAt startedAt finishedAt durationMs exitCode
    signal output error { code message } progress { current total percentage step updatedAt }
    worker { id name backendType internal status }
    metadata { source conversationId tags { key value } }
    parent { id } key children { nodes { id } totalCount } childStats { total } dependsOn { id }
    attempts { number status worker { name } startedAt finishedAt exitCode signal error { code message } }
    logs { edges { node { number timestamp stream level message context } } pageInfo { hasNextPage hasPreviousPage } }
    stdout stderr logUrl
    events { nodes { type at status previousStatus attempt progress { current } error { code message } job { status } } }
} }";

async fn all_that_was_said_is_read_back(db: TestDb) {
    let app = Setup::new(&db).flag("--workers", 1).start().await;
    let line = r#"echo plain
echo '{"level": "warn", "message": "structured", "left": 3}'
echo "::progress current=1 total=4::first step"
echo '{"answer": 42}' > "$RUNQL_OUTPUT"
exit $((RUNQL_ATTEMPT == 1))"#;
    let input = json!({
        "command": { "shell": { "command": line, "shell": "bash" } },
        "queue": "night.shift", "priority": 7, "timeoutMs": 60_000, "maxAttempts": 3, "backoffMs": 1,
        "env": [{ "name": "SECRET", "value": "never shown again" }],
        "idempotencyKey": "once",
        "metadata": {
            "source": "test", "conversationId": "c-1",
            "tags": [{ "key": "team", "value": "blue" }, { "key": "nightly", "value": "" }],
        },
    });
    let job = app.completed(input).await;
    let data = app.data(EVERYTHING, json!({ "id": job["id"] })).await;
    assert!(!data.to_string().contains("never shown again"));
    let id = job["id"].as_str().unwrap().to_owned();
    insta::assert_json_snapshot!("a_whole_job", data, {
        ".job.id" => hidden_id(),
        ".job.worker.id" => hidden_id(),
        ".job.logUrl" => hidden("/jobs/[id]/log", move |url| url == format!("/jobs/{id}/log")),
        ".job.durationMs" => hidden_number(),
        ".job.createdAt" => hidden_moment(),
        ".job.updatedAt" => hidden_moment(),
        ".job.runAt" => hidden_moment(),
        ".job.startedAt" => hidden_moment(),
        ".job.finishedAt" => hidden_moment(),
        ".job.progress.updatedAt" => hidden_moment(),
        ".job.attempts[].startedAt" => hidden_moment(),
        ".job.attempts[].finishedAt" => hidden_moment(),
        ".job.logs.edges[].node.timestamp" => hidden_moment(),
        ".job.events.nodes[].at" => hidden_moment(),
    });
    app.stop().await;
}
