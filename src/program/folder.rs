//! Folders whose content is hostile: whoever wrote it may still be writing, and puts links where folders were.
//!
//! Nothing here follows a link out of the folder that it was given, and nothing takes more memory or descriptors the
//! deeper, wider or odder the content is.

use std::ffi::{CStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, chmodat, fchown, mkdirat, open,
    openat, openat2, readlink, renameat, statat, unlinkat,
};
use rustix::io::Errno;

use crate::process::RunAs;

/// Makes a folder below a root, whose path is a real one, and gives its real path. Links on the way may lead elsewhere below the root, not out of
/// it, even if they appear meanwhile.
pub(super) fn make_below(root: &Path, name: &Path, owner: Option<&RunAs>) -> io::Result<PathBuf> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = open(root, flags, Mode::empty())?;
    let below = |way: &Path| {
        let leads_out = || {
            let what = "the working directory leads out of the server's work folder";
            io::Error::new(io::ErrorKind::PermissionDenied, what)
        };
        match openat2(&top, way, flags, Mode::empty(), ResolveFlags::BENEATH) {
            // A link with an absolute path may lead below the root too; where it leads has no more links in it.
            Err(Errno::XDEV) => {
                let real = root.join(way).canonicalize()?;
                let way = real.strip_prefix(root).map_err(|_| leads_out())?;
                let way = if way.as_os_str().is_empty() {
                    Path::new(".")
                } else {
                    way
                };
                let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
                openat2(&top, way, flags, Mode::empty(), resolve).map_err(io::Error::from)
            }
            Err(Errno::LOOP) => Err(leads_out()),
            other => other.map_err(io::Error::from),
        }
    };
    let mut way = PathBuf::new();
    let mut last: Option<OwnedFd> = None;
    for part in name.components() {
        let Component::Normal(part) = part else {
            return Err(Errno::XDEV.into());
        };
        way.push(part);
        let next = match below(&way) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let parent = last.as_ref().unwrap_or(&top);
                match mkdirat(parent, part, Mode::from_raw_mode(0o777)) {
                    Ok(()) => give(
                        &openat(
                            parent,
                            part,
                            OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC,
                            Mode::empty(),
                        )?,
                        owner,
                    )?,
                    Err(Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
                below(&way)
            }
            other => other,
        };
        last = Some(next?);
    }
    let made = last.unwrap_or(top);
    let path = readlink(format!("/proc/self/fd/{}", made.as_raw_fd()), Vec::new())?;
    Ok(PathBuf::from(OsString::from_vec(path.into_bytes())))
}

/// Gives a new folder to the user that jobs run as.
fn give(folder: &OwnedFd, owner: Option<&RunAs>) -> io::Result<()> {
    if let Some(user) = owner {
        fchown(
            folder,
            Some(Uid::from_raw(user.uid)),
            Some(Gid::from_raw(user.gid)),
        )?;
    }
    Ok(())
}

/// Opens a plain file by its real path; none where there is nothing.
///
/// # Errors
///
/// Also where it is a link, by whichever of its names, or anything but a plain file. It never blocks.
pub(super) fn open_plain(path: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
        Ok(fd) => File::from(fd),
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) => return Err(io::Error::other("it is a link, and no plain file")),
        // A socket, which cannot be opened at all.
        Err(Errno::NXIO) => return Err(io::Error::other("it is no plain file")),
        Err(error) => return Err(error.into()),
    };
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other("it is no plain file"));
    }
    // The other name may be that of a file which the job itself cannot read.
    if found.nlink() > 1 {
        return Err(io::Error::other("it is a link to another file"));
    }
    Ok(Some(file))
}

/// Removes a folder with all that is in it. It need not be there.
///
/// A folder within a folder is moved up to the top before it is emptied: so it takes the same few descriptors and no
/// stack, however deep somebody nested them. Folders that were closed to their owner are opened first.
///
/// # Errors
///
/// What stood in the way of something; the rest is removed all the same.
pub(crate) fn remove_tree(top: &Path) -> io::Result<()> {
    let kind = match statat(CWD, top, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => FileType::from_raw_mode(found.st_mode),
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if kind != FileType::Directory {
        return Ok(unlinkat(CWD, top, AtFlags::empty())?);
    }
    let folder = open_folder(CWD, top)?;
    let mut moved = 0;
    loop {
        let before = moved;
        let (mut removed, mut failed) = (0_u64, None);
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            match remove_entry(&folder, name, entry.file_type(), &folder, &mut moved) {
                Ok(()) => removed += 1,
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            // What was moved up is still to be emptied.
            _ if moved > before => {}
            Some(error) => return Err(error),
            None if removed > 0 => {}
            None => return Ok(unlinkat(CWD, top, AtFlags::REMOVEDIR)?),
        }
    }
}

/// Removes what has this name; a folder's own folders go to `top`, with new names.
fn remove_entry(
    parent: &OwnedFd,
    name: &CStr,
    kind: FileType,
    top: &OwnedFd,
    moved: &mut u64,
) -> io::Result<()> {
    if kind != FileType::Directory {
        match unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // Some file systems do not tell the kind.
            Err(Errno::ISDIR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if unlinkat(parent, name, AtFlags::REMOVEDIR).is_ok() {
        return Ok(());
    }
    let folder = open_folder(parent, name)?;
    let mut failed = None;
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        let inner = entry.file_name();
        if inner == c"." || inner == c".." {
            continue;
        }
        let done = match unlinkat(&folder, inner, AtFlags::empty()) {
            Ok(()) => Ok(()),
            Err(Errno::ISDIR) => {
                // Its new place has to be written into it.
                let _ = chmodat(&folder, inner, Mode::RWXU, AtFlags::empty());
                *moved += 1;
                renameat(&folder, inner, top, format!(".{moved}.removed"))
            }
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            failed = Some(error);
        }
    }
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(unlinkat(parent, name, AtFlags::REMOVEDIR)?),
    }
}

/// Opens a folder for reading and changing, which its owner may have been forbidden by the mode.
fn open_folder(parent: impl std::os::fd::AsFd, name: impl rustix::path::Arg + Copy) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let writable = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode & 0o700 == 0o700;
    if !writable {
        // Whoever is not its owner finds out below whether it matters.
        let _ = chmodat(&parent, name, Mode::RWXU, AtFlags::empty());
    }
    Ok(openat(&parent, name, flags, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn however_deep_it_is_nested_it_is_removed() {
        let place = tempfile::tempdir().unwrap();
        let top = place.path().join("top");
        std::fs::create_dir(&top).unwrap();
        // Far deeper than a path can say, than a stack could hold and than descriptors could be open.
        let mut here = open(&top, OFlags::RDONLY, Mode::empty()).unwrap();
        for _ in 0..20_000 {
            mkdirat(&here, "d", Mode::RWXU).unwrap();
            here = openat(&here, "d", OFlags::RDONLY, Mode::empty()).unwrap();
        }
        drop(here);
        remove_tree(&top).unwrap();
        assert!(!top.exists());
        remove_tree(&top).unwrap();
    }

    #[test]
    fn what_links_lead_to_stays_and_closed_folders_go() {
        let place = tempfile::tempdir().unwrap();
        let kept = place.path().join("kept");
        std::fs::create_dir(&kept).unwrap();
        std::fs::write(kept.join("file"), "kept").unwrap();
        let top = place.path().join("top");
        std::fs::create_dir_all(top.join("a/b/c")).unwrap();
        symlink(&kept, top.join("link")).unwrap();
        symlink(&kept, top.join("a/b/link")).unwrap();
        std::fs::hard_link(kept.join("file"), top.join("a/b/c/file")).unwrap();
        for closed in ["a/b/c", "a/b", "a", ""] {
            let mode = std::fs::Permissions::from_mode(0o000);
            std::fs::set_permissions(top.join(closed), mode).unwrap();
        }
        remove_tree(&top).unwrap();
        assert!(!top.exists());
        assert_eq!(std::fs::read_to_string(kept.join("file")).unwrap(), "kept");
        symlink(&kept, &top).unwrap();
        remove_tree(&top).unwrap();
        assert!(kept.join("file").exists() && top.symlink_metadata().is_err());
    }

    #[test]
    fn a_folder_is_made_below_and_never_outside() {
        let place = tempfile::tempdir().unwrap();
        let top = place.path().canonicalize().unwrap();
        let (root, outside) = (top.join("root"), top.join("outside"));
        std::fs::create_dir(&root).unwrap();
        std::fs::create_dir(&outside).unwrap();
        let made = make_below(&root, Path::new("a/b"), None).unwrap();
        assert_eq!(made, root.canonicalize().unwrap().join("a/b"));
        assert_eq!(make_below(&root, Path::new("a/b"), None).unwrap(), made);
        symlink(root.join("a"), root.join("absolute")).unwrap();
        assert_eq!(make_below(&root, Path::new("absolute/b"), None).unwrap(), made);
        symlink("a", root.join("inner")).unwrap();
        assert_eq!(make_below(&root, Path::new("inner/b"), None).unwrap(), made);
        symlink(&outside, root.join("outer")).unwrap();
        for name in ["outer", "outer/x", "outer/x/y", "a/../../outside"] {
            assert!(make_below(&root, Path::new(name), None).is_err(), "{name}");
        }
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    }

    #[test]
    fn only_a_plain_file_of_one_name_is_opened() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().canonicalize().unwrap();
        let at = |name: &str| root.join(name);
        std::fs::write(at("plain"), "{}").unwrap();
        assert!(open_plain(&at("plain")).unwrap().is_some());
        assert!(open_plain(&at("nothing")).unwrap().is_none());
        symlink(at("plain"), at("link")).unwrap();
        symlink(&root, at("around")).unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        rustix::fs::mkfifoat(CWD, at("pipe"), Mode::RWXU).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for name in ["link", "around/plain", "folder", "pipe", "socket"] {
            assert!(open_plain(&at(name)).is_err(), "{name}");
        }
        std::fs::hard_link(at("plain"), at("second")).unwrap();
        assert!(open_plain(&at("plain")).is_err());
    }
}
