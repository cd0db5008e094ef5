//! Opening a store: what is made, what is kept, and what is refused with a reason.

use runql::store::{Backend, OpenError, StoreOptions};
use sea_orm::ConnectionTrait;

use super::fixture::{insert, new_job, stored};
use crate::support::db::{Node, TestDb};
use crate::support::{both_stores, on_postgres};

both_stores!(what_was_stored_is_there_again, a_newer_database_is_refused);
on_postgres!(many_nodes_open_a_new_database_at_once);

async fn what_was_stored_is_there_again(db: TestDb) {
    let node = db.node().await;
    assert_eq!(node.backend(), db.backend());
    let id = insert(&node, vec![new_job(0)]).await[0].id;
    assert!(node.reader().size_bytes().await.unwrap() > 0);
    let first = node.node();
    node.close().await;
    let node = db.node().await;
    assert_ne!(node.node(), first, "each start is a node of its own");
    assert_eq!(stored(&node, id).await.id, id);
    node.reader().ping().await.unwrap();
}

async fn a_newer_database_is_refused(db: TestDb) {
    db.node().await.close().await;
    let raw = db.raw().await;
    let newer = "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m29991231_000001_later', 0)";
    raw.execute_unprepared(newer).await.unwrap();
    assert!(matches!(db.try_node().await, Err(OpenError::Newer)));
    // One of ours that was taken away for another: as many as we know, and still not ours.
    raw.execute_unprepared("DELETE FROM seaql_migrations WHERE version <> 'm29991231_000001_later'")
        .await
        .unwrap();
    assert!(db.try_node().await.is_err());
}

async fn many_nodes_open_a_new_database_at_once(db: TestDb) {
    db.without_tables().await;
    let nodes = futures_util::future::join_all((0..5).map(|_| db.node())).await;
    for node in &nodes {
        insert(node, vec![new_job(0)]).await;
    }
    assert_eq!(nodes[0].reader().status_counts(None).await.unwrap().total(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sqlite_file_serves_one_server() {
    crate::support::db::with_db(Backend::Sqlite, async |db| {
        let node = db.node().await;
        let Err(OpenError::InUse(path)) = db.try_node().await else {
            panic!("two servers on one file")
        };
        assert!(path.ends_with("test.db"));
        insert(&node, vec![new_job(0)]).await;
        node.close().await;
        db.node().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_sqlite_file_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    crate::support::db::with_db(Backend::Sqlite, async |db| {
        let node = db.node().await;
        insert(&node, vec![new_job(0)]).await;
        let file = db
            .url()
            .trim_start_matches("sqlite://")
            .trim_end_matches("?mode=rwc");
        for end in ["", "-wal", "-shm", ".lock"] {
            let found = std::fs::metadata(format!("{file}{end}")).unwrap();
            assert_eq!(found.permissions().mode() & 0o777, 0o600, "{file}{end}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_that_lead_nowhere() {
    let open = async |url: &str| Node::open(&StoreOptions::new(url)).await.map(|_| ()).unwrap_err();
    for url in [
        "mysql://root:secret@host/db",
        "",
        "runql.db",
        "sqlite::memory:",
        "root:secret@host/db",
    ] {
        let error = open(url).await;
        assert!(matches!(error, OpenError::Address(_)), "{url}: {error:?}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let missing = format!("sqlite://{}/no/such/folder.db?mode=rwc", folder.path().display());
    assert!(matches!(open(&missing).await, OpenError::Lock { .. }));

    let path = folder.path().join("text.db");
    std::fs::write(&path, "this is no database, and must not be made one".repeat(100)).unwrap();
    let error = open(&format!("sqlite://{}", path.display())).await;
    assert!(
        matches!(&error, OpenError::Store(inner) if !inner.is_unavailable()),
        "{error:?}"
    );
    assert!(
        std::fs::read_to_string(&path)
            .unwrap()
            .starts_with("this is no database")
    );
}
