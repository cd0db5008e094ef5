//! Rules of the house that the compiler does not know.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Which modules of this crate each module may import. What is not in a row is forbidden to it.
const LAYERS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("brief", &[]),
    ("failpoint", &[]),
    ("telemetry", &["domain"]),
    ("clock", &["domain"]),
    (
        "auth",
        &["clock", "config", "domain", "store", "supervisor", "telemetry"],
    ),
    ("supervisor", &["telemetry"]),
    ("store", &["brief", "domain", "failpoint", "telemetry"]),
    ("process", &["failpoint", "telemetry"]),
    ("script", &["domain", "telemetry"]),
    ("pipeline", &["domain", "script"]),
    ("event", &["domain"]),
    ("config", &["domain", "process", "telemetry"]),
    ("http", &["telemetry"]),
    ("graphiql", &[]),
    ("program", &["domain", "process"]),
    (
        "executor",
        &[
            "auth",
            "brief",
            "clock",
            "domain",
            "failpoint",
            "store",
            "process",
            "program",
            "script",
            "pipeline",
            "event",
            "supervisor",
            "telemetry",
        ],
    ),
    (
        "worker",
        &[
            "clock",
            "config",
            "domain",
            "process",
            "program",
            "script",
            "telemetry",
        ],
    ),
    (
        "graphql",
        &[
            "auth",
            "domain",
            "executor",
            "store",
            "script",
            "pipeline",
            "http",
            "telemetry",
        ],
    ),
    (
        "server",
        &[
            "auth",
            "config",
            "domain",
            "executor",
            "failpoint",
            "graphiql",
            "graphql",
            "http",
            "store",
            "supervisor",
            "telemetry",
            "worker",
        ],
    ),
];

/// Outside crates that only some modules may name.
const GUARDED: &[(&str, &[&str])] = &[
    ("sea_orm", &["store"]),
    ("entity", &["store"]),
    ("migration", &["store"]),
    ("async_graphql", &["graphql", "http"]),
    ("tokio::process", &["process"]),
    ("std::process::Command", &["process"]),
    ("reqwest", &["auth", "worker"]),
    ("jsonwebtoken", &["auth"]),
    ("ring::signature", &["auth"]),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The files of each module with their code: without comments, and without the tests at the end, which may use more.
fn modules() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    files
        .into_iter()
        .filter_map(|path| {
            let relative = path.strip_prefix(&root).unwrap().to_owned();
            let first = relative.components().next()?.as_os_str().to_str()?;
            let module = first.trim_end_matches(".rs").to_owned();
            let is_test = relative
                .components()
                .any(|part| part.as_os_str().to_string_lossy().starts_with("test"));
            if module == "lib" || module == "main" || is_test {
                return None;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            let code = code
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .collect::<Vec<_>>()
                .join("\n");
            Some((module, path, code))
        })
        .collect()
}

#[test]
fn every_module_imports_only_what_lies_below_it() {
    let mut wrong = Vec::new();
    for (module, path, code) in modules() {
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == module) else {
            wrong.push(format!(
                "{}: {module} has no row in the table of layers",
                path.display()
            ));
            continue;
        };
        for (at, _) in code.match_indices("crate::") {
            let rest = &code[at + "crate::".len()..];
            let targets: BTreeSet<&str> = match rest.strip_prefix('{') {
                Some(list) => list.split('}').next().unwrap_or_default().split(',').collect(),
                None => [rest].into(),
            };
            for target in targets {
                let name: String = target
                    .trim()
                    .chars()
                    .take_while(|c| c.is_ascii_lowercase() || *c == '_')
                    .collect();
                let known = LAYERS.iter().any(|(layer, _)| *layer == name);
                if known && name != module && !allowed.contains(&name.as_str()) {
                    wrong.push(format!("{}: {module} must not import {name}", path.display()));
                }
            }
        }
        for (guarded, allowed) in GUARDED {
            let named = code.match_indices(guarded).any(|(at, _)| {
                let before = code[..at].chars().next_back();
                let after = code[at + guarded.len()..].chars().next();
                before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':' && c != '"')
                    && after.is_some_and(|c| c == ':' || c == ';')
            });
            if named && !allowed.contains(&module.as_str()) {
                wrong.push(format!("{}: {module} must not name {guarded}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_file_has_grown_beyond_one_idea() {
    let long: Vec<String> = modules()
        .into_iter()
        .filter_map(|(_, path, _)| {
            let lines = std::fs::read_to_string(&path).unwrap().lines().count();
            (lines > 450).then(|| format!("{}: {lines} lines", path.display()))
        })
        .collect();
    assert!(long.is_empty(), "split by responsibility: {}", long.join("\n"));
}

#[test]
fn unsafe_code_is_only_about_processes() {
    let wrong: Vec<String> = modules()
        .into_iter()
        .filter(|(module, _, code)| module != "process" && code.contains("unsafe "))
        .map(|(_, path, _)| path.display().to_string())
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
