//! Secrets that jobs ask for by name: files of a folder, and variables of the server's own environment.
//!
//! Only the name is stored with a job. The value is read when an attempt starts, goes into the process's environment, and
//! is masked in whatever the job prints or hands back.

use std::path::{Path, PathBuf};

use crate::program::LONGEST_MASK;

/// The largest file that is a secret: beyond it, its lines could not all be masked.
const LARGEST: u64 = 64 * 1024;

/// Lines of one secret, each of which is masked.
const MOST_LINES: usize = 256;

/// Where secrets are. Neither `Debug` nor anything else shows a value.
#[derive(Debug, Clone, Default)]
pub struct SecretSources {
    /// A folder with a file for each secret, by its name, as orchestrators mount them; none is no files.
    pub dir: Option<PathBuf>,
    /// Variables of the server's environment that jobs may have.
    pub variables: Vec<String>,
}

impl SecretSources {
    /// Whether there is a secret of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.variable(name).is_some() || self.file(name).is_some_and(|path| path.is_file())
    }

    /// The value of a secret. Blocks: it may read a file.
    ///
    /// # Errors
    ///
    /// One sentence that names the secret and says what is wrong, and never its value.
    pub fn read(&self, name: &str) -> Result<String, String> {
        let text = match (self.variable(name), self.file(name)) {
            (Some(text), _) => text,
            (None, Some(path)) => read_file(name, &path)?,
            (None, None) => return Err(unknown(name)),
        };
        // What was written with an editor ends with a line feed that is no part of it.
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.contains('\0') {
            return Err(format!(
                "the secret `{name}` holds a NUL character, which no variable can"
            ));
        }
        if text.lines().count() > MOST_LINES || text.lines().any(|line| line.len() > LONGEST_MASK) {
            return Err(format!(
                "the secret `{name}` cannot be masked: it has more than {MOST_LINES} lines, or one above {LONGEST_MASK} \
                 bytes"
            ));
        }
        Ok(text.to_owned())
    }

    fn variable(&self, name: &str) -> Option<String> {
        let is_offered = self.variables.iter().any(|offered| offered == name);
        is_offered.then(|| std::env::var(name).ok()).flatten()
    }

    /// A name is a file's name and no path, so nothing outside of the folder can be asked for by it.
    fn file(&self, name: &str) -> Option<PathBuf> {
        is_name(name)
            .then(|| self.dir.as_ref().map(|dir| dir.join(name)))
            .flatten()
    }
}

/// Whether a secret can be called so.
pub(super) fn is_name(name: &str) -> bool {
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    (1..=255).contains(&name.len()) && name.bytes().all(letters) && !name.starts_with('.')
}

pub(super) fn unknown(name: &str) -> String {
    format!("there is no secret `{name}`: offer it by --secrets-dir or --secret-env")
}

fn read_file(name: &str, path: &Path) -> Result<String, String> {
    let unreadable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => unknown(name),
        _ => format!("the secret `{name}` cannot be read: {error}"),
    };
    let about = std::fs::metadata(path).map_err(unreadable)?;
    if !about.is_file() {
        return Err(unknown(name));
    }
    if about.len() > LARGEST {
        return Err(format!("the secret `{name}` is above {LARGEST} bytes"));
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_by_its_name_and_no_path() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("secrets");
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("DB_PASSWORD"), "hunter2\n").unwrap();
        std::fs::write(dir.join("long"), "x".repeat(LONGEST_MASK + 1)).unwrap();
        std::fs::write(dir.join("large"), "x\n".repeat(LARGEST as usize)).unwrap();
        std::fs::write(dir.join("nul"), "a\0b").unwrap();
        std::fs::write(folder.path().join("outside"), "no").unwrap();
        let sources = SecretSources {
            dir: Some(dir),
            variables: vec!["PATH".to_owned(), "RUNQL_TEST_NO_SUCH_VARIABLE".to_owned()],
        };
        assert_eq!(sources.read("DB_PASSWORD").unwrap(), "hunter2");
        assert_eq!(sources.read("PATH").unwrap(), std::env::var("PATH").unwrap());
        assert!(sources.has("DB_PASSWORD") && sources.has("PATH"));
        for name in [
            "",
            "..",
            "../outside",
            "none",
            "HOME",
            "RUNQL_TEST_NO_SUCH_VARIABLE",
            "/etc/passwd",
        ] {
            assert!(!sources.has(name), "{name}");
            assert!(
                sources.read(name).unwrap_err().starts_with("there is no secret"),
                "{name}"
            );
        }
        assert!(sources.read("long").unwrap_err().contains("cannot be masked"));
        assert!(sources.read("large").unwrap_err().contains("is above"));
        assert!(sources.read("nul").unwrap_err().contains("NUL"));
    }
}
