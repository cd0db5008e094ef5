//! Who may do what: tokens, scopes and what they are narrowed to, sockets that are cut off, the audit log.

mod audit;
mod limits;
mod scopes;
mod secrets;
mod sockets;
mod tokens;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::app::TestApp;

/// Runs the program beside the server, on the same database, and gives its code, its output and its complaint.
pub(crate) async fn runql(app: &TestApp, arguments: &[&str]) -> (i32, String, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_runql"));
    command
        .args(arguments)
        .args(["--database-url", app.database_url()])
        .env_clear()
        .env("USER", "ada")
        .current_dir(app.folder());
    let output = command.output().await.unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// Makes a token by the command line, and gives its text.
pub(crate) async fn token(app: &TestApp, name: &str, scopes: &str, more: &[&str]) -> String {
    let arguments = [&["token", "create", "--name", name, "--scopes", scopes], more].concat();
    let (code, out, complaint) = runql(app, &arguments).await;
    assert_eq!(code, 0, "{complaint}");
    out.trim().to_owned()
}

/// The status and the whole answer to an operation in the name of a token.
pub(crate) async fn ask(
    app: &TestApp,
    token: Option<&str>,
    query: &str,
    variables: Value,
) -> (StatusCode, Value) {
    let mut request = app
        .http()
        .post(format!("{}/graphql", app.url()))
        .header("accept", "application/graphql-response+json")
        .json(&json!({ "query": query, "variables": variables }));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}

/// The data of an operation that must not fail.
pub(crate) async fn data(app: &TestApp, token: &str, query: &str, variables: Value) -> Value {
    let (status, mut answer) = ask(app, Some(token), query, variables).await;
    assert!(
        status.is_success() && answer.get("errors").is_none(),
        "{status} {answer:#}"
    );
    answer["data"].take()
}

/// The code of the first error.
pub(crate) fn code(answer: &Value) -> &str {
    answer["errors"][0]["extensions"]["code"]
        .as_str()
        .unwrap_or_default()
}

/// Waits until the server asks for tokens: it learns within a second of one that was made beside it.
pub(crate) async fn closed(app: &TestApp) {
    crate::support::wait::until("the server asks for a token", async || {
        let (status, answer) = ask(app, None, "{ viewer { tokenName } }", json!({})).await;
        if status == StatusCode::UNAUTHORIZED {
            Ok(())
        } else {
            Err(answer)
        }
    })
    .await;
}
