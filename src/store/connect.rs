//! Opening the store: connections, migrations, and the lock that keeps a SQLite file to one server.

use std::fs::File;
use std::time::Duration;

use migration::{Migrator, MigratorTrait};
use sea_orm::{DatabaseConnection, DbBackend};

use uuid::Uuid;

use super::bounded::{Bounded, Distrust};
use super::condition::Condition;
use super::error::StoreError;
use super::file;
use super::pool::{connect, open_pool, writing};
use super::read::Reader;
use super::sqlite::SqliteWriter;
use super::sqlite_readers::SqliteReaders;
use super::transaction::WriteAccess;
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
    /// How long to wait for a connection before the store counts as away; on Postgres each statement of a write may
    /// take as long before it counts as lost.
    pub acquire_timeout: Duration,
    /// How long Postgres bears a transaction of this node that says nothing, as that of a frozen one: the locks that it
    /// holds stop all others, so it must be well below the lease that those have to renew.
    pub silence: Duration,
    /// How long a question may take on Postgres before its connection counts as lost.
    pub read_timeout: Duration,
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
            read_timeout: Duration::from_secs(15),
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
    /// The SQLite file has two names, and a server at each would not know of the other.
    #[error(
        "{0} has more than one name (hard links), and SQLite would keep a log by each of them: remove the others, or copy the file with `runql backup`"
    )]
    Linked(String),
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
    condition: Condition,
    write: WriteAccess,
    read: Bounded,
    /// What reads a SQLite file beside that.
    file: Option<SqliteReaders>,
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
            Backend::Sqlite => Some(file::lock(&options.url)?),
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
            Backend::Sqlite => file::lock(&options.url).map(Some),
            Backend::Postgres => Ok(None),
        };
        let lock = match lock {
            Err(in_use @ OpenError::InUse(_)) => {
                let look = connect(options, backend, 1, None, &Distrust::default()).await;
                let look = look.map_err(StoreError::from)?;
                let missing = missing(&look).await;
                // It is closed in any case; how is of no interest.
                let _ = look.close().await;
                if missing? {
                    return Err(in_use);
                }
                None
            }
            lock => lock?,
        };
        Self::open_locked(options, backend, lock, |_| {}).await
    }

    async fn open_locked(
        options: &StoreOptions,
        backend: Backend,
        lock: Option<File>,
        on_commit: impl Fn(Changes) + Send + Sync + 'static,
    ) -> Result<(Self, impl Future<Output = ()> + Send + 'static), OpenError> {
        let (write, read, file) = match backend {
            Backend::Sqlite => {
                migrate(options, backend).await?;
                let path =
                    file::sqlite_path(&options.url).ok_or_else(|| OpenError::Address(options.url.clone()))?;
                let writer = SqliteWriter::open(path.clone()).map_err(StoreError::from)?;
                let read = open_pool(options, backend, options.readers, None).await?;
                let file = SqliteReaders::new(path, options.readers, options.acquire_timeout);
                (WriteAccess::File(writer), read, Some(file))
            }
            Backend::Postgres => {
                let read = open_pool(options, backend, options.readers, Some(options.read_timeout));
                // To connect is most of a start, and takes nothing of what is migrated.
                let (migrated, read) = tokio::join!(migrate(options, backend), read);
                migrated?;
                (WriteAccess::Server(writing(options).await?), read?, None)
            }
        };
        let node = Uuid::now_v7();
        let condition = Condition::default();
        let (writer, work) = Writer::new(
            write.clone(),
            node,
            Box::new(on_commit),
            condition.clone(),
            options.acquire_timeout,
        );
        let reader = Reader::new(read.clone(), file.clone(), options.acquire_timeout);
        Ok((
            Self {
                writer,
                reader,
                backend,
                node,
                condition,
                write,
                read,
                file,
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

    /// What the writer says of the database.
    pub(super) const fn condition(&self) -> &Condition {
        &self.condition
    }

    /// The connection that listens for other nodes' hints.
    pub(super) const fn pool(&self) -> &DatabaseConnection {
        self.read.inner()
    }

    /// Closes every connection. On SQLite the last one folds the write-ahead log into the file.
    pub async fn close(&self) {
        if let Some(file) = &self.file {
            file.close();
        }
        for closed in [self.write.close().await, self.read.close().await] {
            if let Err(error) = closed {
                tracing::warn!(error = %crate::telemetry::chain(&error), "a connection to the database did not close");
            }
        }
    }
}

pub(super) fn backend_of(url: &str) -> Result<Backend, OpenError> {
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

/// The lock under which one node at a time migrates.
const MIGRATION_LOCK: &str = "SELECT pg_advisory_lock(3145)";
const MIGRATION_UNLOCK: &str = "SELECT pg_advisory_unlock(3145)";

/// Applies what is missing, over one connection of its own: the session's lock and the migrations share it, and a
/// migration may take its time.
async fn migrate(options: &StoreOptions, backend: Backend) -> Result<(), OpenError> {
    let pool = connect(options, backend, 1, None, &Distrust::default())
        .await
        .map_err(StoreError::from)?;
    let migrated = migrate_over(&pool).await;
    if let Err(error) = pool.close().await {
        tracing::debug!(error = %crate::telemetry::chain(&error), "a database pool did not close");
    }
    migrated
}

async fn migrate_over(db: &DatabaseConnection) -> Result<(), OpenError> {
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
    let applied = Migrator::get_migration_models(db)
        .await
        .map_err(StoreError::from)?;
    if has_unknown(applied.iter().map(|one| one.version.as_str())) {
        return Err(OpenError::Newer);
    }
    Ok(applied.len() < Migrator::migrations().len())
}

/// Whether one of these migrations is not one of ours.
pub(super) fn has_unknown<'a>(applied: impl IntoIterator<Item = &'a str>) -> bool {
    let known = Migrator::migrations();
    applied
        .into_iter()
        .any(|version| known.iter().all(|ours| ours.name() != version))
}
