//! The file of a SQLite store, and the lock that keeps it to one server.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;

use super::connect::OpenError;

/// Of a new file, whose log and index SQLite makes likewise: what jobs were given, and who has a token, is nobody else's
/// business. Where a kernel has no Landlock, this is what keeps jobs of another user from it.
const MODE: u32 = 0o600;

/// The file of a SQLite address.
pub(crate) fn sqlite_path(url: &str) -> Option<PathBuf> {
    let rest = url.strip_prefix("sqlite:")?;
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let path = rest.split('?').next().unwrap_or(rest);
    Some(PathBuf::from(
        percent_decode_str(path).decode_utf8_lossy().into_owned(),
    ))
}

/// Takes the lock that keeps a SQLite file to one server. The operating system lets go of it when the process ends,
/// however it ends.
///
/// It is a file of its own beside the database: closing the database's file, even once and elsewhere in the process,
/// would take SQLite's own locks away. It goes by the name that is left when every link is followed, as SQLite does for
/// its log; a second name of the file itself cannot be followed, and is refused.
pub(super) fn lock(url: &str) -> Result<File, OpenError> {
    let given = sqlite_path(url).ok_or_else(|| OpenError::Address(url.to_owned()))?;
    let failed = |path: &Path, source| OpenError::Lock {
        path: beside(path).display().to_string(),
        source,
    };
    // A file that is not there yet may be named by a link that leads nowhere so far.
    if let Err(source) = make(&given)
        && source.kind() != ErrorKind::AlreadyExists
    {
        return Err(failed(&given, source));
    }
    let database = match given.canonicalize() {
        Ok(path) => path,
        Err(source) if source.kind() == ErrorKind::NotFound => {
            make_target(&given).map_err(|source| failed(&given, source))?
        }
        Err(source) => return Err(failed(&given, source)),
    };
    let names = database
        .metadata()
        .map_err(|source| failed(&database, source))?
        .nlink();
    if names > 1 {
        return Err(OpenError::Linked(database.display().to_string()));
    }
    let file = File::options()
        .create(true)
        .append(true)
        .mode(MODE)
        .open(beside(&database))
        .map_err(|source| failed(&database, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(database.display().to_string())),
        Err(TryLockError::Error(source)) => Err(failed(&database, source)),
    }
}

/// Makes a file that is not there yet.
fn make(path: &Path) -> std::io::Result<File> {
    File::options().write(true).create_new(true).mode(MODE).open(path)
}

/// Makes the file that a symbolic link names.
fn make_target(link: &Path) -> std::io::Result<PathBuf> {
    let target = std::fs::read_link(link)?;
    let target = link.parent().unwrap_or(Path::new("")).join(target);
    make(&target)?;
    target.canonicalize()
}

fn beside(database: &Path) -> PathBuf {
    let mut path = database.to_path_buf().into_os_string();
    path.push(".lock");
    PathBuf::from(path)
}
