//! Opening the store: connections, migrations, and the lock that keeps a SQLite file to one server.

use std::fs::{File, TryLockError};
use std::path::PathBuf;
use std::time::Duration;

use migration::{Migrator, MigratorTrait};
use sea_orm::sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
use sea_orm::{ConnectOptions, Database, DatabaseConnection, DbBackend, DbErr};

use uuid::Uuid;

use super::error::StoreError;
use super::no_delay;
use super::read::Reader;
use super::writer::Writer;
use crate::domain::Changes;
use crate::failpoint::failpoint;

/// Which database a store lives in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// A file beside the server: one node.
    Sqlite,
    /// A server of its own: many nodes.
    Postgres,
}

/// How to open a store.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// `sqlite://path?mode=rwc` or `postgres://user:password@host/database`.
    pub url: String,
    /// Connections that read at once.
    pub readers: u32,
    /// How long to wait for a connection before the store counts as away.
    pub acquire_timeout: Duration,
    /// How long Postgres bears a transaction of this node that says nothing, as that of a frozen one: the locks that it
    /// holds stop all others, so it must be well below the lease that those have to renew.
    pub silence: Duration,
}

impl StoreOptions {
    /// The defaults for this address.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            readers: 8,
            acquire_timeout: Duration::from_secs(5),
            silence: Duration::from_secs(5),
        }
    }
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The address is of no database that this server knows.
    #[error(
        "`{0}` is no database address: use sqlite://FILE?mode=rwc or postgres://USER:PASSWORD@HOST/DATABASE"
    )]
    Address(String),
    /// Another server holds the SQLite file.
    #[error(
        "another server uses {0}: a SQLite file serves one server; stop that one, name another file, or use Postgres for many nodes"
    )]
    InUse(String),
    /// The lock file beside the SQLite file cannot be made.
    #[error("the lock file {path} cannot be used")]
    Lock {
        /// The lock file.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The tables are of a newer version than this program.
    #[error(
        "the database was migrated by a newer version of runql: start that version, or restore a backup made before"
    )]
    Newer,
    /// The database cannot be reached, or refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An open store: the writer, the readers, and what must live as long as they do.
#[derive(Debug)]
pub struct Store {
    writer: Writer,
    reader: Reader,
    backend: Backend,
    node: Uuid,
    pools: [DatabaseConnection; 2],
    /// Held, not read: the operating system lets go of the lock when the process ends, however it ends.
    _lock: Option<File>,
}

impl Store {
    /// Opens the store, migrates it where needed, and hands back the writer's own work, which somebody must run.
    /// `on_commit` is told of every commit of this node.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; one that [`is_unavailable`](StoreError::is_unavailable) is worth another try.
    pub async fn open(
        options: &StoreOptions,
        on_commit: impl Fn(Changes) + Send + Sync + 'static,
    ) -> Result<(Self, impl Future<Output = ()> + Send + 'static), OpenError> {
        let backend = backend_of(&options.url)?;
        let lock = match backend {
            Backend::Sqlite => Some(lock_file(&options.url)?),
            Backend::Postgres => None,
        };
        Self::open_locked(options, backend, lock, on_commit).await
    }

    /// Opens the store for a command that may run beside a server, with the writer's own work, which somebody must run.
    /// It is migrated only where no server is there: a server has done it.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; [`OpenError::InUse`] where the server that is there is of an older version.
    pub async fn open_beside(
        options: &StoreOptions,
    ) -> Result<(Self, impl Future<Output = ()> + Send + 'static), OpenError> {
        let backend = backend_of(&options.url)?;
        let lock = match backend {
            Backend::Sqlite => lock_file(&options.url).map(Some),
            Backend::Postgres => Ok(None),
        };
        let (lock, in_use) = match lock {
            Ok(lock) => (lock, None),
            Err(error @ OpenError::InUse(_)) => (None, Some(error)),
            Err(error) => return Err(error),
        };
        if let Some(in_use) = in_use {
            let look = connect(options, backend, 1).await.map_err(StoreError::from)?;
            let missing = missing(&look).await;
            // It is closed in any case; how is of no interest.
            let _ = look.close().await;
            if missing? {
                return Err(in_use);
            }
        }
        Self::open_locked(options, backend, lock, |_| {}).await
    }

    async fn open_locked(
        options: &StoreOptions,
        backend: Backend,
        lock: Option<File>,
        on_commit: impl Fn(Changes) + Send + Sync + 'static,
    ) -> Result<(Self, impl Future<Output = ()> + Send + 'static), OpenError> {
        let write = connect(options, backend, 1).await.map_err(StoreError::from)?;
        migrate(&write).await?;
        let read = connect(options, backend, options.readers)
            .await
            .map_err(StoreError::from)?;
        let node = Uuid::now_v7();
        let (writer, work) = Writer::new(write.clone(), node, Box::new(on_commit));
        let reader = Reader::new(read.clone());
        Ok((
            Self {
                writer,
                reader,
                backend,
                node,
                pools: [write, read],
                _lock: lock,
            },
            work,
        ))
    }

    /// Where writes are handed over.
    #[must_use]
    pub const fn writer(&self) -> &Writer {
        &self.writer
    }

    /// Where questions are asked.
    #[must_use]
    pub const fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Which database it lives in.
    #[must_use]
    pub const fn backend(&self) -> Backend {
        self.backend
    }

    /// This server process, as the others know it.
    #[must_use]
    pub const fn node(&self) -> Uuid {
        self.node
    }

    /// The connection that listens for other nodes' hints.
    pub(super) const fn pool(&self) -> &DatabaseConnection {
        &self.pools[1]
    }

    /// Closes every connection. On SQLite the last one folds the write-ahead log into the file.
    pub async fn close(&self) {
        failpoint!("shutdown.store");
        for pool in &self.pools {
            if let Err(error) = pool.close_by_ref().await {
                tracing::warn!(error = %crate::telemetry::chain(&error), "a database pool did not close");
            }
        }
    }
}

fn backend_of(url: &str) -> Result<Backend, OpenError> {
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        Ok(Backend::Postgres)
    } else if url.starts_with("sqlite:") && !url.contains(":memory:") {
        Ok(Backend::Sqlite)
    } else {
        // An address may carry a password, also one whose scheme was forgotten.
        let shown = match url.split_once("://") {
            Some((scheme, _)) => format!("{scheme}://…"),
            None if url.contains('@') => "…".to_owned(),
            None => url.to_owned(),
        };
        Err(OpenError::Address(shown))
    }
}

/// The file of a SQLite address.
pub(crate) fn sqlite_path(url: &str) -> Option<PathBuf> {
    let rest = url.strip_prefix("sqlite:")?;
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    Some(PathBuf::from(rest.split('?').next().unwrap_or(rest)))
}

fn lock_file(url: &str) -> Result<File, OpenError> {
    let database = sqlite_path(url).ok_or_else(|| OpenError::Address(url.to_owned()))?;
    let mut path = database.clone().into_os_string();
    path.push(".lock");
    let shown = PathBuf::from(&path).display().to_string();
    let failed = |source| OpenError::Lock {
        path: shown.clone(),
        source,
    };
    let file = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(database.display().to_string())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Where Postgres listens that is not told otherwise.
const POSTGRES_PORT: u16 = 5432;

async fn connect(
    options: &StoreOptions,
    backend: Backend,
    connections: u32,
) -> Result<DatabaseConnection, DbErr> {
    let mut wanted = ConnectOptions::new(options.url.clone());
    wanted
        .max_connections(connections)
        .min_connections(1)
        .acquire_timeout(options.acquire_timeout)
        .connect_timeout(options.acquire_timeout)
        .sqlx_logging(false);
    match backend {
        Backend::Sqlite => {
            // A ping before each use costs half of a local read and tells nothing: the file does not go away.
            wanted
                .test_before_acquire(false)
                .idle_timeout(None::<Duration>)
                .max_lifetime(None::<Duration>);
            wanted.map_sqlx_sqlite_opts(|sqlite| {
                sqlite
                    .create_if_missing(true)
                    .journal_mode(SqliteJournalMode::Wal)
                    .synchronous(SqliteSynchronous::Full)
                    .busy_timeout(Duration::from_secs(5))
                    .foreign_keys(false)
                    .pragma("cache_size", "-16384")
                    .pragma("temp_store", "memory")
                    .pragma("journal_size_limit", "67108864")
                    .statement_cache_capacity(256)
            });
        }
        Backend::Postgres => {
            wanted
                .test_before_acquire_if_idle_for(Duration::from_secs(10))
                .set_application_name("runql");
            let url = url::Url::parse(&options.url).ok();
            let port = url.and_then(|url| url.port()).unwrap_or(POSTGRES_PORT);
            let silence = format!(
                "SET idle_in_transaction_session_timeout = {}",
                options.silence.as_millis().max(1)
            );
            wanted.map_sqlx_postgres_pool_opts(move |pool| {
                let silence = silence.clone();
                pool.after_connect(move |connection, _| {
                    if let Err(error) = no_delay::send_at_once(port) {
                        tracing::debug!(error = %error, "large statements wait for acknowledgements");
                    }
                    let silence = sea_orm::sqlx::AssertSqlSafe(silence.clone());
                    Box::pin(async move {
                        sea_orm::sqlx::Executor::execute(connection, silence).await?;
                        Ok(())
                    })
                })
            });
        }
    }
    Database::connect(wanted).await
}

/// The lock under which one node at a time migrates.
const MIGRATION_LOCK: &str = "SELECT pg_advisory_lock(3145)";
const MIGRATION_UNLOCK: &str = "SELECT pg_advisory_unlock(3145)";

/// Applies what is missing. The pool has one connection, so the session's lock and the migrations share it.
async fn migrate(db: &DatabaseConnection) -> Result<(), OpenError> {
    use sea_orm::ConnectionTrait;
    let postgres = db.get_database_backend() == DbBackend::Postgres;
    if postgres {
        db.execute_unprepared(MIGRATION_LOCK)
            .await
            .map_err(StoreError::from)?;
    }
    let applied = apply(db).await;
    if postgres {
        db.execute_unprepared(MIGRATION_UNLOCK)
            .await
            .map_err(StoreError::from)?;
    }
    applied
}

async fn apply(db: &DatabaseConnection) -> Result<(), OpenError> {
    Migrator::install(db).await.map_err(StoreError::from)?;
    if missing(db).await? {
        failpoint!("migrate.before");
        Migrator::up(db, None).await.map_err(StoreError::from)?;
        failpoint!("migrate.after");
    }
    Ok(())
}

/// Whether migrations are missing.
async fn missing(db: &DatabaseConnection) -> Result<bool, OpenError> {
    let known = Migrator::migrations();
    let applied = Migrator::get_migration_models(db)
        .await
        .map_err(StoreError::from)?;
    if applied
        .iter()
        .any(|one| known.iter().all(|ours| ours.name() != one.version))
    {
        return Err(OpenError::Newer);
    }
    Ok(applied.len() < known.len())
}
