//! Postgres over its driver, by connections that are kept.
//!
//! A pool asks each connection that comes back to it whether it lives. That is a way there and back beside each
//! statement, and takes as long as a small one. So a connection whose statement was answered is kept here for the next.
//! It goes back to the pool where its statement failed or was given up, where it is old, or not needed any more, and
//! where somebody waits for the pool.

mod script;
#[cfg(test)]
mod script_tests;
#[cfg(test)]
mod tests;
mod transaction;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sea_orm::sqlx::pool::PoolConnection;
use sea_orm::sqlx::query::Query;
use sea_orm::sqlx::{self, AssertSqlSafe, PgPool, Postgres};
use sea_orm::{ConnAcquireErr, DbErr, QueryResult, RuntimeErr, SqlxError, Statement, Values};
use sea_query_sqlx::SqlxValues;

use super::bounded::{Distrust, within};
use super::sockets;
use script::Ready;
pub(super) use script::hex;
pub(super) use transaction::{Asked as PgAsked, PgTransaction};

/// A connection that was not used for so long goes back to the pool, which closes what nobody needs.
const UNUSED: Duration = Duration::from_secs(10);

/// So does one that has been out for so long, and the pool then replaces it where it is old.
const OLD: Duration = Duration::from_secs(1_800);

/// Of the connections that a pool may have, this part is kept at most: the ORM has ways to the pool of its own.
const PART: usize = 2;

/// The connections of a pool. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Connections(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    pool: PgPool,
    bound: Option<Duration>,
    distrust: Distrust,
    /// So many are kept.
    most: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The one that was used last comes last.
    idle: Vec<Idle>,
    /// How many wait for the pool.
    waiting: usize,
}

#[derive(Debug)]
struct Idle {
    lent: Lent,
    since: Instant,
}

/// A connection that is in use. Dropped, it goes back to the pool, which asks whether it can be used again.
#[derive(Debug)]
struct Lent {
    connection: PoolConnection<Postgres>,
    /// When it came from the pool.
    taken: Instant,
    /// What it keeps ready for transactions.
    ready: Ready,
}

impl Drop for Lent {
    fn drop(&mut self) {
        // Nobody would know what it keeps ready.
        if !self.ready.is_empty() {
            self.connection.close_on_drop();
        }
    }
}

impl Connections {
    /// Those of a pool, each statement over which has this bound.
    pub(super) fn new(pool: PgPool, bound: Option<Duration>, distrust: Distrust) -> Self {
        let there_may_be = usize::try_from(pool.options().get_max_connections()).unwrap_or(usize::MAX);
        Self(Arc::new(Shared {
            pool,
            bound,
            distrust,
            most: there_may_be / PART,
            kept: Mutex::default(),
        }))
    }

    /// All that a statement answers.
    pub(super) async fn rows(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.within(async {
            let mut lent = self.lend().await?;
            let rows = rows(&mut lent.connection, statement).await?;
            self.keep(lent);
            Ok(rows)
        })
        .await
    }

    /// A transaction, which begins with its first statement.
    pub(super) async fn begin(&self) -> Result<PgTransaction, DbErr> {
        let lent = self.within(self.lend()).await?;
        Ok(PgTransaction::new(self.clone(), lent))
    }

    /// Closes every connection.
    pub(super) async fn close(&self) {
        // From here on none is kept.
        let closing = self.0.pool.close();
        let idle = std::mem::take(&mut self.0.lock().idle);
        drop(idle);
        closing.await;
    }

    /// Waits for what the ORM does over the pool itself.
    pub(super) async fn over_pool<T>(&self, work: impl Future<Output = T>) -> T {
        self.0.lock().waiting += 1;
        let _waits = Waits(&self.0);
        self.connecting(work).await
    }

    /// Waits for what may open a connection, and sets up its socket meanwhile.
    async fn connecting<T>(&self, work: impl Future<Output = T>) -> T {
        let pool = &self.0.pool;
        // None is free, and there may be more of them.
        if pool.num_idle() == 0 && pool.size() < pool.options().get_max_connections() {
            sockets::while_connecting(pool.connect_options().get_port(), work).await
        } else {
            work.await
        }
    }

    /// An answer within the bound. Boxed, since all who await this would be as large as it.
    async fn within<T>(&self, answer: impl Future<Output = Result<T, DbErr>> + Send) -> Result<T, DbErr> {
        within(self.0.bound, &self.0.distrust, Box::pin(answer)).await
    }

    async fn lend(&self) -> Result<Lent, DbErr> {
        loop {
            let Some(Idle { mut lent, since }) = self.0.pop_or_wait() else {
                let _waits = Waits(&self.0);
                let acquired = self.connecting(self.0.pool.acquire()).await;
                return Ok(Lent {
                    connection: acquired.map_err(not_acquired)?,
                    taken: Instant::now(),
                    ready: Ready::default(),
                });
            };
            let asked = self.0.distrust.before_use(&mut lent.connection, since.elapsed());
            match asked.await {
                Ok(_) => return Ok(lent),
                Err(error) => {
                    tracing::debug!(error = %crate::telemetry::chain(&error), "a connection to the database was lost");
                    lent.connection.close_on_drop();
                }
            }
        }
    }

    /// Keeps a connection whose statement was answered, unless it is better off in the pool.
    fn keep(&self, lent: Lent) {
        let idle = Idle {
            lent,
            since: Instant::now(),
        };
        let mut kept = self.0.lock();
        let is_full = kept.idle.len() >= self.0.most;
        let is_old = idle.lent.taken.elapsed() >= OLD;
        let back = if kept.waiting > 0 || is_full || is_old || self.0.pool.is_closed() {
            Some(idle)
        } else {
            kept.idle.push(idle);
            let unused = kept
                .idle
                .first()
                .is_some_and(|first| first.since.elapsed() >= UNUSED);
            unused.then(|| kept.idle.remove(0))
        };
        drop(kept);
        // To the pool, without the lock.
        drop(back);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection that was used last; where there is none, the caller counts as waiting for the pool from here on.
    fn pop_or_wait(&self) -> Option<Idle> {
        let mut kept = self.lock();
        let idle = kept.idle.pop();
        kept.waiting += usize::from(idle.is_none());
        idle
    }
}

/// Somebody who waits for the pool.
struct Waits<'a>(&'a Shared);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}

async fn rows(
    connection: &mut PoolConnection<Postgres>,
    statement: Statement,
) -> Result<Vec<QueryResult>, DbErr> {
    let rows = query(statement).fetch_all(&mut **connection).await;
    let rows = rows.map_err(failed)?;
    Ok(rows.into_iter().map(QueryResult::from).collect())
}

fn query(statement: Statement) -> Query<'static, Postgres, SqlxValues> {
    let values = statement.values.unwrap_or_else(|| Values(Vec::new()));
    sqlx::query_with(AssertSqlSafe(statement.sql), SqlxValues(values))
}

fn failed(error: SqlxError) -> DbErr {
    DbErr::Query(RuntimeErr::SqlxError(error.into()))
}

fn not_acquired(error: SqlxError) -> DbErr {
    match error {
        SqlxError::PoolTimedOut => DbErr::ConnectionAcquire(ConnAcquireErr::Timeout),
        SqlxError::PoolClosed => over(),
        error => DbErr::Conn(RuntimeErr::SqlxError(error.into())),
    }
}

fn over() -> DbErr {
    DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed)
}
