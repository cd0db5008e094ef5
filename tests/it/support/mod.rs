//! What tests share: real databases, real servers, clients that listen, and waiting with a bound.

pub(crate) mod app;
pub(crate) mod db;
pub(crate) mod disk;
pub(crate) mod forwarder;
pub(crate) mod issuer;
pub(crate) mod machine;
pub(crate) mod postgres;
pub(crate) mod socket;
pub(crate) mod stream;
mod template;
pub(crate) mod wait;

/// Runs each of the named `async fn(TestDb)` twice, on SQLite and on Postgres, each time with a database of its own.
/// A Postgres that is not there is a failure: what was not run is not proven.
macro_rules! both_stores {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[tokio::test(flavor = "multi_thread")]
            async fn sqlite() {
                $crate::support::db::with_db(runql::store::Backend::Sqlite, super::$name).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn postgres() {
                $crate::support::db::with_db(runql::store::Backend::Postgres, super::$name).await;
            }
        }
    )+};
}
pub(crate) use both_stores;

/// Runs each of the named `async fn(TestDb)` on Postgres only: for what needs more than one node.
macro_rules! on_postgres {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[tokio::test(flavor = "multi_thread")]
            async fn postgres() {
                $crate::support::db::with_db(runql::store::Backend::Postgres, super::$name).await;
            }
        }
    )+};
}
pub(crate) use on_postgres;
