//! The connection that writes to a SQLite file, used on the thread of whoever writes.
//!
//! The readers' driver runs each connection on a thread of its own, and passes every statement there and every row back.
//! The writer makes a dozen statements for a job, each after the one before, and has its thread to itself; so it goes
//! without that thread, and without waiting for a processor twice at each statement.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, OpenFlags};
use sea_orm::error::ConnAcquireErr;
use sea_orm::sqlx::error::{DatabaseError, ErrorKind};
use sea_orm::{DbErr, RuntimeErr, SqlxError, Statement, Value};

use super::cells::{SqliteRow, Stored, model};

/// How a connection to a SQLite file is set up, whoever opens it.
pub(super) const PRAGMAS: [(&str, &str); 6] = [
    ("journal_mode", "WAL"),
    // A commit is on the disk when it is answered.
    ("synchronous", "FULL"),
    ("foreign_keys", "OFF"),
    ("cache_size", "-16384"),
    ("temp_store", "memory"),
    ("journal_size_limit", "67108864"),
];

/// How long a connection waits for another process that writes to the file.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Statements that a connection keeps ready.
pub(super) const STATEMENTS: usize = 256;

/// What writes to a SQLite file. Cheap to clone; all clones share one connection.
#[derive(Debug, Clone)]
pub(super) struct SqliteWriter(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    state: Mutex<State>,
    /// What is told of each statement.
    #[cfg(test)]
    recorded: std::sync::OnceLock<Recorded>,
}

/// The statements that were sent.
#[cfg(test)]
pub(super) type Recorded = Arc<Mutex<Vec<Statement>>>;

#[derive(Debug)]
enum State {
    /// Opened at the next transaction.
    Absent,
    Open(Connection),
    Closed,
}

impl SqliteWriter {
    /// The writer of a file, which must be there.
    pub(super) fn open(path: PathBuf) -> Result<Self, DbErr> {
        let connection = connect(&path).map_err(|error| failed(error, DbErr::Conn))?;
        Ok(Self(Arc::new(Shared {
            path,
            state: Mutex::new(State::Open(connection)),
            #[cfg(test)]
            recorded: std::sync::OnceLock::new(),
        })))
    }

    /// Records each statement of a transaction from now on.
    #[cfg(test)]
    pub(super) fn record(&self, recorded: &Recorded) {
        self.0.recorded.set(Arc::clone(recorded)).unwrap();
    }

    /// Begins a transaction. There is one at a time: the writer waits for its end.
    pub(super) fn begin(&self) -> Result<SqliteTransaction, DbErr> {
        let mut state = self.0.lock();
        if let State::Absent = *state {
            *state = State::Open(connect(&self.0.path).map_err(|error| failed(error, DbErr::Conn))?);
        }
        drop(state);
        let transaction = SqliteTransaction {
            shared: self.0.clone(),
            ended: false,
        };
        transaction.with(DbErr::Exec, |connection| execute(connection, "BEGIN"))?;
        Ok(transaction)
    }

    /// Closes the connection; there is no other after it.
    pub(super) fn close(&self) -> Result<(), DbErr> {
        match std::mem::replace(&mut *self.0.lock(), State::Closed) {
            State::Open(connection) => connection
                .close()
                .map_err(|(_, error)| failed(error, DbErr::Conn)),
            State::Absent | State::Closed => Ok(()),
        }
    }
}

impl Shared {
    #[cfg(test)]
    fn note(&self, statement: &Statement) {
        if let Some(recorded) = self.recorded.get() {
            recorded.lock().unwrap().push(statement.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection to a file that is there, set up as all are.
pub(super) fn connect(path: &PathBuf) -> rusqlite::Result<Connection> {
    // One thread uses it at a time, which whoever has it sees to.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    for (name, value) in PRAGMAS {
        connection.pragma_update(None, name, value)?;
    }
    Ok(connection)
}

fn execute(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.raw_execute().map(|_| ())
}

/// A transaction on the writer's connection; rolled back where it is dropped before its commit.
#[derive(Debug)]
pub(super) struct SqliteTransaction {
    shared: Arc<Shared>,
    ended: bool,
}

impl SqliteTransaction {
    /// Commits. The error tells whether it may have been done all the same.
    pub(super) fn commit(mut self) -> Result<(), DbErr> {
        let committed = self.with(DbErr::Exec, |connection| execute(connection, "COMMIT"));
        self.ended = true;
        committed
    }

    /// Runs what needs the connection. After some errors, a full disk among them, SQLite has ended the transaction by
    /// itself, and what came next would be written without one: so no connection outlives an error, and closing it rolls
    /// back what there is.
    fn with<T>(
        &self,
        kind: fn(RuntimeErr) -> DbErr,
        run: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, DbErr> {
        let mut state = self.shared.lock();
        let connection = match &*state {
            State::Open(connection) => connection,
            State::Absent => return Err(DbErr::Custom("the transaction has failed before".to_owned())),
            State::Closed => return Err(DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed)),
        };
        run(connection).map_err(|error| {
            *state = State::Absent;
            failed(error, kind)
        })
    }

    /// Writes; gives how many rows it changed.
    pub(super) fn execute(&self, statement: &Statement) -> Result<u64, DbErr> {
        #[cfg(test)]
        self.shared.note(statement);
        self.with(DbErr::Exec, |connection| {
            let values = statement.values.iter().flat_map(|values| &values.0);
            let changed = prepared(connection, &statement.sql, values)?.raw_execute()?;
            Ok(u64::try_from(changed).unwrap_or(u64::MAX))
        })
    }

    /// Runs a statement once for each row of values; gives the number of the row that was inserted last.
    pub(super) fn each(&self, sql: &str, rows: &[Vec<Value>]) -> Result<i64, DbErr> {
        #[cfg(test)]
        for row in rows {
            let statement = Statement::from_sql_and_values(sea_orm::DbBackend::Sqlite, sql, row.clone());
            self.shared.note(&statement);
        }
        self.with(DbErr::Exec, |connection| {
            let mut prepared = connection.prepare_cached(sql)?;
            for row in rows {
                bind(&mut prepared, row)?;
                prepared.raw_execute()?;
            }
            Ok(connection.last_insert_rowid())
        })
    }

    /// Runs statements that have no values.
    pub(super) fn batch(&self, sql: &str) -> Result<(), DbErr> {
        self.with(DbErr::Exec, |connection| connection.execute_batch(sql))
    }

    /// All that a statement answers.
    pub(super) fn rows(&self, statement: &Statement) -> Result<Vec<SqliteRow>, DbErr> {
        #[cfg(test)]
        self.shared.note(statement);
        self.with(DbErr::Query, |connection| rows(connection, statement))
    }
}

impl Drop for SqliteTransaction {
    fn drop(&mut self) {
        if !self.ended && matches!(*self.shared.lock(), State::Open(_)) {
            // Where this fails the connection is closed, which does the same.
            let _ = self.with(DbErr::Exec, |connection| execute(connection, "ROLLBACK"));
        }
    }
}

/// All that a statement answers on a connection.
pub(super) fn rows(connection: &Connection, statement: &Statement) -> rusqlite::Result<Vec<SqliteRow>> {
    let values = statement.values.iter().flat_map(|values| &values.0);
    let mut prepared = prepared(connection, &statement.sql, values)?;
    let columns: Arc<[String]> = prepared.column_names().into_iter().map(str::to_owned).collect();
    let mut found = Vec::new();
    let mut rows = prepared.raw_query();
    while let Some(row) = rows.next()? {
        let cells = (0..columns.len()).map(|index| row.get(index));
        found.push(SqliteRow {
            cells: cells.collect::<rusqlite::Result<_>>()?,
            columns: columns.clone(),
        });
    }
    Ok(found)
}

fn prepared<'c, 'v>(
    connection: &'c Connection,
    sql: &str,
    values: impl IntoIterator<Item = &'v Value>,
) -> rusqlite::Result<CachedStatement<'c>> {
    let mut prepared = connection.prepare_cached(sql)?;
    bind(&mut prepared, values)?;
    Ok(prepared)
}

fn bind<'v>(
    prepared: &mut CachedStatement<'_>,
    values: impl IntoIterator<Item = &'v Value>,
) -> rusqlite::Result<()> {
    values
        .into_iter()
        .zip(1..)
        .try_for_each(|(value, index)| prepared.raw_bind_parameter(index, Bound(value)))
}

/// A value as SQLite keeps it, which is as the readers' driver expects it.
struct Bound<'a>(&'a Value);

impl rusqlite::ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let integer = |value: i64| ValueRef::Integer(value);
        let bound = match self.0 {
            Value::Bool(value) => value.map(|value| integer(value.into())),
            Value::Int(value) => value.map(|value| integer(value.into())),
            Value::BigInt(value) => value.map(integer),
            // LIMIT and OFFSET are of this type.
            Value::BigUnsigned(value) => value.map(|value| integer(i64::try_from(value).unwrap_or(i64::MAX))),
            Value::Double(value) => value.map(ValueRef::Real),
            Value::String(value) => value.as_deref().map(|text| ValueRef::Text(text.as_bytes())),
            Value::Bytes(value) => value.as_deref().map(ValueRef::Blob),
            Value::Uuid(value) => value.as_ref().map(|id| ValueRef::Blob(id.as_bytes())),
            _ => {
                let unknown = "no column of the store holds a value of this type";
                return Err(rusqlite::Error::ToSqlConversionFailure(unknown.into()));
            }
        };
        Ok(ToSqlOutput::Borrowed(bound.unwrap_or(ValueRef::Null)))
    }
}

/// The rows of a table that a statement answers on a connection, without keeping their cells.
pub(super) fn models<M: Stored>(
    connection: &Connection,
    statement: &Statement,
) -> rusqlite::Result<Result<Vec<M>, DbErr>> {
    let values = statement.values.iter().flat_map(|values| &values.0);
    let mut prepared = prepared(connection, &statement.sql, values)?;
    let mut found = Vec::new();
    let mut rows = prepared.raw_query();
    while let Some(row) = rows.next()? {
        match model(row) {
            Ok(model) => found.push(model),
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(found))
}

/// What SQLite says, in the form in which the readers' driver says it, so that it is told apart in one place.
pub(super) fn failed(error: rusqlite::Error, kind: fn(RuntimeErr) -> DbErr) -> DbErr {
    match error {
        rusqlite::Error::SqliteFailure(code, message) => {
            let refused = Refused {
                code: code.extended_code,
                message: message.unwrap_or_else(|| code.to_string()),
            };
            kind(RuntimeErr::SqlxError(
                SqlxError::Database(Box::new(refused)).into(),
            ))
        }
        other => kind(RuntimeErr::Internal(other.to_string())),
    }
}

/// An error of SQLite with its extended result code.
#[derive(Debug, thiserror::Error)]
#[error("(code: {code}) {message}")]
struct Refused {
    code: i32,
    message: String,
}

impl DatabaseError for Refused {
    fn message(&self) -> &str {
        &self.message
    }

    fn code(&self) -> Option<std::borrow::Cow<'_, str>> {
        Some(self.code.to_string().into())
    }

    fn as_error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn std::error::Error + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn std::error::Error + Send + Sync + 'static> {
        self
    }

    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}
