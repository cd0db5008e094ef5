//! Figures over many jobs, in a space that does not grow with them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::JobStatus;

/// How many jobs there are of each status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StatusCounts([i64; 6]);

impl StatusCounts {
    /// Adds `by`, which may be negative, to the count of `status`.
    pub fn add(&mut self, status: JobStatus, by: i64) {
        self.0[status as usize] += by;
    }

    /// How many are in `status`.
    #[must_use]
    pub const fn of(&self, status: JobStatus) -> i64 {
        self.0[status as usize]
    }

    /// How many there are.
    #[must_use]
    pub fn total(&self) -> i64 {
        self.0.iter().sum()
    }

    /// How many have ended.
    #[must_use]
    pub fn ended(&self) -> i64 {
        self.total() - self.of(JobStatus::Pending) - self.of(JobStatus::Running)
    }

    /// COMPLETED ÷ all that have ended; none before any has.
    #[must_use]
    pub fn success_rate(&self) -> Option<f64> {
        let ended = self.ended();
        #[expect(clippy::cast_precision_loss, reason = "counts of jobs stay far below 2^53")]
        (ended > 0).then(|| self.of(JobStatus::Completed) as f64 / ended as f64)
    }
}

/// A histogram of durations whose buckets grow by 2^(1/16), about 4.4 %, from one microsecond on. A percentile read
/// from it is off by at most half a bucket, 2.2 %; it merges by adding, and forgets by subtracting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: BTreeMap<i32, i64>,
    sum_micros: i64,
}

/// Buckets for each doubling.
const PER_DOUBLING: f64 = 16.0;

impl Histogram {
    /// The bucket that a duration falls into.
    #[must_use]
    pub fn bucket(duration: Duration) -> i32 {
        let micros = duration.as_secs_f64() * 1e6;
        if micros < 1.0 {
            return 0;
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "log2 of any duration times 16 is below 1,400"
        )]
        let bucket = (micros.log2() * PER_DOUBLING).floor() as i32 + 1;
        bucket
    }

    /// The duration in the middle of a bucket, in milliseconds.
    fn middle_ms(bucket: i32) -> f64 {
        if bucket == 0 {
            return 0.0;
        }
        ((f64::from(bucket) - 0.5) / PER_DOUBLING).exp2() / 1e3
    }

    /// Adds `count` to a bucket; the store keeps buckets and the sum apart.
    pub fn add_bucket(&mut self, bucket: i32, count: i64) {
        *self.counts.entry(bucket).or_default() += count;
    }

    /// Adds to the sum of all durations, in microseconds.
    pub const fn add_sum(&mut self, micros: i64) {
        self.sum_micros += micros;
    }

    /// Adds one duration.
    pub fn record(&mut self, duration: Duration) {
        self.add_bucket(Self::bucket(duration), 1);
        self.add_sum(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX));
    }

    /// How many durations it holds.
    #[must_use]
    pub fn count(&self) -> i64 {
        self.counts.values().sum()
    }

    /// The exact mean in milliseconds; none where it is empty.
    #[must_use]
    pub fn mean_ms(&self) -> Option<f64> {
        let count = self.count();
        #[expect(clippy::cast_precision_loss, reason = "a mean needs no more than 53 bits")]
        (count > 0).then(|| self.sum_micros as f64 / count as f64 / 1e3)
    }

    /// The duration below which `share` (0 to 1) of all lie, in milliseconds; none where it is empty.
    #[must_use]
    pub fn percentile_ms(&self, share: f64) -> Option<f64> {
        let count = self.count();
        if count <= 0 {
            return None;
        }
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            reason = "counts of jobs stay far below 2^53"
        )]
        let rank = ((count as f64 * share).ceil() as i64).clamp(1, count);
        let mut seen = 0;
        for (&bucket, &n) in &self.counts {
            seen += n;
            if seen >= rank {
                return Some(Self::middle_ms(bucket));
            }
        }
        None
    }

    /// The longest duration, to within half a bucket, in milliseconds.
    #[must_use]
    pub fn max_ms(&self) -> Option<f64> {
        self.percentile_ms(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_a_bucket_of_the_truth() {
        let mut histogram = Histogram::default();
        for ms in 1..=1_000 {
            histogram.record(Duration::from_millis(ms));
        }
        assert_eq!(histogram.count(), 1_000);
        assert!((histogram.mean_ms().unwrap() - 500.5).abs() < 1e-6);
        for (share, truth) in [(0.5, 500.0), (0.95, 950.0), (0.99, 990.0), (1.0, 1_000.0)] {
            let got = histogram.percentile_ms(share).unwrap();
            assert!((got / truth - 1.0).abs() < 0.045, "{share}: {got} for {truth}");
        }
    }

    #[test]
    fn an_empty_one_says_nothing() {
        assert_eq!(Histogram::default().percentile_ms(0.5), None);
        assert_eq!(Histogram::default().mean_ms(), None);
        assert_eq!(StatusCounts::default().success_rate(), None);
    }
}
