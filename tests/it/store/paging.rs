//! Listings: every page of every order, filter and direction, against the same jobs in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use runql::domain::{
    Command, Exec, Job, JobFilter, JobId, JobKind, JobStatus, Metadata, NamePattern, NewJob, Tag, TimeRange,
};
use runql::store::{CancelJob, JobOrder, JobOrderField, Keyset, PageRequest};
use sea_orm::{ConnectionTrait, DbBackend, Statement};

use super::fixture::{NO_LIMIT, at, claim, end, insert, new_job, stored};
use crate::support::both_stores;
use crate::support::db::{Node, TestDb};

both_stores!(
    every_page_of_every_order,
    random_filters,
    a_page_between_two_places
);

const JOBS: usize = 40;
const NAMES: [&str; 6] = ["sh", "build", "build/a", "build/b", "Build", "bü"];
const PATTERNS: [&str; 6] = ["b*", "build*", "build/*", "*", "x*", "bü*"];
const ORDERS: [JobOrderField; 4] = [
    JobOrderField::CreatedAt,
    JobOrderField::StartedAt,
    JobOrderField::FinishedAt,
    JobOrderField::StepIndex,
];

/// A job, and its index within its plan, which only the table tells.
type Known = (Job, Option<i64>);

fn pick<'a, T>(dice: &mut fastrand::Rng, all: &'a [T]) -> &'a T {
    &all[dice.usize(..all.len())]
}

fn tag(dice: &mut fastrand::Rng) -> Tag {
    Tag {
        key: pick(dice, &["a", "b"]).to_string(),
        value: dice.usize(..2).to_string(),
    }
}

fn random_job(dice: &mut fastrand::Rng) -> NewJob {
    let ms = dice.i64(0..20);
    let name = pick(dice, &NAMES).to_string();
    NewJob {
        command: if name == "sh" {
            new_job(0).command
        } else {
            Command::Exec(Exec {
                program: name,
                args: Vec::new(),
            })
        },
        queue: pick(dice, &["default", "other"]).to_string(),
        metadata: Metadata {
            source: pick(dice, &[None, Some("ui"), Some("test")]).map(str::to_owned),
            conversation_id: pick(dice, &[None, Some("c1"), Some("c2")]).map(str::to_owned),
            tags: (0..dice.usize(..3)).map(|_| tag(dice)).collect(),
        },
        ..new_job(ms)
    }
}

/// Stores jobs and moves them on at random; moments repeat, so that ids must decide.
async fn populate(db: &TestDb, node: &Node, dice: &mut fastrand::Rng) -> Vec<Known> {
    let ids: Vec<JobId> = insert(node, (0..JOBS).map(|_| random_job(dice)).collect())
        .await
        .iter()
        .map(|job| job.id)
        .collect();
    for round in 0..5 {
        for job in claim(node, 6, 100 + round / 2).await.into_iter().map(Arc::new) {
            if dice.bool() {
                let status = *pick(
                    dice,
                    &[JobStatus::Completed, JobStatus::Failed, JobStatus::Timeout],
                );
                let _ = end(node, &job, status, 110 + dice.i64(0..4)).await;
            }
        }
    }
    for id in &ids[..5] {
        node.write(CancelJob {
            id: *id,
            reason: None,
            grace: None,
            now: at(112),
        })
        .await;
    }
    // Steps of plans: two parents, with indices that repeat between them.
    let raw = db.raw().await;
    let mut indices = BTreeMap::new();
    for (n, id) in ids.iter().enumerate().skip(20).step_by(2) {
        let index = i64::try_from(n / 4).unwrap();
        let sql = match raw.get_database_backend() {
            DbBackend::Postgres => "UPDATE job SET parent_id = $1, step_index = $2 WHERE id = $3",
            _ => "UPDATE job SET parent_id = ?, step_index = ? WHERE id = ?",
        };
        let values = [ids[n % 4 / 2].uuid().into(), index.into(), id.uuid().into()];
        raw.execute_raw(Statement::from_sql_and_values(
            raw.get_database_backend(),
            sql,
            values,
        ))
        .await
        .unwrap();
        indices.insert(*id, index);
    }
    let mut known = Vec::new();
    for id in ids {
        known.push((stored(node, id).await, indices.get(&id).copied()));
    }
    known
}

fn place(field: JobOrderField, (job, index): &Known) -> Option<Keyset> {
    let key = match field {
        JobOrderField::CreatedAt => {
            return Some(Keyset {
                key: None,
                id: job.id,
            });
        }
        JobOrderField::StartedAt => job.started_at?.micros(),
        JobOrderField::FinishedAt => job.finished_at?.micros(),
        JobOrderField::StepIndex => (*index)?,
    };
    Some(Keyset {
        key: Some(key),
        id: job.id,
    })
}

/// The whole listing, as it should be.
fn listing(known: &[Known], filter: &JobFilter, order: JobOrder) -> Vec<Keyset> {
    let mut all: Vec<Keyset> = known
        .iter()
        .filter(|(job, _)| filter.matches(job))
        .filter_map(|one| place(order.field, one))
        .collect();
    all.sort_by_key(|place| (place.key, place.id));
    if order.descending {
        all.reverse();
    }
    all
}

/// Turns page after page from one end to the other.
async fn turn_pages(
    node: &Node,
    filter: &JobFilter,
    order: JobOrder,
    from_end: bool,
    limit: u64,
    expected: &[Keyset],
) {
    let what = format!("{filter:?} {order:?} from_end={from_end} limit={limit}");
    let mut got: Vec<Keyset> = Vec::new();
    loop {
        let edge = if from_end { got.first() } else { got.last() }.copied();
        let request = PageRequest {
            limit,
            after: edge.filter(|_| !from_end),
            before: edge.filter(|_| from_end),
            from_end,
        };
        let page = node.reader().list(filter, order, request).await.unwrap();
        assert!(
            page.jobs
                .iter()
                .all(|(place, job)| place.id == job.id && filter.matches(job)),
            "{what}"
        );
        let places: Vec<Keyset> = page.jobs.iter().map(|(place, _)| *place).collect();
        let more = if from_end {
            page.has_previous
        } else {
            page.has_next
        };
        let other = if from_end {
            page.has_next
        } else {
            page.has_previous
        };
        assert_eq!(other, edge.is_some(), "{what}");
        assert!(
            !more || places.len() as u64 == limit,
            "{what}: a page before the last is full"
        );
        got = if from_end {
            [places, got].concat()
        } else {
            [got, places].concat()
        };
        assert_eq!(more, got.len() < expected.len(), "{what}");
        if !more {
            break;
        }
    }
    assert_eq!(got, expected, "{what}");
}

async fn every_page_of_every_order(db: TestDb) {
    let node = db.node().await;
    let known = populate(&db, &node, &mut fastrand::Rng::with_seed(1)).await;
    let filter = JobFilter::default();
    for field in ORDERS {
        for descending in [false, true] {
            let order = JobOrder { field, descending };
            let expected = listing(&known, &filter, order);
            assert!(expected.len() > 7, "{field:?}: {}", expected.len());
            for limit in 1..=7 {
                turn_pages(&node, &filter, order, limit % 2 == 0, limit, &expected).await;
            }
            turn_pages(&node, &filter, order, true, 3, &expected).await;
            turn_pages(&node, &filter, order, false, 4, &expected).await;
            turn_pages(&node, &filter, order, true, NO_LIMIT, &expected).await;
        }
    }
}

fn some_of<T: Clone>(dice: &mut fastrand::Rng, all: &[T]) -> Vec<T> {
    all.iter().filter(|_| dice.bool()).cloned().collect()
}

fn range(dice: &mut fastrand::Rng, from: i64) -> TimeRange {
    let mut moment =
        || (dice.u8(..3) > 0).then(|| at(from).after(std::time::Duration::from_micros(dice.u64(..20_000))));
    TimeRange {
        since: moment(),
        until: moment(),
    }
}

/// A filter of a few conditions, each of which some jobs meet.
fn random_filter(dice: &mut fastrand::Rng, known: &[Known]) -> JobFilter {
    let mut filter = JobFilter::default();
    for _ in 0..dice.usize(1..4) {
        let (job, _) = pick(dice, known);
        match dice.u8(..13) {
            0 => {
                let mut ids = some_of(dice, &known.iter().map(|(job, _)| job.id).collect::<Vec<_>>());
                ids.push(new_job(0).id);
                filter.ids = Some(ids.into_iter().collect());
            }
            1 | 2 => filter.statuses = Some(some_of(dice, JobStatus::ALL).into_iter().collect()),
            3 => filter.kinds = Some([*pick(dice, &[JobKind::Shell, JobKind::Exec, JobKind::Plan])].into()),
            4 => filter.name = Some(NamePattern::Exact(job.name.clone())),
            5 => filter.name = Some(NamePattern::parse(PATTERNS[dice.usize(..PATTERNS.len())])),
            6 => filter.queues = Some([job.queue.clone()].into()),
            7 => filter.worker = job.worker,
            8 => filter.parent = job.parent,
            9 => filter.top_level = Some(dice.bool()),
            10 => filter.tags = (0..dice.usize(1..3)).map(|_| tag(dice)).collect(),
            11 => {
                filter.source.clone_from(&job.metadata.source);
                filter.conversation_id.clone_from(&job.metadata.conversation_id);
            }
            _ if dice.bool() => filter.finished = Some(range(dice, 105)),
            _ => filter.created = range(dice, 0),
        }
    }
    filter
}

async fn random_filters(db: TestDb) {
    let node = db.node().await;
    let mut dice = fastrand::Rng::with_seed(2);
    let known = populate(&db, &node, &mut dice).await;
    let by_id = JobOrder {
        field: JobOrderField::CreatedAt,
        descending: false,
    };
    let mut met = 0;
    for _ in 0..120 {
        let filter = random_filter(&mut dice, &known);
        let matching = known.iter().filter(|(job, _)| filter.matches(job)).count();
        met += usize::from(matching > 0);
        let counted = node.reader().count(&filter).await.unwrap();
        assert_eq!(counted, i64::try_from(matching).unwrap(), "{filter:?}");
        let order = JobOrder {
            field: *pick(&mut dice, &ORDERS),
            descending: dice.bool(),
        };
        for order in [by_id, order] {
            let limit = dice.u64(1..8);
            turn_pages(
                &node,
                &filter,
                order,
                dice.bool(),
                limit,
                &listing(&known, &filter, order),
            )
            .await;
        }
    }
    assert!(met > 40, "only {met} filters were met by any job");
}

async fn a_page_between_two_places(db: TestDb) {
    let node = db.node().await;
    let mut dice = fastrand::Rng::with_seed(3);
    let known = populate(&db, &node, &mut dice).await;
    for _ in 0..60 {
        let order = JobOrder {
            field: *pick(&mut dice, &ORDERS),
            descending: dice.bool(),
        };
        let all = listing(&known, &JobFilter::default(), order);
        let (a, b) = (dice.usize(..all.len()), dice.usize(..all.len()));
        let (low, high, from_end, limit) = (a.min(b), a.max(b), dice.bool(), dice.usize(1..8));
        let request = PageRequest {
            limit: limit as u64,
            after: Some(all[low]),
            before: Some(all[high]),
            from_end,
        };
        let page = node
            .reader()
            .list(&JobFilter::default(), order, request)
            .await
            .unwrap();
        let places: Vec<Keyset> = page.jobs.iter().map(|(place, _)| *place).collect();
        let between = &all[(low + 1).min(high)..high];
        let expected = if from_end {
            &between[between.len().saturating_sub(limit)..]
        } else {
            &between[..between.len().min(limit)]
        };
        assert_eq!(places, expected, "{order:?} {request:?}");
    }
}
