//! Tokens that are declared in a file, for those who deploy by files: `--tokens-file`.
//!
//! ```toml
//! [[token]]
//! id = "0199…"
//! name = "ci"
//! hash = "…"                  # of the secret: SHA-256 in hexadecimal
//! scopes = ["READ", "RUN"]
//! expires_at = "2027-01-01T00:00:00Z"
//! kinds = ["SCRIPT"]          # these three narrow RUN, and may be left out
//! names = ["deploy/*"]
//! queues = ["default"]
//! ```
//!
//! `runql token create --entry` prints such an entry, and the token once.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Deserialize;

use crate::domain::{RunLimits, Scope, Scopes, SecretHash, Timestamp, Token, TokenId, TokenSecrets};

/// A larger file is no list of tokens.
const LARGEST: u64 = 16 << 20;

/// Why a file of tokens cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// It cannot be read.
    #[error("the tokens file {path} cannot be read")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: std::io::Error,
    },
    /// It holds what is no token.
    #[error("the tokens file {path}: {problem}")]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        problem: String,
    },
}

/// The tokens of a file, as they were when it was read.
#[derive(Debug, Clone)]
pub struct TokenFile {
    path: PathBuf,
    changed: Option<SystemTime>,
    /// Its tokens.
    pub(super) tokens: Vec<TokenSecrets>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    token: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: uuid::Uuid,
    name: String,
    hash: String,
    scopes: Vec<String>,
    expires_at: Option<toml::value::Datetime>,
    #[serde(default)]
    kinds: Vec<String>,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    queues: Vec<String>,
}

impl TokenFile {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// [`TokenFileError`].
    pub fn read(path: &Path) -> Result<Self, TokenFileError> {
        let unreadable = |error| TokenFileError::Unreadable {
            path: path.to_owned(),
            error,
        };
        let wrong = |problem| TokenFileError::Wrong {
            path: path.to_owned(),
            problem,
        };
        let about = std::fs::metadata(path).map_err(unreadable)?;
        if about.len() > LARGEST {
            return Err(wrong(format!("is above {LARGEST} bytes")));
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        let document: Document =
            toml::from_str(&text).map_err(|error| wrong(error.to_string().trim_end().to_owned()))?;
        let changed = about.modified().ok();
        let at = crate::clock::timestamp(changed.unwrap_or(SystemTime::UNIX_EPOCH));
        let mut names = BTreeSet::new();
        let mut ids = BTreeSet::new();
        let mut tokens = Vec::new();
        for entry in document.token {
            if !names.insert(entry.name.clone()) || !ids.insert(entry.id) {
                return Err(wrong(format!(
                    "the token `{}` is there twice, by its name or its id",
                    entry.name
                )));
            }
            let name = entry.name.clone();
            let token =
                token(entry, path, at).map_err(|problem| wrong(format!("the token `{name}`: {problem}")))?;
            tokens.push(token);
        }
        Ok(Self {
            path: path.to_owned(),
            changed,
            tokens,
        })
    }

    /// Reads the file again where it has changed, and tells whether it did. One that is wrong leaves the tokens as they
    /// were, since an editor may be at work, and is told of once.
    ///
    /// # Errors
    ///
    /// [`TokenFileError`].
    pub(super) fn read_again(&mut self) -> Result<bool, TokenFileError> {
        let now = std::fs::metadata(&self.path)
            .and_then(|about| about.modified())
            .ok();
        if now == self.changed {
            return Ok(false);
        }
        self.changed = now;
        *self = Self::read(&self.path)?;
        Ok(true)
    }
}

fn token(entry: Entry, path: &Path, at: Timestamp) -> Result<TokenSecrets, String> {
    if entry.name.is_empty() {
        return Err("has no name".to_owned());
    }
    let scopes: Scopes = entry
        .scopes
        .iter()
        .map(|word| word.to_ascii_uppercase().parse::<Scope>())
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    let limits = serde_json::json!({
        "kinds": entry.kinds, "names": entry.names, "queues": entry.queues,
    });
    let limits: RunLimits = serde_json::from_value(limits).map_err(|error| error.to_string())?;
    let expires_at = entry
        .expires_at
        .map(|moment| {
            chrono::DateTime::parse_from_rfc3339(&moment.to_string())
                .map(|moment| Timestamp::from_micros(moment.timestamp_micros()))
                .map_err(|_| {
                    "expires_at is a moment with its offset, such as 2027-01-01T00:00:00Z".to_owned()
                })
        })
        .transpose()?;
    Ok(TokenSecrets {
        hash: unhex(&entry.hash).ok_or("hash is a SHA-256 in 64 hexadecimal digits")?,
        previous: None,
        token: Token {
            id: TokenId::from_uuid(entry.id),
            name: entry.name,
            scopes,
            limits,
            created_at: at,
            created_by: path.display().to_string(),
            expires_at,
            revoked_at: None,
            rotated_at: None,
            last_used_at: None,
        },
    })
}

/// The entry of a token, as the file takes it.
#[must_use]
pub fn entry(token: &Token, hash: &SecretHash) -> String {
    let list = |words: Vec<String>| toml::Value::from(words).to_string();
    let words =
        |patterns: &[crate::domain::Pattern]| patterns.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut text = format!(
        "[[token]]\nid = \"{}\"\nname = {}\nhash = \"{}\"\nscopes = {}\n",
        token.id,
        toml::Value::from(token.name.clone()),
        hex(hash),
        list(token.scopes.iter().map(|scope| scope.to_string()).collect()),
    );
    if let Some(end) = token
        .expires_at
        .and_then(|end| chrono::DateTime::from_timestamp_micros(end.micros()))
    {
        text.push_str(&format!(
            "expires_at = {}\n",
            end.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
        ));
    }
    let limits = [
        (
            "kinds",
            token.limits.kinds.iter().map(ToString::to_string).collect(),
        ),
        ("names", words(&token.limits.names)),
        ("queues", words(&token.limits.queues)),
    ];
    for (key, narrowed) in limits {
        if !narrowed.is_empty() {
            text.push_str(&format!("{key} = {}\n", list(narrowed)));
        }
    }
    text
}

fn hex(hash: &SecretHash) -> String {
    hash.0.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<SecretHash> {
    let mut hash = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (place, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(place * 2..place * 2 + 2)?, 16).ok()?;
    }
    Some(SecretHash(hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Result<TokenFile, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.toml");
        std::fs::write(&path, text).unwrap();
        TokenFile::read(&path).map_err(|error| crate::telemetry::chain(&error).to_string())
    }

    #[test]
    fn an_entry_is_read_back() {
        let token = Token {
            id: TokenId::from_uuid(uuid::Uuid::now_v7()),
            name: "ci \"quoted\"".to_owned(),
            scopes: [Scope::Read, Scope::Run].into_iter().collect(),
            limits: serde_json::from_str(r#"{"names":["deploy/*"],"kinds":["SCRIPT"]}"#).unwrap(),
            created_at: Timestamp::from_micros(0),
            created_by: String::new(),
            expires_at: Some(Timestamp::from_millis(1_800_000_000_000)),
            revoked_at: None,
            rotated_at: None,
            last_used_at: None,
        };
        let hash = SecretHash([0xab; 32]);
        let file = written(&entry(&token, &hash)).unwrap();
        let [read] = &file.tokens[..] else {
            panic!("{file:?}")
        };
        assert_eq!(read.hash, hash);
        let read = &read.token;
        assert_eq!(
            (&read.id, &read.name, read.scopes, &read.limits, read.expires_at),
            (
                &token.id,
                &token.name,
                token.scopes,
                &token.limits,
                token.expires_at
            )
        );
    }

    #[test]
    fn a_wrong_file_is_refused_with_what_is_wrong() {
        let hash = "ab".repeat(32);
        let whole = |rest: &str| {
            format!("[[token]]\nid = \"0199aaaa-0000-7000-8000-000000000000\"\nname = \"a\"\n{rest}\n")
        };
        let table = [
            ("[[token]]\n".to_owned(), "missing field"),
            (whole("hash = \"ab\"\nscopes = []"), "64 hexadecimal digits"),
            (
                whole(&format!("hash = \"{hash}\"\nscopes = [\"ALL\"]")),
                "`ALL` is not a known scope",
            ),
            (
                whole(&format!(
                    "hash = \"{hash}\"\nscopes = []\nexpires_at = 2027-01-01"
                )),
                "offset",
            ),
            (
                whole(&format!("hash = \"{hash}\"\nscopes = []\nkinds = [\"x\"]")),
                "`x`",
            ),
            (
                whole(&format!("hash = \"{hash}\"\nscopes = []\nother = 1")),
                "unknown field",
            ),
            (
                whole(&format!("hash = \"{hash}\"\nscopes = []")).repeat(2),
                "twice",
            ),
        ];
        for (text, part) in table {
            let refused = written(&text).unwrap_err();
            assert!(refused.contains(part), "{refused}");
        }
        assert!(written("").unwrap().tokens.is_empty());
    }
}
