//! How the store fails.

use sea_orm::{DbErr, RuntimeErr};

use crate::domain::UnknownWord;

/// A fault of the store, never of who asks: what a caller could mend is part of each operation's answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database is away, or did not answer in time. Trying again later may help.
    #[error("the database cannot be reached")]
    Unavailable(#[source] DbErr),
    /// The database refused or failed.
    #[error("the database failed")]
    Database(#[source] DbErr),
    /// A row holds what this version cannot read.
    #[error("a row of the database cannot be read: {0}")]
    Unreadable(String),
    /// The server is going down, and takes no more writes.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Whether the same call may succeed later without anything being mended by hand in the data.
    #[must_use]
    pub const fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Closed)
    }

    /// Whether a transaction that was rolled back is worth another try at once: its connection was lost, which a new
    /// one mends, it said nothing for too long, Postgres chose it to end a deadlock, or another process wrote to the
    /// SQLite file meanwhile.
    pub(super) fn is_passing(&self) -> bool {
        use sea_orm::SqlxError;
        let (Self::Unavailable(DbErr::Exec(inner) | DbErr::Query(inner))
        | Self::Database(DbErr::Exec(inner) | DbErr::Query(inner))) = self
        else {
            return false;
        };
        let RuntimeErr::SqlxError(inner) = inner else {
            return false;
        };
        match &**inner {
            SqlxError::Io(_) | SqlxError::Protocol(_) => true,
            SqlxError::Database(database) => database.code().is_some_and(|code| {
                if code.len() == 5 {
                    return code.starts_with("08")
                        || ["25P03", "40001", "40P01", "57P01", "57P02"].contains(&&*code);
                }
                // SQLite's BUSY: a command beside the server wrote between what this transaction read and wrote.
                code.parse::<i32>().is_ok_and(|code| code & 0xff == 5)
            }),
            _ => false,
        }
    }
}

impl From<DbErr> for StoreError {
    fn from(error: DbErr) -> Self {
        let away = match &error {
            DbErr::ConnectionAcquire(_) => true,
            DbErr::Conn(RuntimeErr::SqlxError(inner))
            | DbErr::Exec(RuntimeErr::SqlxError(inner))
            | DbErr::Query(RuntimeErr::SqlxError(inner)) => is_away(inner),
            _ => false,
        };
        if away {
            Self::Unavailable(error)
        } else {
            Self::Database(error)
        }
    }
}

/// Whether the driver's error tells of a database that is away, is starting or stopping, or has no room: what an
/// operator mends without this server's help.
fn is_away(error: &sea_orm::SqlxError) -> bool {
    use sea_orm::SqlxError;
    match error {
        SqlxError::Io(_)
        | SqlxError::PoolTimedOut
        | SqlxError::PoolClosed
        | SqlxError::WorkerCrashed
        | SqlxError::Protocol(_)
        | SqlxError::Tls(_) => true,
        SqlxError::Database(database) => match database.code().as_deref() {
            // Postgres: connection exceptions, insufficient resources, operator intervention, a read-only standby.
            Some(code) if code.len() == 5 => {
                ["08", "53", "57"].iter().any(|class| code.starts_with(class)) || code == "25006"
            }
            // SQLite, by the low byte of its result code: BUSY, READONLY, IOERR, FULL, CANTOPEN.
            Some(code) => code
                .parse::<i32>()
                .is_ok_and(|code| matches!(code & 0xff, 5 | 8 | 10 | 13 | 14)),
            None => false,
        },
        _ => false,
    }
}

impl From<UnknownWord> for StoreError {
    fn from(error: UnknownWord) -> Self {
        Self::Unreadable(error.to_string())
    }
}

impl From<serde_json::Error> for StoreError {
    fn from(error: serde_json::Error) -> Self {
        Self::Unreadable(error.to_string())
    }
}
