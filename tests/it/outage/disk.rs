//! The disk under a SQLite file: full, and read-only.

use reqwest::StatusCode;
use serde_json::json;

use super::{compare, get, in_trouble, load, runs, well};
use crate::life::{printed, shell, shell_with};
use crate::support::app::Setup;
use crate::support::disk::OwnDisk;
use crate::support::wait::until;

/// For longer than a lease: there is nobody else who could take the job, so it runs on.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_and_outlasted() {
    let disk = OwnDisk::new();
    let app = Setup::new(&disk.db())
        .by(disk.small(16))
        .flag("--lease-ms", 1_000)
        .start()
        .await;
    let line = r#"echo before; while [ ! -e "$HOLD/go" ]; do sleep 0.01; done
        for n in $(seq 3000); do echo "line $n"; done; touch "$HOLD/talked"; while [ ! -e "$HOLD/end" ]; do sleep 0.01; done
        echo '{"sum": 7}' > "$RUNQL_OUTPUT""#;
    let env = json!({ "env": [{ "name": "HOLD", "value": app.folder() }], "maxAttempts": 2 });
    let id = app.run(shell_with(line, env)).await;
    printed(&app, &id, "before").await;
    let sent = load(&app, async {
        runs(&app, true, 3).await;
        disk.fill(&app);
        std::fs::write(app.folder().join("go"), "").unwrap();
        in_trouble(&app, &["NO_ROOM"]).await;
        runs(&app, false, 3).await;
        until("two leases without a renewal", async || {
            let failed = app
                .told()
                .iter()
                .filter(|line| line.contains("the heartbeat failed"))
                .count();
            if failed > 40 { Ok(()) } else { Err(failed) }
        })
        .await;
        let (status, body) = get(&app, "/ready").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(body["reason"], "the disk of the database is full");
        disk.free(&app);
        runs(&app, true, 3).await;
    })
    .await;
    // What the server itself says could be wrong: this is what is in the file.
    let (stored, refused, open) = compare(sent, &disk.copy(&app)).await;
    assert!(stored > 0 && refused > 0, "{stored} {refused}");
    assert_eq!(open, 0, "a full disk leaves nothing open");
    std::fs::write(app.folder().join("end"), "").unwrap();
    let job = app.ended(&id).await;
    assert_eq!(
        (&job["status"], &job["attempt"], &job["output"]),
        (&json!("COMPLETED"), &json!(1), &json!({ "sum": 7 })),
        "{job:#}"
    );
    let expected: String = (1..=3_000).map(|n| format!("line {n}\n")).collect();
    assert_eq!(
        String::from_utf8(app.bytes(&id, "stdout").await).unwrap(),
        format!("before\n{expected}")
    );
    well(&app).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_file_is_waited_for() {
    let disk = OwnDisk::new();
    let app = Setup::new(&disk.db()).start().await;
    let id = app.completed(shell("echo kept")).await["id"]
        .as_str()
        .unwrap()
        .to_owned();
    app.stop().await;
    let file = disk.file();
    let app = Setup::new(&disk.db()).by(disk.read_only(&file)).launch().await;
    until("the server says what it waits for", async || {
        let (_, body) = get(&app, "/health").await;
        if body["database"]["problem"] == "READ_ONLY" {
            Ok(())
        } else {
            Err(body)
        }
    })
    .await;
    let (status, body) = get(&app, "/ready").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        body["reason"],
        "the store is not open yet: the database can only be read"
    );
    disk.make_writable(&app, &file);
    well(&app).await;
    assert_eq!(app.job(&id).await["stdout"], "kept\n");
    app.completed(shell("true")).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_folder_is_refused_with_a_reason() {
    let disk = OwnDisk::new();
    let app = Setup::new(&disk.db()).start().await;
    app.stop().await;
    let folder = disk.file().parent().unwrap().to_owned();
    std::fs::remove_file(folder.join("test.db.lock")).unwrap();
    let mut app = Setup::new(&disk.db()).by(disk.read_only(&folder)).launch().await;
    assert_eq!(app.exit().await, Some(1));
    let told = app.told().join("\n");
    assert!(
        told.contains("test.db.lock cannot be used") && told.contains("Read-only file system"),
        "{told}"
    );
}
