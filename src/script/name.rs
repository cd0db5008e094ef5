//! The names of files: a path below a folder, with `/`.

use std::ffi::OsStr;
use std::path::PathBuf;

/// The longest name, in bytes.
const LONGEST: usize = 1024;

/// Whether a file or folder of that name takes part at all: no hidden ones, and none whose name a client could not
/// send or a terminal not show.
pub(super) fn is_visible(name: &OsStr) -> Option<&str> {
    let name = name.to_str()?;
    (!name.starts_with('.') && !name.contains('\\') && !name.chars().any(char::is_control)).then_some(name)
}

/// The relative path that the name of a `thing` stands for, made only of the names of files and folders; or what is
/// wrong with the name. Links are not looked at here.
pub(super) fn relative_path(thing: &str, name: &str) -> Result<PathBuf, String> {
    check_name(thing, name)?;
    Ok(name.split('/').collect())
}

/// Whether a `thing` can have this name; else what is wrong with it.
pub(crate) fn check_name(thing: &str, name: &str) -> Result<(), String> {
    let fault = if name.is_empty() {
        "must not be empty"
    } else if name.len() > LONGEST {
        "is at most 1024 bytes long"
    } else if name.starts_with('/') {
        "begins below its folder, without `/`"
    } else if name.contains('\\') {
        "has its parts separated by `/`, not by a backslash"
    } else if name.chars().any(char::is_control) {
        "must not hold control characters"
    } else if name.split('/').any(|part| part == "..") {
        "must not hold `..`"
    } else if name.split('/').any(|part| part.is_empty() || part == ".") {
        "must have no part that is empty or `.`"
    } else if name.split('/').any(|part| part.starts_with('.')) {
        "must have no part that begins with a dot, as hidden files have"
    } else {
        return Ok(());
    };
    Err(format!("a {thing}'s name {fault}"))
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};

    use super::*;

    #[test]
    fn plain_names_are_paths() {
        for name in [
            "a.sh",
            "a/b/c.py",
            "a b/ü.sh",
            "-rf.sh",
            "a..b/c...sh",
            "~",
            "C:x",
        ] {
            assert_eq!(relative_path("script", name).as_deref(), Ok(Path::new(name)));
        }
    }

    #[test]
    fn names_that_could_lead_elsewhere_are_refused() {
        let long = "x".repeat(1025);
        for name in [
            "",
            "/",
            "/etc/passwd",
            "//a",
            "..",
            "../a",
            "a/../b",
            "a/..",
            ".",
            "./a",
            "a/.",
            "a//b",
            "a/",
            "a\\b",
            "..\\a",
            "a\0b",
            "a\nb",
            ".hidden",
            "a/.hidden/b",
            "\u{7f}",
            long.as_str(),
        ] {
            assert!(relative_path("script", name).is_err(), "{name:?}");
        }
    }

    /// Every string of up to five of the characters that matter.
    #[test]
    fn whatever_passes_is_made_of_plain_parts_and_is_itself() {
        let alphabet = ['.', '/', '\\', 'a', '\0', '~'];
        let mut names = vec![String::new()];
        for _ in 0..5 {
            let longer: Vec<String> = names
                .iter()
                .flat_map(|name| alphabet.iter().map(move |c| format!("{name}{c}")))
                .collect();
            names.extend(longer);
        }
        let mut passed = 0;
        for name in names {
            if let Ok(path) = relative_path("script", &name) {
                passed += 1;
                assert!(
                    path.components().all(|part| matches!(part, Component::Normal(_))),
                    "{name:?}"
                );
                assert_eq!(path.to_str(), Some(name.as_str()));
            }
        }
        assert!(passed > 100, "{passed}");
    }
}
