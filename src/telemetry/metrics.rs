//! Every metric of the server: its name, its help, its buckets, and the one function that records it.
//!
//! Other modules call the functions below and never spell a name. They record into the recorder of the process, or
//! into the one that [`::metrics::with_local_recorder`] sets for a closure; where there is none, they do nothing.
//!
//! A process has one recorder. [`Metrics::of_process`] installs it on the first call and hands out the same one
//! afterwards, so several servers in one process (tests, embedders) share their figures and none panics. Where figures
//! must be told apart, [`Metrics::with_recorder`] makes a recorder that is not installed at all.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ::metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use tokio_util::sync::CancellationToken;

use super::process;
use crate::domain::{JobKind, JobStatus, StatusCounts};

const JOBS_ENDED: &str = "runql_jobs_ended_total";
const JOBS: &str = "runql_jobs";
const JOB_DURATION: &str = "runql_job_duration_seconds";
const JOB_WAIT: &str = "runql_job_wait_seconds";
const STORE_COMMIT: &str = "runql_store_commit_seconds";
const STORE_WRITES: &str = "runql_store_writes_total";
const STORE_GROUP_SIZE: &str = "runql_store_group_size";
const LOG_BYTES: &str = "runql_log_bytes_total";
const STORE_BYTES: &str = "runql_store_bytes";
const LISTENERS: &str = "runql_listeners";
const SOCKETS: &str = "runql_sockets";

/// From the shortest process to the longest timeout, one day.
const RUN_BUCKETS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0,
    14_400.0, 86_400.0,
];
/// From a claim at once to an hour in the queue.
const WAIT_BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0, 900.0, 3_600.0,
];
/// From a local disk's commit to one that hangs.
const COMMIT_BUCKETS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];
/// From a write alone to the largest group.
const GROUP_BUCKETS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0];

const BUCKETS: &[(&str, &[f64])] = &[
    (JOB_DURATION, RUN_BUCKETS),
    (JOB_WAIT, WAIT_BUCKETS),
    (STORE_COMMIT, COMMIT_BUCKETS),
    (STORE_GROUP_SIZE, GROUP_BUCKETS),
];

/// How often [`Metrics::keep_small`] folds observations into their buckets.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Counts a job that ended. `ran` is the time from its last start, none where it never started.
pub fn job_ended(status: JobStatus, kind: JobKind, ran: Option<Duration>) {
    counter!(JOBS_ENDED, "status" => status.as_str(), "kind" => kind.as_str()).increment(1);
    if let Some(ran) = ran {
        histogram!(JOB_DURATION).record(ran);
    }
}

/// Notes how long a job was ready to start before it started.
pub fn job_started(waited: Duration) {
    histogram!(JOB_WAIT).record(waited);
}

/// Sets how many jobs there are of each status.
pub fn set_jobs(counts: &StatusCounts) {
    for &status in JobStatus::ALL {
        #[expect(clippy::cast_precision_loss, reason = "counts of jobs stay far below 2^53")]
        gauge!(JOBS, "status" => status.as_str()).set(counts.of(status) as f64);
    }
}

/// Notes one commit of the store: how long it took, and how many writes shared it.
pub fn store_committed(took: Duration, writes: usize) {
    histogram!(STORE_COMMIT).record(took);
    counter!(STORE_WRITES).increment(writes as u64);
    #[expect(clippy::cast_precision_loss, reason = "a group is small")]
    histogram!(STORE_GROUP_SIZE).record(writes as f64);
}

/// Sets how large the store is.
pub fn set_store_bytes(bytes: i64) {
    #[expect(clippy::cast_precision_loss, reason = "a gauge needs no more than 53 bits")]
    gauge!(STORE_BYTES).set(bytes as f64);
}

/// Counts bytes that jobs printed and the store took.
pub fn log_bytes(bytes: usize) {
    counter!(LOG_BYTES).increment(bytes as u64);
}

/// Sets how many clients are connected and listen at this moment.
pub fn set_listeners(sockets: usize, subscriptions: usize) {
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of connections stay far below 2^53"
    )]
    let (sockets, subscriptions) = (sockets as f64, subscriptions as f64);
    gauge!(SOCKETS).set(sockets);
    gauge!(LISTENERS).set(subscriptions);
}

/// What has been recorded, as Prometheus reads it.
#[derive(Debug, Clone)]
pub struct Metrics(PrometheusHandle);

/// The process already has a recorder that is not ours.
#[derive(Debug, thiserror::Error)]
#[error("metrics already have a recorder in this process, which is not the server's")]
pub struct ForeignRecorder;

impl Metrics {
    /// The metrics of this process; the first call installs their recorder.
    ///
    /// # Errors
    ///
    /// Where the program that embeds the server has installed a recorder of its own: that one gets the figures.
    pub fn of_process() -> Result<Self, ForeignRecorder> {
        static INSTALLED: Mutex<Option<Metrics>> = Mutex::new(None);
        let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(metrics) = &*installed {
            return Ok(metrics.clone());
        }
        let (recorder, metrics) = Self::with_recorder();
        ::metrics::set_global_recorder(recorder).map_err(|_| ForeignRecorder)?;
        Ok(installed.insert(metrics).clone())
    }

    /// A recorder that is not installed, and the metrics that it will hold.
    #[must_use]
    pub fn with_recorder() -> (PrometheusRecorder, Self) {
        let builder = BUCKETS
            .iter()
            .fold(PrometheusBuilder::new(), |builder, (name, buckets)| {
                builder
                    .set_buckets_for_metric(Matcher::Full((*name).to_owned()), buckets)
                    .expect("every list of buckets above has entries")
            });
        let recorder = builder.build_recorder();
        ::metrics::with_local_recorder(&recorder, describe);
        let metrics = Self(recorder.handle());
        (recorder, metrics)
    }

    /// The metrics as Prometheus text, with those of the process itself.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = self.0.render();
        process::render(&mut text);
        text
    }

    /// Folds observations into their buckets until `stop`. Without it, a server that nobody scrapes would keep every
    /// single one.
    pub async fn keep_small(self, stop: CancellationToken) {
        let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(interval.tick()).await.is_some() {
            self.0.run_upkeep();
        }
    }
}

fn describe() {
    describe_counter!(JOBS_ENDED, Unit::Count, "Jobs that ended, by status and kind.");
    describe_gauge!(JOBS, Unit::Count, "Jobs in the store, by status.");
    describe_histogram!(
        JOB_DURATION,
        Unit::Seconds,
        "Time from the start of a job's last attempt to its end."
    );
    describe_histogram!(
        JOB_WAIT,
        Unit::Seconds,
        "Time from a job being ready to start to its start."
    );
    describe_histogram!(
        STORE_COMMIT,
        Unit::Seconds,
        "Time that a commit of the store took."
    );
    describe_counter!(STORE_WRITES, Unit::Count, "Writes that the store committed.");
    describe_histogram!(STORE_GROUP_SIZE, Unit::Count, "Writes that shared one commit.");
    describe_counter!(
        LOG_BYTES,
        Unit::Bytes,
        "Bytes printed by jobs and stored in their logs."
    );
    describe_gauge!(STORE_BYTES, Unit::Bytes, "Size of the database.");
    describe_gauge!(
        LISTENERS,
        Unit::Count,
        "Subscriptions that are live, over sockets and event streams."
    );
    describe_gauge!(SOCKETS, Unit::Count, "WebSockets that are open.");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_function_records_under_a_described_name() {
        let (recorder, metrics) = Metrics::with_recorder();
        ::metrics::with_local_recorder(&recorder, || {
            job_ended(
                JobStatus::Completed,
                JobKind::Script,
                Some(Duration::from_millis(7)),
            );
            job_ended(JobStatus::Cancelled, JobKind::Exec, None);
            job_started(Duration::from_millis(2));
            let mut counts = StatusCounts::default();
            counts.add(JobStatus::Running, 3);
            set_jobs(&counts);
            store_committed(Duration::from_micros(300), 4);
            log_bytes(512);
            set_listeners(2, 3);
            set_store_bytes(4_096);
            let text = metrics.render();
            for line in [
                r#"runql_jobs_ended_total{status="COMPLETED",kind="SCRIPT"} 1"#,
                r#"runql_jobs_ended_total{status="CANCELLED",kind="EXEC"} 1"#,
                r#"runql_jobs{status="RUNNING"} 3"#,
                r#"runql_jobs{status="PENDING"} 0"#,
                r#"runql_job_duration_seconds_bucket{le="0.005"} 0"#,
                r#"runql_job_duration_seconds_bucket{le="0.01"} 1"#,
                "runql_job_duration_seconds_count 1",
                r#"runql_job_wait_seconds_bucket{le="0.0025"} 1"#,
                r#"runql_store_commit_seconds_bucket{le="0.0005"} 1"#,
                "runql_store_writes_total 4",
                r#"runql_store_group_size_bucket{le="5"} 1"#,
                "runql_log_bytes_total 512",
                "runql_sockets 2",
                "runql_listeners 3",
                "runql_store_bytes 4096",
                "# TYPE runql_job_wait_seconds histogram",
            ] {
                assert!(text.lines().any(|got| got == line), "no line {line} in\n{text}");
            }
            #[cfg(target_os = "linux")]
            assert!(
                text.contains("\nprocess_resident_memory_bytes "),
                "nothing of the process in\n{text}"
            );
            for name in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
                let name = name.split(' ').next().unwrap();
                assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help");
            }
        });
    }

    #[test]
    fn the_process_has_one_recorder_however_often_it_is_asked_for() {
        let first = Metrics::of_process().unwrap();
        let second = Metrics::of_process().unwrap();
        log_bytes(1);
        assert!(first.render().contains("runql_log_bytes_total"));
        assert!(second.render().contains("runql_log_bytes_total"));
    }

    #[tokio::test]
    async fn upkeep_ends_when_it_is_asked_to() {
        let (_recorder, metrics) = Metrics::with_recorder();
        let stop = CancellationToken::new();
        stop.cancel();
        tokio::time::timeout(Duration::from_secs(5), metrics.keep_small(stop))
            .await
            .unwrap();
    }
}
