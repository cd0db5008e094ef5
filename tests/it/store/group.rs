//! Group commit: many callers share a commit, and nobody suffers from a neighbour.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use runql::domain::{JobId, NewJob};
use runql::store::{InsertJobs, Operation, StoreError, Tx, Writer};

use super::fixture::{NO_LIMIT, all_events, in_one_group, insert, new_job, stored};
use crate::support::both_stores;
use crate::support::db::TestDb;
use crate::support::wait::until;

both_stores!(
    many_inserters_share_commits,
    a_refused_row_harms_nobody_else,
    a_failing_operation_harms_nobody_else,
    who_went_away_is_not_waited_for,
    nobody_waits_for_an_endless_stream,
);

async fn many_inserters_share_commits(db: TestDb) {
    let node = db.node().await;
    let ids: Vec<Vec<JobId>> = join_all((0..64).map(|caller| {
        let node = &node;
        async move {
            let mut mine = Vec::new();
            for n in 0..10 {
                let job = insert(node, vec![new_job(caller * 10 + n)]).await.pop().unwrap();
                // What was answered is there for every reader.
                assert_eq!(stored(node, job.id).await.id, job.id);
                mine.push(job.id);
            }
            mine
        }
    }))
    .await;
    let commits = node.take_commits();
    assert!(commits.len() < 320, "{} commits for 640 writes", commits.len());
    let told: usize = commits.iter().map(|commit| commit.jobs.len()).sum();
    assert_eq!(told, 640);
    assert_eq!(ids.concat().len(), 640);
    let events = all_events(node.reader()).await;
    assert_eq!(events.len(), 640);
    assert_eq!(
        commits.last().unwrap().last_event,
        events.last().map(|event| event.seq)
    );
}

/// A priority that the table refuses: the domain would not let it pass, the constraint does not either.
async fn a_refused_row_harms_nobody_else(db: TestDb) {
    let node = db.node().await;
    let writes = (0..20).map(|n| {
        let priority = if n == 7 { 101 } else { 0 };
        node.writer().write(InsertJobs {
            jobs: vec![NewJob {
                priority,
                ..new_job(n)
            }],
            queue_limit: NO_LIMIT,
        })
    });
    let results = in_one_group(&node, join_all(writes)).await;
    for (n, result) in results.into_iter().enumerate() {
        match result {
            Ok(answer) => {
                let id = answer.unwrap()[0].job.id;
                assert!(n != 7 && node.reader().job(id).await.unwrap().is_some());
            }
            Err(error) => assert!(n == 7 && !error.is_unavailable(), "{n}: {error:?}"),
        }
    }
    assert_eq!(node.reader().status_counts(None).await.unwrap().total(), 19);
    assert_eq!(all_events(node.reader()).await.len(), 19);
}

/// Counts how often it is applied; fails where it is told to.
#[derive(Debug)]
struct Counted {
    applied: Arc<AtomicUsize>,
    fails: bool,
}

impl Operation for Counted {
    type Output = ();

    fn apply<'t>(&'t self, _tx: &'t mut Tx) -> BoxFuture<'t, Result<(), StoreError>> {
        self.applied.fetch_add(1, Ordering::Relaxed);
        let result = if self.fails {
            Err(StoreError::Unreadable("on purpose".to_owned()))
        } else {
            Ok(())
        };
        async { result }.boxed()
    }
}

async fn a_failing_operation_harms_nobody_else(db: TestDb) {
    let node = db.node().await;
    let applied: Vec<Arc<AtomicUsize>> = (0..3).map(|_| Arc::default()).collect();
    let counted = applied.iter().enumerate().map(|(n, applied)| {
        node.writer().write(Counted {
            applied: Arc::clone(applied),
            fails: n == 1,
        })
    });
    let results = in_one_group(&node, join_all(counted)).await;
    assert!(results[0].is_ok() && results[2].is_ok());
    assert!(matches!(results[1], Err(StoreError::Unreadable(_))));
    let times: Vec<usize> = applied
        .iter()
        .map(|times| times.load(Ordering::Relaxed))
        .collect();
    assert_eq!(
        times,
        [2, 2, 1],
        "once together, up to the one that failed, and once alone"
    );
}

async fn who_went_away_is_not_waited_for(db: TestDb) {
    let node = db.node().await;
    let new = new_job(0);
    let id = new.id;
    {
        let write = InsertJobs {
            jobs: vec![new],
            queue_limit: NO_LIMIT,
        };
        let mut left = Box::pin(node.writer().write(write));
        let first = in_one_group(&node, async { futures_util::poll!(&mut left) }).await;
        assert!(first.is_pending());
    }
    insert(&node, vec![new_job(1)]).await;
    assert_eq!(stored(&node, id).await.id, id, "the write stands");
}

/// Inserts a job, and hands over the next one while it does.
struct Link {
    writer: Writer,
    insert: InsertJobs,
    left: Arc<Mutex<Vec<Link>>>,
}

impl Operation for Link {
    type Output = ();

    fn apply<'t>(&'t self, tx: &'t mut Tx) -> BoxFuture<'t, Result<(), StoreError>> {
        async move {
            let next = self.left.lock().unwrap().pop();
            if let Some(next) = next {
                drop(self.writer.hand_over(next).await?);
            }
            self.insert.apply(tx).await?.unwrap();
            Ok(())
        }
        .boxed()
    }
}

/// What comes while a group is written joins it, but not for ever.
async fn nobody_waits_for_an_endless_stream(db: TestDb) {
    let node = db.node().await;
    let left = Arc::new(Mutex::new(Vec::new()));
    let link = |n| Link {
        writer: node.writer().clone(),
        insert: InsertJobs {
            jobs: vec![new_job(n)],
            queue_limit: NO_LIMIT,
        },
        left: Arc::clone(&left),
    };
    let links: Vec<Link> = (0..9).map(link).collect();
    left.lock().unwrap().extend(links);
    node.writer().write(link(9)).await.unwrap();
    let mut together = Vec::new();
    until("all jobs to be told of", async || {
        let commits = node.take_commits();
        together.extend(commits.iter().map(|commit| commit.jobs.len()));
        let told: usize = together.iter().sum();
        if told == 10 { Ok(()) } else { Err(told) }
    })
    .await;
    assert_eq!(together, [3, 3, 3, 1]);
}
