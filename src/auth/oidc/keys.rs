//! The issuer's public keys: fetched at the start, again from time to time, and when a token names one that is not there.
//!
//! ```text
//!   keep (a task) ── discovery ─▶ jwks_uri ─▶ keys ─▶ watch ──▶ whoever checks a token
//!        ▲ asked, at most once in PAUSE                              │ no such key
//!        └───────────────────────────────────────────────────────────┘
//! ```
//!
//! Whatever anybody shows, the issuer is asked once in [`PAUSE`] at most. While it is away, the keys that are known
//! still count.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{DecodingKey, Header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::config::is_safe_issuer;
use crate::telemetry::{chain, millis};

/// Between two fetches at least.
const PAUSE: Duration = Duration::from_secs(5);

/// How old the keys may get while nobody asks for another.
const REFRESH: Duration = Duration::from_secs(600);

/// The longest pause while the issuer is away.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What one request to the issuer may take.
const ANSWER: Duration = Duration::from_secs(5);

/// How long somebody with an unknown key waits for a fetch: both requests.
const PATIENCE: Duration = Duration::from_secs(10);

/// A larger answer is no list of keys.
const LARGEST: usize = 1 << 20;

/// More keys than any issuer has at a time.
const MOST: usize = 100;

/// Why the keys could not be fetched.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("{url} cannot be reached")]
    Request {
        url: String,
        #[source]
        error: reqwest::Error,
    },
    #[error("{url} answers with more than {LARGEST} bytes")]
    TooLarge { url: String },
    #[error("{url} answers with another form")]
    Form {
        url: String,
        #[source]
        error: serde_json::Error,
    },
    #[error("the discovery document names another issuer, `{0}`")]
    Issuer(String),
    #[error("the address of the keys, {0}, is neither https nor of this machine")]
    Insecure(String),
    #[error("{0} holds no key that signatures can be checked with")]
    NoKey(String),
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

/// A public key, with what its set says of it.
#[derive(Debug)]
pub(super) struct Key {
    about: Jwk,
    pub(super) key: DecodingKey,
}

impl Key {
    /// None for what is no key to check signatures with.
    fn read(value: Value) -> Option<Self> {
        let about: Jwk = serde_json::from_value(value).ok()?;
        let common = &about.common;
        let signs = common
            .public_key_use
            .as_ref()
            .is_none_or(|used| *used == PublicKeyUse::Signature)
            && common
                .key_operations
                .as_ref()
                .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
        let public = !matches!(
            about.algorithm,
            AlgorithmParameters::OctetKey(_) | AlgorithmParameters::Other(_)
        );
        let key = (signs && public).then(|| DecodingKey::from_jwk(&about).ok())??;
        Some(Self { about, key })
    }

    /// Those that a token with this header may have been signed with.
    pub(super) fn fitting<'a>(keys: &'a [Self], header: &'a Header) -> impl Iterator<Item = &'a Self> {
        keys.iter().filter(move |key| key.fits(header))
    }

    /// Whether a token with this header may have been signed with it.
    fn fits(&self, header: &Header) -> bool {
        let common = &self.about.common;
        let named = header.kid.is_none() || common.key_id == header.kid;
        let meant = common
            .key_algorithm
            .is_none_or(|algorithm| algorithm.to_string().parse() == Ok(header.alg));
        named && meant && self.key.family() == header.alg.family()
    }
}

/// What is known at a moment.
#[derive(Debug, Clone, Default)]
struct Known {
    /// None until the issuer answered once.
    keys: Option<Arc<[Key]>>,
    /// When it was last asked.
    asked: Option<Instant>,
}

/// The keys of one issuer.
#[derive(Debug)]
pub(super) struct Keys {
    issuer: String,
    http: reqwest::Client,
    known: watch::Sender<Known>,
    wanted: Notify,
}

/// The issuer has not answered yet.
#[derive(Debug)]
pub(super) struct NotThere;

impl Keys {
    pub(super) fn new(issuer: String) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("runql/", env!("CARGO_PKG_VERSION")))
            .timeout(ANSWER)
            // A redirect could lead to where nobody vouches for the keys.
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self {
            issuer,
            http,
            known: watch::Sender::default(),
            wanted: Notify::new(),
        })
    }

    /// All keys, of which those that fit a header are to be tried; fetched anew where none does.
    pub(super) async fn find(&self, header: &Header) -> Result<Arc<[Key]>, NotThere> {
        let fits = |known: &Known| {
            let keys = known.keys.as_ref()?;
            keys.iter().any(|key| key.fits(header)).then(|| Arc::clone(keys))
        };
        let mut seen = self.known.subscribe();
        let known = seen.borrow_and_update().clone();
        if let Some(keys) = fits(&known) {
            return Ok(keys);
        }
        if known.asked.is_none_or(|asked| asked.elapsed() >= PAUSE) {
            self.wanted.notify_one();
            // However it ends: what is known then counts.
            let _ = tokio::time::timeout(PATIENCE, seen.changed()).await;
        }
        let keys = seen.borrow().keys.clone();
        keys.ok_or(NotThere)
    }

    /// Fetches them until `stop`.
    pub(super) async fn keep(&self, stop: CancellationToken) {
        let mut failures = 0_u32;
        while !stop.is_cancelled() {
            let Some(fetched) = stop.run_until_cancelled(self.fetch()).await else {
                return;
            };
            let next = match &fetched {
                Ok(keys) => {
                    tracing::debug!(issuer = %self.issuer, keys = keys.len(), "the issuer's keys were fetched");
                    failures = 0;
                    REFRESH
                }
                Err(error) => {
                    let pause = PAUSE.saturating_mul(1 << failures.min(8)).min(LONGEST_PAUSE);
                    failures = failures.saturating_add(1);
                    let known = self.known.borrow().keys.as_ref().map_or(0, |keys| keys.len());
                    tracing::warn!(
                        issuer = %self.issuer, error = %chain(error), known, retry_ms = millis(pause),
                        "the issuer's keys cannot be fetched; those that are known still count"
                    );
                    pause
                }
            };
            self.known.send_modify(|known| {
                known.asked = Some(Instant::now());
                if let Ok(keys) = fetched {
                    known.keys = Some(keys);
                }
            });
            let rest = async {
                tokio::time::sleep(PAUSE).await;
                let _ = tokio::time::timeout(next.saturating_sub(PAUSE), self.wanted.notified()).await;
            };
            stop.run_until_cancelled(rest).await;
        }
    }

    async fn fetch(&self) -> Result<Arc<[Key]>, FetchError> {
        let discovery = format!(
            "{}/.well-known/openid-configuration",
            self.issuer.trim_end_matches('/')
        );
        let found: Discovery = self.get(&discovery).await?;
        if found.issuer != self.issuer {
            return Err(FetchError::Issuer(found.issuer));
        }
        if !Url::parse(&found.jwks_uri).is_ok_and(|url| is_safe_issuer(&url)) {
            return Err(FetchError::Insecure(found.jwks_uri));
        }
        let set: KeySet = self.get(&found.jwks_uri).await?;
        let keys: Arc<[Key]> = set.keys.into_iter().filter_map(Key::read).take(MOST).collect();
        if keys.is_empty() {
            return Err(FetchError::NoKey(found.jwks_uri));
        }
        Ok(keys)
    }

    async fn get<T: DeserializeOwned>(&self, url: &str) -> Result<T, FetchError> {
        let away = |error: reqwest::Error| FetchError::Request {
            url: url.to_owned(),
            error: error.without_url(),
        };
        let mut answer = self
            .http
            .get(url)
            .send()
            .await
            .and_then(reqwest::Response::error_for_status)
            .map_err(away)?;
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(away)? {
            body.extend_from_slice(&piece);
            if body.len() > LARGEST {
                return Err(FetchError::TooLarge { url: url.to_owned() });
            }
        }
        serde_json::from_slice(&body).map_err(|error| FetchError::Form {
            url: url.to_owned(),
            error,
        })
    }
}
