//! Commits without an answer: the connection is lost right before the commit, or right after it.

use super::check::all_is_well;
use super::world::{Load, World};
use super::{again_and_again, setup};
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(commits_that_are_cut_off_lose_nothing_and_do_nothing_twice);

/// Answers to clients while commits are cut off.
const ANSWERS: usize = 25;

async fn commits_that_are_cut_off_lose_nothing_and_do_nothing_twice(db: TestDb) {
    again_and_again(db, async |db, mut rng| {
        let rules = "commit.before.*=error/23;commit.after.*=error/17";
        let mut app = setup(&db).start().await;
        let mut world = World::begin(&app, Load::Listened, &mut rng).await;
        app.kill().await;
        app.arm(rules);
        app.restart().await;
        world.moved([&app]);
        world.goes_on(ANSWERS).await;
        // Not all has ended when the failures do: a claim whose answer was lost is found by the heartbeat.
        world.rest().await;
        app.signal("TERM");
        assert_eq!(app.exit().await, Some(0));
        app.arm("");
        app.restart().await;
        world.moved([&app]);
        all_is_well(world, &app, Load::Listened).await;
        app.stop().await;
    })
    .await;
}
