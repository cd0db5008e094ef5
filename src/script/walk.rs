//! Walks a folder, within bounds.

use std::collections::VecDeque;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use super::name::is_visible;

/// The bounds of a walk, so that a folder which somebody mounted by mistake costs no more than a moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// The most files that are listed.
    pub(super) files: usize,
    /// The most files and folders that are looked at.
    pub(super) entries: usize,
    /// How many folders deep.
    pub(super) depth: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            files: 10_000,
            entries: 100_000,
            depth: 16,
        }
    }
}

/// A regular file that a walk came by.
#[derive(Debug)]
pub(crate) struct Found {
    /// Its path below the root, with `/`.
    pub(crate) name: String,
    /// Its path with all links followed.
    pub(crate) path: PathBuf,
    pub(crate) metadata: Metadata,
}

/// Calls `visit` for each visible regular file below `root`, which has no links in it, until `visit` has said as
/// often as the bounds allow that it is listed. Answers whether a bound cut the walk short.
///
/// Links to files are followed where they stay below the root. Links to folders are not: what they lead to below
/// the root is listed under its own name already, and a circle would have no end. Folders that are nearer to the
/// root come first, so that what a bound cuts off is the deepest. What vanishes meanwhile, or cannot be entered, is
/// passed over.
pub(super) fn walk(root: &Path, bounds: Bounds, mut visit: impl FnMut(Found) -> bool) -> io::Result<bool> {
    let mut folders = VecDeque::from([(root.to_owned(), String::new(), 0)]);
    let (mut listed, mut entries, mut truncated) = (0, 0, false);
    while let Some((folder, prefix, depth)) = folders.pop_front() {
        let listing = match fs::read_dir(&folder) {
            Ok(listing) => listing,
            Err(error) if depth == 0 => return Err(error),
            Err(error) => {
                tracing::warn!(folder = %folder.display(), %error, "a folder cannot be read");
                continue;
            }
        };
        let mut visible = Vec::new();
        for entry in listing {
            let Ok(entry) = entry else { continue };
            entries += 1;
            if entries > bounds.entries {
                truncated = true;
                break;
            }
            if let Some(name) = is_visible(&entry.file_name()) {
                visible.push((name.to_owned(), entry));
            }
        }
        visible.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, entry) in visible {
            let Ok(kind) = entry.file_type() else { continue };
            let name = format!("{prefix}{name}");
            if kind.is_dir() {
                if depth + 1 < bounds.depth {
                    folders.push_back((entry.path(), format!("{name}/"), depth + 1));
                } else {
                    truncated = true;
                }
                continue;
            }
            let Some((path, metadata)) = regular_file(root, entry.path(), kind.is_symlink()) else {
                continue;
            };
            if listed == bounds.files {
                return Ok(true);
            }
            if visit(Found { name, path, metadata }) {
                listed += 1;
            }
        }
        if entries > bounds.entries {
            break;
        }
    }
    Ok(truncated)
}

fn regular_file(root: &Path, path: PathBuf, is_link: bool) -> Option<(PathBuf, Metadata)> {
    let path = if is_link {
        fs::canonicalize(path)
            .ok()
            .filter(|path| path.starts_with(root))?
    } else {
        path
    };
    let metadata = fs::metadata(&path).ok()?;
    metadata.is_file().then_some((path, metadata))
}
