//! The way to the server: one GraphQL operation for each request, and what can go wrong with it.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use url::Url;

use super::WorkerError;
use crate::config::Worker;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);

/// Why an operation did not do what it should.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// No usable answer came. What was asked for may have been done, unless `unsent`.
    #[error("the server is away: {reason}")]
    Away {
        reason: String,
        /// True where the server cannot have heard of it.
        unsent: bool,
    },
    /// The request is larger than the server takes.
    #[error("the server does not take requests of this size")]
    TooLarge,
    /// The server understood, and does not do it; nothing was changed.
    #[error("the server refused: {message}")]
    Refused { code: String, message: String },
    /// Asking again would change nothing: another kind of server, a token that is missing.
    #[error("the server does not take this worker's requests: {0}")]
    Denied(String),
    /// The server does not let this worker in, or not any more: its token is not, or no longer, a good one.
    #[error("the server does not let this worker in: {0} (the token is taken from RUNQL_TOKEN)")]
    Shut(String),
}

impl CallError {
    fn away(error: &reqwest::Error) -> Self {
        // The address is known to whoever reads this, and the sources say more than the error itself.
        let mut source = std::error::Error::source(error);
        let mut reason = if error.is_timeout() {
            "no answer in time".to_owned()
        } else {
            "no connection".to_owned()
        };
        while let Some(cause) = source {
            reason = cause.to_string();
            source = cause.source();
        }
        Self::Away {
            reason,
            unsent: error.is_connect(),
        }
    }

    /// Whether the server refused with this code.
    pub(super) fn is(&self, wanted: &str) -> bool {
        matches!(self, Self::Refused { code, .. } if code == wanted)
    }

    /// Whether the same request may succeed later.
    pub(super) const fn is_away(&self) -> bool {
        matches!(self, Self::Away { .. })
    }
}

/// The server's API.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    url: Url,
    token: Option<HeaderValue>,
}

#[derive(Serialize)]
struct Request<'a, V> {
    query: &'a str,
    variables: &'a V,
}

impl Client {
    pub(super) fn new(settings: &Worker, url: Url) -> Result<Self, WorkerError> {
        let token = settings.token().and_then(|token| {
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.reveal())).ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        let http = reqwest::Client::builder()
            .user_agent(concat!("runql-worker/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            // A redirect would take the token elsewhere, and turn a POST into a GET.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(WorkerError::Client)?;
        Ok(Self { http, url, token })
    }

    /// Where the server is.
    pub(super) const fn url(&self) -> &Url {
        &self.url
    }

    /// Runs an operation that has one field at its root, and gives that field's value. Refusals among its `errors` are
    /// errors.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        query: &str,
        variables: &impl Serialize,
        timeout: Duration,
    ) -> Result<T, CallError> {
        let mut request = self.http.post(self.url.clone()).timeout(timeout);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token.clone());
        }
        let answer = request
            .json(&Request { query, variables })
            .send()
            .await
            .map_err(|error| CallError::away(&error))?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(|error| CallError::away(&error))?;
        let Ok(mut body) = serde_json::from_slice::<Map<String, Value>>(&body) else {
            return Err(not_graphql(status));
        };
        if let Some(error) = body
            .get("errors")
            .and_then(Value::as_array)
            .and_then(|errors| errors.first())
        {
            return Err(operation_error(status, error));
        }
        let field = body
            .get_mut("data")
            .and_then(Value::as_object_mut)
            .and_then(|data| data.values_mut().next())
            .map(Value::take);
        let Some(field) = field else {
            return Err(not_graphql(status));
        };
        if let Some(refusal) = field
            .get("errors")
            .and_then(Value::as_array)
            .and_then(|errors| errors.first())
        {
            return Err(CallError::Refused {
                code: text(refusal, "code"),
                message: text(refusal, "message"),
            });
        }
        serde_json::from_value(field)
            .map_err(|error| CallError::Denied(format!("its answer is of another form: {error}")))
    }
}

fn text(value: &Value, key: &str) -> String {
    value
        .get(key)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

/// An answer that no GraphQL API gives: from a proxy, another server, or one that is just starting.
fn not_graphql(status: StatusCode) -> CallError {
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => CallError::TooLarge,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => CallError::Denied(format!(
            "it answered {status}: it wants a token in RUNQL_TOKEN, or does not know this host's name"
        )),
        status
            if (status.is_client_error() || status.is_redirection())
                && status != StatusCode::TOO_MANY_REQUESTS =>
        {
            CallError::Denied(format!(
                "it answered {status}: is this the address of a RunQL server?"
            ))
        }
        status => CallError::Away {
            reason: format!("it answered {status}"),
            unsent: false,
        },
    }
}

fn operation_error(status: StatusCode, error: &Value) -> CallError {
    let message = text(error, "message");
    if status == StatusCode::NOT_FOUND {
        return not_graphql(status);
    }
    match error
        .get("extensions")
        .map(|extensions| text(extensions, "code"))
        .as_deref()
    {
        // By the code alone: a proxy in between may answer anything for a moment.
        Some("UNAUTHENTICATED") => CallError::Shut(message),
        Some("INTERNAL" | "UNAVAILABLE") => CallError::Away {
            reason: message,
            unsent: false,
        },
        // Nothing was executed; there is room for it later.
        _ if status == StatusCode::TOO_MANY_REQUESTS => CallError::Away {
            reason: message,
            unsent: true,
        },
        _ if status == StatusCode::PAYLOAD_TOO_LARGE => CallError::TooLarge,
        _ if status.is_server_error() => CallError::Away {
            reason: message,
            unsent: false,
        },
        _ => CallError::Denied(message),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_server_that_wants_fewer_requests_is_asked_again_later() {
        let error = json!({ "message": "The rate limit is 1.", "extensions": { "code": "RATE_LIMITED" } });
        let refused = operation_error(StatusCode::TOO_MANY_REQUESTS, &error);
        assert!(
            matches!(&refused, CallError::Away { reason, unsent: true } if reason == "The rate limit is 1."),
            "{refused:?}"
        );
    }
}
