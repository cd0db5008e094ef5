//! A GraphQL response in the form in which it leaves: every error has a code of the list and the request's id, and
//! what is our own fault is told to the log, not to the client.

use std::any::Any;
use std::collections::BTreeMap;

use async_graphql::{ErrorExtensionValues, Response, ServerError, Value};
use axum::http::{HeaderMap, StatusCode};
use serde::Serialize;
use tracing::error;

use super::accept::MediaType;
use super::code::ErrorCode;
use super::meter::Cost;
use super::rate::Standing;
use super::request_id::RequestId;

/// What a client reads in the place of an internal error.
const MASK: &str = "An internal error occurred; the server's log has the details under this request id.";

/// How async-graphql words an argument that cannot be read as its type, where that shows only as a resolver is called.
/// Its errors have no kind to tell them from others by.
const COERCION: [&str; 3] = [
    "Failed to parse \"",
    "Expected input type \"",
    "Invalid value for ",
];

/// How async-graphql words the limits that it checks by itself.
const LIMITS: [&str; 4] = [
    "Query is too complex.",
    "Query is nested too deep.",
    "The recursion depth of the query cannot be greater than",
    "The number of directives on the field",
];

/// A response, ready to be written.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    /// Absent where nothing was executed: then the errors are about the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) data: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) errors: Vec<ServerError>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    extensions: BTreeMap<String, Value>,
    /// Headers that resolvers add to a response over HTTP.
    #[serde(skip)]
    pub(super) headers: HeaderMap,
    /// How whoever pays stands, where that is limited; for the headers of a response over HTTP.
    #[serde(skip)]
    pub(super) standing: Option<Standing>,
}

impl Answer {
    /// The answer to a request that is not executed.
    pub(super) fn refused(error: ServerError, id: &RequestId) -> Self {
        Self::new(Response::from_errors(vec![error]), id)
    }

    /// What the schema answered.
    pub(super) fn new(response: Response, id: &RequestId) -> Self {
        // Whatever fails while fields are resolved has a path; what has none failed before.
        let executed = response.errors.is_empty()
            || response.data != Value::Null
            || response.errors.iter().any(|error| !error.path.is_empty());
        let mut errors = response.errors;
        for error in &mut errors {
            seal(error, id);
        }
        Self {
            data: executed.then_some(response.data),
            errors,
            extensions: response.extensions,
            headers: response.http_headers,
            standing: None,
        }
    }

    /// The answer in the place of one whose making panicked.
    pub(super) fn panicked(panic: &(dyn Any + Send), id: &RequestId) -> Self {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        let message = format!("a resolver panicked: {}", text.unwrap_or("no message"));
        Self::refused(ErrorCode::Internal.server_error(message, None), id)
    }

    /// Tells what the operation costs, to a client that asked.
    pub(super) fn tell_cost(&mut self, cost: Cost) {
        self.extensions.insert("cost".to_owned(), cost.value());
    }

    /// Whether it holds data and nothing else: what was made for one operation alone is in the other parts.
    pub(super) fn is_plain(&self) -> bool {
        self.data.is_some() && self.errors.is_empty() && self.extensions.is_empty()
    }

    /// Whether the operation was refused since its payer has not enough left.
    pub(super) fn is_rate_limited(&self) -> bool {
        let mut errors = self.errors.iter();
        self.data.is_none() && errors.any(|error| ErrorCode::of(error) == Some(ErrorCode::RateLimited))
    }

    /// Whether it holds errors and nothing else.
    pub(super) fn is_failure(&self) -> bool {
        !self.errors.is_empty() && self.data.as_ref().is_none_or(|data| *data == Value::Null)
    }

    /// The status of a response that is this answer alone.
    pub(super) fn status(&self, media: MediaType) -> StatusCode {
        // The one refusal whose status counts in every media type: proxies and clients go by it.
        if self.is_rate_limited() {
            return ErrorCode::RateLimited.status();
        }
        match (media, &self.data, self.errors.first()) {
            (MediaType::GraphqlResponse, None, Some(error)) => {
                ErrorCode::of(error).unwrap_or(ErrorCode::Internal).status()
            }
            _ => StatusCode::OK,
        }
    }
}

/// Gives an error its code and the request's id, and hides what is ours.
fn seal(error: &mut ServerError, id: &RequestId) {
    let code = code_of(error);
    if code == ErrorCode::Internal {
        error!(
            request.id = %id,
            error.message = %error.message,
            graphql.path = %Path(error),
            "internal error",
        );
        MASK.clone_into(&mut error.message);
        error.extensions = None;
        error.source = None;
    }
    let extensions = error.extensions.get_or_insert_with(ErrorExtensionValues::default);
    extensions.set("code", code.as_str());
    extensions.set("requestId", id.as_str());
}

fn code_of(error: &ServerError) -> ErrorCode {
    if let Some(code) = ErrorCode::of(error) {
        return code;
    }
    let starts_with = |words: &[&str]| words.iter().any(|start| error.message.starts_with(start));
    // A source means that a resolver, or an extension of the schema, passed on an error of another kind.
    if error.source.is_some()
        || error
            .extensions
            .as_ref()
            .is_some_and(|it| it.get("code").is_some())
    {
        ErrorCode::Internal
    } else if starts_with(&LIMITS) {
        ErrorCode::LimitExceeded
    } else if error.path.is_empty() {
        ErrorCode::GraphqlValidationFailed
    } else if starts_with(&COERCION) {
        ErrorCode::BadUserInput
    } else {
        ErrorCode::Internal
    }
}

/// The path of an error as text for the log.
struct Path<'a>(&'a ServerError);

impl std::fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, segment) in self.0.path.iter().enumerate() {
            let dot = if index == 0 { "" } else { "." };
            match segment {
                async_graphql::PathSegment::Field(name) => write!(f, "{dot}{name}")?,
                async_graphql::PathSegment::Index(index) => write!(f, "{dot}{index}")?,
            }
        }
        Ok(())
    }
}
