//! GraphQL over HTTP: one request in, one response out, after the GraphQL-over-HTTP specification.
//!
//! Refused before GraphQL is reached: methods but GET and POST, bodies that are not JSON in UTF-8 (so also whatever a
//! plain HTML form can send), bodies and batches above the limit. A GET executes queries and subscriptions only.
//! Sockets and event streams begin here too, and go on in `ws` and `sse`.

use std::sync::Arc;

use async_graphql::Executor;
use async_graphql::parser::types::OperationType;
use axum::body::{Body, to_bytes};
use axum::extract::{FromRequestParts as _, Query, Request, State};
use axum::http::header::{ALLOW, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::Response;
use futures_util::future::join_all;
use tokio::time::timeout;

use super::accept::{Accept, MediaType};
use super::answer::Answer;
use super::code::ErrorCode;
use super::config::{LastEventId, OperationData};
use super::meter::Meter;
use super::operation::Caller;
use super::params::{self, Params, ParamsError};
use super::request_id::RequestId;
use super::transport::Transport;
use super::{reply, sse, ws};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Answers a request to the endpoint.
pub(super) async fn serve<E: Executor>(
    State(transport): State<Arc<Transport<E>>>,
    request: Request,
) -> Response {
    let (mut parts, body) = request.into_parts();
    if ws::is_upgrade(&parts) {
        return ws::upgrade(transport, parts).await;
    }
    let accept = Accept::from_headers(&parts.headers);
    match transport.serve(&mut parts, body, accept).await {
        Ok(response) => response,
        Err(refused) => {
            // What cannot be read costs as much as the smallest operation, though it is refused in any case.
            let _ = Meter::new(transport.rates.as_ref(), caller(&parts).data.payer()).open();
            refused.into_response(accept.single_or_json())
        }
    }
}

/// A request that is refused for its form.
struct Refused {
    status: StatusCode,
    code: ErrorCode,
    message: String,
    allow: Option<&'static str>,
}

impl Refused {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            code: ErrorCode::BadRequest,
            message: message.into(),
            allow: None,
        }
    }

    fn into_response(self, media: MediaType) -> Response {
        let mut response = reply::refusal(media, self.status, self.code, self.message);
        if self.status == StatusCode::PAYLOAD_TOO_LARGE {
            // The rest of the body is not read. Without this word a client takes the connection for one that it can use
            // again, and loses its next request to the end of it.
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(methods) = self.allow {
            response
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static(methods));
        }
        response
    }
}

impl From<ParamsError> for Refused {
    fn from(error: ParamsError) -> Self {
        let mut refused = Self::new(StatusCode::BAD_REQUEST, error.to_string());
        if matches!(error, ParamsError::LongBatch(..)) {
            refused.code = ErrorCode::LimitExceeded;
        }
        refused
    }
}

impl<E: Executor> Transport<E> {
    async fn serve(
        self: &Arc<Self>,
        parts: &mut Parts,
        body: Body,
        accept: Accept,
    ) -> Result<Response, Refused> {
        let method = parts.method.clone();
        if method != Method::GET && method != Method::POST {
            let message = format!("{method} is no method of this endpoint; it takes GET and POST.");
            let refused = Refused::new(StatusCode::METHOD_NOT_ALLOWED, message);
            return Err(Refused {
                allow: Some("GET, POST"),
                ..refused
            });
        }
        if accept.single.is_none() && !accept.event_stream {
            let message = "This endpoint answers in application/graphql-response+json, application/json or, \
                           as a stream, text/event-stream; the request accepts none of them.";
            return Err(Refused::new(StatusCode::NOT_ACCEPTABLE, message));
        }
        let caller = caller(parts);
        let params = if method == Method::GET {
            let pairs = Query::<Vec<(String, String)>>::from_request_parts(parts, &()).await;
            let pairs =
                pairs.map_err(|rejection| Refused::new(StatusCode::BAD_REQUEST, rejection.body_text()))?;
            Params::from_pairs(pairs.0)?
        } else {
            check_content_type(&parts.headers)?;
            let bytes = self.read(&parts.headers, body).await?;
            match params::Body::from_json(&bytes, self.config.max_batch)? {
                params::Body::Single(params) => params,
                params::Body::Batch(batch) => return self.batch(batch, &caller, accept).await,
            }
        };
        self.single(params, &caller, accept, &method).await
    }

    async fn single(
        self: &Arc<Self>,
        params: Params,
        caller: &Caller,
        accept: Accept,
        method: &Method,
    ) -> Result<Response, Refused> {
        if !params.names_document() {
            return Err(Refused::new(
                StatusCode::BAD_REQUEST,
                "The request has no `query`.",
            ));
        }
        let operation = match self.operation(params, caller) {
            Ok(operation) => operation,
            Err(mut answer) => {
                return Ok(match accept.single {
                    Some(media) => reply::single(media, &mut answer),
                    None => sse::failure(&answer),
                });
            }
        };
        if *method == Method::GET && operation.kind == OperationType::Mutation {
            let refused = Refused::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "A mutation is executed by POST only.",
            );
            return Err(Refused {
                allow: Some("POST"),
                ..refused
            });
        }
        match (operation.kind, accept.single) {
            (OperationType::Query | OperationType::Mutation, Some(media)) => {
                Ok(reply::single(media, &mut operation.answer().await))
            }
            (OperationType::Subscription, _) if !accept.event_stream => {
                let message =
                    "A subscription is a stream: ask with `Accept: text/event-stream`, or over WebSocket.";
                Err(Refused::new(StatusCode::NOT_ACCEPTABLE, message))
            }
            _ => Ok(sse::stream(self, operation, caller)),
        }
    }

    async fn batch(&self, batch: Vec<Params>, caller: &Caller, accept: Accept) -> Result<Response, Refused> {
        let Some(media) = accept.single else {
            return Err(Refused::new(
                StatusCode::NOT_ACCEPTABLE,
                "A batch is not answered as a stream of events.",
            ));
        };
        let answers = batch
            .into_iter()
            .map(async |params| match self.operation(params, caller) {
                Ok(operation) if operation.kind == OperationType::Subscription => {
                    let message = "A subscription cannot be part of a batch.";
                    Answer::refused(ErrorCode::BadRequest.server_error(message, None), &caller.id)
                }
                Ok(operation) => operation.answer().await,
                Err(answer) => *answer,
            });
        Ok(reply::batch(media, &mut join_all(answers).await))
    }

    async fn read(&self, headers: &HeaderMap, body: Body) -> Result<axum::body::Bytes, Refused> {
        let limit = self.config.max_request_bytes;
        let too_large = || Refused {
            code: ErrorCode::LimitExceeded,
            ..Refused::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("The body is above the limit of {limit} bytes."),
            )
        };
        let announced = headers
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|bytes| bytes > limit) {
            return Err(too_large());
        }
        let Ok(read) = timeout(self.config.body_timeout, to_bytes(body, limit)).await else {
            return Err(Refused::new(
                StatusCode::REQUEST_TIMEOUT,
                "The body took too long to come in.",
            ));
        };
        read.map_err(|error| {
            // The limit is the one error of the two that is told by its type.
            if std::error::Error::source(&error)
                .is_some_and(|source| source.is::<http_body_util::LengthLimitError>())
            {
                too_large()
            } else {
                Refused::new(StatusCode::BAD_REQUEST, "The body ended before it was complete.")
            }
        })
    }
}

fn caller(parts: &Parts) -> Caller {
    let last_event_id = parts.headers.get(LAST_EVENT_ID);
    let last_event_id = last_event_id.and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
    Caller {
        id: RequestId::current(),
        data: parts
            .extensions
            .get::<OperationData>()
            .cloned()
            .unwrap_or_default(),
        last_event_id: last_event_id
            .filter(|id| !id.is_empty())
            .map(|id| LastEventId(id.to_owned())),
    }
}

/// A body has to be declared as JSON in UTF-8. What a plain form can send (`text/plain` and the types of forms) is
/// refused by this, and with it requests that a foreign page makes without asking first.
fn check_content_type(headers: &HeaderMap) -> Result<(), Refused> {
    let unsupported = |message: &str| Err(Refused::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    if headers
        .get(CONTENT_ENCODING)
        .is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        return unsupported("Compressed bodies are not read here.");
    }
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next().and_then(|value| value.to_str().ok()), values.next()) else {
        return unsupported("A POST says `Content-Type: application/json`, once.");
    };
    let mut parts = value.split(';').map(str::trim);
    if !parts
        .next()
        .is_some_and(|media| media.eq_ignore_ascii_case("application/json"))
    {
        return unsupported("The body of a POST is `application/json`.");
    }
    let charsets = parts.filter_map(|parameter| parameter.split_once('='));
    for (_, charset) in charsets.filter(|(name, _)| name.trim().eq_ignore_ascii_case("charset")) {
        let charset = charset.trim().trim_matches('"');
        if !charset.eq_ignore_ascii_case("utf-8") && !charset.eq_ignore_ascii_case("utf8") {
            return unsupported("JSON is read in UTF-8 only.");
        }
    }
    Ok(())
}
