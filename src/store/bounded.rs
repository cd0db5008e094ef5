//! No statement waits for ever.
//!
//! A database server that is frozen, or a network that swallows what is sent, leaves a connection open and every answer
//! out. So on Postgres each statement has a bound; one that gets no answer within it fails, and its connection is not
//! used again. A SQLite file has no such bound: its disk answers or fails, and a write to it cannot be taken back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use sea_orm::sqlx::{Connection, PgConnection};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, DbErr, ExecResult, QueryResult, SqlxError, Statement,
};

use super::postgres::Connections;
use super::trouble::no_answer;

/// For so long after a statement got no answer, connections are not trusted.
const DISTRUST: Duration = Duration::from_secs(30);

/// How long a connection that is not trusted may take to answer the smallest question.
const PATIENCE: Duration = Duration::from_secs(1);

/// An idle connection of this age is asked whether it lives before it is used.
const IDLE: Duration = Duration::from_secs(10);

/// A pool whose statements have a bound.
#[derive(Debug, Clone)]
pub(super) struct Bounded {
    inner: DatabaseConnection,
    bound: Option<Duration>,
    distrust: Distrust,
    /// Its connections, where they lead to Postgres.
    postgres: Option<Connections>,
}

impl Bounded {
    pub(super) fn new(inner: DatabaseConnection, bound: Option<Duration>, distrust: Distrust) -> Self {
        let postgres = match inner.get_database_backend() {
            DbBackend::Postgres => {
                let pool = inner.get_postgres_connection_pool().clone();
                Some(Connections::new(pool, bound, distrust.clone()))
            }
            _ => None,
        };
        Self {
            inner,
            bound,
            distrust,
            postgres,
        }
    }

    /// The pool itself, for what only that can do.
    pub(super) const fn inner(&self) -> &DatabaseConnection {
        &self.inner
    }

    /// Closes every connection.
    pub(super) async fn close(&self) -> Result<(), DbErr> {
        match &self.postgres {
            Some(postgres) => {
                postgres.close().await;
                Ok(())
            }
            None => self.inner.close_by_ref().await,
        }
    }

    /// What this answers, or an error where it does not within the bound.
    pub(super) async fn within<T>(
        &self,
        answer: impl Future<Output = Result<T, DbErr>> + Send,
    ) -> Result<T, DbErr> {
        // Boxed, since it is passed on, and all who await this would be as large as both.
        let answer = Box::pin(within(self.bound, &self.distrust, answer));
        match &self.postgres {
            Some(postgres) => postgres.over_pool(answer).await,
            None => answer.await,
        }
    }
}

/// An answer, or an error where it does not come within the bound.
pub(super) async fn within<T>(
    bound: Option<Duration>,
    distrust: &Distrust,
    answer: impl Future<Output = Result<T, DbErr>> + Send,
) -> Result<T, DbErr> {
    let Some(bound) = bound else {
        let answered = answer.await;
        if answered.is_err() {
            distrust.spoil();
        }
        return answered;
    };
    let unanswered = Unanswered(distrust);
    let answered = tokio::time::timeout(bound, answer).await;
    if answered.is_ok() {
        std::mem::forget(unanswered);
    }
    answered.unwrap_or_else(|_| Err(no_answer(bound)))
}

/// Dropped where no answer came: at the bound, or since whoever asked did not wait for so long.
struct Unanswered<'a>(&'a Distrust);

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        self.0.begin();
    }
}

#[async_trait]
impl ConnectionTrait for Bounded {
    fn get_database_backend(&self) -> DbBackend {
        self.inner.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.within(self.inner.execute_raw(statement)).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.within(self.inner.execute_unprepared(sql)).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        match &self.postgres {
            // Whoever asks for one has said so in the statement.
            Some(postgres) => Ok(postgres.rows(statement).await?.into_iter().next()),
            None => self.within(self.inner.query_one_raw(statement)).await,
        }
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        match &self.postgres {
            Some(postgres) => postgres.rows(statement).await,
            None => self.within(self.inner.query_all_raw(statement)).await,
        }
    }
}

/// Whether the connections of a pool are to be asked before they are used or kept. A pool asks one that comes back to it
/// without any bound; one that never answers would be lost to the pool for ever.
#[derive(Debug, Clone)]
pub(super) struct Distrust {
    since: Instant,
    /// Until when, in milliseconds after `since`.
    until: Arc<AtomicU64>,
    /// Whether a statement has failed on the connection that comes back next.
    spoiled: Arc<AtomicBool>,
}

impl Default for Distrust {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            until: Arc::default(),
            spoiled: Arc::default(),
        }
    }
}

impl Distrust {
    fn now(&self) -> Duration {
        self.since.elapsed()
    }

    fn begin(&self) {
        let until = u64::try_from((self.now() + DISTRUST).as_millis()).unwrap_or(u64::MAX);
        self.until.store(until, Ordering::Relaxed);
    }

    fn lasts(&self) -> bool {
        self.now() < Duration::from_millis(self.until.load(Ordering::Relaxed))
    }

    fn spoil(&self) {
        self.spoiled.store(true, Ordering::Relaxed);
    }

    /// Whether a connection to SQLite can be used again. After some errors, a full disk among them, SQLite has ended the
    /// transaction by itself; the driver does not see that, takes the next one for a part of it, and what is committed
    /// then never reaches the disk. So no connection outlives an error.
    pub(super) fn is_whole(&self) -> bool {
        !self.spoiled.swap(false, Ordering::Relaxed)
    }

    /// Asks a connection before it is used, where it was idle for long. An error makes the pool open another.
    pub(super) async fn before_use(
        &self,
        connection: &mut PgConnection,
        idle: Duration,
    ) -> Result<bool, SqlxError> {
        if idle >= IDLE || self.lasts() {
            ask(connection).await?;
        }
        Ok(true)
    }

    /// Asks a connection that comes back. An error makes the pool close it at once.
    pub(super) async fn after_use(&self, connection: &mut PgConnection) -> Result<bool, SqlxError> {
        if self.lasts() {
            ask(connection).await?;
        }
        Ok(true)
    }
}

async fn ask(connection: &mut PgConnection) -> Result<(), SqlxError> {
    let asked = tokio::time::timeout(PATIENCE, connection.ping()).await;
    asked.unwrap_or_else(|_| Err(SqlxError::Io(std::io::ErrorKind::TimedOut.into())))
}
