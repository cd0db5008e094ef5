//! The closed list of error codes that a client can meet in `extensions.code`.
//!
//! This is the only place that makes an [`async_graphql::Error`], so that no error leaves a resolver without a code
//! unless a foreign error was passed on with `?`; such a one is ours, and is masked (see `seal`).

use std::error::Error as StdError;
use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::time::Duration;

use async_graphql::{ErrorExtensionValues, Pos, ServerError};
use axum::http::StatusCode;

/// When a client that met [`ErrorCode::Unavailable`] may try again, in whole seconds. Short, since a database that was
/// restarted is back within seconds; and long enough that those who wait are no load of their own.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(2);

macro_rules! error_codes {
    ($($(#[$meta:meta])* $variant:ident = $word:literal,)+) => {
        /// What went wrong, for programs: the value of `extensions.code`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $($(#[$meta])* $variant,)+
        }

        impl ErrorCode {
            /// Every code there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The code as clients see it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }
    };
}

error_codes! {
    /// The request itself is malformed: no JSON, a parameter of a wrong type, no such operation in the document.
    BadRequest = "BAD_REQUEST",
    /// An argument or a variable has a value that is not accepted.
    BadUserInput = "BAD_USER_INPUT",
    /// The document is not GraphQL.
    GraphqlParseFailed = "GRAPHQL_PARSE_FAILED",
    /// The document does not fit the schema.
    GraphqlValidationFailed = "GRAPHQL_VALIDATION_FAILED",
    /// The hash of a persisted query is not known here; the client sends the text along with it.
    PersistedQueryNotFound = "PERSISTED_QUERY_NOT_FOUND",
    /// Persisted queries are switched off, or of a version that is not spoken here.
    PersistedQueryNotSupported = "PERSISTED_QUERY_NOT_SUPPORTED",
    /// Nobody, or nobody known, has signed the request.
    Unauthenticated = "UNAUTHENTICATED",
    /// Whoever signed the request may not do this.
    Forbidden = "FORBIDDEN",
    /// What was asked for is not there.
    NotFound = "NOT_FOUND",
    /// The state of things does not allow the request now.
    Conflict = "CONFLICT",
    /// A limit of the server was met; the message names it.
    LimitExceeded = "LIMIT_EXCEEDED",
    /// A cursor points before what is kept.
    CursorExpired = "CURSOR_EXPIRED",
    /// The server cannot answer now; the same request may succeed later: `extensions.retryAfterMs` says when to try.
    Unavailable = "UNAVAILABLE",
    /// A fault of the server, whose details are in its log under the request's id.
    Internal = "INTERNAL",
}

impl ErrorCode {
    /// An error with this code, for a resolver to return. The message goes to the client, except with
    /// [`ErrorCode::Internal`]: then it goes to the log.
    #[must_use]
    pub fn error(self, message: impl Into<String>) -> async_graphql::Error {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one constructor of errors, which adds the code"
        )]
        let mut error = async_graphql::Error::new(message);
        error.extensions = Some(self.extensions());
        error
    }

    /// A fault of ours, with its chain of causes kept for the log.
    #[must_use]
    pub fn internal(fault: &(dyn StdError + 'static)) -> async_graphql::Error {
        let mut message = fault.to_string();
        let mut source = fault.source();
        while let Some(cause) = source {
            // Writing to a string cannot fail.
            let _ = write!(message, ": {cause}");
            source = cause.source();
        }
        Self::Internal.error(message)
    }

    /// The same for what fails outside of a resolver.
    pub(super) fn server_error(self, message: impl Into<String>, position: Option<Pos>) -> ServerError {
        let mut error = ServerError::new(message, position);
        error.extensions = Some(self.extensions());
        error
    }

    /// The status for a response that is nothing but this error, in a media type whose status codes count.
    pub(super) const fn status(self) -> StatusCode {
        match self {
            Self::BadRequest
            | Self::BadUserInput
            | Self::GraphqlParseFailed
            | Self::GraphqlValidationFailed
            | Self::PersistedQueryNotFound
            | Self::PersistedQueryNotSupported
            | Self::CursorExpired
            | Self::LimitExceeded => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Conflict => StatusCode::CONFLICT,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The code that an error carries, if it is one of the list.
    pub(super) fn of(error: &ServerError) -> Option<Self> {
        match error.extensions.as_ref()?.get("code")? {
            async_graphql::Value::String(word) => word.parse().ok(),
            _ => None,
        }
    }

    fn extensions(self) -> ErrorExtensionValues {
        let mut extensions = ErrorExtensionValues::default();
        extensions.set("code", self.as_str());
        if self == Self::Unavailable {
            extensions.set("retryAfterMs", RETRY_AFTER.as_secs() * 1_000);
        }
        extensions
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no error code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no error code")]
pub struct UnknownErrorCode(String);

impl FromStr for ErrorCode {
    type Err = UnknownErrorCode;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.iter().copied().find(|code| code.as_str() == word);
        known.ok_or_else(|| UnknownErrorCode(word.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_read_back_and_no_two_are_alike() {
        for (index, code) in ErrorCode::ALL.iter().enumerate() {
            assert_eq!(code.as_str().parse(), Ok(*code));
            assert!(
                ErrorCode::ALL[index + 1..]
                    .iter()
                    .all(|other| other.as_str() != code.as_str())
            );
        }
        assert!("NO_SUCH_CODE".parse::<ErrorCode>().is_err());
    }

    #[test]
    fn an_internal_error_keeps_the_chain_of_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("the store failed")]
        struct Outer(#[source] std::io::Error);

        let error = ErrorCode::internal(&Outer(std::io::Error::other("disk full")));
        assert_eq!(error.message, "the store failed: disk full");
    }
}
