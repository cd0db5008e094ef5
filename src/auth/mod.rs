//! Who somebody is, and what they may do.
//!
//! ```text
//!   bearer ─▶ Authenticator ─ `runql_…` ─▶ Tokens ─▶ the book in memory ◀─ polled ─ store, tokens file
//!                 │ refused                              └─▶ Admitted: the caller, and how long that lasts
//!                 └─▶ slowed down by address, and told to the log
//! ```
//!
//! A token is `runql_` and 48 bytes in base64: its id, and a secret of 256 random bits of which only a hash is kept.
//! It is looked up by its id, and its secret is compared in constant time.
//!
//! Every node keeps all tokens in memory and asks each second whether they changed, so one that is revoked anywhere
//! stops working everywhere within about that time; what was opened with it is cut off then.
//!
//! Not here: which right a field of the API needs (the schema's own table), and how a request carries its token (the
//! server).

mod book;
mod command;
mod file;
mod secret;
mod slow;
mod tokens;

use std::net::IpAddr;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

pub use book::REFRESH;
pub use command::{TokenCommandError, carry_out};
pub use file::{TokenFile, TokenFileError, entry as file_entry};
pub use secret::{PREFIX, Secret, hash};
pub use tokens::{Issued, NewToken, NewTokenError, Tokens};

use crate::domain::{Caller, Timestamp};
use crate::store::StoreError;
use slow::Slowdown;

/// The name, in the audit log, of those whom the server does not ask who they are.
const ANONYMOUS: &str = "anonymous";

/// Somebody who was let in.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// Who they are.
    pub caller: Arc<Caller>,
    /// How long that lasts.
    pub lifetime: Lifetime,
}

/// How long what was let in may stay.
#[derive(Debug, Clone, Default)]
pub struct Lifetime {
    /// Cancelled when it ends before its time: revoked, or replaced.
    pub ended: CancellationToken,
    /// When it ends by itself; none is never.
    pub until: Option<Timestamp>,
}

impl Lifetime {
    /// Waits until it is over.
    pub async fn over(&self) {
        // A sleep is bounded, since clocks are set; and a far end would overflow the timer.
        const LOOK: std::time::Duration = std::time::Duration::from_secs(60);
        let timed_out = async {
            let Some(until) = self.until else {
                return std::future::pending().await;
            };
            loop {
                let left = until.since(crate::clock::now());
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left.min(LOOK)).await;
            }
        };
        tokio::select! {
            () = self.ended.cancelled() => {}
            () = timed_out => {}
        }
    }
}

/// Why somebody was not let in. The words are for them: they tell no more than who holds the token knows.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    /// There is no such token, or its secret is another one.
    #[error("this token is not known here")]
    Unknown,
    /// It has ended.
    #[error("this token has expired: ask for a new one")]
    Expired,
    /// It was ended.
    #[error("this token was revoked")]
    Revoked,
    /// Too many were refused at the same time.
    #[error("too many attempts were refused: try again later")]
    Busy,
    /// Tokens cannot be looked up now.
    #[error("tokens cannot be looked up now")]
    Store(#[from] StoreError),
}

/// Lets people in. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Authenticator {
    tokens: Tokens,
    slowdown: Arc<Slowdown>,
}

impl Authenticator {
    /// One over these tokens.
    #[must_use]
    pub fn new(tokens: Tokens) -> Self {
        Self {
            tokens,
            slowdown: Arc::default(),
        }
    }

    /// Whether anybody is asked who they are.
    #[must_use]
    pub fn is_required(&self) -> bool {
        self.tokens.is_required()
    }

    /// Finds out who somebody is that shows this, or nothing. None is somebody who has to show a token and did not. Where
    /// nobody has to, whoever shows none that is known here is anybody. A refusal takes the longer the more of them came
    /// from the address.
    ///
    /// # Errors
    ///
    /// [`Denied`].
    pub async fn admit(
        &self,
        shown: Option<&str>,
        address: Option<IpAddr>,
    ) -> Result<Option<Admitted>, Denied> {
        let denied = match shown {
            None => None,
            // It is looked up in any case: it may have been made a moment ago, and then it closes the server.
            Some(bearer) => match self.tokens.admit(bearer, address).await {
                Ok(admitted) => return Ok(Some(admitted)),
                Err(denied) => Some(denied),
            },
        };
        match denied {
            _ if !self.is_required() => Ok(Some(Admitted {
                caller: Arc::new(Caller::anybody(ANONYMOUS, address)),
                lifetime: self.tokens.while_open(),
            })),
            None => Ok(None),
            Some(denied @ Denied::Store(_)) => Err(denied),
            Some(denied) => Err(self.slowly(denied, address).await),
        }
    }

    async fn slowly(&self, denied: Denied, address: Option<IpAddr>) -> Denied {
        let shown = address.map_or_else(|| "unknown".to_owned(), |address| address.to_string());
        tracing::warn!(client.address = %shown, error = %denied, "somebody was not let in");
        match self.slowdown.wait(address).await {
            Ok(()) => denied,
            Err(slow::Full) => Denied::Busy,
        }
    }
}
