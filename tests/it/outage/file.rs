//! One SQLite file: its one server, by whatever name, and its backup.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Output;

use runql::store::Backend;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Sent, send};
use crate::life::{printed, shell, shell_with};
use crate::support::app::Setup;
use crate::support::db::{TestDb, texts, with_db};
use crate::support::on_postgres;
use crate::support::socket::Socket;

on_postgres!(a_postgres_database_is_not_copied);

fn file_of(db: &TestDb) -> std::path::PathBuf {
    let path = db.url().strip_prefix("sqlite://").unwrap();
    path.split('?').next().unwrap().into()
}

fn at(path: &Path) -> TestDb {
    TestDb::at(format!("sqlite://{}?mode=rwc", path.display()))
}

async fn runql(db: &TestDb, command: &[&str]) -> Output {
    tokio::process::Command::new(env!("CARGO_BIN_EXE_runql"))
        .args(command)
        .args(["--database-url", db.url()])
        .output()
        .await
        .unwrap()
}

fn complaint(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test]
async fn a_file_serves_one_server_by_whatever_name() {
    with_db(Backend::Sqlite, async |db: TestDb| {
        let app = Setup::new(&db).start().await;
        let file = file_of(&db);
        let folder = file.parent().unwrap();
        let link = folder.join("link.db");
        symlink(&file, &link).unwrap();
        std::fs::create_dir(folder.join("sub")).unwrap();
        symlink(folder, folder.join("sub/way")).unwrap();
        for other in [
            link.clone(),
            folder.join("sub/../test.db"),
            folder.join("sub/way/test.db"),
        ] {
            let mut second = Setup::new(&at(&other)).launch().await;
            assert_eq!(second.exit().await, Some(1), "{}", other.display());
            let told = second.told().join("\n");
            assert!(told.contains("another server uses"), "{told}");
        }
        // Beside a running server there is nothing to migrate.
        assert!(complaint(&runql(&db, &["migrate"]).await).contains("another server uses"));
        let hard = folder.join("hard.db");
        std::fs::hard_link(&file, &hard).unwrap();
        let mut second = Setup::new(&at(&hard)).launch().await;
        assert_eq!(second.exit().await, Some(1));
        let told = second.told().join("\n");
        assert!(told.contains("more than one name"), "{told}");
        std::fs::remove_file(&hard).unwrap();
        app.completed(shell("echo unharmed")).await;
        app.stop().await;
        // A link is as good a name as any, also where it was there first.
        let app = Setup::new(&at(&link)).start().await;
        app.stop().await;
        let early = folder.join("early.db");
        symlink("target.db", &early).unwrap();
        let app = Setup::new(&at(&early)).start().await;
        let mut second = Setup::new(&at(&folder.join("target.db"))).launch().await;
        assert_eq!(second.exit().await, Some(1));
        app.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_has_all_that_was_answered_before() {
    with_db(Backend::Sqlite, async |db: TestDb| {
        let app = Setup::new(&db).start().await;
        let done = app.completed(shell("echo kept")).await["id"]
            .as_str()
            .unwrap()
            .to_owned();
        let events = "query($id: ID!) { job(id: $id) { events(first: 100) { edges { cursor } } } }";
        let found = app.data(events, json!({ "id": done })).await;
        let edges = found["job"]["events"]["edges"].as_array().unwrap();
        let cursor = edges.last().unwrap()["cursor"].clone();
        let once = app.shell("echo up; sleep 1000").await;
        let line = r#"echo up; [ "$RUNQL_ATTEMPT" = 2 ] || sleep 1000"#;
        let twice = app
            .run(shell_with(line, json!({ "maxAttempts": 2, "backoffMs": 0 })))
            .await;
        printed(&app, &once, "up").await;
        printed(&app, &twice, "up").await;
        let mut before = BTreeSet::new();
        for n in 0..100 {
            before.insert(format!("before-{n}"));
            assert!(matches!(send(&app, format!("before-{n}")).await, Sent::Stored(_)));
        }
        let copy = file_of(&db).with_file_name("copy.db");
        let enough = CancellationToken::new();
        let load = async {
            let mut n = 0;
            while !enough.is_cancelled() {
                assert!(matches!(send(&app, format!("during-{n}")).await, Sent::Stored(_)));
                n += 1;
            }
            n
        };
        let command = ["backup", copy.to_str().unwrap()];
        let backup = async {
            let ended = runql(&db, &command).await;
            enough.cancel();
            ended
        };
        let (during, ended) = tokio::join!(load, backup);
        assert!(ended.status.success() && during > 0, "{ended:?}");
        assert!(complaint(&runql(&db, &command).await).contains("is there already"));
        let left: Vec<_> = std::fs::read_dir(copy.parent().unwrap())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .filter(|name| name.to_string_lossy().contains("partial"))
            .collect();
        assert!(left.is_empty(), "{left:?}");

        let restored = at(&copy);
        let second = Setup::new(&restored).start().await;
        let raw = restored.raw().await;
        let kept: BTreeSet<String> = texts(&raw, "SELECT queue FROM job WHERE queue LIKE 'before-%'")
            .await
            .into_iter()
            .collect();
        assert_eq!(kept, before);
        assert_eq!(second.job(&done).await["stdout"], "kept\n");
        let lost = second.ended(&once).await;
        assert_eq!(
            (&lost["status"], &lost["error"]["code"]),
            (&json!("FAILED"), &json!("WORKER_LOST"))
        );
        let again = second.ended(&twice).await;
        assert_eq!(
            (&again["status"], &again["attempt"]),
            (&json!("COMPLETED"), &json!(2))
        );
        // A cursor of the first server goes on in the copy.
        let query = "subscription($after: String) { jobEvents(after: $after) { type job { id } } }";
        let mut socket = Socket::listen(&second, query, json!({ "after": cursor })).await;
        let first: Value = socket.next("jobEvents").await;
        assert_eq!(
            (&first["type"], &first["job"]["id"]),
            (&json!("CREATED"), &json!(once))
        );
        second.completed(shell("echo on")).await;
        second.stop().await;
        // The first one never noticed.
        assert_eq!(app.job(&once).await["status"], "RUNNING");
        app.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_backup_needs_a_source_and_a_place() {
    with_db(Backend::Sqlite, async |db: TestDb| {
        let file = file_of(&db);
        let target = file.with_file_name("copy.db");
        let target = target.to_str().unwrap();
        assert!(complaint(&runql(&db, &["backup", target]).await).contains("there is no database at"));
        assert!(!file.exists() && !Path::new(target).exists());
        Setup::new(&db).start().await.stop().await;
        let nowhere = file.with_file_name("no/such/copy.db");
        assert!(
            complaint(&runql(&db, &["backup", nowhere.to_str().unwrap()]).await)
                .contains("cannot be written")
        );
        assert_eq!(runql(&db, &["backup"]).await.status.code(), Some(2));
        // What cannot be read as a database leaves nothing behind.
        let text = file.with_file_name("text.db");
        std::fs::write(&text, "no database ".repeat(1_000)).unwrap();
        let told = complaint(&runql(&at(&text), &["backup", target]).await);
        assert!(told.contains("could not be copied"), "{told}");
        assert!(!Path::new(target).exists());
        // A server that is not there has left its log in order; the copy is a whole database all the same.
        assert!(runql(&db, &["backup", target]).await.status.success());
        Setup::new(&at(Path::new(target))).start().await.stop().await;
    })
    .await;
}

async fn a_postgres_database_is_not_copied(db: TestDb) {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("copy.db");
    let told = complaint(&runql(&db, &["backup", target.to_str().unwrap()]).await);
    assert!(told.contains("pg_dump"), "{told}");
    assert!(!target.exists());
}
