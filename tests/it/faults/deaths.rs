//! kill -9: at every failpoint, and at moments that nobody chose.

use std::time::Duration;

use fastrand::Rng;
use runql::store::Backend;
use serde_json::json;

use super::check::{all_is_well, nothing_lives};
use super::points::{self, Trigger};
use super::world::{Load, World};
use super::{again_and_again, setup};
use crate::life::printed;
use crate::support::app::TestApp;
use crate::support::both_stores;
use crate::support::db::TestDb;
use crate::support::wait::until_for;

both_stores!(
    before_each_commit,
    after_each_commit,
    between_the_commits,
    while_it_ends,
    while_it_cleans_up,
    at_the_first_start,
    at_any_moment,
);

/// How long the load may take on a busy machine until it comes to the rarest failpoint.
const REACHED: Duration = Duration::from_secs(60);

/// Deaths at moments that nobody chose, in one round.
const BLIND: usize = 8;

async fn before_each_commit(db: TestDb) {
    again_and_again(db, async |db, rng| {
        let is_meant = |name: &str| name.starts_with("commit.before.") && !ends(name);
        die_at(db, rng, Load::Listened, is_meant).await;
    })
    .await;
}

async fn after_each_commit(db: TestDb) {
    again_and_again(db, async |db, rng| {
        let is_meant = |name: &str| name.starts_with("commit.after.") && !ends(name);
        die_at(db, rng, Load::Listened, is_meant).await;
    })
    .await;
}

async fn between_the_commits(db: TestDb) {
    again_and_again(db, async |db, rng| {
        let at_one = |name: &str| name.starts_with("commit.before.") || name.starts_with("commit.after.");
        die_at(db, rng, Load::Listened, |name| !at_one(name) && !ends(name)).await;
    })
    .await;
}

async fn while_it_ends(db: TestDb) {
    again_and_again(db, async |db, rng| die_at(db, rng, Load::Listened, ends).await).await;
}

async fn while_it_cleans_up(db: TestDb) {
    again_and_again(db, async |db, rng| die_at(db, rng, Load::Cleaned, |_| true).await).await;
}

/// Whether a server comes by there on its way to its end.
fn ends(name: &str) -> bool {
    points::trigger(name) == Trigger::Term
}

/// One server dies at one failpoint after the other, each time while it puts in order what the death before left.
async fn die_at(db: TestDb, mut rng: Rng, load: Load, is_meant: impl Fn(&str) -> bool) {
    let mut names = points::all();
    names.retain(|name| {
        is_meant(name)
            && (db.backend() == Backend::Postgres || !points::needs_postgres(name))
            && match points::trigger(name) {
                Trigger::CleanUp => load == Load::Cleaned,
                Trigger::Migration | Trigger::Apart => false,
                _ => load == Load::Listened,
            }
    });
    assert!(!names.is_empty());
    rng.shuffle(&mut names);
    let mut app = setup(&db).start().await;
    let world = World::begin(&app, load, &mut rng).await;
    world.goes_on(3).await;
    app.kill().await;
    nothing_lives(&app, "a first kill").await;
    for name in &names {
        eprintln!("to die at {name}");
        die(&mut app, &world, name, &mut rng).await;
        nothing_lives(&app, name).await;
    }
    app.arm("");
    app.restart().await;
    world.moved([&app]);
    all_is_well(world, &app, load).await;
    app.stop().await;
}

/// Starts the server, and waits until it has died at a failpoint.
async fn die(app: &mut TestApp, world: &World, name: &str, rng: &mut Rng) {
    let trigger = points::trigger(name);
    let expires = points::needs_expiry(name);
    if expires {
        leave_a_lease(app, world).await;
    }
    let often = trigger == Trigger::Load && !expires;
    let at = if often { rng.u32(1..=3) } else { 1 };
    let mut rules = format!("{name}=kill@{at}");
    let mut tries = 1;
    if name.ends_with("ReleaseJob") {
        // A job that is about to start when the server is told to end, unless its clients have just cancelled all of those.
        rules.push_str(";attempt.prepared=wait:2000");
        tries = 10;
    }
    app.arm(&rules);
    for _ in 0..tries {
        app.relaunch().await;
        world.moved([&*app]);
        if trigger == Trigger::Term {
            app.ready().await;
            world.goes_on(3).await;
            app.signal("TERM");
        }
        until_for(REACHED, &format!("the death at {name}"), async || {
            if app.is_running() { Err("it lives") } else { Ok(()) }
        })
        .await;
        let code = app.exit().await;
        if code.is_none() {
            return;
        }
        assert_eq!(code, Some(0), "{name} was never reached");
    }
    panic!("{name} was never reached: the server ended by itself");
}

/// Kills a server while it runs a job: the next one finds a lease that nobody renews. The death before may have left
/// none, and while a server lives none runs out.
async fn leave_a_lease(app: &mut TestApp, world: &World) {
    app.arm("");
    app.restart().await;
    world.moved([&*app]);
    let endless = app.shell("echo up; sleep 1000").await;
    // Only now it cannot go back to the queue any more.
    printed(app, &endless, "up").await;
    world.forgive(&[endless]);
    app.kill().await;
    nothing_lives(app, "a kill that leaves a lease").await;
}

/// Migrations that are cut off, by failpoints and at any moment, are done by the next start.
async fn at_the_first_start(db: TestDb) {
    again_and_again(db, async |db, mut rng| {
        db.without_tables().await;
        let mut names = points::all();
        names.retain(|name| points::trigger(name) == Trigger::Migration);
        names.reverse();
        let fresh = names.pop().unwrap();
        let mut app = setup(&db)
            .env("RUNQL_FAILPOINTS", format!("{fresh}=kill"))
            .launch()
            .await;
        assert_eq!(app.exit().await, None);
        for _ in 0..3 {
            app.arm("");
            app.relaunch().await;
            tokio::time::sleep(Duration::from_micros(rng.u64(0..40_000))).await;
            app.kill().await;
        }
        for name in names {
            // Reached only where none of those was quick enough.
            app.arm(&format!("{name}=kill"));
            app.relaunch().await;
            tokio::time::sleep(Duration::from_micros(rng.u64(0..40_000))).await;
            app.kill().await;
        }
        app.arm("");
        app.restart().await;
        app.completed(json!({ "command": { "shell": { "command": "echo at last" } } }))
            .await;
        app.stop().await;
    })
    .await;
}

async fn at_any_moment(db: TestDb) {
    again_and_again(db, async |db, mut rng| {
        let mut app = setup(&db).start().await;
        let world = World::begin(&app, Load::Listened, &mut rng).await;
        for round in 0..BLIND {
            tokio::time::sleep(Duration::from_millis(rng.u64(0..500))).await;
            app.kill().await;
            nothing_lives(&app, &format!("kill {round}")).await;
            app.relaunch().await;
            world.moved([&app]);
        }
        app.ready().await;
        all_is_well(world, &app, Load::Listened).await;
        app.stop().await;
    })
    .await;
}
