//! Opens the files of a folder, tells their versions apart and hashes them.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;
use sha2::{Digest, Sha256};

/// A change this soon after the last one may leave every time stamp as it was: file systems count in steps, of
/// milliseconds mostly, of two seconds at worst.
const COARSEST_CLOCK: Duration = Duration::from_secs(2);

/// What tells one version of a file from another without reading it. The change time is part of it as nobody can
/// set it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether a file with this stamp, read at `now`, could change under the same stamp. One that was changed in the
    /// future, by a clock that is not ours, could as well.
    pub(super) fn is_fresh(&self, now: SystemTime) -> bool {
        // The end of the second in which it was changed, so that the fraction can only make it fresher.
        let seconds = u64::try_from(self.changed.0).unwrap_or(0).saturating_add(1);
        let changed = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        let age = changed.and_then(|changed| now.duration_since(changed).ok());
        age.is_none_or(|age| age < COARSEST_CLOCK)
    }
}

/// Opens the file at `path` with its stamp.
///
/// Opening does not block, as a pipe could have taken the file's place since it was last looked at; what is no
/// regular file is an error of the kind `InvalidInput`.
pub(crate) fn open(path: &Path) -> io::Result<(File, Stamp)> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok((file, Stamp::of(&metadata)))
}

/// Reads on until `head` holds `size` bytes or the file ends.
pub(crate) fn read_up_to(file: &mut File, size: usize, head: &mut Vec<u8>) -> io::Result<()> {
    let missing = size.saturating_sub(head.len());
    file.take(u64::try_from(missing).unwrap_or(u64::MAX))
        .read_to_end(head)?;
    Ok(())
}

/// The hash, in hexadecimal, of what was read of a file already and of all that follows; and whether anything does.
/// Memory stays the same whatever the file's size.
pub(crate) fn hash(head: &[u8], file: &mut File) -> io::Result<(String, bool)> {
    let mut hasher = Sha256::new();
    hasher.update(head);
    let mut chunk = vec![0; 32 * 1024];
    let mut goes_on = false;
    loop {
        match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => {
                goes_on = true;
                hasher.update(&chunk[..count]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let digest = hasher.finalize();
    Ok((digest.iter().map(|byte| format!("{byte:02x}")).collect(), goes_on))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_fresh_for_two_seconds_and_always_before_its_time() {
        let at = |seconds| Stamp {
            device: 0,
            inode: 0,
            size: 0,
            modified: (0, 0),
            changed: (seconds, 999_999_999),
        };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        for (changed, fresh) in [
            (996, false),
            (997, false),
            (998, true),
            (1_000, true),
            (5_000, true),
            (i64::MAX, true),
            (-5, false),
        ] {
            assert_eq!(at(changed).is_fresh(now), fresh, "{changed}");
        }
    }
}
