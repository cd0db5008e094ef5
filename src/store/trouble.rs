//! What keeps the database from being used, in words that give nothing away.

use std::fmt;

use sea_orm::{DbErr, RuntimeErr, SqlxError};

use super::error::StoreError;

/// What keeps the database from being used. It is told to whoever asks for the server's health, so it names no host,
/// no file and no user: those are in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// No connection could be made, or the one there was is lost.
    Unreachable,
    /// It was asked, and did not answer in time.
    NoAnswer,
    /// Its disk is full.
    NoRoom,
    /// It takes no changes: its file or file system is read-only, or it is a standby.
    ReadOnly,
    /// It has no connection, lock or memory to spare.
    Busy,
    /// It failed otherwise; the log says how.
    Failed,
}

impl Trouble {
    /// Every trouble there is.
    pub const ALL: [Self; 6] = [
        Self::Unreachable,
        Self::NoAnswer,
        Self::NoRoom,
        Self::ReadOnly,
        Self::Busy,
        Self::Failed,
    ];

    /// The word for programs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "UNREACHABLE",
            Self::NoAnswer => "NO_ANSWER",
            Self::NoRoom => "NO_ROOM",
            Self::ReadOnly => "READ_ONLY",
            Self::Busy => "BUSY",
            Self::Failed => "FAILED",
        }
    }

    /// The trouble that the driver's error tells of, where an operator, or time, can mend it.
    pub(super) fn of(error: &DbErr) -> Option<Self> {
        match error {
            DbErr::ConnectionAcquire(_) => Some(Self::Unreachable),
            DbErr::Conn(RuntimeErr::SqlxError(inner))
            | DbErr::Exec(RuntimeErr::SqlxError(inner))
            | DbErr::Query(RuntimeErr::SqlxError(inner)) => Self::of_driver(inner),
            _ => None,
        }
    }

    fn of_driver(error: &SqlxError) -> Option<Self> {
        match error {
            SqlxError::Io(io) if io.kind() == std::io::ErrorKind::TimedOut => Some(Self::NoAnswer),
            SqlxError::Io(_)
            | SqlxError::PoolTimedOut
            | SqlxError::PoolClosed
            | SqlxError::WorkerCrashed
            | SqlxError::Protocol(_)
            | SqlxError::Tls(_) => Some(Self::Unreachable),
            SqlxError::Database(database) => Self::of_code(&database.code()?),
            _ => None,
        }
    }

    /// By the code of Postgres, which has five characters, or by SQLite's result code, which is a number.
    fn of_code(code: &str) -> Option<Self> {
        if code.len() == 5 {
            return match code {
                "25006" => Some(Self::ReadOnly),
                // A session that was idle within a transaction is ended; this server was frozen, or the wire was.
                "57014" | "25P03" => Some(Self::NoAnswer),
                "53100" => Some(Self::NoRoom),
                _ if code.starts_with("53") => Some(Self::Busy),
                _ if code.starts_with("08") || code.starts_with("57") => Some(Self::Unreachable),
                _ => None,
            };
        }
        match code.parse::<i32>().ok()? & 0xff {
            5 => Some(Self::Busy),
            8 => Some(Self::ReadOnly),
            10 => Some(Self::Failed),
            13 => Some(Self::NoRoom),
            14 => Some(Self::Unreachable),
            _ => None,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "the database cannot be reached",
            Self::NoAnswer => "the database does not answer in time",
            Self::NoRoom => "the disk of the database is full",
            Self::ReadOnly => "the database can only be read",
            Self::Busy => "the database has nothing to spare",
            Self::Failed => "the database cannot read or write its files",
        })
    }
}

/// A database that cannot be used now, and what the driver says of it.
#[derive(Debug, thiserror::Error)]
#[error("{trouble}")]
pub struct Away {
    /// In a word.
    pub trouble: Trouble,
    #[source]
    source: DbErr,
}

impl Away {
    pub(super) const fn new(trouble: Trouble, source: DbErr) -> Self {
        Self { trouble, source }
    }

    pub(super) const fn source(&self) -> &DbErr {
        &self.source
    }

    /// The same for somebody else: the driver's own error cannot be copied, so its text stands for it.
    pub(super) fn again(&self) -> Self {
        Self::new(self.trouble, DbErr::Custom(self.source.to_string()))
    }
}

/// The error of a statement that was given up after a while without an answer.
pub(super) fn no_answer(waited: std::time::Duration) -> DbErr {
    let text = format!("no answer within {} ms", waited.as_millis());
    let error = std::io::Error::new(std::io::ErrorKind::TimedOut, text);
    DbErr::Query(RuntimeErr::SqlxError(SqlxError::Io(error).into()))
}

impl StoreError {
    /// What keeps the database from being used, where it is that.
    #[must_use]
    pub const fn trouble(&self) -> Option<Trouble> {
        match self {
            Self::Unavailable(away) | Self::Unknown(away) => Some(away.trouble),
            Self::Database(_) | Self::Unreadable(_) | Self::Closed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_both_databases() {
        let table = [
            ("08006", Some(Trouble::Unreachable)),
            ("57P03", Some(Trouble::Unreachable)),
            ("57014", Some(Trouble::NoAnswer)),
            ("53100", Some(Trouble::NoRoom)),
            ("53300", Some(Trouble::Busy)),
            ("25006", Some(Trouble::ReadOnly)),
            ("23505", None),
            ("5", Some(Trouble::Busy)),
            ("8", Some(Trouble::ReadOnly)),
            ("1032", Some(Trouble::ReadOnly)),
            ("778", Some(Trouble::Failed)),
            ("13", Some(Trouble::NoRoom)),
            ("14", Some(Trouble::Unreachable)),
            ("2067", None),
        ];
        for (code, expected) in table {
            assert_eq!(Trouble::of_code(code), expected, "{code}");
        }
    }
}
