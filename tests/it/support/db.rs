//! A real database for each test, and the nodes that share it.
//!
//! On SQLite it is a file in a folder of its own; on Postgres a database that is made through the admin address in
//! `RUNQL_TEST_POSTGRES_URL` and dropped when the test ends, however it ends. The file is empty, and the store migrates it
//! when it is opened; the one on Postgres is a copy of one that was migrated.

use std::ops::Deref;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt;
use runql::domain::Changes;
use runql::store::{Backend, OpenError, Operation, Store, StoreOptions};
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement};
use tokio::task::JoinSet;

use super::template;
use super::wait::within;

const ADMIN_VARIABLE: &str = "RUNQL_TEST_POSTGRES_URL";
const ADMIN_DEFAULT: &str = "postgres://postgres@127.0.0.1:5432/postgres";

/// What the names of test databases begin with; the moment of their making follows.
const PREFIX: &str = "runql_test_";

/// No test runs so long: a database of this age was left by a run that was killed.
const LEFT_BEHIND: Duration = Duration::from_secs(3_600);

/// A database that belongs to one test, with nothing in it.
#[derive(Debug, Clone)]
pub(crate) struct TestDb {
    url: String,
    backend: Backend,
}

/// Runs one test on a database of its own, and takes the database away afterwards, also when the test panics.
pub(crate) async fn with_db<F: Future<Output = ()>>(backend: Backend, test: impl FnOnce(TestDb) -> F) {
    match backend {
        Backend::Sqlite => {
            let folder = tempfile::tempdir().unwrap();
            let url = format!("sqlite://{}?mode=rwc", folder.path().join("test.db").display());
            test(TestDb { url, backend }).await;
        }
        Backend::Postgres => {
            let (name, url) = create_postgres().await;
            let outcome = AssertUnwindSafe(test(TestDb { url, backend }))
                .catch_unwind()
                .await;
            drop_postgres(&name).await;
            if let Err(panic) = outcome {
                resume_unwind(panic);
            }
        }
    }
}

impl TestDb {
    /// A database that somebody else makes and takes away.
    pub(crate) fn at(url: impl Into<String>) -> Self {
        let url = url.into();
        let backend = if url.starts_with("sqlite:") {
            Backend::Sqlite
        } else {
            Backend::Postgres
        };
        Self { url, backend }
    }

    /// The address under which a store opens it.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Which database it is.
    pub(crate) fn backend(&self) -> Backend {
        self.backend
    }

    /// How the tests open it: with few connections, since many tests share one server.
    pub(crate) fn options(&self) -> StoreOptions {
        StoreOptions {
            readers: 4,
            ..StoreOptions::new(&self.url)
        }
    }

    /// Opens a store on it, and drives the store's writer: one node. SQLite takes only one at a time.
    pub(crate) async fn node(&self) -> Node {
        self.try_node().await.unwrap()
    }

    /// As [`node`](Self::node), for those who expect it to fail.
    pub(crate) async fn try_node(&self) -> Result<Node, OpenError> {
        Node::open(&self.options()).await
    }

    /// Takes away the tables too, for those who look at what the first start does.
    pub(crate) async fn without_tables(&self) {
        if self.backend == Backend::Postgres {
            let raw = self.raw().await;
            let all = "DROP SCHEMA public CASCADE; CREATE SCHEMA public";
            raw.execute_unprepared(all).await.unwrap();
            raw.close().await.unwrap();
        }
    }

    /// A connection beside the store, to look at the tables and to play somebody else.
    pub(crate) async fn raw(&self) -> DatabaseConnection {
        connect(&self.url).await
    }
}

/// A store with its writer at work, as one server has it.
#[derive(Debug)]
pub(crate) struct Node {
    store: Store,
    writer: JoinSet<()>,
    commits: Arc<Mutex<Vec<Changes>>>,
}

impl Deref for Node {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl Node {
    /// Opens a store and drives its writer.
    pub(crate) async fn open(options: &StoreOptions) -> Result<Self, OpenError> {
        let commits = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&commits);
        let (store, work) =
            Store::open(options, move |committed| heard.lock().unwrap().push(committed)).await?;
        let mut writer = JoinSet::new();
        writer.spawn(work);
        Ok(Self {
            store,
            writer,
            commits,
        })
    }

    /// Writes, and insists that the database did not fail.
    pub(crate) async fn write<O: Operation>(&self, operation: O) -> O::Output {
        within("a write", self.writer().write(operation)).await.unwrap()
    }

    /// What its commits told so far; each is told once.
    pub(crate) fn take_commits(&self) -> Vec<Changes> {
        std::mem::take(&mut self.commits.lock().unwrap())
    }

    /// Ends it in order: the writer comes to its end, then every connection is closed.
    pub(crate) async fn close(self) {
        let Self {
            store, mut writer, ..
        } = self;
        store.close().await;
        drop(store);
        within("the writer's end", writer.join_next())
            .await
            .unwrap()
            .unwrap();
    }
}

/// One statement, from its text.
pub(crate) fn sql(db: &DatabaseConnection, text: impl Into<String>) -> Statement {
    Statement::from_string(db.get_database_backend(), text)
}

/// Every row that a query over text gives, its first column only.
pub(crate) async fn texts(db: &impl ConnectionTrait, query: &str) -> Vec<String> {
    let statement = Statement::from_string(db.get_database_backend(), query);
    let rows = db.query_all_raw(statement).await.unwrap();
    rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}

/// All that a table holds, row by row, to be compared with what it holds later.
pub(crate) async fn rows_of(db: &impl ConnectionTrait, table: &str) -> Vec<String> {
    let query = match db.get_database_backend() {
        DbBackend::Postgres => format!("SELECT t::text FROM {table} AS t ORDER BY 1"),
        _ => {
            let columns = texts(db, &format!("SELECT name FROM pragma_table_info('{table}')")).await;
            let quoted: Vec<String> = columns.iter().map(|name| format!("quote({name})")).collect();
            format!("SELECT {} FROM {table} ORDER BY 1", quoted.join(" || ',' || "))
        }
    };
    texts(db, &query).await
}

async fn connect(url: &str) -> DatabaseConnection {
    let mut options = ConnectOptions::new(url);
    options.max_connections(1).sqlx_logging(false);
    match Database::connect(options).await {
        Ok(connection) => connection,
        Err(error) => panic!("the tests need this database ({ADMIN_VARIABLE} names the Postgres): {error}"),
    }
}

/// The address of a database on the server, or of the one that all others are made through. Without a word on TLS it goes
/// without: in a build with debug assertions each handshake takes most of a tenth of a second, and every node has four.
pub(super) fn server_url(database: Option<&str>) -> String {
    let url = std::env::var(ADMIN_VARIABLE).unwrap_or_else(|_| ADMIN_DEFAULT.to_owned());
    let mut url = url::Url::parse(&url).unwrap();
    if let Some(database) = database {
        url.set_path(database);
    }
    if url.query_pairs().all(|(name, _)| name != "sslmode") {
        url.query_pairs_mut().append_pair("sslmode", "disable");
    }
    url.into()
}

pub(super) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Makes a database, after taking away those that killed runs left.
async fn create_postgres() -> (String, String) {
    let admin = connect(&server_url(None)).await;
    let left = format!(
        "SELECT datname::text FROM pg_database WHERE datname LIKE '{}%'",
        PREFIX.replace('_', "\\_")
    );
    for name in texts(&admin, &left).await {
        let made: Option<u64> = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('_').next()?.parse().ok());
        if made.is_some_and(|made| made + LEFT_BEHIND.as_secs() < unix_seconds()) {
            // Another test may be quicker with it, hence IF EXISTS and no look at the outcome.
            let _ = admin
                .execute_unprepared(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
                .await;
        }
    }
    let name = format!("{PREFIX}{}_{}", unix_seconds(), uuid::Uuid::now_v7().simple());
    template::copy(&admin, &name).await;
    admin.close().await.unwrap();
    let url = server_url(Some(&name));
    (name, url)
}

async fn drop_postgres(name: &str) {
    let admin = connect(&server_url(None)).await;
    admin
        .execute_unprepared(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
        .await
        .unwrap();
    admin.close().await.unwrap();
}
