//! Migrated Postgres databases that those of the tests are copied from: a copy is made in a fraction of the time that the
//! migrations take.
//!
//! There is one for each content of the migrations, made by whichever test comes first. Its name ends with the hash of the
//! content, so another checkout with other migrations has one of its own on the same server.

use std::hash::{DefaultHasher, Hash, Hasher};

use sea_orm::{ConnectionTrait, DatabaseConnection};

use super::db::{Node, TestDb, server_url, texts, unix_seconds};

/// What the names of templates begin with; the moment of their making and the hash follow.
const PREFIX: &str = "runql_template_";

/// A template of other migrations that is so old is taken away when a new one is made.
const OUT_OF_DATE_SECONDS: u64 = 86_400;

/// Held shared from the look for a template to the end of the copying, and alone to make one. It is the session's.
const LOCK: &str = "31451";

/// All that decides what the migrations make.
const MIGRATIONS: &[&str] = &[
    include_str!("../../../migration/src/lib.rs"),
    include_str!("../../../migration/src/m20261121_000001_create_jobs.rs"),
    include_str!("../../../migration/src/m20261121_000002_add_tokens.rs"),
    include_str!("../../../migration/src/m20261122_000003_compress_logs.rs"),
];

/// Makes a migrated database of that name on the server that `admin` leads to.
pub(super) async fn copy(admin: &DatabaseConnection, name: &str) {
    loop {
        run(admin, &format!("SELECT pg_advisory_lock_shared({LOCK})")).await;
        if let Some(template) = ready(admin).await {
            run(admin, &format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
            return run(admin, &format!("SELECT pg_advisory_unlock_shared({LOCK})")).await;
        }
        run(admin, &format!("SELECT pg_advisory_unlock_shared({LOCK})")).await;
        run(admin, &format!("SELECT pg_advisory_lock({LOCK})")).await;
        if ready(admin).await.is_none() {
            make(admin).await;
        }
        run(admin, &format!("SELECT pg_advisory_unlock({LOCK})")).await;
    }
}

/// The template of these migrations, once it is whole: then nobody may connect to it, who would be in the way of a copy.
async fn ready(admin: &DatabaseConnection) -> Option<String> {
    let query = format!(
        "SELECT datname::text FROM pg_database WHERE NOT datallowconn AND datname LIKE '{}%\\_{}'",
        PREFIX.replace('_', "\\_"),
        hash()
    );
    texts(admin, &query).await.pop()
}

async fn make(admin: &DatabaseConnection) {
    clean(admin).await;
    let name = format!("{PREFIX}{}_{}", unix_seconds(), hash());
    run(
        admin,
        &format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'"),
    )
    .await;
    let db = TestDb::at(server_url(Some(&name)));
    Node::open(&db.options()).await.unwrap().close().await;
    let raw = db.raw().await;
    let migrations = texts(&raw, "SELECT version FROM seaql_migrations").await;
    assert_eq!(
        migrations.len() + 1,
        MIGRATIONS.len(),
        "name each file of the migrations here: {migrations:?}"
    );
    raw.close().await.unwrap();
    run(admin, &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false")).await;
}

/// Takes away what is out of date, and what a killed run left half made.
async fn clean(admin: &DatabaseConnection) {
    let left = format!(
        "SELECT datname::text FROM pg_database WHERE datname LIKE '{}%'",
        PREFIX.replace('_', "\\_")
    );
    for name in texts(admin, &left).await {
        let mut parts = name[PREFIX.len()..].split('_');
        let made: Option<u64> = parts.next().and_then(|made| made.parse().ok());
        let is_old = made.is_none_or(|made| made + OUT_OF_DATE_SECONDS < unix_seconds());
        if is_old || parts.next() == Some(&hash()) {
            run(admin, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
        }
    }
}

fn hash() -> String {
    let mut hasher = DefaultHasher::new();
    MIGRATIONS.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

async fn run(admin: &DatabaseConnection, statement: &str) {
    admin.execute_unprepared(statement).await.unwrap();
}
