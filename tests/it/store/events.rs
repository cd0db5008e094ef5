//! Reading events: after a place, of some jobs, of some types.

use std::collections::BTreeSet;
use std::sync::Arc;

use runql::domain::{EventSeq, JobEvent, JobEventType, JobStatus};
use runql::store::{EventFilter, PageRequest};

use super::fixture::{all_events, claim, end, insert, new_job};
use crate::support::both_stores;
use crate::support::db::{Node, TestDb};

both_stores!(pages_after_a_place, one_jobs_events, nothing_where_nothing_is);

/// Twelve jobs with three events each.
async fn populate(node: &Node) -> Vec<JobEvent> {
    insert(node, (0..12).map(new_job).collect()).await;
    for job in claim(node, 12, 20).await.into_iter().map(Arc::new) {
        let _ = end(
            node,
            &job,
            [JobStatus::Completed, JobStatus::Failed][usize::from(job.created_at.millis() % 3 == 0)],
            30,
        )
        .await;
    }
    let all = all_events(node.reader()).await;
    assert_eq!(all.len(), 36);
    assert!(all.windows(2).all(|pair| pair[0].seq < pair[1].seq));
    all
}

async fn pages_after_a_place(db: TestDb) {
    let node = db.node().await;
    let all = populate(&node).await;
    let some: BTreeSet<_> = all[..5].iter().map(|event| event.job).collect();
    let filters = [
        EventFilter::default(),
        EventFilter {
            jobs: Some(some.clone()),
            types: None,
        },
        EventFilter {
            jobs: None,
            types: Some([JobEventType::Failed, JobEventType::Created].into()),
        },
        EventFilter {
            jobs: Some(some),
            types: Some([JobEventType::Started].into()),
        },
        EventFilter {
            jobs: Some(BTreeSet::new()),
            types: None,
        },
        EventFilter {
            jobs: None,
            types: Some(BTreeSet::new()),
        },
    ];
    for filter in filters {
        let expected: Vec<&JobEvent> = all
            .iter()
            .filter(|event| filter.jobs.as_ref().is_none_or(|jobs| jobs.contains(&event.job)))
            .filter(|event| {
                filter
                    .types
                    .as_ref()
                    .is_none_or(|types| types.contains(&event.kind))
            })
            .collect();
        for limit in [1, 4, 7, 100] {
            let (mut place, mut got) = (EventSeq(0), Vec::new());
            loop {
                let page = node.reader().events_after(place, &filter, limit).await.unwrap();
                let Some(last) = page.last() else { break };
                assert!(page.len() as u64 <= limit);
                place = last.seq;
                got.extend(page);
            }
            assert_eq!(got.iter().collect::<Vec<_>>(), expected, "{filter:?} {limit}");
        }
    }
}

async fn one_jobs_events(db: TestDb) {
    let node = db.node().await;
    let all = populate(&node).await;
    let job = all[3].job;
    let expected: Vec<&JobEvent> = all.iter().filter(|event| event.job == job).collect();
    for limit in 1..=4 {
        let (mut after, mut got) = (None, Vec::new());
        loop {
            let request = PageRequest {
                limit,
                after,
                before: None,
                from_end: false,
            };
            let page = node.reader().job_events(job, request).await.unwrap();
            after = page.events.last().map(|event| event.seq);
            got.extend(page.events);
            assert_eq!(page.has_next, got.len() < expected.len());
            if !page.has_next {
                break;
            }
        }
        assert_eq!(got.iter().collect::<Vec<_>>(), expected);
    }
}

async fn nothing_where_nothing_is(db: TestDb) {
    let node = db.node().await;
    assert!(all_events(node.reader()).await.is_empty());
    assert_eq!(node.reader().last_event().await.unwrap(), EventSeq(0));
    assert!(node.take_commits().is_empty());
    assert!(claim(&node, 3, 0).await.is_empty());
    assert!(node.take_commits().is_empty(), "a claim of nothing tells nothing");
}
