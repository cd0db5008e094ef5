//! What a job makes of its folders: links, depths and races. The server follows none of it.

use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use super::{healthy, shell_with};
use crate::support::app::{Setup, TestApp};
use crate::support::both_stores;
use crate::support::db::TestDb;
use crate::support::wait::until;

both_stores!(
    a_job_writes_its_own_folder_only,
    an_output_that_is_a_link_tells_nothing,
    a_folder_is_removed_and_what_it_links_to_stays,
    a_folder_that_is_swapped_for_a_link_leads_nowhere,
);

async fn a_job_writes_its_own_folder_only(db: TestDb) {
    let line = r#"echo here > file && f=$(mktemp) && echo there > "$f" && dirname "$f" && echo "$TMPDIR"
                  for way in "$HOME" /tmp /dev/shm ../../.. "$HOME/scripts"; do touch "$way/runql-escaped" && echo "$way"; done
                  echo '{"done": true}' > "$RUNQL_OUTPUT""#;
    let app = Setup::new(&db).closed().start().await;
    let job = app.completed(shell_with(line, json!({}))).await;
    let stdout = job["stdout"].as_str().unwrap();
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{job:#}");
    assert_eq!(lines[0], lines[1]);
    assert_eq!(job["output"], json!({ "done": true }));
    assert!(!std::path::Path::new(lines[0]).exists());
    app.stop().await;
    // The same with what the settings open.
    let app = Setup::new(&db).start().await;
    let job = app
        .completed(shell_with(
            r#"touch "$HOME/let" && ! touch /tmp/runql-escaped"#,
            json!({}),
        ))
        .await;
    assert!(app.folder().join("let").exists(), "{job:#}");
    app.stop().await;
}

/// The folders of jobs that are still there.
fn left(app: &TestApp) -> Vec<std::path::PathBuf> {
    let folder = std::fs::read_dir(app.folder().join("work/.jobs"));
    folder.unwrap().flatten().map(|entry| entry.path()).collect()
}

async fn nothing_left_in(app: &TestApp) {
    until("the folders of jobs are removed", async || {
        let left = left(app);
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
}

async fn an_output_that_is_a_link_tells_nothing(db: TestDb) {
    // Without a sandbox nothing but the server's own care is left.
    for mode in ["off", "auto"] {
        let app = Setup::new(&db).flag("--sandbox", mode).start().await;
        std::fs::write(app.folder().join("secret.json"), r#"{"secret": true}"#).unwrap();
        for line in [
            r#"ln -s "$HOME/secret.json" "$RUNQL_OUTPUT""#,
            r#"ln "$HOME/secret.json" "$RUNQL_OUTPUT" || mkdir "$RUNQL_OUTPUT""#,
            r#"mkfifo "$RUNQL_OUTPUT""#,
            r#"mkdir "$RUNQL_OUTPUT""#,
            r#"ln -s /dev/zero "$RUNQL_OUTPUT""#,
            r#"python3 -c 'import os, socket; os.chdir(os.environ["RUNQL_OUTPUT"][:-11]); socket.socket(socket.AF_UNIX).bind("output.json")'"#,
            // Goes on after the job's own end, for as long as it is let.
            r#"(while :; do ln -sf "$HOME/secret.json" "$RUNQL_OUTPUT"; echo '{}' > x; mv x "$RUNQL_OUTPUT"; done) > /dev/null 2>&1 & sleep 0.05"#,
        ] {
            let job = app.completed(shell_with(line, json!({}))).await;
            let output = &job["output"];
            assert!(output.is_null() || *output == json!({}), "{line}: {output}");
        }
        let plain = r#"echo '{"plain": 1}' > x; mv x "$RUNQL_OUTPUT""#;
        let job = app.completed(shell_with(plain, json!({}))).await;
        assert_eq!(job["output"], json!({ "plain": 1 }));
        nothing_left_in(&app).await;
        app.stop().await;
    }
}

async fn a_folder_is_removed_and_what_it_links_to_stays(db: TestDb) {
    for mode in ["off", "auto"] {
        let app = Setup::new(&db).flag("--sandbox", mode).start().await;
        let kept = app.folder().join("kept");
        std::fs::create_dir(&kept).unwrap();
        std::fs::write(kept.join("file"), "kept").unwrap();
        for line in [
            r#"ln -s "$HOME/kept" link; mkdir -p a/b; ln -s ../../../../../../kept a/b/link"#,
            r#"rm -rf ../tmp && ln -s "$HOME/kept" ../tmp; cd / && rmdir "$PWD_OF_JOB" && ln -s "$HOME/kept" "$PWD_OF_JOB""#,
            r#"mkdir -p a/b/c; touch a/b/c/f; ln -s "$HOME/kept" a/b/l; chmod 0 a/b/c a/b a . .."#,
            "python3 -c 'import os\nfor n in range(2000): os.mkdir(\"d\"); os.chdir(\"d\")'",
            "seq -f f%g 5000 | xargs touch",
        ] {
            let line = format!("PWD_OF_JOB=$PWD; {line}");
            let id = app.run(shell_with(&line, json!({}))).await;
            app.ended(&id).await;
            nothing_left_in(&app).await;
        }
        assert_eq!(std::fs::read_to_string(kept.join("file")).unwrap(), "kept");
        assert_eq!(std::fs::read_dir(&kept).unwrap().count(), 1);
        healthy(&app).await;
        app.stop().await;
    }
}

async fn a_folder_that_is_swapped_for_a_link_leads_nowhere(db: TestDb) {
    let outside = tempfile::tempdir().unwrap();
    let app = Setup::new(&db).closed().start().await;
    let outside_path: Value = json!(outside.path());
    // One job owns the folder above and swaps what is below it, as fast as it can.
    let swap = r#"import os
while not os.path.exists("enough"):
    try:
        os.rename("inner", "real"); os.symlink(os.environ["OUTSIDE"], "inner")
        os.unlink("inner"); os.rename("real", "inner")
    except OSError: pass
"#;
    let input = json!({
        "command": { "exec": { "program": "python3", "args": ["-c", swap] } }, "workingDir": "shared",
        "env": [{ "name": "OUTSIDE", "value": outside_path }],
    });
    let folder = app.folder().join("work/shared");
    std::fs::create_dir_all(folder.join("inner")).unwrap();
    let swapper = app.run(input).await;
    app.job_in(&swapper, &["RUNNING"]).await;
    let mut ended = std::collections::BTreeMap::<String, usize>::new();
    for _ in 0..60 {
        let below = json!({ "workingDir": "shared/inner" });
        let payload = app
            .try_run(shell_with(
                "touch escaped; touch \"$PWD/escaped\"; echo x > ./more",
                below,
            ))
            .await;
        // It is refused at once where it was a link at that moment.
        let Some(id) = payload["job"]["id"].as_str() else {
            continue;
        };
        let job = app.ended(id).await;
        *ended
            .entry(job["status"].as_str().unwrap().to_owned())
            .or_default() += 1;
    }
    std::fs::write(folder.join("enough"), "").unwrap();
    assert_eq!(app.ended(&swapper).await["status"], "COMPLETED");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0, "{ended:?}");
    // A link that stays is refused for good.
    std::fs::rename(folder.join("inner"), folder.join("aside")).unwrap_or_default();
    let _ = std::fs::remove_file(folder.join("inner"));
    symlink(outside.path(), folder.join("inner")).unwrap();
    let payload = app
        .try_run(shell_with("true", json!({ "workingDir": "shared/inner" })))
        .await;
    assert_ne!(payload["errors"], json!([]), "{payload:#}");
    healthy(&app).await;
    app.stop().await;
}
