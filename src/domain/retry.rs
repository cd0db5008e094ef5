//! How often a job is tried, and how long it pauses between.

use std::time::Duration;

/// The longest pause between two attempts.
const LONGEST: Duration = Duration::from_secs(3_600);

/// How often a job may be tried, and the pause after the first failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// 1 is no retry.
    pub max_attempts: u32,
    /// The pause before the second attempt; it doubles with each further one.
    pub backoff: Duration,
}

/// The pause after `attempt` failed: backoff × 2^(attempt − 1), an hour at most, scaled by a jitter between a half
/// and one so that jobs that failed together do not come back together.
///
/// `jitter` is 0 to 1 and is handed in, so that the rule itself is the same each time.
#[must_use]
pub fn backoff(policy: RetryPolicy, attempt: u32, jitter: f64) -> Duration {
    let doubled = 2_u32.checked_pow(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
    let full = policy
        .backoff
        .checked_mul(doubled)
        .unwrap_or(LONGEST)
        .min(LONGEST);
    full.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_an_hour_and_jitter_only_shortens() {
        let policy = RetryPolicy {
            max_attempts: 9,
            backoff: Duration::from_secs(1),
        };
        assert_eq!(backoff(policy, 1, 1.0), Duration::from_secs(1));
        assert_eq!(backoff(policy, 3, 1.0), Duration::from_secs(4));
        assert_eq!(backoff(policy, 3, 0.0), Duration::from_secs(2));
        assert_eq!(backoff(policy, 60, 1.0), LONGEST);
    }
}
