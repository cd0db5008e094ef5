//! One file in memory, named and cached by its content.
//!
//! Responsible for the hash, the content type, and the conditional answer. Not responsible for routes and policies.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest as _, Sha256};

/// How long a browser may use an answer without asking again.
#[derive(Clone, Copy)]
pub(super) enum Caching {
    /// For good: the address changes with the content.
    Immutable,
    /// Never without asking, which costs a 304.
    Revalidate,
}

impl Caching {
    const fn header(self) -> HeaderValue {
        match self {
            Self::Immutable => HeaderValue::from_static("public, max-age=31536000, immutable"),
            Self::Revalidate => HeaderValue::from_static("no-cache"),
        }
    }
}

/// A file with its bytes.
#[derive(Clone)]
pub(super) struct Asset {
    name: &'static str,
    hash: String,
    bytes: Bytes,
}

impl Asset {
    pub(super) fn new(name: &'static str, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let digest = Sha256::digest(&bytes);
        // 16 of 64 digits: they tell builds apart, they prove nothing.
        let hash = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Self { name, hash, bytes }
    }

    pub(super) const fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn hash(&self) -> &str {
        &self.hash
    }

    /// Where it is served.
    pub(super) fn path(&self) -> String {
        format!("/graphiql/{}/{}", self.hash, self.name)
    }

    /// The bytes, or 304 to a client that has them.
    pub(super) fn respond(&self, request: &HeaderMap, caching: Caching) -> Response {
        let tag = format!("\"{}\"", self.hash);
        let known = request
            .get_all(header::IF_NONE_MATCH)
            .iter()
            .any(|value| has_tag(value, &tag));
        let headers = [
            (
                header::CONTENT_TYPE,
                HeaderValue::from_static(self.content_type()),
            ),
            (header::CACHE_CONTROL, caching.header()),
        ];
        let (status, body) = if known {
            (StatusCode::NOT_MODIFIED, Body::empty())
        } else {
            (StatusCode::OK, Body::from(self.bytes.clone()))
        };
        (status, [(header::ETAG, tag)], headers, body).into_response()
    }

    fn content_type(&self) -> &'static str {
        match self.name.rsplit_once('.').map(|(_, extension)| extension) {
            Some("html") => "text/html; charset=utf-8",
            Some("js") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("svg") => "image/svg+xml",
            _ => "text/plain; charset=utf-8",
        }
    }
}

/// Whether an `If-None-Match` value names the tag. A tag may come back weak (`W/`) from a proxy that compressed the body.
fn has_tag(value: &HeaderValue, tag: &str) -> bool {
    let Ok(value) = value.to_str() else { return false };
    value
        .split(',')
        .map(str::trim)
        .any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag)
}
