//! How much somebody may ask for in a time: cost units by the second, with a store for bursts, by token or by address.
//!
//! The counting is `governor`'s (the generic cell rate algorithm). Each payer has a bucket of its own; the least recently
//! used are forgotten first, so that memory is bounded however many addresses ask. One that is forgotten is full again,
//! which gives an address that comes back after so many others no more than a new address would have.

use std::net::{IpAddr, Ipv6Addr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_graphql::ServerError;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use governor::clock::{Clock as _, MonotonicClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use lru::LruCache;
use sha2::{Digest as _, Sha256};

use super::code::ErrorCode;

/// Payers that are remembered; some 20 MiB of memory at the most.
const MAX_PAYERS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(65_535);

/// The headers of the seventh and earlier drafts of the IETF for such limits, which most clients and proxies know; the
/// later ones put the same into structured fields that few read yet.
pub(super) const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
pub(super) const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
pub(super) const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

/// Cost units for each payer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// How many come in by the second.
    pub per_second: NonZeroU32,
    /// How many are kept for a burst, and so the most that one operation may cost.
    pub burst: NonZeroU32,
}

/// Who pays for an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Payer {
    /// Somebody who has a token: its id.
    Token(u128),
    /// Somebody who is known by a name alone.
    Name([u8; 32]),
    /// Somebody at an address; of IPv6 the network of 64 bits, since one client has all of it.
    Address(IpAddr),
    /// Whoever is not told apart.
    #[default]
    Anybody,
}

impl Payer {
    /// Somebody of whom no more is known than the address.
    #[must_use]
    pub fn at(address: Option<IpAddr>) -> Self {
        match address.map(|address| address.to_canonical()) {
            None => Self::Anybody,
            Some(IpAddr::V6(address)) => {
                let network = address.to_bits() & (u128::MAX << 64);
                Self::Address(Ipv6Addr::from_bits(network).into())
            }
            Some(address) => Self::Address(address),
        }
    }

    /// Somebody who has signed with a name that is nobody else's.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self::Name(Sha256::digest(name).into())
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Token(_) => "this token",
            Self::Name(_) => "this caller",
            Self::Address(_) => "this address",
            Self::Anybody => "all callers without a token",
        }
    }
}

type Bucket = RateLimiter<NotKeyed, InMemoryState, MonotonicClock, StateInformationMiddleware>;

/// The buckets of all payers.
pub(super) struct Rates {
    limit: RateLimit,
    buckets: Mutex<LruCache<Payer, Bucket>>,
}

/// How a payer stands after an operation was charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    limit: u32,
    remaining: u32,
    /// Until the bucket is full again.
    reset: Duration,
    /// Until what was refused would be let through.
    retry: Option<Duration>,
}

/// Why a payer is not charged, and the operation refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Short {
    /// There is not enough now.
    For(Duration),
    /// There never is.
    Always,
}

impl Rates {
    pub(super) fn new(limit: RateLimit) -> Self {
        Self {
            limit,
            buckets: Mutex::new(LruCache::new(MAX_PAYERS)),
        }
    }

    /// Takes `cost` from the payer's bucket, or nothing and says why. What the whole operation costs is for the words.
    pub(super) fn charge(
        &self,
        payer: Payer,
        cost: NonZeroU32,
        whole: usize,
        standing: &mut Option<Standing>,
    ) -> Result<(), ServerError> {
        let RateLimit { per_second, burst } = self.limit;
        match self.take(payer, cost) {
            Ok(remaining) => {
                *standing = Some(self.standing(remaining, None));
                Ok(())
            }
            Err(Short::For(wait)) => {
                let before = standing.map_or(0, |standing| standing.remaining);
                *standing = Some(self.standing(before, Some(wait)));
                let message = format!(
                    "The rate limit is {per_second} units of cost a second for {}, and {burst} at once; this operation \
                     costs {whole}, for which there is not enough left. Nothing was executed: ask again in {} ms.",
                    payer.words(),
                    wait.as_millis(),
                );
                let mut error = ErrorCode::RateLimited.server_error(message, None);
                if let Some(extensions) = &mut error.extensions {
                    extensions.set(
                        "retryAfterMs",
                        u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                    );
                }
                Err(error)
            }
            Err(Short::Always) => {
                let message = format!(
                    "The operation costs {whole}; the rate limit lets {burst} through at once, so it is never executed \
                     here. Ask for smaller pages or for fewer fields."
                );
                Err(ErrorCode::LimitExceeded.server_error(message, None))
            }
        }
    }

    fn take(&self, payer: Payer, cost: NonZeroU32) -> Result<u32, Short> {
        // A thread that panicked here has left a bucket as it was before or after.
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.get_or_insert(payer, || {
            let quota = Quota::per_second(self.limit.per_second).allow_burst(self.limit.burst);
            Bucket::new(quota, InMemoryState::default(), MonotonicClock)
        });
        match bucket.check_n(cost) {
            Ok(Ok(state)) => Ok(state.remaining_burst_capacity()),
            Ok(Err(until)) => {
                let wait = until.wait_time_from(MonotonicClock.now());
                Err(Short::For(wait.max(Duration::from_millis(1))))
            }
            Err(_) => Err(Short::Always),
        }
    }

    fn standing(&self, remaining: u32, retry: Option<Duration>) -> Standing {
        let RateLimit { per_second, burst } = self.limit;
        let missing = f64::from(burst.get().saturating_sub(remaining));
        Standing {
            limit: burst.get(),
            remaining,
            reset: Duration::from_secs_f64(missing / f64::from(per_second.get())),
            retry,
        }
    }
}

impl Standing {
    /// The worse of two, for a response that answers many operations.
    pub(super) fn worse(self, other: Self) -> Self {
        Self {
            limit: self.limit,
            remaining: self.remaining.min(other.remaining),
            reset: self.reset.max(other.reset),
            retry: self.retry.max(other.retry),
        }
    }

    /// Tells it in the headers of a response. Seconds are rounded up, so that nobody asks a moment too early.
    pub(super) fn write(self, headers: &mut HeaderMap) {
        let seconds = |time: Duration| HeaderValue::from(time.as_secs() + u64::from(time.subsec_nanos() > 0));
        headers.insert(LIMIT, HeaderValue::from(self.limit));
        headers.insert(REMAINING, HeaderValue::from(self.remaining));
        headers.insert(RESET, seconds(self.reset));
        if let Some(retry) = self.retry {
            headers.insert(RETRY_AFTER, seconds(retry));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn units(count: u32) -> NonZeroU32 {
        NonZeroU32::new(count).unwrap()
    }

    fn rates(per_second: u32, burst: u32) -> Rates {
        Rates::new(RateLimit {
            per_second: units(per_second),
            burst: units(burst),
        })
    }

    #[test]
    fn each_payer_has_a_bucket() {
        let rates = rates(1, 10);
        let (one, other) = (Payer::Token(1), Payer::Token(2));
        assert_eq!(rates.take(one, units(10)), Ok(0));
        assert!(matches!(rates.take(one, units(5)), Err(Short::For(wait)) if wait > Duration::from_secs(3)));
        assert_eq!(rates.take(other, units(4)), Ok(6));
        assert_eq!(rates.take(other, units(11)), Err(Short::Always));
        assert_eq!(
            rates.take(other, units(6)),
            Ok(0),
            "what was refused has cost nothing"
        );
    }

    #[test]
    fn payers_are_forgotten_before_they_fill_the_memory() {
        let rates = rates(1, 1);
        for payer in 0..MAX_PAYERS.get() as u128 + 10 {
            assert_eq!(rates.take(Payer::Token(payer), units(1)), Ok(0));
        }
        assert_eq!(rates.buckets.lock().unwrap().len(), MAX_PAYERS.get());
    }

    #[test]
    fn a_network_of_ipv6_is_one_payer() {
        let at = |text: &str| Payer::at(Some(text.parse().unwrap()));
        assert_eq!(at("2001:db8:1:2::1"), at("2001:db8:1:2:ffff::9"));
        assert_ne!(at("2001:db8:1:2::1"), at("2001:db8:1:3::1"));
        assert_eq!(at("::ffff:192.0.2.1"), at("192.0.2.1"));
        assert_ne!(at("192.0.2.1"), at("192.0.2.2"));
    }

    #[test]
    fn a_standing_is_told_in_whole_seconds() {
        let rates = rates(4, 10);
        let standing = rates
            .standing(7, None)
            .worse(rates.standing(9, Some(Duration::from_millis(10))));
        let mut headers = HeaderMap::new();
        standing.write(&mut headers);
        let told =
            [LIMIT, REMAINING, RESET, RETRY_AFTER].map(|name| headers[name].to_str().unwrap().to_owned());
        assert_eq!(told, ["10", "7", "1", "1"]);
    }
}
