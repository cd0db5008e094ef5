//! A job from its storing to its end: rows, events, counters and hints of each step.

use std::sync::Arc;

use runql::domain::{
    EnvValue, EnvVar, EventSeq, JobEventType, JobStatus, Metadata, NewJob, Progress, Tag, WaitReason,
};
use runql::store::{EndJob, EndResult, JoinPool, RecordProgress, ReleaseJob, StatsWindow};
use serde_json::json;

use super::fixture::{
    all_events, at, claim, claim_for, end, ending, insert, new_job, running, stored, worker,
};
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    a_job_runs_and_completes,
    all_that_is_asked_for_is_kept,
    each_end_has_its_event_and_counter,
    a_released_job_keeps_its_attempt,
);

async fn a_job_runs_and_completes(db: TestDb) {
    let node = db.node().await;
    let ids = vec![worker()];
    let join = JoinPool {
        node: node.node(),
        ids: ids.clone(),
        silent_since: at(-1_000),
        now: at(0),
    };
    node.write(join).await;
    node.take_commits();

    let new = new_job(0);
    let id = new.id;
    insert(&node, vec![new]).await;
    let told = node.take_commits();
    assert_eq!(told.len(), 1);
    assert!(told[0].queued && told[0].jobs.contains(&id));
    assert_eq!(told[0].last_event, Some(EventSeq(1)));

    let job = Arc::new(claim_for(&node, ids.clone(), 5).await.pop().unwrap());
    assert_eq!((job.status, job.attempt), (JobStatus::Running, 1));
    assert_eq!((job.worker, job.started_at), (Some(ids[0]), Some(at(5))));
    let progress = Progress {
        current: 1,
        total: Some(2),
        step: Some("half\0way".to_owned()),
        updated_at: at(7),
    };
    let record = RecordProgress {
        job: id,
        attempt: 1,
        progress,
    };
    assert!(node.write(record).await);
    let result = node
        .write(EndJob {
            job: Arc::clone(&job),
            end: runql::store::AttemptEnd {
                output: Some(json!({"answer": "4\u{0}2"})),
                ..ending(JobStatus::Completed)
            },
            log: Vec::new(),
            now: at(25),
            jitter: 0.0,
        })
        .await;
    assert_eq!(result, EndResult::Ended(JobStatus::Completed));

    let ended = stored(&node, id).await;
    assert_eq!(ended.status, JobStatus::Completed);
    assert_eq!((ended.finished_at, ended.lease_until), (Some(at(25)), None));
    assert_eq!(ended.output, Some(json!({"answer": "4\u{0}2"})));
    assert_eq!((ended.end.exit_code, ended.worker), (Some(0), Some(ids[0])));

    let events = all_events(node.reader()).await;
    let kinds: Vec<_> = events
        .iter()
        .map(|event| (event.kind, event.status, event.previous))
        .collect();
    use JobEventType::{Completed, Created, Progressed, Started};
    assert_eq!(
        kinds,
        [
            (Created, JobStatus::Pending, None),
            (Started, JobStatus::Running, Some(JobStatus::Pending)),
            (Progressed, JobStatus::Running, Some(JobStatus::Running)),
            (Completed, JobStatus::Completed, Some(JobStatus::Running)),
        ]
    );
    assert_eq!(
        events.iter().map(|event| event.seq.0).collect::<Vec<_>>(),
        [1, 2, 3, 4]
    );
    assert_eq!(
        events.iter().map(|event| event.attempt).collect::<Vec<_>>(),
        [0, 1, 1, 1]
    );
    assert_eq!(
        events[2].progress.as_ref().unwrap().step.as_deref(),
        Some("half\u{fffd}way")
    );
    assert_eq!(node.take_commits().last().unwrap().last_event, Some(EventSeq(4)));
    assert_eq!(node.reader().last_event().await.unwrap(), EventSeq(4));

    let figures = node.reader().figures(&StatsWindow::default()).await.unwrap();
    assert_eq!(
        (figures.counts.total(), figures.counts.of(JobStatus::Completed)),
        (1, 1)
    );
    assert_eq!(
        (figures.duration.mean_ms(), figures.wait.mean_ms()),
        (Some(20.0), Some(5.0))
    );
    let workers = node.reader().workers(at(-1_000)).await.unwrap();
    assert_eq!((workers[0].tasks_completed, workers[0].tasks_failed), (1, 0));
}

async fn all_that_is_asked_for_is_kept(db: TestDb) {
    let node = db.node().await;
    let tag = |key: &str, value: &str| Tag {
        key: key.to_owned(),
        value: value.to_owned(),
    };
    let new = NewJob {
        queue: "nightly".to_owned(),
        priority: -7,
        run_at: Some(at(500)),
        env: vec![EnvVar {
            name: "A".to_owned(),
            value: EnvValue::Value("ä\0b".to_owned()),
        }],
        working_dir: Some("work/dir".to_owned()),
        idempotency_key: Some("key".to_owned()),
        metadata: Metadata {
            source: Some("test".to_owned()),
            conversation_id: Some("c1".to_owned()),
            tags: vec![tag("b", "2"), tag("a", "1"), tag("b", "2")],
        },
        ..new_job(0)
    };
    let answered = insert(&node, vec![new.clone()]).await.pop().unwrap();
    let read = stored(&node, new.id).await;
    assert_eq!(
        format!("{answered:?}"),
        format!("{read:?}"),
        "the answer is what is stored"
    );
    assert_eq!(read.command, new.command);
    assert_eq!((read.queue.as_str(), read.priority), ("nightly", -7));
    assert_eq!((read.run_at, read.wait), (at(500), Some(WaitReason::Scheduled)));
    assert_eq!((read.env, read.working_dir), (new.env, new.working_dir));
    assert_eq!(read.metadata, new.metadata);
    assert_eq!((read.retry, read.timeout), (new.retry, new.timeout));
    assert_eq!(claim(&node, 1, 100).await.len(), 0, "its moment has not come");
}

async fn each_end_has_its_event_and_counter(db: TestDb) {
    let node = db.node().await;
    for (status, event) in [
        (JobStatus::Completed, JobEventType::Completed),
        (JobStatus::Failed, JobEventType::Failed),
        (JobStatus::Timeout, JobEventType::TimedOut),
        (JobStatus::Cancelled, JobEventType::Cancelled),
    ] {
        let job = running(&node, new_job(0), 1).await;
        assert_eq!(end(&node, &job, status, 2).await, EndResult::Ended(status));
        let last = all_events(node.reader()).await.pop().unwrap();
        assert_eq!((last.kind, last.status, last.job), (event, status, job.id));
        let ended = stored(&node, job.id).await;
        assert_eq!((ended.status, &ended.fault), (status, &last.fault));
        assert_eq!(ended.fault.is_some(), status != JobStatus::Completed);
    }
    let counts = node.reader().status_counts(Some("sh")).await.unwrap();
    for &status in JobStatus::ALL {
        assert_eq!(counts.of(status), i64::from(status.is_final()), "{status}");
    }
    assert_eq!(
        node.reader().status_counts(Some("other")).await.unwrap().total(),
        0
    );
}

async fn a_released_job_keeps_its_attempt(db: TestDb) {
    let node = db.node().await;
    let job = running(&node, new_job(0), 1).await;
    let release = || ReleaseJob {
        job: Arc::clone(&job),
        now: at(3),
    };
    assert!(node.write(release()).await);
    assert!(!node.write(release()).await, "it was given back before");
    let back = stored(&node, job.id).await;
    assert_eq!((back.status, back.attempt), (JobStatus::Pending, 0));
    assert_eq!((back.wait, back.worker), (Some(WaitReason::Queued), None));
    let last = all_events(node.reader()).await.pop().unwrap();
    assert_eq!((last.kind, last.attempt), (JobEventType::RetryScheduled, 0));

    let again = claim(&node, 1, 4).await.pop().unwrap();
    assert_eq!((again.id, again.attempt), (job.id, 1));
    assert!(
        node.reader()
            .earlier_attempts(&[job.id])
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        node.reader()
            .status_counts(None)
            .await
            .unwrap()
            .of(JobStatus::Running),
        1
    );
}
