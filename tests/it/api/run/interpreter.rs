//! Which program runs a script: the request's, the settings', the first line's or the extension's.

use serde_json::json;

use crate::support::app::{Setup, TestApp};
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(the_interpreter_is_chosen_in_order, common_languages_run);

/// Prints what runs it.
const WHO: &str = "cat /proc/$$/comm\n";

async fn runs_with(app: &TestApp, name: &str, interpreter: Option<&str>) -> String {
    let command = json!({ "script": { "name": name, "interpreter": interpreter } });
    let job = app.completed(json!({ "command": command })).await;
    job["stdout"].as_str().unwrap().trim_end().to_owned()
}

async fn the_interpreter_is_chosen_in_order(db: TestDb) {
    let app = Setup::new(&db)
        .flag("--interpreter", "who=/bin/dash")
        .start()
        .await;
    app.script("plain.sh", WHO);
    app.script("shebang.sh", &format!("#!/usr/bin/env dash\n{WHO}"));
    app.script("shebang.who", &format!("#!/usr/bin/env bash\n{WHO}"));
    app.script("no_extension", &format!("#!/bin/bash\n{WHO}"));
    app.script("first.aether", &format!("#!/usr/bin/env dash\n{WHO}"));
    let quiet = app.script("not-executable.sh", WHO);
    std::fs::set_permissions(&quiet, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();

    for (name, requested, expected) in [
        ("plain.sh", None, "bash"),
        ("shebang.sh", None, "dash"),
        // The settings know better than the file.
        ("shebang.who", None, "dash"),
        ("no_extension", None, "bash"),
        ("first.aether", None, "dash"),
        ("not-executable.sh", None, "bash"),
        // The request knows best.
        ("plain.sh", Some("dash"), "dash"),
        ("shebang.sh", Some("bash"), "bash"),
        ("shebang.who", Some("bash"), "bash"),
    ] {
        assert_eq!(
            runs_with(&app, name, requested).await,
            expected,
            "{name} {requested:?}"
        );
    }
    app.stop().await;
}

async fn common_languages_run(db: TestDb) {
    let app = Setup::new(&db).start().await;
    app.script(
        "double.py",
        "import json, os, sys\n\
         n = json.load(sys.stdin)['parameters']['n']\n\
         json.dump(2 * n, open(os.environ['RUNQL_OUTPUT'], 'w'))\n",
    );
    app.script(
        "double.js",
        "const fs = require('node:fs');\n\
         const { parameters } = JSON.parse(fs.readFileSync(0, 'utf8'));\n\
         fs.writeFileSync(process.env.RUNQL_OUTPUT, JSON.stringify(2 * parameters.n));\n",
    );
    app.script(
        "double.pl",
        "open(my $f, '>', $ENV{RUNQL_OUTPUT}); print $f 2 * $ENV{PARAM_N};\n",
    );
    for name in ["double.py", "double.js", "double.pl"] {
        let command = json!({ "script": { "name": name, "parameters": { "n": 21 } } });
        let job = app.completed(json!({ "command": command })).await;
        assert_eq!(job["output"], 42, "{name}");
    }
    app.stop().await;
}
