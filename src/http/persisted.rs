//! Automatic persisted queries: a client sends the SHA-256 of a document it has sent before, in the place of its text.
//!
//! The texts are kept in memory, the least recently used are forgotten first; number and bytes are bounded. Only a
//! document that parses is kept, so that the room is not filled with noise.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_graphql::{ServerError, Value};
use lru::LruCache;
use sha2::{Digest as _, Sha256};

use super::code::ErrorCode;

pub(super) type Hash = [u8; 32];

/// The documents that clients may name by their hash.
#[derive(Debug)]
pub(super) struct PersistedQueries {
    texts: Mutex<Texts>,
    max_count: usize,
    max_bytes: usize,
}

#[derive(Debug)]
struct Texts {
    by_hash: LruCache<Hash, Arc<str>>,
    bytes: usize,
}

/// The text of an operation, and the hash to keep it under once it has proved to be a document.
pub(super) struct Found {
    pub(super) text: String,
    pub(super) keep: Option<Hash>,
}

impl Found {
    /// A document that is kept elsewhere.
    pub(super) const fn known(text: String) -> Self {
        Self { text, keep: None }
    }
}

impl PersistedQueries {
    pub(super) fn new(max_count: usize, max_bytes: usize) -> Self {
        let texts = Texts {
            by_hash: LruCache::unbounded(),
            bytes: 0,
        };
        Self {
            texts: Mutex::new(texts),
            max_count,
            max_bytes,
        }
    }

    /// The text that a client means, which it may have sent, named by its hash, or both.
    pub(super) fn find(&self, text: Option<String>, extension: Option<&Value>) -> Result<Found, ServerError> {
        let Some(extension) = extension else {
            let missing =
                || bad_request("The request has no `query`; documents are not known here by `documentId`.");
            return Ok(Found {
                text: text.ok_or_else(missing)?,
                keep: None,
            });
        };
        if self.max_count == 0 {
            return Err(not_supported());
        }
        let hash = named_hash(extension)?;
        match text {
            None => match self.texts().by_hash.get(&hash) {
                Some(text) => Ok(Found {
                    text: text.to_string(),
                    keep: None,
                }),
                // Clients look for this very message.
                None => Err(ErrorCode::PersistedQueryNotFound.server_error("PersistedQueryNotFound", None)),
            },
            Some(text) if Hash::from(Sha256::digest(&text)) == hash => Ok(Found {
                text,
                keep: Some(hash),
            }),
            Some(_) => Err(bad_request(
                "The hash of the persisted query is not that of the query.",
            )),
        }
    }

    /// Keeps a document under its hash.
    pub(super) fn keep(&self, hash: Hash, text: &str) {
        if text.len() > self.max_bytes {
            return;
        }
        let mut texts = self.texts();
        if let Some(known) = texts.by_hash.put(hash, text.into()) {
            texts.bytes -= known.len();
        }
        texts.bytes += text.len();
        while texts.by_hash.len() > self.max_count || texts.bytes > self.max_bytes {
            let Some((_, oldest)) = texts.by_hash.pop_lru() else {
                break;
            };
            texts.bytes -= oldest.len();
        }
    }

    /// Every change above leaves the two fields in step, so what a panicking thread left behind can be used.
    fn texts(&self) -> MutexGuard<'_, Texts> {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads `{"version": 1, "sha256Hash": "…"}`.
fn named_hash(extension: &Value) -> Result<Hash, ServerError> {
    let Value::Object(fields) = extension else {
        return Err(bad_request("The extension `persistedQuery` is not an object."));
    };
    if fields.get("version") != Some(&Value::from(1)) {
        return Err(not_supported());
    }
    let hash = match fields.get("sha256Hash") {
        Some(Value::String(text)) => from_hex(text),
        _ => None,
    };
    hash.ok_or_else(|| bad_request("`persistedQuery.sha256Hash` is not a SHA-256 in 64 hexadecimal digits."))
}

pub(super) fn from_hex(text: &str) -> Option<Hash> {
    let digits: &[u8; 64] = text.as_bytes().try_into().ok()?;
    let mut hash = Hash::default();
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = [pair[0], pair[1]].map(|digit| char::from(digit).to_digit(16));
        *byte = u8::try_from(high? << 4 | low?).ok()?;
    }
    Some(hash)
}

fn bad_request(message: &str) -> ServerError {
    ErrorCode::BadRequest.server_error(message, None)
}

/// Clients look for this very message too, and stop sending hashes.
pub(super) fn not_supported() -> ServerError {
    ErrorCode::PersistedQueryNotSupported.server_error("PersistedQueryNotSupported", None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extension(text: &str) -> Value {
        let hash: String = Sha256::digest(text)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        async_graphql::value!({ "version": 1, "sha256Hash": hash })
    }

    fn send(store: &PersistedQueries, text: &str) {
        let found = store
            .find(Some(text.to_owned()), Some(&extension(text)))
            .ok()
            .unwrap();
        store.keep(found.keep.unwrap(), &found.text);
    }

    fn knows(store: &PersistedQueries, text: &str) -> bool {
        store
            .find(None, Some(&extension(text)))
            .is_ok_and(|found| found.text == text)
    }

    #[test]
    fn the_least_recently_used_text_is_forgotten() {
        let store = PersistedQueries::new(2, 1_000);
        send(&store, "{a}");
        send(&store, "{b}");
        assert!(knows(&store, "{a}"));
        send(&store, "{c}");
        assert!(knows(&store, "{a}") && knows(&store, "{c}") && !knows(&store, "{b}"));
    }

    #[test]
    fn the_bytes_of_all_texts_are_bounded() {
        let store = PersistedQueries::new(100, 10);
        send(&store, "{aaaa}");
        send(&store, "{aaaa}");
        assert_eq!(store.texts().bytes, 6);
        send(&store, "{bbbb}");
        assert!(!knows(&store, "{aaaa}") && knows(&store, "{bbbb}"));
        send(&store, "{ccccccccc}");
        assert!(!knows(&store, "{ccccccccc}") && knows(&store, "{bbbb}"));
        assert_eq!(store.texts().bytes, 6);
    }

    #[test]
    fn what_is_no_hash_of_the_text_is_refused() {
        let store = PersistedQueries::new(2, 1_000);
        let code = |text: Option<&str>, extension: Value| {
            let error = store
                .find(text.map(str::to_owned), Some(&extension))
                .err()
                .unwrap();
            ErrorCode::of(&error).unwrap()
        };
        assert_eq!(code(Some("{a}"), extension("{b}")), ErrorCode::BadRequest);
        assert_eq!(code(None, extension("{b}")), ErrorCode::PersistedQueryNotFound);
        assert_eq!(
            code(None, async_graphql::value!({ "version": 2 })),
            ErrorCode::PersistedQueryNotSupported
        );
        assert_eq!(
            code(None, async_graphql::value!({ "version": 1, "sha256Hash": "ü" })),
            ErrorCode::BadRequest
        );
        let off = PersistedQueries::new(0, 0)
            .find(None, Some(&extension("{a}")))
            .err()
            .unwrap();
        assert_eq!(ErrorCode::of(&off), Some(ErrorCode::PersistedQueryNotSupported));
    }
}
