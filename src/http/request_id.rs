//! The id under which a request is found again: in its response, in its errors and in the server's log.
//!
//! It is the client's own `x-request-id` where that is harmless text, else a new UUID of version 7. The outer layer
//! makes it known to whatever runs inside of it; operations on a socket get one each, made here as well.

use std::fmt;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use tracing::{Instrument as _, info_span};
use uuid::Uuid;

/// The header that carries the id, both ways.
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longer ids of clients are replaced: the id is repeated in every log line.
const MAX_LENGTH: usize = 128;

tokio::task_local! {
    static CURRENT: RequestId;
}

/// The id of a request; visible ASCII, 128 characters at most.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// A new id.
    #[must_use]
    pub fn new() -> Self {
        Self(Uuid::now_v7().to_string().into())
    }

    /// The id of the request that is being answered here, or a new one outside of any request.
    #[must_use]
    pub fn current() -> Self {
        CURRENT.try_with(Clone::clone).unwrap_or_default()
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let text = headers.get(X_REQUEST_ID)?.to_str().ok()?;
        let sane = (1..=MAX_LENGTH).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        sane.then(|| Self(text.into()))
    }
}

impl Default for RequestId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Gives each request its id: as an extension, as the current one, in a span and in the response.
pub(super) async fn identify(mut request: Request, next: Next) -> Response {
    let id = RequestId::from_headers(request.headers()).unwrap_or_default();
    request.extensions_mut().insert(id.clone());
    let span = info_span!(
        "http.request",
        request.id = %id,
        http.method = %request.method(),
        url.path = request.uri().path(),
    );
    let mut response = CURRENT
        .scope(id.clone(), next.run(request))
        .instrument(span)
        .await;
    // Visible ASCII is always a header value; without the header the response is still good.
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        response.headers_mut().insert(X_REQUEST_ID, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(value: &str) -> Option<RequestId> {
        let mut headers = HeaderMap::new();
        headers.insert(X_REQUEST_ID, HeaderValue::from_str(value).unwrap());
        RequestId::from_headers(&headers)
    }

    #[test]
    fn only_a_harmless_id_is_taken_from_the_client() {
        assert_eq!(taken("abc-123").unwrap().as_str(), "abc-123");
        assert!(taken(&"x".repeat(128)).is_some());
        for refused in ["", "two words", "tab\there", &"x".repeat(129)] {
            assert!(taken(refused).is_none(), "{refused:?}");
        }
    }
}
