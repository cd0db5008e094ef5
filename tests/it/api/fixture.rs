//! What the tests of the API share: refusals as short texts, what is stored, and redactions that look at what they hide.

use insta::internals::Content;
use sea_orm::DatabaseConnection;
use serde_json::{Value, json};

use crate::support::app::TestApp;
use crate::support::db::{TestDb, rows_of};

/// A command for a shell.
pub(super) fn shell(line: &str) -> Value {
    json!({ "shell": { "command": line } })
}

/// A script without parameters.
pub(super) fn script(name: &str) -> Value {
    json!({ "script": { "name": name } })
}

/// A request that asks for nothing but its command, and for what else is given.
pub(super) fn request(command: Value, rest: Value) -> Value {
    let mut request = json!({ "command": command });
    let fields = rest.as_object().unwrap().clone();
    request.as_object_mut().unwrap().extend(fields);
    request
}

/// The refusals of a payload, each as `CODE path.to.the.input`.
pub(super) fn refusals(payload: &Value) -> Vec<String> {
    let errors = payload["errors"].as_array().unwrap();
    let text = |error: &Value| {
        let message = error["message"].as_str().unwrap();
        assert!(message.len() > 10, "{message:?} tells nobody what to do");
        let path: Vec<&str> = error["path"]
            .as_array()
            .unwrap()
            .iter()
            .map(|part| part.as_str().unwrap())
            .collect();
        format!("{} {}", error["code"].as_str().unwrap(), path.join("."))
    };
    errors.iter().map(text).collect()
}

/// All messages of a payload's refusals.
pub(super) fn messages(payload: &Value) -> String {
    let errors = payload["errors"].as_array().unwrap();
    errors
        .iter()
        .map(|error| error["message"].as_str().unwrap())
        .collect::<Vec<_>>()
        .join("\n")
}

/// The errors of a whole operation, each as `CODE message`.
pub(super) fn operation_errors(answer: &Value) -> Vec<String> {
    let Some(errors) = answer["errors"].as_array() else {
        return Vec::new();
    };
    let text = |error: &Value| {
        assert!(error["extensions"]["requestId"].is_string(), "{error:#}");
        format!(
            "{} {}",
            error["extensions"]["code"].as_str().unwrap(),
            error["message"].as_str().unwrap()
        )
    };
    errors.iter().map(text).collect()
}

/// A look at the tables that a request for a job could change.
#[derive(Debug)]
pub(super) struct Stored {
    raw: DatabaseConnection,
    rows: Vec<String>,
}

impl Stored {
    /// What is stored now.
    pub(super) async fn now(db: &TestDb) -> Self {
        let raw = db.raw().await;
        let rows = Self::read(&raw).await;
        Self { raw, rows }
    }

    async fn read(raw: &DatabaseConnection) -> Vec<String> {
        let mut rows = Vec::new();
        for table in ["job", "job_event", "job_tag", "log_chunk", "stat"] {
            rows.extend(
                rows_of(raw, table)
                    .await
                    .into_iter()
                    .map(|row| format!("{table}: {row}")),
            );
        }
        rows
    }

    /// Insists that nothing has changed since.
    pub(super) async fn unchanged(&self) {
        assert_eq!(Self::read(&self.raw).await, self.rows);
    }
}

/// Runs a mutation of one `input`, and gives its payload.
pub(super) async fn mutate(app: &TestApp, field: &str, selection: &str, input: Value) -> Value {
    let kind = format!("{}{}Input", field[..1].to_uppercase(), &field[1..]);
    let query = format!(
        "mutation($input: {kind}!) {{ {field}(input: $input) {{ {selection} errors {{ code message path }} }} }}"
    );
    app.data(&query, json!({ "input": input })).await[field].take()
}

/// Stores many jobs at once; they must be taken.
pub(super) async fn run_many(app: &TestApp, inputs: &[Value]) -> Vec<String> {
    let query = "mutation($inputs: [RunInput!]!) {
        runMany(inputs: $inputs) { jobs { id } errors { code message path } }
    }";
    let payload = app.data(query, json!({ "inputs": inputs })).await["runMany"].take();
    assert_eq!(payload["errors"], json!([]), "{payload:#}");
    ids(&payload["jobs"])
}

/// The `id` of each object of a list.
pub(super) fn ids(list: &Value) -> Vec<String> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|one| one["id"].as_str().unwrap().to_owned())
        .collect()
}

/// The moment that a field holds.
pub(super) fn moment(value: &Value) -> chrono::DateTime<chrono::Utc> {
    value.as_str().unwrap().parse().unwrap()
}

/// A moment as clients write it.
pub(super) fn text_of(moment: chrono::DateTime<chrono::Utc>) -> String {
    moment.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

/// Hides a moment, once it has the form that the schema promises.
pub(super) fn hidden_moment() -> insta::internals::Redaction {
    hidden("[moment]", |text| {
        text.len() == 24 && text.ends_with('Z') && text.parse::<chrono::DateTime<chrono::Utc>>().is_ok()
    })
}

/// Hides an id, once it is a UUID of version 7.
pub(super) fn hidden_id() -> insta::internals::Redaction {
    hidden("[id]", |text| {
        uuid::Uuid::parse_str(text).is_ok_and(|id| id.get_version_num() == 7)
    })
}

/// Hides a text that fits.
pub(super) fn hidden(
    mark: &'static str,
    fits: impl Fn(&str) -> bool + Send + Sync + 'static,
) -> insta::internals::Redaction {
    insta::dynamic_redaction(move |value, path| {
        let Content::String(text) = &value else {
            panic!("{path} is {value:?}")
        };
        assert!(fits(text), "{path} is {text:?}");
        mark
    })
}

/// Hides a number that is zero or more.
pub(super) fn hidden_number() -> insta::internals::Redaction {
    insta::dynamic_redaction(|value, path| {
        let number = value
            .as_i64()
            .map(i128::from)
            .or_else(|| value.as_u64().map(i128::from));
        assert!(number.is_some_and(|number| number >= 0), "{path} is {value:?}");
        "[number]"
    })
}
