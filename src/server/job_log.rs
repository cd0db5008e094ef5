//! A job's log over HTTP, byte for byte as it was printed, with range requests.
//!
//! A range of a log that still grows is a range of what was there when the request came: `Content-Range` says how
//! much that was, and the next request goes on from there.

use std::ops::RangeInclusive;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream;
use http_range_header::{EndPosition, StartPosition};
use serde::Deserialize;

use crate::domain::{Job, JobId, LogStream};
use crate::executor::Executor;
use crate::http::{ErrorCode, error_response};
use crate::store::StoreError;
use crate::telemetry::chain;

pub(super) fn routes(executor: Executor) -> Router {
    Router::new()
        .route("/jobs/{id}/log", get(log))
        .with_state(executor)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    stream: Option<String>,
    attempt: Option<u32>,
}

/// By name, since the router in front of this one has a parameter of its own.
#[derive(Debug, Deserialize)]
struct Place {
    id: String,
}

async fn log(
    State(executor): State<Executor>,
    Path(Place { id }): Path<Place>,
    wanted: Result<Query<Wanted>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let bad_input =
        |message: String| error_response(StatusCode::BAD_REQUEST, ErrorCode::BadUserInput, message);
    let Query(wanted) = match wanted {
        Ok(wanted) => wanted,
        Err(_) => return bad_input("takes ?stream=stdout, stderr or system, and ?attempt=N".to_owned()),
    };
    let stream = match wanted
        .stream
        .as_deref()
        .map(|word| word.to_ascii_uppercase().parse::<LogStream>())
    {
        None => None,
        Some(Ok(stream)) => Some(stream),
        Some(Err(_)) => return bad_input("there are the streams stdout, stderr and system".to_owned()),
    };
    let found = match id.parse::<JobId>() {
        Ok(id) => executor.reader().job(id).await,
        Err(_) => Ok(None),
    };
    match found {
        Ok(Some(job)) => {
            let attempt = wanted.attempt.unwrap_or(job.attempt);
            piece(executor, job, attempt, stream, &headers)
                .await
                .unwrap_or_else(|error| failed(&error))
        }
        Ok(None) => error_response(
            StatusCode::NOT_FOUND,
            ErrorCode::NotFound,
            format!("there is no job {id}"),
        ),
        Err(error) => failed(&error),
    }
}

fn failed(error: &StoreError) -> Response {
    tracing::error!(error = %chain(error), "a log could not be read");
    if error.is_unavailable() {
        let message = "the store does not answer: try again later";
        return error_response(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable, message);
    }
    error_response(
        StatusCode::INTERNAL_SERVER_ERROR,
        ErrorCode::Internal,
        "the log could not be read",
    )
}

async fn piece(
    executor: Executor,
    job: Job,
    attempt: u32,
    stream: Option<LogStream>,
    headers: &HeaderMap,
) -> Result<Response, StoreError> {
    let size = executor.reader().log_size(job.id, attempt).await?.of(stream);
    let size = u64::try_from(size).unwrap_or(0);
    // A log only grows, so its size tells its versions apart.
    let tag = format!("\"{attempt}-{size}\"");
    let mut response = match range(headers, &tag, size) {
        Range::Whole => body(executor, job.id, attempt, stream, 0, size),
        Range::Part(range) => {
            let (first, last) = range.into_inner();
            let mut response = body(executor, job.id, attempt, stream, first, last + 1);
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            set(
                &mut response,
                header::CONTENT_RANGE,
                &format!("bytes {first}-{last}/{size}"),
            );
            response
        }
        Range::Beyond => {
            let message = format!("the log has {size} bytes");
            let mut response = error_response(
                StatusCode::RANGE_NOT_SATISFIABLE,
                ErrorCode::BadUserInput,
                message,
            );
            set(&mut response, header::CONTENT_RANGE, &format!("bytes */{size}"));
            return Ok(response);
        }
    };
    set(&mut response, header::ETAG, &tag);
    set(&mut response, header::ACCEPT_RANGES, "bytes");
    set(&mut response, header::CONTENT_TYPE, "text/plain; charset=utf-8");
    set(&mut response, header::CACHE_CONTROL, "private, no-cache");
    // What a job printed must never be run by a browser.
    set(&mut response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(
        &mut response,
        header::CONTENT_SECURITY_POLICY,
        "sandbox; default-src 'none'; frame-ancestors 'none'",
    );
    Ok(response)
}

fn set(response: &mut Response, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

enum Range {
    Whole,
    Part(RangeInclusive<u64>),
    Beyond,
}

fn range(headers: &HeaderMap, tag: &str, size: u64) -> Range {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(wanted) = text(header::RANGE) else {
        return Range::Whole;
    };
    if text(header::IF_RANGE).is_some_and(|known| known != tag) {
        return Range::Whole;
    }
    // A header that cannot be read, or that asks for several ranges, is passed over: the whole is always right.
    let Ok(parsed) = http_range_header::parse_range_header(wanted) else {
        return Range::Whole;
    };
    let [wanted] = parsed.ranges.as_slice() else {
        return Range::Whole;
    };
    let first = match wanted.start {
        StartPosition::Index(first) => first,
        StartPosition::FromLast(0) => return Range::Beyond,
        // More than there is from the end is all there is.
        StartPosition::FromLast(length) => size.saturating_sub(length),
    };
    if first >= size {
        return Range::Beyond;
    }
    let last = match wanted.end {
        EndPosition::Index(last) if last < first => return Range::Whole,
        EndPosition::Index(last) => last.min(size - 1),
        EndPosition::LastByte => size - 1,
    };
    Range::Part(first..=last)
}

/// The bytes from `from` up to `to`, read piece by piece as the client takes them.
fn body(
    executor: Executor,
    id: JobId,
    attempt: u32,
    stream: Option<LogStream>,
    from: u64,
    to: u64,
) -> Response {
    let (start, end) = (
        i64::try_from(from).unwrap_or(i64::MAX),
        i64::try_from(to).unwrap_or(i64::MAX),
    );
    let pieces = stream::try_unfold(start, move |place| {
        let executor = executor.clone();
        async move {
            if place >= end {
                return Ok(None);
            }
            let piece = executor
                .reader()
                .log_bytes(id, attempt, stream, place, end)
                .await?;
            if piece.is_empty() {
                // Deleted meanwhile: the client notices that it got less than it was promised.
                return Err(StoreError::Unreadable(
                    "the log was deleted while it was read".to_owned(),
                ));
            }
            let next = place + i64::try_from(piece.len()).unwrap_or(i64::MAX);
            Ok(Some((piece, next)))
        }
    });
    let mut response = Body::from_stream(pieces).into_response();
    set(&mut response, header::CONTENT_LENGTH, &(to - from).to_string());
    response
}
