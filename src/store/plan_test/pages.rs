//! Pages of jobs and of events, by each order and filter.

use uuid::Uuid;

use super::{Bench, at};
use crate::domain::{EventSeq, JobFilter, JobId, JobStatus, NamePattern, TimeRange};
use crate::store::{EventFilter, JobOrder, JobOrderField, Keyset, PageRequest};

#[tokio::test]
async fn no_page_reads_the_history() {
    for analyzed in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let bench = Bench::new(folder.path(), analyzed).await;
        let filters = [
            JobFilter::default(),
            JobFilter {
                statuses: Some([JobStatus::Completed].into()),
                ..JobFilter::default()
            },
            JobFilter {
                name: Some(NamePattern::Exact("name3".to_owned())),
                ..JobFilter::default()
            },
            JobFilter {
                conversation_id: Some("c7".to_owned()),
                ..JobFilter::default()
            },
            JobFilter {
                created: TimeRange {
                    since: Some(at(1)),
                    until: Some(at((1 << 48) - 1)),
                },
                ..JobFilter::default()
            },
        ];
        let fields = [
            JobOrderField::CreatedAt,
            JobOrderField::StartedAt,
            JobOrderField::FinishedAt,
        ];
        for (n, filter) in filters.iter().enumerate() {
            for field in fields {
                for (descending, from_end) in [(true, false), (false, false), (true, true)] {
                    let place = Keyset {
                        key: (field != JobOrderField::CreatedAt).then_some(9_000),
                        id: JobId::from_uuid(Uuid::from_u128(1 << 127)),
                    };
                    for after in [None, Some(place)] {
                        let page = PageRequest {
                            limit: 20,
                            after: after.filter(|_| !from_end),
                            before: after.filter(|_| from_end),
                            from_end,
                        };
                        let order = JobOrder { field, descending };
                        let found = bench.reader.list(filter, order, page).await.unwrap();
                        assert!(!found.jobs.is_empty(), "{filter:?} {order:?} {page:?}");
                        // Only the plain listing has an index for every order; with another filter the
                        // database may prefer to find by the filter, and sort what it found.
                        let plain = n == 0;
                        let sorts = (!plain && field != JobOrderField::CreatedAt) || n == 3;
                        bench
                            .assert_cheap(&format!("{filter:?} {order:?} {page:?}"), sorts)
                            .await;
                    }
                }
            }
        }
        let some = bench
            .reader
            .events_after(EventSeq(19_000), &EventFilter::default(), 100)
            .await
            .unwrap();
        assert_eq!(some.len(), 100);
        bench.assert_cheap("events", false).await;
        let first = some[0].job;
        let page = PageRequest {
            limit: 5,
            after: None,
            before: None,
            from_end: false,
        };
        assert_eq!(
            bench.reader.job_events(first, page).await.unwrap().events.len(),
            1
        );
        bench.assert_cheap("a job's events", false).await;
        bench.reader.last_event().await.unwrap();
        bench.reader.child_counts(&[first]).await.unwrap();
        bench.reader.earlier_attempts(&[first]).await.unwrap();
        bench.reader.jobs(&[first]).await.unwrap();
        bench.reader.log_size(first, 1).await.unwrap();
        bench
            .reader
            .last_jobs(&[(crate::domain::JobKind::Script, "name3".to_owned())])
            .await
            .unwrap();
        bench.assert_cheap("small questions", true).await;
    }
}
