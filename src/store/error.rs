//! How the store fails.

use sea_orm::error::ConnAcquireErr;
use sea_orm::{DbErr, RuntimeErr, SqlxError};

use super::trouble::{Away, Trouble};
use crate::domain::UnknownWord;

/// A fault of the store, never of who asks: what a caller could mend is part of each operation's answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database is away, full, or did not answer in time. Nothing was written; trying again later may help.
    #[error("the database cannot be used now")]
    Unavailable(#[source] Away),
    /// The database was lost during the commit itself: what was to be written may have been, or not.
    #[error("the database was lost during a commit")]
    Unknown(#[source] Away),
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
        matches!(self, Self::Unavailable(_) | Self::Unknown(_) | Self::Closed)
    }

    /// Whether a transaction that was rolled back is worth another try at once: its connection was lost, which a new
    /// one mends, Postgres chose it to end a deadlock, a row was locked that it would not wait for, it said nothing for
    /// too long, or another process wrote to the SQLite file meanwhile. One that got no answer has waited long enough.
    pub(super) fn is_passing(&self) -> bool {
        let error = match self {
            Self::Unavailable(away) => away.source(),
            Self::Database(error) => error,
            Self::Unknown(_) | Self::Unreadable(_) | Self::Closed => return false,
        };
        let (DbErr::Exec(RuntimeErr::SqlxError(inner)) | DbErr::Query(RuntimeErr::SqlxError(inner))) = error
        else {
            return false;
        };
        match &**inner {
            SqlxError::Io(io) => io.kind() != std::io::ErrorKind::TimedOut,
            SqlxError::Protocol(_) => true,
            SqlxError::Database(database) => database.code().is_some_and(|code| {
                if code.len() == 5 {
                    return code.starts_with("08")
                        || ["25P03", "40001", "40P01", "55P03", "57P01", "57P02"].contains(&&*code);
                }
                // SQLite's BUSY: a command beside the server wrote between what this transaction read and wrote.
                code.parse::<i32>().is_ok_and(|code| code & 0xff == 5)
            }),
            _ => false,
        }
    }

    /// The same for somebody else: what the driver says cannot be copied, so its text stands for it.
    pub(super) fn again(&self) -> Self {
        match self {
            Self::Unavailable(away) => Self::Unavailable(away.again()),
            Self::Unknown(away) => Self::Unknown(away.again()),
            Self::Database(error) => Self::Database(DbErr::Custom(error.to_string())),
            Self::Unreadable(text) => Self::Unreadable(text.clone()),
            Self::Closed => Self::Closed,
        }
    }

    /// Whether a commit that failed so may have been done all the same: the answer is what was lost. A database that
    /// refuses a commit, or has no room for it, has not done it.
    pub(super) fn leaves_commit_open(&self) -> bool {
        matches!(
            self.trouble(),
            Some(Trouble::Unreachable | Trouble::NoAnswer | Trouble::Failed)
        )
    }
}

impl From<DbErr> for StoreError {
    fn from(error: DbErr) -> Self {
        if matches!(error, DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed)) {
            // Nobody but this server closes its pools.
            return Self::Closed;
        }
        match Trouble::of(&error) {
            Some(trouble) => Self::Unavailable(Away::new(trouble, error)),
            None => Self::Database(error),
        }
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
