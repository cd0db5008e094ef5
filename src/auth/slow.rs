//! Makes guessing slow. Nobody guesses 256 bits; but whoever tries costs less this way, and is seen in the log.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lru::LruCache;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// What the first refusal takes; each further one takes twice as long.
const FIRST: Duration = Duration::from_millis(50);

/// What a refusal takes at most.
const LONGEST: Duration = Duration::from_secs(5);

/// After so long one refusal is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(10);

/// Addresses that are remembered.
const ADDRESSES: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// Refusals that may wait at a time; each holds a connection.
const WAITING: usize = 500;

/// Too many refusals wait already.
#[derive(Debug)]
pub(super) struct Full;

/// Refusals by address.
#[derive(Debug)]
pub(super) struct Slowdown {
    refused: Mutex<LruCache<Option<IpAddr>, (u32, Instant)>>,
    waiting: Semaphore,
}

impl Default for Slowdown {
    fn default() -> Self {
        Self {
            refused: Mutex::new(LruCache::new(ADDRESSES)),
            waiting: Semaphore::new(WAITING),
        }
    }
}

impl Slowdown {
    /// Waits as long as a refusal takes from this address.
    pub(super) async fn wait(&self, address: Option<IpAddr>) -> Result<(), Full> {
        let pause = self.count(address.map(network), Instant::now());
        let _permit = self.waiting.try_acquire().map_err(|_| Full)?;
        tokio::time::sleep(pause).await;
        Ok(())
    }

    fn count(&self, network: Option<IpAddr>, now: Instant) -> Duration {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let (times, since) = refused.get_or_insert_mut(network, || (0, now));
        let forgotten = now.duration_since(*since).as_secs() / FORGOTTEN.as_secs();
        *times = times.saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX));
        *since = now;
        let pause = FIRST.saturating_mul(1 << (*times).min(10)).min(LONGEST);
        *times = times.saturating_add(1).min(1_000);
        pause
    }
}

/// Who has one address of IPv6 has all of its network.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_takes_longer_until_it_is_forgotten() {
        let slowdown = Slowdown::default();
        let now = Instant::now();
        let one: IpAddr = "2001:db8::1".parse().unwrap();
        let near: IpAddr = "2001:db8::ffff".parse().unwrap();
        let far: IpAddr = "2001:db9::1".parse().unwrap();
        let count = |address, at| slowdown.count(Some(network(address)), at).as_millis();
        assert_eq!(count(one, now), 50);
        assert_eq!(count(near, now), 100);
        assert_eq!(count(one, now), 200);
        assert_eq!(count(far, now), 50);
        for _ in 0..2_000 {
            count(one, now);
        }
        assert_eq!(count(one, now), 5_000);
        assert_eq!(count(far, now + FORGOTTEN), 50);
    }
}
