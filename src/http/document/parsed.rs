//! Documents that were parsed before: applications send the same few again and again, and to parse one costs as much as
//! to read a job. Each has a number, by which the results of its validations are kept, which cost half as much.
//!
//! Only what parses and is within its bounds is kept. Their texts are bounded in number and bytes, the least recently
//! used is forgotten first; a parsed document takes some ten times its text.

use std::sync::{Arc, Mutex, PoisonError};

use async_graphql::parser::types::ExecutableDocument;
use lru::LruCache;

use super::validated::Results;

/// The longest text that is kept, in bytes.
const LONGEST: usize = 16 << 10;

/// Bytes of all texts that are kept.
const MAX_BYTES: usize = 512 << 10;

/// The documents of one endpoint.
#[derive(Debug, Default)]
pub(in crate::http) struct Documents {
    kept: Mutex<Kept>,
    pub(super) results: Arc<Results>,
}

#[derive(Debug)]
struct Kept {
    by_text: LruCache<Box<str>, Arc<Known>>,
    bytes: usize,
    /// How many were kept before the next.
    number: u64,
}

/// A document that was parsed.
#[derive(Debug)]
struct Known {
    document: ExecutableDocument,
    number: u64,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            by_text: LruCache::unbounded(),
            bytes: 0,
            number: 0,
        }
    }
}

impl Documents {
    /// The document of a text, with its number where it is kept; where it is not known, `parse` makes it.
    pub(super) fn get<E>(
        &self,
        text: &str,
        parse: impl FnOnce() -> Result<ExecutableDocument, E>,
    ) -> Result<(ExecutableDocument, Option<u64>), E> {
        let known = self.with(|kept| kept.by_text.get(text).map(Arc::clone));
        if let Some(known) = known {
            return Ok((known.document.clone(), Some(known.number)));
        }
        let document = parse()?;
        if text.len() > LONGEST {
            return Ok((document, None));
        }
        let number = self.with(|kept| {
            kept.number += 1;
            let known = Known {
                document: document.clone(),
                number: kept.number,
            };
            kept.bytes += text.len();
            if kept.by_text.put(text.into(), Arc::new(known)).is_some() {
                kept.bytes -= text.len();
            }
            while kept.bytes > MAX_BYTES
                && let Some((oldest, _)) = kept.by_text.pop_lru()
            {
                kept.bytes -= oldest.len();
            }
            kept.number
        });
        Ok((document, Some(number)))
    }

    /// Every change above leaves the two fields in step, so what a panicking thread left behind can be used.
    fn with<T>(&self, run: impl FnOnce(&mut Kept) -> T) -> T {
        run(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::{Error, parse_query};

    use super::*;

    fn get(documents: &Documents, text: &str) -> Result<ExecutableDocument, Error> {
        documents
            .get(text, || parse_query(text))
            .map(|(document, _)| document)
    }

    fn knows(documents: &Documents, text: &str) -> bool {
        documents.get(text, || Err(())).is_ok()
    }

    #[test]
    fn a_text_is_parsed_once() {
        let documents = Documents::default();
        let first = get(&documents, "query A($x: Int) { a(x: $x) { b } }").unwrap();
        assert!(knows(&documents, "query A($x: Int) { a(x: $x) { b } }"));
        let again = get(&documents, "query A($x: Int) { a(x: $x) { b } }").unwrap();
        assert_eq!(format!("{first:?}"), format!("{again:?}"));
        assert!(get(&documents, "query {").is_err());
        assert!(!knows(&documents, "query {"));
    }

    #[test]
    fn the_bytes_of_all_texts_are_bounded() {
        let documents = Documents::default();
        let text = |number: usize, bytes: usize| format!("{{ a{number} #{}\n}}", "x".repeat(bytes - 20));
        for number in 0..200 {
            let text = text(number, LONGEST - 20);
            get(&documents, &text).unwrap();
            get(&documents, &text).unwrap();
            let bytes = documents.with(|kept| {
                let all: usize = kept.by_text.iter().map(|(text, _)| text.len()).sum();
                assert_eq!(all, kept.bytes);
                kept.bytes
            });
            assert!(bytes <= MAX_BYTES && bytes > 0);
        }
        assert!(knows(&documents, &text(199, LONGEST - 20)));
        assert!(!knows(&documents, &text(0, LONGEST - 20)));
        let long = text(0, LONGEST + 40);
        get(&documents, &long).unwrap();
        assert!(!knows(&documents, &long));
    }
}
