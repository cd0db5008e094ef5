//! The store's database, reached past the server: for floors, for a long history, and to count what was stored.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement, Value};
use tokio::runtime::{Builder, Runtime};

/// One connection.
pub(crate) struct Db {
    runtime: Runtime,
    connection: DatabaseConnection,
}

impl Db {
    /// Connects to an address as the server takes it. On SQLite writes are as durable as the server's.
    pub(crate) fn open(address: &str) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let mut options = ConnectOptions::new(address);
        options.max_connections(1).sqlx_logging(false);
        let connection = runtime.block_on(Database::connect(options))?;
        let db = Self { runtime, connection };
        if !db.is_postgres() {
            db.execute("PRAGMA journal_mode = WAL")?;
            db.execute("PRAGMA synchronous = FULL")?;
        }
        Ok(db)
    }

    /// Whether it speaks Postgres' dialect.
    pub(crate) fn is_postgres(&self) -> bool {
        self.connection.get_database_backend() == DbBackend::Postgres
    }

    /// Runs statements without values.
    pub(crate) fn execute(&self, sql: &str) -> Result<()> {
        let done = self.runtime.block_on(self.connection.execute_unprepared(sql));
        done.with_context(|| format!("refused: {}", &sql[..sql.len().min(200)]))?;
        Ok(())
    }

    /// The one integer that a query asks for.
    pub(crate) fn number(&self, sql: &str) -> Result<i64> {
        self.one(sql)
    }

    /// The one text that a query asks for.
    pub(crate) fn text(&self, sql: &str) -> Result<String> {
        self.one(sql)
    }

    fn one<T: sea_orm::TryGetable>(&self, sql: &str) -> Result<T> {
        let statement = Statement::from_string(self.connection.get_database_backend(), sql);
        let row = self.runtime.block_on(self.connection.query_one_raw(statement))?;
        Ok(row.context("a row was asked for")?.try_get_by_index(0)?)
    }

    /// Inserts rows in one statement: as many as the values are enough for.
    pub(crate) fn insert(&self, table: &str, columns: &[&str], values: Vec<Value>) -> Result<()> {
        let mut sql = format!("INSERT INTO {table} ({}) VALUES ", columns.join(", "));
        for index in 0..values.len() {
            let column = index % columns.len();
            sql.push_str(match (index, column) {
                (0, _) => "(",
                (_, 0) => "), (",
                _ => ", ",
            });
            if self.is_postgres() {
                write!(sql, "${}", index + 1)?;
            } else {
                sql.push('?');
            }
        }
        sql.push(')');
        let backend = self.connection.get_database_backend();
        let statement = Statement::from_sql_and_values(backend, sql, values);
        self.runtime.block_on(self.connection.execute_raw(statement))?;
        Ok(())
    }
}
