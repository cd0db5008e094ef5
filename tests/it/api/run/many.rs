//! Many jobs in one request: all of them or none, each refusal with the index of its job.

use serde_json::{Value, json};

use crate::api::fixture::{Stored, refusals, request, run_many, script, shell};
use crate::support::app::{Setup, TestApp};
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(all_are_stored_in_their_order, one_bad_one_refuses_all);

async fn all_are_stored_in_their_order(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let inputs: Vec<Value> = (0..20)
        .map(|n| request(shell(&format!("echo {n}")), json!({})))
        .collect();
    let ids = run_many(&app, &inputs).await;
    let mut sorted = ids.clone();
    sorted.sort();
    assert_eq!(ids, sorted, "ids sort as the inputs did");
    for (n, id) in ids.iter().enumerate() {
        let job = app.ended(id).await;
        assert_eq!(job["stdout"], format!("{n}\n"));
    }
    assert!(run_many(&app, &[]).await.is_empty());
    app.stop().await;
}

async fn refused(app: &TestApp, inputs: Vec<Value>) -> Vec<String> {
    let query = "mutation($inputs: [RunInput!]!) {
        runMany(inputs: $inputs) { jobs { id } errors { code message path } }
    }";
    let payload = app.data(query, json!({ "inputs": inputs })).await["runMany"].take();
    assert_eq!(payload["jobs"], json!(null));
    refusals(&payload)
}

async fn one_bad_one_refuses_all(db: TestDb) {
    let app = Setup::new(&db).flag("--queue-limit", 5).start().await;
    let good = || request(shell("true"), json!({}));
    let before = Stored::now(&db).await;
    // Found by the API itself, by the executor and by the store.
    let negative = request(shell("true"), json!({ "timeoutMs": -1 }));
    assert_eq!(
        refused(&app, vec![good(), negative]).await,
        ["INVALID inputs.1.timeoutMs"]
    );
    let unknown = request(script("nothing.sh"), json!({ "priority": 101 }));
    let empty = request(shell(" "), json!({}));
    assert_eq!(
        refused(&app, vec![good(), unknown, good(), empty]).await,
        [
            "INVALID inputs.1.priority",
            "NOT_FOUND inputs.1.command.script.name",
            "INVALID inputs.3.command.shell.command",
        ]
    );
    assert_eq!(refused(&app, vec![good(); 6]).await, ["LIMIT_EXCEEDED inputs"]);
    before.unchanged().await;
    run_many(&app, &[good(), good(), good(), good(), good()]).await;
    app.stop().await;
}
