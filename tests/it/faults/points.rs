//! Every failpoint that there is, from the source: a new one is tried without being named here.

use std::path::Path;

/// What calls for a failpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trigger {
    /// The server's start.
    Start,
    /// Whatever clients do.
    Load,
    /// The server's end in order.
    Term,
    /// A clean-up, which takes the events of those that listen.
    CleanUp,
    /// The first start on a database.
    Migration,
    /// Tokens, the audit log by itself, and a try whether the store can be written again: no job depends on them, and
    /// the load calls for none.
    Apart,
}

/// The names of all failpoints, in order.
pub(super) fn all() -> Vec<String> {
    let mut found = Vec::new();
    let mut operations = Vec::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut |text| {
        found.extend(after(text, "failpoint!(\"").map(|rest| up_to(rest, '"')));
        operations.extend(after(text, "impl Operation for ").map(|rest| up_to(rest, ' ')));
    });
    for operation in operations {
        found.push(format!("commit.before.{operation}"));
        found.push(format!("commit.after.{operation}"));
    }
    found.sort();
    found.dedup();
    found
}

fn after<'a>(text: &'a str, mark: &'a str) -> impl Iterator<Item = &'a str> {
    text.match_indices(mark)
        .map(move |(at, _)| &text[at + mark.len()..])
}

fn up_to(text: &str, end: char) -> String {
    text.split(end).next().unwrap().to_owned()
}

fn read(folder: &Path, each: &mut impl FnMut(&str)) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            read(&path, each);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            each(&std::fs::read_to_string(&path).unwrap());
        }
    }
}

/// What calls for this one.
pub(super) fn trigger(name: &str) -> Trigger {
    let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    if name.starts_with("migrate.") {
        Trigger::Migration
    } else if name.starts_with("start.") || ends(&["BackAgain", "JoinPool"]) {
        Trigger::Start
    } else if name.starts_with("shutdown.") || ends(&["LeavePool", "ReleaseJob"]) {
        Trigger::Term
    } else if name.starts_with("cleanup.") || ends(&["CleanupBatch"]) {
        Trigger::CleanUp
    } else if ends(&["Token", "Tokens", "Audit", "TryOut"]) {
        Trigger::Apart
    } else {
        Trigger::Load
    }
}

/// Whether only many nodes have use for it.
pub(super) fn needs_postgres(name: &str) -> bool {
    name.ends_with("SweepPlans")
}

/// Whether it takes a lease that nobody renewed.
pub(super) fn needs_expiry(name: &str) -> bool {
    name.ends_with("ExpireLeases")
}

#[test]
fn the_source_has_them() {
    let all = all();
    for name in [
        "commit.before.InsertJobs",
        "commit.after.EndJob",
        "attempt.prepared",
        "shutdown.ended",
    ] {
        assert!(all.iter().any(|one| one == name), "{name} is not among {all:#?}");
    }
    assert!(all.len() > 40, "{all:#?}");
}
