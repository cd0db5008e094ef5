//! What one operation costs, who pays for it, and how long it may take.
//!
//! The transport puts an [`Arc<Meter>`](Meter) into the data of each operation. The schema, which alone knows what its
//! fields cost, tells it the cost before anything is executed; a resolver that waits on purpose tells it how long.
//!
//! One unit is charged before the document is looked at, so that one which cannot be read costs something too, and the
//! rest of the cost once it is known. An operation that is not paid for is not executed.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use async_graphql::{ServerError, Value};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::rate::{Payer, Rates, Standing};

/// What an operation costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// The operation's own cost, in units: each field is one, once for every entry of the pages that it is in.
    pub requested: usize,
    /// The most that an operation may cost.
    pub limit: usize,
    /// Levels of nested fields.
    pub depth: usize,
}

impl Cost {
    pub(super) fn value(self) -> Value {
        async_graphql::value!({
            "requested": self.requested,
            "limit": self.limit,
            "depth": self.depth,
        })
    }
}

/// The meter of one operation.
#[derive(Default)]
pub struct Meter {
    cost: OnceLock<Cost>,
    account: Option<(Arc<Rates>, Payer)>,
    standing: Mutex<Option<Standing>>,
    /// What the operation waits for on purpose, in milliseconds.
    waits_ms: AtomicU64,
    /// Told of whenever that changes.
    waits: Notify,
}

impl Meter {
    /// The meter of an operation that somebody pays for, or nobody where there is no limit.
    pub(super) fn new(rates: Option<&Arc<Rates>>, payer: Payer) -> Self {
        Self {
            account: rates.map(|rates| (Arc::clone(rates), payer)),
            ..Self::default()
        }
    }

    /// Charges what every operation costs, readable or not.
    pub(super) fn open(&self) -> Result<(), ServerError> {
        self.charge(NonZeroU32::MIN, 1)
    }

    /// Notes what the operation costs. What is noted first counts.
    pub fn note(&self, cost: Cost) {
        // It is measured once; were it measured again, it would come to the same.
        let _ = self.cost.set(cost);
    }

    /// Charges what was noted to whoever pays.
    ///
    /// # Errors
    ///
    /// RATE_LIMITED where there is not enough left, LIMIT_EXCEEDED where there never is: the operation is not to be
    /// executed then.
    pub fn pay(&self) -> Result<(), ServerError> {
        let whole = self.cost.get().map_or(1, |cost| cost.requested);
        let rest = u32::try_from(whole.saturating_sub(1)).unwrap_or(u32::MAX);
        match NonZeroU32::new(rest) {
            Some(rest) => self.charge(rest, whole),
            None => Ok(()),
        }
    }

    /// Lets the operation take so much longer: it waits for something on purpose, which is not held against it.
    pub fn allow(&self, wait: Duration) {
        let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        // Nothing else is to be seen along with it.
        let _ = self
            .waits_ms
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waits| {
                Some(waits.saturating_add(wait))
            });
        self.waits.notify_one();
    }

    /// Waits until the operation was ever allowed to wait. Safe to cancel.
    pub(super) async fn is_waiting(&self) {
        while self.waits_ms.load(Ordering::Relaxed) == 0 {
            self.waits.notified().await;
        }
    }

    /// Waits until the operation has taken `limit`, and whatever it was allowed beyond that. Safe to cancel.
    pub(super) async fn over(&self, limit: Duration) {
        let start = Instant::now();
        loop {
            let waits = Duration::from_millis(self.waits_ms.load(Ordering::Relaxed));
            let Some(end) = start.checked_add(limit.saturating_add(waits)) else {
                return std::future::pending().await;
            };
            if Instant::now() >= end {
                return;
            }
            sleep_until(end).await;
        }
    }

    /// What was noted.
    pub(super) fn cost(&self) -> Option<Cost> {
        self.cost.get().copied()
    }

    /// How whoever pays stands now.
    pub(super) fn standing(&self) -> Option<Standing> {
        *self.last_standing()
    }

    fn charge(&self, units: NonZeroU32, whole: usize) -> Result<(), ServerError> {
        match &self.account {
            Some((rates, payer)) => rates.charge(*payer, units, whole, &mut self.last_standing()),
            None => Ok(()),
        }
    }

    fn last_standing(&self) -> MutexGuard<'_, Option<Standing>> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn what_waits_on_purpose_has_its_time_beyond_the_limit() {
        let limit = Duration::from_millis(200);
        Meter::default().over(limit).await;
        let meter = Meter::default();
        let mut over = Box::pin(meter.over(limit));
        assert!(over.as_mut().now_or_never().is_none());
        meter.allow(Duration::from_secs(3_600));
        tokio::time::sleep(limit * 2).await;
        assert!(over.as_mut().now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_wait_without_end_is_none() {
        let meter = Meter::default();
        meter.allow(Duration::MAX);
        meter.allow(Duration::MAX);
        assert!(meter.over(Duration::MAX).now_or_never().is_none());
    }

    #[test]
    fn what_nobody_pays_for_is_free() {
        let meter = Meter::default();
        assert!(meter.open().is_ok() && meter.pay().is_ok() && meter.standing().is_none());
    }
}
