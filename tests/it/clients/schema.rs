//! The schema in the hands of the usual tools: lint, Relay's compiler, types for TypeScript, and what breaks clients.

use std::process::{Command, Output};

use super::node::{check, folder};

#[tokio::test]
async fn the_linter_finds_nothing() {
    check(&["schema/lint.mjs"]).await;
}

#[tokio::test]
async fn relay_compiles_fragments_pages_and_subscriptions() {
    check(&["schema/relay.mjs"]).await;
}

#[tokio::test]
async fn a_program_with_generated_types_compiles() {
    check(&["schema/codegen.mjs"]).await;
}

/// Compares the schema with itself after a change, with a list of accepted changes.
fn changes(from: &str, to: &str, accepted: &str) -> Output {
    let schema = include_str!("../../../schema.graphql");
    assert!(schema.contains(from), "the schema has no `{from}`");
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name);
    std::fs::write(path("old.graphql"), schema).unwrap();
    std::fs::write(path("new.graphql"), schema.replacen(from, to, 1)).unwrap();
    std::fs::write(path("accepted.md"), accepted).unwrap();
    Command::new("node")
        .current_dir(folder())
        .arg("schema/changes.mjs")
        .args(["old.graphql", "new.graphql", "accepted.md"].map(path))
        .output()
        .unwrap()
}

#[test]
fn what_breaks_clients_is_red_unless_it_is_listed() {
    const NULLABLE: (&str, &str) = ("  eventCursor: String!", "  eventCursor: String");
    const WORD: &str = "- Field 'Query.eventCursor' changed type from 'String!' to 'String'";

    let output = changes(NULLABLE.0, NULLABLE.1, "");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("1 changes since") && told.contains(WORD), "{told}");

    let output = changes(NULLABLE.0, NULLABLE.1, &format!("# Meant\n\n{WORD}\n"));
    assert!(output.status.success(), "{output:?}");

    let addition = "  eventCursor: String!\n  another: Int";
    let output = changes(NULLABLE.0, addition, "");
    assert!(output.status.success(), "{output:?}");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("Field 'another' was added"), "{told}");
}
