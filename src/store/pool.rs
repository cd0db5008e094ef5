//! The pools of connections, and what each connection is set to.

use std::time::Duration;

use sea_orm::sqlx::{AssertSqlSafe, Executor as _};
use sea_orm::{ConnectOptions, Database, DatabaseConnection, DbErr};

use super::bounded::{Bounded, Distrust};
use super::connect::{Backend, StoreOptions};
use super::error::StoreError;
use super::postgres::Connections;
use super::{sockets, sqlite};

/// Where Postgres listens that is not told otherwise.
const POSTGRES_PORT: u16 = 5432;

/// Opens a pool whose statements have a bound, where there is one.
pub(super) async fn open_pool(
    options: &StoreOptions,
    backend: Backend,
    connections: u32,
    bound: Option<Duration>,
) -> Result<Bounded, StoreError> {
    let distrust = Distrust::default();
    let pool = connect(options, backend, connections, bound, &distrust).await?;
    Ok(Bounded::new(pool, bound, distrust))
}

/// The connections that the writer writes over. It opens them itself, from its own thread: a statement is then answered to
/// that thread, and not to another one that wakes it.
pub(super) async fn writing(options: &StoreOptions) -> Result<Connections, StoreError> {
    let (bound, distrust) = (Some(options.acquire_timeout), Distrust::default());
    let mut wanted = wanted(options, Backend::Postgres, bound, &distrust);
    // Only one writes at a time; the others are for when a lost one hangs at its end.
    wanted.min_connections(0).max_connections(3).connect_lazy(true);
    let pool = Database::connect(wanted).await?;
    let pool = pool.get_postgres_connection_pool().clone();
    Ok(Connections::new(pool, bound, distrust))
}

/// Connects to the database.
pub(super) async fn connect(
    options: &StoreOptions,
    backend: Backend,
    connections: u32,
    bound: Option<Duration>,
    distrust: &Distrust,
) -> Result<DatabaseConnection, DbErr> {
    let mut wanted = wanted(options, backend, bound, distrust);
    wanted.max_connections(connections).min_connections(1);
    let connecting = Box::pin(Database::connect(wanted));
    match backend {
        Backend::Sqlite => connecting.await,
        Backend::Postgres => sockets::while_connecting(port_of(options), connecting).await,
    }
}

/// How each connection is opened, and asked.
fn wanted(
    options: &StoreOptions,
    backend: Backend,
    bound: Option<Duration>,
    distrust: &Distrust,
) -> ConnectOptions {
    let mut wanted = ConnectOptions::new(options.url.clone());
    wanted
        .acquire_timeout(options.acquire_timeout)
        .connect_timeout(options.acquire_timeout)
        // A ping before each use costs half of a local read; what is idle for long is asked below.
        .test_before_acquire(false)
        .sqlx_logging(false);
    match backend {
        Backend::Sqlite => {
            wanted
                .idle_timeout(None::<Duration>)
                .max_lifetime(None::<Duration>);
            let distrust = distrust.clone();
            wanted.map_sqlx_sqlite_pool_opts(move |pool| {
                let distrust = distrust.clone();
                pool.after_release(move |_, _| Box::pin(std::future::ready(Ok(distrust.is_whole()))))
            });
            wanted.map_sqlx_sqlite_opts(|file| {
                let file = file
                    .create_if_missing(true)
                    .busy_timeout(sqlite::BUSY_TIMEOUT)
                    .statement_cache_capacity(sqlite::STATEMENTS);
                sqlite::PRAGMAS
                    .into_iter()
                    .fold(file, |file, (name, value)| file.pragma(name, value))
            });
        }
        Backend::Postgres => {
            wanted.set_application_name("runql");
            let port = port_of(options);
            let session = session_settings(bound, options.silence);
            let distrust = distrust.clone();
            wanted.map_sqlx_postgres_pool_opts(move |pool| {
                let session = session.clone();
                let (before, after) = (distrust.clone(), distrust.clone());
                pool.after_connect(move |connection, _| {
                    let session = session.clone();
                    Box::pin(async move {
                        sockets::set_up_aside(port).await;
                        connection.execute(AssertSqlSafe(session)).await.map(|_| ())
                    })
                })
                .before_acquire(move |connection, meta| {
                    let distrust = before.clone();
                    Box::pin(async move { distrust.before_use(connection, meta.idle_for).await })
                })
                .after_release(move |connection, _| {
                    let distrust = after.clone();
                    Box::pin(async move { distrust.after_use(connection).await })
                })
            });
        }
    }
    wanted
}

fn port_of(options: &StoreOptions) -> u16 {
    let url = url::Url::parse(&options.url).ok();
    url.and_then(|url| url.port()).unwrap_or(POSTGRES_PORT)
}

/// What the server is to do with a session whose client went away without a word. Within a transaction it may hold the
/// lock that every other node waits for, and by itself Postgres would notice after hours.
fn session_settings(bound: Option<Duration>, silence: Duration) -> String {
    let statement = bound.map_or(0, |bound| bound.as_millis());
    let silence = silence.as_millis().max(1);
    format!(
        "SET statement_timeout = {statement};
         SET idle_in_transaction_session_timeout = {silence};
         SET tcp_keepalives_idle = 10;
         SET tcp_keepalives_interval = 3;
         SET tcp_keepalives_count = 3;
         SET tcp_user_timeout = 10000"
    )
}
