//! Pauses between tries: each longer than the one before, and none the same for two workers.

use std::time::Duration;

use crate::clock::chance;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// The next pause.
#[derive(Debug)]
pub(super) struct Pause {
    next: Duration,
    longest: Duration,
}

impl Default for Pause {
    fn default() -> Self {
        Self::up_to(LONGEST)
    }
}

impl Pause {
    /// Pauses that do not grow beyond this.
    pub(super) fn up_to(longest: Duration) -> Self {
        Self {
            next: FIRST.min(longest),
            longest,
        }
    }

    /// How long to wait now: half of it by chance, so that workers that lost a server together come back one by one.
    pub(super) fn take(&mut self) -> Duration {
        let pause = self.next.mul_f64(0.5 + chance() / 2.0);
        self.next = (self.next * 2).min(self.longest);
        pause
    }
}
