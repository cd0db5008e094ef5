//! The address of the store, whose password nobody gets to see.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use url::Url;

/// The kind of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// A file beside the server.
    Sqlite,
    /// A server that many nodes share.
    Postgres,
}

/// The address of the store. It may hold a password, so neither `Debug` nor `Display` nor an error shows that.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    url: String,
    backend: Backend,
}

/// An address that is none of a store. It does not repeat the address, which may hold a password.
#[derive(Debug, Clone, Copy, thiserror::Error)]
pub enum BadDatabaseUrl {
    /// Neither SQLite nor Postgres.
    #[error("the address is neither sqlite://FILE?mode=rwc nor postgres://USER:PASSWORD@HOST/DATABASE")]
    Unknown,
    /// A Postgres address that cannot be read.
    #[error(
        "the address cannot be read; it has the form postgres://USER:PASSWORD@HOST:PORT/DATABASE, with special \
             characters as %XX"
    )]
    Malformed,
    /// An SQLite database without a file.
    #[error("an SQLite store needs a file, as in sqlite://runql.db?mode=rwc: in memory, jobs would be lost")]
    NoFile,
}

/// Parameters of a Postgres address that hold a secret.
const SECRET_PARAMETERS: &[&str] = &["password", "sslpassword"];
const HIDDEN: &str = "***";

impl DatabaseUrl {
    /// The kind of store.
    #[must_use]
    pub const fn backend(&self) -> Backend {
        self.backend
    }

    /// The whole address with its password, for the connection and for nothing else.
    #[must_use]
    pub fn with_password(&self) -> &str {
        &self.url
    }

    /// The file of an SQLite store.
    #[must_use]
    pub fn sqlite_file(&self) -> Option<PathBuf> {
        (self.backend == Backend::Sqlite).then(|| {
            let path = sqlite_path(&self.url).unwrap_or_default();
            PathBuf::from(percent_decode_str(path).decode_utf8_lossy().into_owned())
        })
    }
}

/// What stands between the scheme and the parameters.
fn sqlite_path(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("sqlite:")?;
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    Some(rest.split_once('?').map_or(rest, |(path, _)| path))
}

impl FromStr for DatabaseUrl {
    type Err = BadDatabaseUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url = text.trim().to_owned();
        if let Some(path) = sqlite_path(&url) {
            if path.is_empty() || path == ":memory:" || url.contains("mode=memory") {
                return Err(BadDatabaseUrl::NoFile);
            }
            return Ok(Self {
                url,
                backend: Backend::Sqlite,
            });
        }
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(BadDatabaseUrl::Unknown);
        }
        Url::parse(&url).map_err(|_| BadDatabaseUrl::Malformed)?;
        Ok(Self {
            url,
            backend: Backend::Postgres,
        })
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.backend == Backend::Sqlite {
            return f.write_str(&self.url);
        }
        let Ok(mut url) = Url::parse(&self.url) else {
            return f.write_str(HIDDEN);
        };
        if url.password().is_some() && url.set_password(Some(HIDDEN)).is_err() {
            return f.write_str(HIDDEN);
        }
        if url.query().is_some() {
            let parameters: Vec<(String, String)> = url.query_pairs().into_owned().collect();
            url.query_pairs_mut()
                .clear()
                .extend_pairs(parameters.iter().map(|(name, value)| {
                    let secret = SECRET_PARAMETERS.contains(&name.to_ascii_lowercase().as_str());
                    (name, if secret { HIDDEN } else { value })
                }));
        }
        url.fmt(f)
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> DatabaseUrl {
        text.parse().unwrap()
    }

    #[test]
    fn the_password_is_shown_nowhere() {
        for text in [
            "postgres://me:hunter2@db.example.org:5432/runql",
            "postgresql:///runql?host=/run/postgresql&password=hunter2",
            "postgres://db/runql?user=me&password=hunter2&sslmode=require",
            "postgres://me@db/runql?PASSWORD=hunter2",
        ] {
            let shown = format!("{0} {0:?}", url(text));
            assert!(!shown.contains("hunter2") && shown.contains(HIDDEN), "{shown}");
            assert!(shown.contains("/runql"), "{shown}");
            assert_eq!(url(text).with_password(), text);
            assert_eq!(url(text).backend(), Backend::Postgres);
        }
        for text in [
            "mysql://me:hunter2@db/x",
            "postgres://me:hunter2@db:port/x",
            "me:hunter2@db",
        ] {
            let error = text.parse::<DatabaseUrl>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"));
        }
    }

    #[test]
    fn the_file_of_an_sqlite_store_is_found_in_every_form() {
        for (text, file) in [
            ("sqlite://runql.db?mode=rwc", "runql.db"),
            ("sqlite:///var/lib/runql/jobs.db", "/var/lib/runql/jobs.db"),
            ("sqlite:data/runql.db", "data/runql.db"),
            ("sqlite://a%20folder/runql.db", "a folder/runql.db"),
        ] {
            assert_eq!(url(text).sqlite_file(), Some(PathBuf::from(file)), "{text}");
        }
        assert_eq!(url("postgres://db/runql").sqlite_file(), None);
    }

    #[test]
    fn a_store_that_would_forget_is_refused() {
        for text in [
            "sqlite::memory:",
            "sqlite://",
            "sqlite://:memory:",
            "sqlite://x?mode=memory",
        ] {
            assert!(
                matches!(text.parse::<DatabaseUrl>(), Err(BadDatabaseUrl::NoFile)),
                "{text}"
            );
        }
    }
}
