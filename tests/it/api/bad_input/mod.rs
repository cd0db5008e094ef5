//! Bad input: each gets its typed error with the path of the input at fault, and changes nothing.

mod command;
mod document;
mod fields;
mod folder;
mod known;
mod script;

use serde_json::Value;

use super::fixture::{messages, refusals};
use crate::support::app::TestApp;

/// Asks for a job that must be refused so; gives the messages.
async fn refused(app: &TestApp, input: Value, expected: &[&str]) -> String {
    let payload = app.try_run(input.clone()).await;
    assert_eq!(refusals(&payload), expected, "{payload:#}\nfor {input:#}");
    assert!(
        payload["job"].is_null() && payload["deduplicated"] == false,
        "{payload:#}"
    );
    messages(&payload)
}
