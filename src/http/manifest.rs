//! A list of the only operations that are executed, as the builds of clients write it.
//!
//! Two forms are read: a plain object of ids and texts, where the id is the text's SHA-256 or whatever the client's
//! compiler made (`{"9f86…": "query …"}`), and Apollo's manifest of persisted queries (`{"format":
//! "apollo-persisted-query-manifest", "version": 1, "operations": [{"id", "name", "type", "body"}]}`).
//!
//! A client names an operation by `extensions.persistedQuery.sha256Hash` as Apollo's and Relay's do, or by `documentId`
//! as the specification's appendix on persisted documents has it, there also as `sha256:…`. One that sends a text is
//! served where the list has the very same.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_graphql::parser::parse_query;
use async_graphql::{ServerError, Value};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::code::ErrorCode;
use super::params::Params;
use super::persisted::{Hash, from_hex};

const APOLLO: &str = "apollo-persisted-query-manifest";

/// The operations of a list.
#[derive(Debug, Default)]
pub struct Manifest {
    by_id: HashMap<String, Hash>,
    texts: HashMap<Hash, Arc<str>>,
}

/// Why a list is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file cannot be read.
    #[error("the persisted operations in {} cannot be read", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is of neither form.
    #[error(
        "{} is neither an object of ids and texts nor a manifest of the format {APOLLO}, version 1",
        path.display()
    )]
    Form {
        /// Which file.
        path: PathBuf,
        /// What was met instead.
        #[source]
        source: serde_json::Error,
    },
    /// An id stands for two texts.
    #[error("the id `{0}` is there for two different operations")]
    Twice(String),
    /// An id looks like the hash of its text, and is another one: the text was changed since.
    #[error("the id `{0}` is not the SHA-256 of its operation, which was changed since it was listed")]
    Changed(String),
    /// A text is no GraphQL.
    #[error("the operation `{id}` is not GraphQL: {message}")]
    Text {
        /// Its id.
        id: String,
        /// What is wrong with it.
        message: String,
    },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Apollo {
        format: String,
        version: u64,
        operations: Vec<ApolloOperation>,
    },
    Plain(HashMap<String, String>),
}

#[derive(Deserialize)]
struct ApolloOperation {
    id: String,
    body: String,
}

impl Manifest {
    /// Reads the list in a file.
    ///
    /// # Errors
    ///
    /// [`ManifestError`].
    pub fn read(path: &Path) -> Result<Self, ManifestError> {
        let bytes = std::fs::read(path).map_err(|source| ManifestError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&bytes, path)
    }

    fn parse(bytes: &[u8], path: &Path) -> Result<Self, ManifestError> {
        let form = |source| ManifestError::Form {
            path: path.to_owned(),
            source,
        };
        let mut manifest = Self::default();
        match serde_json::from_slice(bytes).map_err(form)? {
            Written::Apollo {
                format,
                version: 1,
                operations,
            } if format == APOLLO => {
                for ApolloOperation { id, body } in operations {
                    manifest.add(id, &body)?;
                }
            }
            Written::Apollo { format, version, .. } => {
                let met = format!("it is of the format `{format}`, version {version}");
                return Err(form(serde::de::Error::custom(met)));
            }
            Written::Plain(texts) => {
                for (id, text) in texts {
                    if from_hex(&id).is_some_and(|hash| hash != hash_of(&text)) {
                        return Err(ManifestError::Changed(id));
                    }
                    manifest.add(id, &text)?;
                }
            }
        }
        Ok(manifest)
    }

    /// The same list with texts that need no id.
    #[must_use]
    pub fn with_texts<'a>(mut self, texts: impl IntoIterator<Item = &'a str>) -> Self {
        for text in texts {
            self.texts.insert(hash_of(text), text.into());
        }
        self
    }

    /// How many operations it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether it has none, so that nothing can be asked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    fn add(&mut self, id: String, text: &str) -> Result<(), ManifestError> {
        if let Err(error) = parse_query(text) {
            let message = error.to_string();
            return Err(ManifestError::Text { id, message });
        }
        let hash = hash_of(text);
        if self
            .by_id
            .insert(id.clone(), hash)
            .is_some_and(|other| other != hash)
        {
            return Err(ManifestError::Twice(id));
        }
        self.texts.insert(hash, text.into());
        Ok(())
    }

    /// The text of the operation that a request means.
    pub(super) fn find(&self, params: &Params) -> Result<String, ServerError> {
        if let Some(text) = &params.query {
            return match self.texts.get(&hash_of(text)) {
                Some(text) => Ok(text.to_string()),
                None => {
                    let message = "This server executes only the operations of its list, and this is none of them. Name \
                                   one by `documentId` or by its hash, or have this one added to the list.";
                    Err(ErrorCode::Forbidden.server_error(message, None))
                }
            };
        }
        let id = match (&params.document_id, params.persisted_query()) {
            (Some(id), _) => id,
            (None, Some(Value::Object(fields))) => match fields.get("sha256Hash") {
                Some(Value::String(id)) => id,
                _ => return Err(bad_request("`persistedQuery.sha256Hash` is not a string.")),
            },
            (None, Some(_)) => return Err(bad_request("The extension `persistedQuery` is not an object.")),
            (None, None) => {
                return Err(bad_request(
                    "The request names no operation: send `documentId`, or its hash in `extensions.persistedQuery`.",
                ));
            }
        };
        let hash = self
            .by_id
            .get(id)
            .copied()
            .or_else(|| from_hex(id.strip_prefix("sha256:").unwrap_or(id)));
        match hash.and_then(|hash| self.texts.get(&hash)) {
            Some(text) => Ok(text.to_string()),
            // Clients look for this very message.
            None => Err(ErrorCode::PersistedQueryNotFound.server_error("PersistedQueryNotFound", None)),
        }
    }
}

fn hash_of(text: &str) -> Hash {
    Sha256::digest(text).into()
}

fn bad_request(message: &str) -> ServerError {
    ErrorCode::BadRequest.server_error(message, None)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PATH: &str = "operations.json";

    fn hex(text: &str) -> String {
        hash_of(text).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn read(file: &serde_json::Value) -> Result<Manifest, String> {
        Manifest::parse(file.to_string().as_bytes(), Path::new(PATH)).map_err(|error| error.to_string())
    }

    fn find(manifest: &Manifest, request: &serde_json::Value) -> Result<String, ErrorCode> {
        let params = serde_json::from_value(request.clone()).unwrap();
        manifest
            .find(&params)
            .map_err(|error| ErrorCode::of(&error).unwrap())
    }

    #[test]
    fn both_forms_are_read_and_found_by_whatever_names_them() {
        let operation = json!({ "id": "custom", "name": "A", "type": "query", "body": "query A {a}" });
        let apollo = json!({ "format": APOLLO, "version": 1, "operations": [operation] });
        let apollo = read(&apollo).unwrap();
        let plain = read(&json!({ hex("query A {a}"): "query A {a}", "custom": "query A {a}" })).unwrap();
        let hash = hex("query A {a}");
        for manifest in [&apollo, &plain] {
            for request in [
                json!({ "documentId": "custom" }),
                json!({ "documentId": format!("sha256:{hash}") }),
                json!({ "documentId": hash }),
                json!({ "extensions": { "persistedQuery": { "version": 1, "sha256Hash": hash } } }),
                json!({ "extensions": { "persistedQuery": { "version": 1, "sha256Hash": "custom" } } }),
                json!({ "query": "query A {a}" }),
            ] {
                assert_eq!(
                    find(manifest, &request),
                    Ok("query A {a}".to_owned()),
                    "{request}"
                );
            }
            for (request, code) in [
                (json!({ "query": "query A {a }" }), ErrorCode::Forbidden),
                (
                    // A text counts before what names it: else a known id would let any text in.
                    json!({ "query": "{b}", "documentId": "custom" }),
                    ErrorCode::Forbidden,
                ),
                (
                    json!({ "documentId": "other" }),
                    ErrorCode::PersistedQueryNotFound,
                ),
                (
                    json!({ "documentId": hex("{b}") }),
                    ErrorCode::PersistedQueryNotFound,
                ),
                (json!({}), ErrorCode::BadRequest),
                (
                    json!({ "extensions": { "persistedQuery": 1 } }),
                    ErrorCode::BadRequest,
                ),
            ] {
                assert_eq!(find(manifest, &request), Err(code), "{request}");
            }
        }
        let more = plain.with_texts(["{b}"]);
        assert_eq!(find(&more, &json!({ "query": "{b}" })), Ok("{b}".to_owned()));
    }

    #[test]
    fn what_is_no_list_is_refused_in_words() {
        for (file, expected) in [
            (json!([]), "operations.json is neither"),
            (json!({ "a": 1 }), "operations.json is neither"),
            (
                json!({ "format": "other", "version": 1, "operations": [] }),
                "operations.json is neither",
            ),
            (json!({ "a": "{" }), "the operation `a` is not GraphQL: "),
            (
                json!({ hex("{a}"): "{b}" }),
                "is not the SHA-256 of its operation",
            ),
            (
                json!({ "format": APOLLO, "version": 1, "operations": [
                    { "id": "a", "body": "{a}" }, { "id": "a", "body": "{b}" },
                ] }),
                "`a` is there for two different operations",
            ),
        ] {
            let refused = read(&file).unwrap_err();
            assert!(refused.contains(expected), "{file}: {refused}");
        }
        let missing = Manifest::read(Path::new("/nowhere/operations.json")).unwrap_err();
        assert!(missing.to_string().contains("cannot be read"));
    }
}
