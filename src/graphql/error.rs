//! What can go wrong in a resolver, and the code that a client finds on it.
//!
//! Resolvers return [`ApiError`], which is made from the errors of the layers below by `?`: so none leaves without
//! a code of the closed list. What the caller of a mutation can mend is no error here but part of the payload; see
//! `types::payload`.

use std::sync::Arc;

use tracing::warn;

use crate::executor::{ListenError, PoolError, SubmitError};
use crate::http::ErrorCode;
use crate::store::{StoreError, Trouble};
use crate::telemetry::chain;

/// What a resolver answers with.
pub(super) type ApiResult<T> = Result<T, ApiError>;

/// An error with a code. It has no `Display` on purpose: async-graphql turns whatever has one into an error without
/// a code, and this type must not be mistaken for such.
#[derive(Debug, Clone)]
pub(super) struct ApiError(async_graphql::Error);

impl ApiError {
    /// An error of this kind, with a message for the client.
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self(code.error(message))
    }

    /// An argument whose value is not accepted.
    pub(super) fn input(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::BadUserInput, message)
    }

    /// An argument above one of this server's limits.
    pub(super) fn limit(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::LimitExceeded, message)
    }

    /// A fault of ours, told to the log with its causes and to the client as nothing but that.
    pub(super) fn internal(fault: &(dyn std::error::Error + 'static)) -> Self {
        Self(ErrorCode::internal(fault))
    }

    fn store(fault: &StoreError) -> Self {
        if !fault.is_unavailable() {
            return Self::internal(fault);
        }
        // The transports log what is internal; this one is told to the client as it is, so its causes are logged here.
        warn!(error = %chain(fault), "the database is unavailable");
        let message = match fault {
            StoreError::Unknown(away) => format!(
                "{}, and was lost in the middle of a commit: what was asked for may have been stored, or not. A `run` \
                 with an `idempotencyKey` can be sent again safely: it is stored once.",
                capital(away.trouble)
            ),
            StoreError::Closed => "The server is going down; nothing was changed.".to_owned(),
            _ => format!(
                "{}; nothing was changed, and the same request may succeed later.",
                capital(fault.trouble().unwrap_or(Trouble::Failed))
            ),
        };
        Self::new(ErrorCode::Unavailable, message)
    }
}

/// The words for a trouble at the beginning of a sentence.
fn capital(trouble: Trouble) -> String {
    let words = trouble.to_string();
    let mut chars = words.chars();
    chars
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

impl From<ApiError> for async_graphql::Error {
    fn from(error: ApiError) -> Self {
        error.0
    }
}

impl From<StoreError> for ApiError {
    fn from(fault: StoreError) -> Self {
        Self::store(&fault)
    }
}

/// Loaders hand the same fault to all who waited for the batch.
impl From<Arc<StoreError>> for ApiError {
    fn from(fault: Arc<StoreError>) -> Self {
        Self::store(&fault)
    }
}

impl From<ListenError> for ApiError {
    fn from(error: ListenError) -> Self {
        match error {
            ListenError::CursorExpired => Self::new(
                ErrorCode::CursorExpired,
                "Events after this cursor have been deleted, so a gap could not be told: list what you need and \
                 subscribe anew without `after`.",
            ),
            ListenError::CursorUnknown => {
                Self::input("This cursor was not given out by this server: no event is as late as that.")
            }
            ListenError::Store(fault) => Self::store(&fault),
        }
    }
}

/// Refusals are answered in payloads; here is what is left.
impl From<SubmitError> for ApiError {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Store(fault) => Self::store(&fault),
            error @ (SubmitError::Scripts(_) | SubmitError::Refused { .. }) => Self::internal(&error),
        }
    }
}

impl From<PoolError> for ApiError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::TooMany { limit } => Self::limit(format!("This server runs at most {limit} workers.")),
            PoolError::Store(fault) => Self::store(&fault),
            PoolError::Closed => Self::new(ErrorCode::Unavailable, "The server is going down."),
        }
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::Value;

    use super::*;

    fn code(error: ApiError) -> Option<Value> {
        async_graphql::Error::from(error)
            .extensions
            .and_then(|extensions| extensions.get("code").cloned())
    }

    #[test]
    fn every_fault_has_its_code() {
        let unreadable = || StoreError::Unreadable("a row".to_owned());
        let table: [(ApiError, &str); 9] = [
            (StoreError::Closed.into(), "UNAVAILABLE"),
            (unreadable().into(), "INTERNAL"),
            (Arc::new(StoreError::Closed).into(), "UNAVAILABLE"),
            (ListenError::CursorExpired.into(), "CURSOR_EXPIRED"),
            (ListenError::CursorUnknown.into(), "BAD_USER_INPUT"),
            (ListenError::Store(unreadable()).into(), "INTERNAL"),
            (
                SubmitError::Scripts(std::io::Error::other("gone")).into(),
                "INTERNAL",
            ),
            (PoolError::TooMany { limit: 4 }.into(), "LIMIT_EXCEEDED"),
            (PoolError::Closed.into(), "UNAVAILABLE"),
        ];
        for (error, expected) in table {
            assert_eq!(code(error), Some(Value::from(expected)));
        }
    }
}
