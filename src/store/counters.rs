//! The counters: what a transaction adds to them, and their rows.

use std::collections::BTreeMap;
use std::time::Duration;

use entity::stat;
use sea_orm::ActiveValue::Set;

use super::error::StoreError;
use super::rows::Rows;
use crate::domain::{Histogram, JobStatus};

/// A counter that is there already is added to.
pub(super) const ADD_TO_COUNTER: &str =
    " ON CONFLICT (name, metric, bucket) DO UPDATE SET value = stat.value + excluded.value";

/// The metrics that the counters know.
pub(super) mod metric {
    pub(in crate::store) const STATUS: &str = "status";
    pub(in crate::store) const DURATION: &str = "duration";
    pub(in crate::store) const DURATION_SUM: &str = "duration_sum";
    pub(in crate::store) const WAIT: &str = "wait";
    pub(in crate::store) const WAIT_SUM: &str = "wait_sum";
}

/// What is to be added, by a job's name, the metric and its bucket.
#[derive(Debug, Default)]
pub(super) struct Counters(BTreeMap<(String, &'static str, i32), i64>);

impl Counters {
    /// Moves one job from a status to another; none stands for "not there".
    pub(super) fn count_move(&mut self, name: &str, from: Option<JobStatus>, to: Option<JobStatus>) {
        for (status, by) in [(from, -1), (to, 1)] {
            if let Some(status) = status {
                self.count(name, metric::STATUS, status as i32, by);
            }
        }
    }

    /// Adds one ended job's times to the histograms, or with −1 takes them out again.
    pub(super) fn count_times(
        &mut self,
        name: &str,
        duration: Option<Duration>,
        wait: Option<Duration>,
        by: i64,
    ) {
        for (time, buckets, sum) in [
            (duration, metric::DURATION, metric::DURATION_SUM),
            (wait, metric::WAIT, metric::WAIT_SUM),
        ] {
            if let Some(time) = time {
                let micros = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
                self.count(name, buckets, Histogram::bucket(time), by);
                self.count(name, sum, 0, by.saturating_mul(micros));
            }
        }
    }

    fn count(&mut self, name: &str, metric: &'static str, bucket: i32, by: i64) {
        *self.0.entry((name.to_owned(), metric, bucket)).or_default() += by;
    }

    /// The rows, of which none adds nothing.
    pub(super) fn take_rows(&mut self) -> Result<Rows, StoreError> {
        let counters = std::mem::take(&mut self.0).into_iter().filter(|(_, by)| *by != 0);
        let counters = counters.map(|((name, metric, bucket), value)| stat::ActiveModel {
            name: Set(name),
            metric: Set(metric.to_owned()),
            bucket: Set(bucket),
            value: Set(value),
        });
        Rows::of(counters.collect(), None)
    }
}
