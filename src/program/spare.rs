//! Folders that an attempt left as it got them, kept for the next one.
//!
//! To make and remove three folders takes about as long as to start a small program, and longer where the file system
//! steps around what was removed lately. So folders in which nothing is left, and about which nothing was changed, are
//! handed on. Whatever differs, a mode or a leftover file, and they are removed as before.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, IFlags, Mode, OFlags, flistxattr_query, fstat, ioctl_getflags, openat, rename,
    unlinkat,
};
use rustix::io::Errno;

use super::folder::remove_tree;

/// Where folders wait, below the root; no `workingDir` may begin with a dot, so none can reach it.
const SPARE: &str = ".spare";

/// Folders that nobody uses, empty and as they were made. Removed where this is dropped.
#[derive(Debug)]
pub(crate) struct Spare {
    path: PathBuf,
    made: Option<Made>,
}

/// How the folders of an attempt were when they were made: the outer one, and those in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Made(Vec<Mark>);

/// All that can be changed about a folder and stays when it is emptied, but for its times.
#[derive(Debug, PartialEq, Eq)]
struct Mark {
    device: u64,
    inode: u64,
    mode: u32,
    owner: (u32, u32),
    links: u64,
    /// A folder that held much stays large on some file systems, and slow.
    size: i64,
    flags: Option<IFlags>,
}

impl Made {
    /// Looks at the folder `own`, which holds empty folders of these names and nothing else but, perhaps, the file `output`,
    /// which is removed. None where there is more to it.
    pub(super) fn look(own: &Path, folders: &[&str], output: Option<&Path>) -> io::Result<Option<Self>> {
        let outer = open_folder(CWD, own)?;
        if let Some(name) = output.and_then(Path::file_name) {
            match unlinkat(&outer, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if !holds_only(&outer, folders)? {
            return Ok(None);
        }
        let mut marks = vec![Mark::of(&outer)?];
        for folder in folders {
            let inner = open_folder(&outer, Path::new(folder))?;
            if !holds_only(&inner, &[])? {
                return Ok(None);
            }
            marks.push(Mark::of(&inner)?);
        }
        Ok(marks.into_iter().collect::<Option<_>>().map(Self))
    }
}

impl Mark {
    /// None where the folder has attributes whose values are not looked at.
    fn of(folder: &OwnedFd) -> io::Result<Option<Self>> {
        // Access control lists are among them.
        match flistxattr_query(folder) {
            Ok(0) | Err(Errno::NOTSUP) => {}
            Ok(_) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let found = fstat(folder)?;
        Ok(Some(Self {
            device: found.st_dev,
            inode: found.st_ino,
            mode: found.st_mode,
            owner: (found.st_uid, found.st_gid),
            links: found.st_nlink,
            size: found.st_size,
            // Not every file system has them.
            flags: ioctl_getflags(folder).ok(),
        }))
    }
}

/// Whether all that is in a folder has one of these names, and all of them are there.
fn holds_only(folder: &OwnedFd, names: &[&str]) -> io::Result<bool> {
    let mut found = 0;
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        if !names.iter().any(|known| known.as_bytes() == name.to_bytes()) {
            return Ok(false);
        }
        found += 1;
    }
    Ok(found == names.len())
}

fn open_folder(parent: impl AsFd, name: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(parent, name, flags, Mode::empty())?)
}

impl Spare {
    /// Puts the folder `own` aside, which was looked at just now.
    pub(super) fn put_aside(root: &Path, own: &Path, made: Made) -> io::Result<Self> {
        let place = root.join(SPARE);
        let path = place.join(own.file_name().unwrap_or_default());
        match rename(own, &path) {
            Err(Errno::NOENT) => {
                std::fs::create_dir_all(&place)?;
                rename(own, &path)?;
            }
            other => other?,
        }
        Ok(Self {
            path,
            made: Some(made),
        })
    }

    /// Takes it into use under another path. None where that cannot be done, such as when another server that shares the
    /// root has removed it.
    pub(super) fn take(mut self, own: &Path) -> Option<Made> {
        rename(&self.path, own).ok()?;
        self.made.take()
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        if self.made.is_some() {
            remove(&self.path);
        }
    }
}

fn remove(path: &Path) {
    if let Err(error) = remove_tree(path) {
        tracing::warn!(path = %path.display(), error = %error, "a spare folder was left behind");
    }
}

/// Removes the folders that a dead server kept, and those of one that lives and shares the root: it makes others.
pub(crate) fn remove_spares(root: &Path) {
    let Ok(entries) = std::fs::read_dir(root.join(SPARE)) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        // Whoever renames it has it: it must not go while somebody takes it into use.
        let mine = path.with_extension("removed");
        if rename(&path, &mine).is_ok() {
            remove(&mine);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir, set_permissions, write};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// Does something to the folders of an attempt. Whether they are handed on then, and to what.
    fn handed_on(change: impl FnOnce(&Path)) -> bool {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().canonicalize().unwrap();
        let own = root.join("own");
        for folder in ["own", "own/work", "own/tmp"] {
            create_dir(root.join(folder)).unwrap();
        }
        let folders = ["work", "tmp"];
        let made = Made::look(&own, &folders, None).unwrap().unwrap();
        change(&own);
        let output = own.join("output.json");
        let Ok(Some(left)) = Made::look(&own, &folders, Some(&output)) else {
            return false;
        };
        if left != made {
            return false;
        }
        let spare = Spare::put_aside(&root, &own, left).unwrap();
        assert!(!own.exists());
        assert_eq!(spare.take(&own), Some(made));
        assert!(own.join("work").is_dir() && own.join("tmp").is_dir() && !output.exists());
        assert_eq!(std::fs::read_dir(root.join(SPARE)).unwrap().count(), 0);
        true
    }

    #[test]
    fn what_was_left_as_it_was_is_handed_on() {
        assert!(handed_on(|_| {}));
        assert!(handed_on(|own| write(own.join("output.json"), "{}").unwrap()));
        assert!(handed_on(|own| {
            write(own.join("work/file"), "x").unwrap();
            std::fs::remove_file(own.join("work/file")).unwrap();
        }));
        assert!(handed_on(|own| symlink("/", own.join("output.json")).unwrap()));
    }

    #[test]
    fn what_was_changed_is_not() {
        let mode = |path: &Path, mode| set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        let anew = |path: &Path| {
            std::fs::rename(path, path.with_extension("old")).unwrap();
            create_dir(path).unwrap();
            std::fs::remove_dir_all(path.with_extension("old")).unwrap();
        };
        assert!(!handed_on(|own| write(own.join("work/.hidden"), "").unwrap()));
        assert!(!handed_on(|own| write(own.join("tmp/file"), "").unwrap()));
        assert!(!handed_on(|own| write(own.join("other"), "").unwrap()));
        assert!(!handed_on(|own| create_dir(own.join("output.json")).unwrap()));
        assert!(!handed_on(|own| create_dir(own.join("work/inner")).unwrap()));
        assert!(!handed_on(|own| mode(own, 0o711)));
        assert!(!handed_on(|own| mode(&own.join("work"), 0o777)));
        assert!(!handed_on(|own| mode(&own.join("tmp"), 0o1755)));
        assert!(!handed_on(|own| anew(&own.join("work"))));
        assert!(!handed_on(|own| std::fs::remove_dir(own.join("tmp")).unwrap()));
        assert!(!handed_on(|own| {
            std::fs::remove_dir(own.join("tmp")).unwrap();
            symlink("work", own.join("tmp")).unwrap();
        }));
        assert!(!handed_on(|own| {
            anew(own);
            create_dir(own.join("work")).unwrap();
            create_dir(own.join("tmp")).unwrap();
        }));
        // Where the file system has such attributes at all.
        let named = |own: &Path| {
            rustix::fs::setxattr(
                own.join("tmp"),
                "user.note",
                b"x",
                rustix::fs::XattrFlags::empty(),
            )
        };
        let mut set = Ok(());
        let kept = handed_on(|own| set = named(own));
        assert!(!kept || set == Err(Errno::NOTSUP), "{set:?}");
    }

    #[test]
    fn those_that_nobody_takes_are_removed() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().canonicalize().unwrap();
        let spare = |name: &str| {
            let own = root.join(name);
            create_dir(&own).unwrap();
            let made = Made::look(&own, &[], None).unwrap().unwrap();
            Spare::put_aside(&root, &own, made).unwrap()
        };
        let left = || std::fs::read_dir(root.join(SPARE)).unwrap().count();
        drop(spare("dropped"));
        assert_eq!(left(), 0);
        let taken_away = spare("swept");
        remove_spares(&root);
        assert_eq!(left(), 0);
        assert_eq!(taken_away.take(&root.join("anew")), None);
        assert!(!root.join("anew").exists());
    }
}
