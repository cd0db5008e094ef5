//! The counters, which every write keeps, against the jobs themselves: after any sequence of moves they agree.

use std::sync::Arc;
use std::time::Duration;

use runql::domain::{
    Command, Exec, Histogram, Job, JobFilter, JobStatus, NewJob, RetryPolicy, StatusCounts, TimeRange,
};
use runql::store::{
    CancelJob, CleanupBatch, CleanupFilter, ExpireLeases, Figures, JobOrder, JobOrderField, MOST_AT_ONCE,
    PageRequest, Place, PromoteDue, ReleaseJob, StatsWindow,
};

use super::fixture::{LEASE, NO_LIMIT, at, claim, end, insert, new_job};
use crate::support::both_stores;
use crate::support::db::{Node, TestDb, texts};

both_stores!(counters_agree_with_the_jobs, the_busiest_names_come_first);

const NAMES: [&str; 3] = ["a", "b", "c"];

fn named(name: &str, ms: i64, dice: &mut fastrand::Rng) -> NewJob {
    NewJob {
        command: Command::Exec(Exec {
            program: name.to_owned(),
            args: Vec::new(),
        }),
        retry: RetryPolicy {
            max_attempts: dice.u32(1..4),
            backoff: Duration::from_millis(dice.u64(..3) * 50),
        },
        run_at: dice.bool().then(|| at(ms + dice.i64(0..100))),
        ..new_job(ms)
    }
}

async fn all_jobs(node: &Node) -> Vec<Job> {
    let order = JobOrder {
        field: JobOrderField::CreatedAt,
        descending: false,
    };
    let page = PageRequest {
        limit: NO_LIMIT,
        after: None,
        before: None,
        from_end: false,
    };
    let page = node
        .reader()
        .list(&JobFilter::default(), order, page)
        .await
        .unwrap();
    page.jobs.into_iter().map(|(_, job)| job).collect()
}

/// The figures, counted one by one.
fn counted(jobs: &[Job], name: Option<&str>) -> Figures {
    let mut figures = Figures::default();
    for job in jobs.iter().filter(|job| name.is_none_or(|name| job.name == name)) {
        figures.counts.add(job.status, 1);
        if let (Some(started), Some(finished)) = (job.started_at, job.finished_at) {
            figures.duration.record(finished.since(started));
            figures.wait.record(started.since(job.run_at));
        }
    }
    figures
}

fn read(figures: &Figures) -> impl PartialEq + std::fmt::Debug + use<> {
    let read = |histogram: &Histogram| {
        let points = [0.0, 0.5, 0.95, 1.0].map(|share| histogram.percentile_ms(share));
        (histogram.count(), histogram.mean_ms(), points)
    };
    (figures.counts, read(&figures.duration), read(&figures.wait))
}

async fn compare(node: &Node) {
    let jobs = all_jobs(node).await;
    for name in [None, Some("a"), Some("b"), Some("c"), Some("nobody")] {
        let expected = counted(&jobs, name);
        let window = |since| StatsWindow {
            name: name.map(str::to_owned),
            created: TimeRange { since, until: None },
        };
        let kept = node.reader().figures(&window(None)).await.unwrap();
        assert_eq!(read(&kept), read(&expected), "{name:?} from the counters");
        let scanned = node.reader().figures(&window(Some(at(-1)))).await.unwrap();
        assert_eq!(read(&scanned), read(&expected), "{name:?} from the rows");
    }
}

/// One random move, at this moment.
async fn step(node: &Node, dice: &mut fastrand::Rng, ms: i64, held: &mut Vec<Arc<Job>>) {
    match dice.u8(..9) {
        0 | 1 => {
            let jobs = (0..dice.usize(1..4))
                .map(|_| named(NAMES[dice.usize(..3)], ms, dice))
                .collect();
            insert(node, jobs).await;
        }
        2 | 3 => held.extend(claim(node, dice.usize(1..3), ms).await.into_iter().map(Arc::new)),
        4 | 5 if !held.is_empty() => {
            let job = held.swap_remove(dice.usize(..held.len()));
            let ends = [
                JobStatus::Completed,
                JobStatus::Failed,
                JobStatus::Timeout,
                JobStatus::Cancelled,
            ];
            let _ = end(node, &job, ends[dice.usize(..4)], ms).await;
        }
        6 if !held.is_empty() => {
            let job = held.swap_remove(dice.usize(..held.len()));
            node.write(ReleaseJob { job, now: at(ms) }).await;
        }
        7 => {
            let jobs = all_jobs(node).await;
            if !jobs.is_empty() {
                node.write(CancelJob {
                    id: jobs[dice.usize(..jobs.len())].id,
                    reason: None,
                    grace: None,
                    now: at(ms),
                })
                .await;
            }
        }
        _ => {
            node.write(PromoteDue { now: at(ms) }).await;
            // A node that loses its leases does not know at once: what it held stays in `held`, to come late.
            node.write(ExpireLeases {
                before: at(ms),
                whose: runql::store::Whose::All,
                now: at(ms),
                jitter: dice.f64(),
            })
            .await;
        }
    }
}

async fn counters_agree_with_the_jobs(db: TestDb) {
    let node = db.node().await;
    for seed in 0..4 {
        let mut dice = fastrand::Rng::with_seed(seed);
        let mut held = Vec::new();
        let mut ms = i64::try_from(seed).unwrap() * 10_000_000;
        for moves in 1..=60 {
            ms += dice.i64(1..3_000);
            step(&node, &mut dice, ms, &mut held).await;
            if moves % 15 == 0 {
                compare(&node).await;
            }
        }
    }
    let end_of_time = at(0).after(LEASE * 1_000_000);
    loop {
        let jobs = all_jobs(&node).await;
        let open: Vec<&Job> = jobs.iter().filter(|job| !job.status.is_final()).collect();
        if open.is_empty() {
            break;
        }
        for job in open {
            node.write(CancelJob {
                id: job.id,
                reason: None,
                grace: None,
                now: end_of_time,
            })
            .await;
        }
        node.write(ExpireLeases {
            before: end_of_time,
            whose: runql::store::Whose::All,
            now: end_of_time,
            jitter: 0.0,
        })
        .await;
    }
    compare(&node).await;
    let cleanup = CleanupBatch {
        filter: CleanupFilter {
            finished_before: None,
            statuses: JobStatus::ALL.to_vec(),
        },
        after: Place::default(),
        most: MOST_AT_ONCE,
    };
    assert!(node.write(cleanup).await.deleted > 50);
    let left = texts(
        &db.raw().await,
        "SELECT name || ' ' || metric FROM stat WHERE value <> 0",
    )
    .await;
    assert!(left.is_empty(), "{left:?}");
    compare(&node).await;
}

async fn the_busiest_names_come_first(db: TestDb) {
    let node = db.node().await;
    let mut dice = fastrand::Rng::with_seed(9);
    for (name, count) in [("a", 1), ("b", 4), ("c", 4)] {
        insert(&node, (0..count).map(|_| named(name, 5, &mut dice)).collect()).await;
    }
    let all = StatsWindow::default();
    let recent = StatsWindow {
        name: None,
        created: TimeRange {
            since: Some(at(5)),
            until: Some(at(6)),
        },
    };
    for window in [&all, &recent] {
        for (limit, expected) in [(0, &[][..]), (2, &["b", "c"]), (9, &["b", "c", "a"])] {
            let counts: Vec<(String, StatusCounts)> =
                node.reader().counts_by_name(window, limit).await.unwrap();
            let names: Vec<&str> = counts.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, expected, "{window:?}");
            assert!(
                counts
                    .iter()
                    .all(|(name, counts)| counts.total() == if name == "a" { 1 } else { 4 })
            );
        }
    }
    let only = StatsWindow {
        name: Some("c".to_owned()),
        ..StatsWindow::default()
    };
    assert_eq!(node.reader().counts_by_name(&only, 9).await.unwrap().len(), 1);
    for job in claim(&node, 9, 200).await.into_iter().map(Arc::new) {
        let _ = end(&node, &job, JobStatus::Completed, 300).await;
    }
    let ended = node.reader().status_counts(None).await.unwrap().ended();
    assert_eq!(
        node.reader().ended_since(&all, at(300)).await.unwrap(),
        u64::try_from(ended).unwrap()
    );
    assert_eq!(node.reader().ended_since(&all, at(301)).await.unwrap(), 0);
}
