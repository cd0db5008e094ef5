//! The example scripts in the folder `scripts`, each run for real with the variables that a job has.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Catalog, Interpreters, Script, parameter_variables};

fn catalog() -> Catalog {
    let path = std::env::var_os("PATH").unwrap();
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    Catalog::new(scripts, Interpreters::new([].into(), path))
}

/// What it printed and the output that it handed back.
fn run(script: &Script, given: &Value) -> (Output, Option<Value>) {
    let parameters = script
        .parameters
        .as_ref()
        .unwrap()
        .validate(given.as_object().unwrap().clone())
        .unwrap();
    let line = script.command_line(None, &[]).unwrap();
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("output.json");
    let mut child = Command::new(line.program)
        .args(line.args)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("RUNQL_JOB_ID", "0197f0d2-0000-7000-8000-000000000000")
        .env("RUNQL_ATTEMPT", "1")
        .env("RUNQL_PARAMETERS", Value::Object(parameters.clone()).to_string())
        .env("RUNQL_CONTEXT", "{}")
        .env("RUNQL_OUTPUT", &output)
        .envs(parameter_variables(&parameters))
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let document =
        json!({"jobId": "0197f0d2-0000-7000-8000-000000000000", "parameters": parameters, "context": {}});
    // A script that does not read its standard input may have closed it by now.
    let _ = child
        .stdin
        .take()
        .unwrap()
        .write_all(document.to_string().as_bytes());
    let ended = child.wait_with_output().unwrap();
    let output = fs::read_to_string(output)
        .ok()
        .map(|text| serde_json::from_str(&text).unwrap());
    (ended, output)
}

fn succeeds(name: &str, given: &Value) -> (String, Value) {
    let (ended, output) = run(&catalog().find(name).unwrap(), given);
    let printed = String::from_utf8(ended.stdout).unwrap();
    assert!(
        ended.status.success(),
        "{name}: {printed} {}",
        String::from_utf8_lossy(&ended.stderr)
    );
    (printed, output.unwrap())
}

#[test]
fn every_example_has_a_header_that_is_read() {
    let listing = catalog().list().unwrap();
    let names: Vec<&str> = listing
        .scripts
        .iter()
        .map(|script| script.name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "count.py",
            "disk-usage.sh",
            "greet.aether",
            "hello.sh",
            "report.js"
        ]
    );
    for script in &listing.scripts {
        assert!(script.has_valid_header(), "{}: {:?}", script.name, script.problem);
        assert!(
            script.description.is_some() && script.timeout.is_some(),
            "{}",
            script.name
        );
        assert!(script.parameters.is_some(), "{}", script.name);
    }
}

#[test]
fn hello_greets() {
    let (printed, output) = succeeds("hello.sh", &json!({}));
    assert_eq!(
        (printed.as_str(), output),
        ("Hello, world!\n", json!({"greeting": "Hello, world!"}))
    );
    let (_, output) = succeeds("hello.sh", &json!({"name": "Zoë $(id) `id` %s"}));
    assert_eq!(output["greeting"], "Hello, Zoë $(id) `id` %s!");
    let script = catalog().find("hello.sh").unwrap();
    for name in ["", "a\"b", "a\\b", "a\nb"] {
        let given = json!({"name": name});
        let checked = script
            .parameters
            .as_ref()
            .unwrap()
            .validate(given.as_object().unwrap().clone());
        assert!(checked.is_err(), "{name:?}");
    }
}

#[test]
fn count_tells_its_progress() {
    let (printed, output) = succeeds("count.py", &json!({"steps": 3, "delay": 0}));
    let progress: Vec<&str> = printed
        .lines()
        .filter(|line| line.starts_with("::progress"))
        .collect();
    let expected = [
        "::progress current=1 total=3::step 1",
        "::progress current=2 total=3::step 2",
        "::progress current=3 total=3::step 3",
    ];
    assert_eq!(progress, expected);
    assert_eq!(output["counted"], 3);
}

#[test]
fn report_logs_structured_lines() {
    let script = catalog().find("report.js").unwrap();
    if !script.runnable {
        // A machine without Node.js: then the catalog must say so.
        assert!(script.problem.unwrap().contains("install Node.js"));
        return;
    }
    let (printed, output) = succeeds("report.js", &json!({"warnAtPercent": 1}));
    let lines: Vec<Value> = printed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(
        lines
            .iter()
            .all(|line| line["level"].is_string() && line["message"].is_string()),
        "{printed}"
    );
    assert_eq!(lines[0]["jobId"], "0197f0d2-0000-7000-8000-000000000000");
    assert_eq!(lines[0]["warnAtPercent"], 1);
    assert!(output["memory"]["totalMiB"].as_f64().unwrap() > 0.0, "{output}");
}

#[test]
fn disk_usage_finds_the_biggest_folders() {
    let folder = TempDir::new().unwrap();
    for (name, size) in [("small", 10_000), ("b\"i\\g\nest", 400_000), ("middle", 100_000)] {
        fs::create_dir(folder.path().join(name)).unwrap();
        fs::write(folder.path().join(name).join("file"), vec![b'x'; size]).unwrap();
    }
    let (_, output) = succeeds("disk-usage.sh", &json!({"path": folder.path(), "limit": 2}));
    let paths: Vec<&str> = output["folders"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["path"].as_str().unwrap())
        .collect();
    let root = folder.path().to_str().unwrap();
    assert_eq!(paths, [format!("{root}/b\"i\\g est"), format!("{root}/middle")]);
    assert_eq!(output["path"], root);
    assert!(
        output["folders"][0]["kibibytes"].as_u64().unwrap() >= 390,
        "{output}"
    );
    assert!(output["kibibytes"].as_u64().unwrap() >= 490, "{output}");

    let (ended, output) = run(
        &catalog().find("disk-usage.sh").unwrap(),
        &json!({"path": "/nowhere/at/all"}),
    );
    assert_eq!(ended.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&ended.stdout).contains("::error::there is no folder"));
    assert_eq!(output, None);
}

#[test]
fn greet_runs_by_its_first_line() {
    let (printed, output) = succeeds("greet.aether", &json!({"name": "Ada", "language": "de"}));
    assert!(printed.starts_with("Guten Tag, Ada!\n"), "{printed}");
    assert_eq!(output, json!({"greeting": "Guten Tag, Ada!", "language": "de"}));
}
