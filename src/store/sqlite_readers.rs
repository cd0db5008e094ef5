//! Connections that read a SQLite file on the thread of whoever asks.
//!
//! The ORM's driver passes each question to a thread and each row back, and copies every cell on the way: for a row by
//! its key that is many times the work of SQLite. What is asked for with every request is asked here.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use sea_orm::error::ConnAcquireErr;
use sea_orm::{DbErr, RuntimeErr, Statement};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::cells::Stored;
use super::sqlite::{connect, failed, models};
use crate::brief::briefly;

/// What reads a SQLite file. Cheap to clone; all clones share the connections.
#[derive(Debug, Clone)]
pub(super) struct SqliteReaders(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    /// A permit for each connection that may be in use. Closed with the store.
    permits: Arc<Semaphore>,
    /// How long to wait for one.
    patience: Duration,
    /// Those that are open and not in use.
    idle: Mutex<Vec<Connection>>,
}

impl SqliteReaders {
    /// The readers of a file, so many at once. Each is opened where it is needed first.
    pub(super) fn new(path: PathBuf, most: u32, patience: Duration) -> Self {
        Self(Arc::new(Shared {
            path,
            permits: Arc::new(Semaphore::new(usize::try_from(most).unwrap_or(1))),
            patience,
            idle: Mutex::default(),
        }))
    }

    /// The rows of a question that is answered by a key, in microseconds, on this thread.
    pub(super) async fn at_once<M: Stored>(&self, statement: &Statement) -> Result<Vec<M>, DbErr> {
        let _permit = self.permit().await?;
        briefly(|| self.0.ask(statement)).await
    }

    /// The rows of a question that may take long, asked on another thread. Whoever does not wait for the answer leaves
    /// it to itself.
    pub(super) async fn aside<M: Stored + 'static>(&self, statement: Statement) -> Result<Vec<M>, DbErr> {
        let shared = Arc::clone(&self.0);
        let permit = self.permit().await?;
        let asked = tokio::task::spawn_blocking(move || {
            let found = shared.ask(&statement);
            drop(permit);
            found
        });
        let asked = asked.await;
        asked.unwrap_or_else(|lost| Err(DbErr::Query(RuntimeErr::Internal(lost.to_string()))))
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, DbErr> {
        let permits = Arc::clone(&self.0.permits);
        let refused = DbErr::ConnectionAcquire;
        match tokio::time::timeout(self.0.patience, permits.acquire_owned()).await {
            Ok(permit) => permit.map_err(|_| refused(ConnAcquireErr::ConnectionClosed)),
            Err(_) => Err(refused(ConnAcquireErr::Timeout)),
        }
    }

    /// Closes the connections; there is none after it.
    pub(super) fn close(&self) {
        self.0.permits.close();
        self.0.idle().clear();
    }
}

impl Shared {
    fn ask<M: Stored>(&self, statement: &Statement) -> Result<Vec<M>, DbErr> {
        let idle = self.idle().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.open().map_err(|error| failed(error, DbErr::Conn))?,
        };
        // No connection outlives an error: see the writer's.
        let found = models(&connection, statement).map_err(|error| failed(error, DbErr::Query))?;
        let mut idle = self.idle();
        // Looked at under the lock: what is kept after the end would be closed by nobody.
        if !self.permits.is_closed() {
            idle.push(connection);
        }
        drop(idle);
        found
    }

    fn open(&self) -> rusqlite::Result<Connection> {
        let connection = connect(&self.path)?;
        connection.pragma_update(None, "query_only", "ON")?;
        Ok(connection)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use entity::meta;
    use sea_orm::sea_query::SqliteQueryBuilder;
    use sea_orm::{DbBackend, EntityTrait, QueryTrait, Schema};
    use tokio::task::JoinSet;

    use super::*;

    /// A file with one row, and its readers.
    fn readers(folder: &tempfile::TempDir, most: u32) -> SqliteReaders {
        let path = folder.path().join("file.db");
        let connection = Connection::open(&path).unwrap();
        let table = Schema::new(DbBackend::Sqlite).create_table_from_entity(meta::Entity);
        connection
            .execute_batch(&table.to_string(SqliteQueryBuilder))
            .unwrap();
        connection
            .execute_batch("INSERT INTO meta VALUES ('a', 1)")
            .unwrap();
        SqliteReaders::new(path, most, Duration::from_secs(5))
    }

    fn question() -> Statement {
        meta::Entity::find_by_id("a").build(DbBackend::Sqlite)
    }

    fn with_text(sql: &str) -> Statement {
        Statement::from_string(DbBackend::Sqlite, sql)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn many_ask_over_few_connections() {
        let folder = tempfile::tempdir().unwrap();
        let readers = readers(&folder, 3);
        let mut asking = JoinSet::new();
        for number in 0..300 {
            let readers = readers.clone();
            asking.spawn(async move {
                if number % 3 == 0 {
                    readers.aside::<meta::Model>(question()).await
                } else {
                    readers.at_once::<meta::Model>(&question()).await
                }
            });
        }
        while let Some(found) = asking.join_next().await {
            let found = found.unwrap().unwrap();
            assert_eq!((found.len(), found[0].value), (1, 1));
        }
        let open = readers.0.idle().len();
        assert!((1..=3).contains(&open), "{open} connections are open");
    }

    #[tokio::test]
    async fn one_thread_is_enough() {
        let folder = tempfile::tempdir().unwrap();
        let readers = readers(&folder, 1);
        let (once, aside) = tokio::join!(
            async { readers.at_once::<meta::Model>(&question()).await },
            readers.aside::<meta::Model>(question()),
        );
        assert_eq!(once.unwrap(), aside.unwrap());
    }

    #[tokio::test]
    async fn no_connection_outlives_an_error_and_none_writes() {
        let folder = tempfile::tempdir().unwrap();
        let readers = readers(&folder, 1);
        for sql in [
            "SELECT * FROM nowhere",
            "INSERT INTO meta VALUES ('b', 2) RETURNING *",
        ] {
            assert_eq!(
                readers.at_once::<meta::Model>(&question()).await.unwrap().len(),
                1
            );
            assert_eq!(readers.0.idle().len(), 1);
            assert!(
                readers.at_once::<meta::Model>(&with_text(sql)).await.is_err(),
                "{sql}"
            );
            assert_eq!(readers.0.idle().len(), 0, "{sql}");
        }
        let all = meta::Entity::find().build(DbBackend::Sqlite);
        assert_eq!(readers.aside::<meta::Model>(all).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_file_that_is_gone_is_not_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let readers = readers(&folder, 1);
        let path = folder.path().join("file.db");
        std::fs::remove_file(&path).unwrap();
        assert!(readers.at_once::<meta::Model>(&question()).await.is_err());
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn after_the_end_nothing_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let readers = readers(&folder, 1);
        assert!(readers.aside::<meta::Model>(question()).await.is_ok());
        readers.close();
        assert_eq!(readers.0.idle().len(), 0);
        let refused = readers.at_once::<meta::Model>(&question()).await;
        assert!(matches!(
            refused,
            Err(DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed))
        ));
    }

    #[tokio::test]
    async fn who_finds_no_connection_free_is_told_in_time() {
        let folder = tempfile::tempdir().unwrap();
        let mut readers = readers(&folder, 1);
        Arc::get_mut(&mut readers.0).unwrap().patience = Duration::from_millis(1);
        let taken = readers.permit().await.unwrap();
        let refused = readers.aside::<meta::Model>(question()).await;
        assert!(matches!(
            refused,
            Err(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout))
        ));
        drop(taken);
        assert!(readers.aside::<meta::Model>(question()).await.is_ok());
    }
}
