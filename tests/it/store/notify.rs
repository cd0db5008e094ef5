//! Hints between nodes: what one commits, the others hear; and after a cut they hear that they missed something.

use runql::domain::Changes;
use runql::domain::JobId;
use runql::store::{CancelJob, listen};
use sea_orm::ConnectionTrait;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::fixture::{at, claim, insert, new_job};
use crate::support::db::{Node, TestDb, sql};
use crate::support::wait::within;
use crate::support::{both_stores, on_postgres};

both_stores!(listening_ends_when_it_is_told_to);
on_postgres!(
    nodes_hear_each_other_and_not_themselves,
    what_does_not_fit_is_told_of,
    a_listener_that_was_cut_off_comes_back
);

type Hints = mpsc::UnboundedReceiver<Option<Changes>>;

/// Runs `test` while the node listens; the listener must end with it.
async fn listening<T>(node: &Node, test: impl AsyncFnOnce(&mut Hints) -> T) -> T {
    let (hint, mut hints) = mpsc::unbounded_channel();
    let stop = CancellationToken::new();
    let listener = listen(
        node,
        move |heard| {
            hint.send(heard).unwrap();
        },
        stop.clone(),
    );
    let test = async {
        let result = test(&mut hints).await;
        stop.cancel();
        result
    };
    within("the listener's end", async { tokio::join!(listener, test).1 }).await
}

async fn next(hints: &mut Hints) -> Option<Changes> {
    within("a hint", hints.recv()).await.unwrap()
}

async fn listening_ends_when_it_is_told_to(db: TestDb) {
    let node = db.node().await;
    listening(&node, async |_| ()).await;
}

async fn nodes_hear_each_other_and_not_themselves(db: TestDb) {
    let (one, other) = tokio::join!(db.node(), db.node());
    listening(&other, async |hints| {
        assert_eq!(
            next(hints).await,
            None,
            "what was before it listened may have changed anything"
        );
        // Its own come first and are passed over.
        insert(&other, vec![new_job(0)]).await;
        claim(&other, 1, 1).await;
        one.take_commits();
        let id: JobId = insert(&one, vec![new_job(2)]).await[0].id;
        let told = one.take_commits().remove(0);
        let heard = next(hints).await.unwrap();
        assert_eq!((heard.last_event, heard.queued), (told.last_event, true));

        claim(&one, 1, 3).await;
        assert!(next(hints).await.unwrap().workers);
        one.write(CancelJob {
            id,
            reason: None,
            grace: None,
            now: at(4),
        })
        .await;
        assert_eq!(next(hints).await.unwrap().cancels, [id].into());
        assert!(hints.is_empty());
    })
    .await;
}

async fn what_does_not_fit_is_told_of(db: TestDb) {
    let (one, other) = tokio::join!(db.node(), db.node());
    listening(&other, async |hints| {
        assert_eq!(next(hints).await, None);
        let jobs = (0..100).map(new_job).collect();
        insert(&one, jobs).await;
        let heard = next(hints).await.unwrap();
        assert!(heard.more && heard.queued && heard.jobs.len() < 100, "{heard:?}");
        let told = one.take_commits().pop().unwrap();
        assert_eq!(heard.last_event, told.last_event);
    })
    .await;
}

async fn a_listener_that_was_cut_off_comes_back(db: TestDb) {
    let (one, other) = tokio::join!(db.node(), db.node());
    let raw = db.raw().await;
    listening(&other, async |hints| {
        assert_eq!(next(hints).await, None);
        for _ in 0..2 {
            let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database() AND query LIKE 'LISTEN%'";
            raw.execute_raw(sql(&raw, cut)).await.unwrap();
            assert_eq!(next(hints).await, None, "something may have been missed");
            insert(&one, vec![new_job(0)]).await;
            assert!(next(hints).await.unwrap().queued, "and it hears again");
        }
        assert!(hints.is_empty());
    })
    .await;
}
