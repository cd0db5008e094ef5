//! A copy of a SQLite store, made while a server may be using it.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sea_orm::{ConnectOptions, ConnectionTrait, Database, DbErr};

use super::connect::{Backend, OpenError, backend_of};
use super::error::StoreError;
use super::file::sqlite_path;

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Postgres has its own way.
    #[error("`runql backup` copies a SQLite file; a Postgres database is backed up with pg_dump")]
    Postgres,
    /// The address is of no database that this program knows, or cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is nothing to copy.
    #[error("there is no database at {0}")]
    Missing(String),
    /// A backup never overwrites.
    #[error("{0} is there already: a backup overwrites nothing")]
    Exists(String),
    /// The copy could not be written.
    #[error("{path} cannot be written")]
    Write {
        /// Where to.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The database failed.
    #[error("the database could not be copied")]
    Copy(#[source] StoreError),
}

/// Copies the store at `url` to the file `target`: whole, as it was at one moment, and on disk when this returns. A
/// server may use the store meanwhile; it reads as any reader does, and holds up no write.
///
/// # Errors
///
/// [`BackupError`]; then there is no file at `target` that was not there before.
pub async fn backup(url: &str, target: &Path) -> Result<(), BackupError> {
    if backend_of(url)? == Backend::Postgres {
        return Err(BackupError::Postgres);
    }
    let source = sqlite_path(url).ok_or_else(|| OpenError::Address(url.to_owned()))?;
    if !source.exists() {
        return Err(BackupError::Missing(source.display().to_string()));
    }
    let write = |source| BackupError::Write {
        path: target.display().to_string(),
        source,
    };
    if target.symlink_metadata().is_ok() {
        return Err(BackupError::Exists(target.display().to_string()));
    }
    // Beside the target, so that the name can be given to it in one step once it is whole.
    let unfinished = Unfinished::beside(target);
    // SQLite writes into an empty file, and only the owner may read what jobs were given.
    File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished.0)
        .map_err(write)?;
    copy(url, &unfinished.0)
        .await
        .map_err(|error| BackupError::Copy(error.into()))?;
    let target = target.to_owned();
    let finished = tokio::task::spawn_blocking(move || finish(&unfinished, &target));
    match finished.await {
        Ok(finished) => finished,
        Err(error) => Err(write(std::io::Error::other(error))),
    }
}

/// The copy while it is made; what was not finished is removed.
struct Unfinished(PathBuf);

impl Unfinished {
    fn beside(target: &Path) -> Self {
        let mut name = target.as_os_str().to_owned();
        name.push(format!(".{}.partial", std::process::id()));
        Self(PathBuf::from(name))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // It is another name of the finished copy by then, or of one that nobody wants.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A VACUUM reads within one transaction: it sees one moment, and on a file with a write-ahead log no writer waits for
/// it. The copying of pages that SQLite has besides would begin anew with each commit of the server.
async fn copy(url: &str, to: &Path) -> Result<(), DbErr> {
    let mut options = ConnectOptions::new(url.to_owned());
    options
        .max_connections(1)
        .sqlx_logging(false)
        .map_sqlx_sqlite_opts(|sqlite| {
            sqlite
                .create_if_missing(false)
                .busy_timeout(Duration::from_secs(30))
        });
    let db = Database::connect(options).await?;
    let to = to.to_string_lossy().replace('\'', "''");
    let copied = db.execute_unprepared(&format!("VACUUM INTO '{to}'")).await;
    let closed = db.close().await;
    copied?;
    closed
}

/// Makes the copy durable, and gives it its name: a link refuses a name that somebody took meanwhile.
fn finish(unfinished: &Unfinished, target: &Path) -> Result<(), BackupError> {
    let write = |source| BackupError::Write {
        path: target.display().to_string(),
        source,
    };
    File::open(&unfinished.0)
        .and_then(|file| file.sync_all())
        .map_err(write)?;
    std::fs::hard_link(&unfinished.0, target).map_err(|source| match source.kind() {
        std::io::ErrorKind::AlreadyExists => BackupError::Exists(target.display().to_string()),
        _ => write(source),
    })?;
    // A store with two names is refused, so the first goes before anybody is told of the second.
    std::fs::remove_file(&unfinished.0).map_err(write)?;
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))
        .and_then(|folder| folder.sync_all())
        .map_err(write)
}
