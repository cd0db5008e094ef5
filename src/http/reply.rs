//! HTTP responses that carry a GraphQL answer, or an error in the same form.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, VARY};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde::Serialize;

use super::accept::MediaType;
use super::answer::Answer;
use super::code::{self, ErrorCode};
use super::request_id::RequestId;

/// An error for any handler to answer with, in the form of a GraphQL response without data: a message, a code and the
/// id of the current request. With [`ErrorCode::Internal`] the message goes to the log, not to the client.
#[must_use]
pub fn error_response(status: StatusCode, code: ErrorCode, message: impl Into<String>) -> Response {
    refusal(MediaType::Json, status, code, message)
}

/// The same, in the form that the client prefers.
pub(super) fn refusal(
    media: MediaType,
    status: StatusCode,
    code: ErrorCode,
    message: impl Into<String>,
) -> Response {
    let answer = Answer::refused(code.server_error(message, None), &RequestId::current());
    let mut response = written(media, status, &answer);
    hint(&mut response, &answer);
    response
}

/// The response to one operation.
pub(super) fn single(media: MediaType, answer: &mut Answer) -> Response {
    let headers = std::mem::take(&mut answer.headers);
    let mut response = written(media, answer.status(media), answer);
    response.headers_mut().extend(headers);
    hint(&mut response, answer);
    response
}

/// The response to a batch, which was well-formed whatever its operations came to.
pub(super) fn batch(media: MediaType, answers: &mut [Answer]) -> Response {
    let mut response = written(media, StatusCode::OK, &answers);
    for answer in answers {
        response.headers_mut().extend(std::mem::take(&mut answer.headers));
        hint(&mut response, answer);
    }
    response
}

/// Says when to try again where that may help, for clients that know HTTP and not our extensions.
fn hint(response: &mut Response, answer: &Answer) {
    let mut codes = answer.errors.iter().filter_map(ErrorCode::of);
    if codes.any(|code| code == ErrorCode::Unavailable) {
        let seconds = HeaderValue::from(code::RETRY_AFTER.as_secs());
        response.headers_mut().insert(RETRY_AFTER, seconds);
    }
}

fn written(media: MediaType, status: StatusCode, body: &impl Serialize) -> Response {
    let (status, bytes) = match serde_json::to_vec(body) {
        Ok(bytes) => (status, bytes),
        Err(fault) => {
            // Only a value whose own serialisation fails comes here; no type of ours does.
            tracing::error!(error.message = %fault, "a response could not be written as JSON");
            (StatusCode::INTERNAL_SERVER_ERROR, Vec::new())
        }
    };
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, media.content_type());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(VARY, HeaderValue::from_static("accept"));
    response
}
