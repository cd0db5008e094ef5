//! Many servers on one Postgres: one dies, one freezes, one is started anew, and the others go on.

use std::time::Duration;

use serde_json::{Value, json};

use super::check::{all_is_well, nothing_lives};
use super::points::{self, Trigger};
use super::world::{Load, World};
use super::{again_and_again, is_long};
use crate::life::printed;
use crate::support::app::{Setup, TestApp};
use crate::support::db::TestDb;
use crate::support::machine::{is_stopped, living_with};
use crate::support::on_postgres;
use crate::support::wait::until;

on_postgres!(one_dies_one_freezes_one_is_started_anew, frozen_at_failpoints);

/// Failpoints at which a server freezes in the short form, beside those that are always tried.
const FROZEN_AT: usize = 1;

/// Long enough that a server which is only slow, on a busy machine, keeps its leases: here they tell who was frozen.
const LEASE: Duration = Duration::from_secs(3);

fn setup(db: &TestDb) -> Setup {
    super::setup(db).flag("--lease-ms", LEASE.as_millis())
}

async fn pool(app: &TestApp, what: &str) {
    let payload = app
        .data(
            &format!("mutation {{ {what} {{ errors {{ message }} }} }}"),
            json!({}),
        )
        .await;
    assert_eq!(payload[what]["errors"], json!([]));
}

fn is_lost(job: &Value) -> bool {
    job["status"] == "FAILED" && job["error"]["code"] == "WORKER_LOST"
}

async fn one_dies_one_freezes_one_is_started_anew(db: TestDb) {
    again_and_again(db, async |db, mut rng| {
        let (mut dying, frozen, mut renewed) =
            tokio::join!(setup(&db).start(), setup(&db).start(), setup(&db).start());
        // Two jobs that only the one that will freeze can take.
        for other in [&dying, &renewed] {
            pool(other, "stopWorkers").await;
        }
        let endless = frozen
            .shell(r#"echo up; exec -a "$PWD/endless" sleep 1000"#)
            .await;
        let late = frozen
            .shell(
                r#"echo up; until [ -e "$HOME/go" ]; do sleep 0.01; done; echo too late; touch "$HOME/said""#,
            )
            .await;
        printed(&frozen, &endless, "up").await;
        printed(&frozen, &late, "up").await;
        for other in [&dying, &renewed] {
            pool(other, "startWorkers").await;
        }
        let world = World::begin(&dying, Load::Listened, &mut rng).await;
        world.moved([&dying, &frozen, &renewed]);
        world.goes_on(5).await;

        frozen.signal("STOP");
        std::fs::write(frozen.folder().join("go"), "").unwrap();
        until("the end of a process of the frozen server", async || {
            if frozen.folder().join("said").exists() {
                Ok(())
            } else {
                Err("it goes on")
            }
        })
        .await;
        dying.kill().await;
        nothing_lives(&dying, "a kill").await;
        renewed.signal("TERM");
        assert_eq!(renewed.exit().await, Some(0));
        nothing_lives(&renewed, "an upgrade").await;
        dying.relaunch().await;
        renewed.restart().await;
        world.moved([&dying, &frozen, &renewed]);
        world.goes_on(5).await;
        // The others take what it held for lost, and none of it lives on.
        for id in [&endless, &late] {
            let job = renewed.ended(id).await;
            assert!(is_lost(&job), "{job:#}");
        }
        until("the end of what the frozen server ran", async || {
            let mut left = living_with(frozen.folder().as_os_str());
            left.retain(|(_, command)| command.contains("/endless"));
            if left.is_empty() { Ok(()) } else { Err(left) }
        })
        .await;
        frozen.signal("CONT");
        frozen.ready().await;
        world.goes_on(5).await;
        dying.stop().await;
        renewed.stop().await;
        // It is one of them again: there is nobody else left to run anything.
        world.moved([&frozen]);
        world.goes_on(3).await;
        for id in [&endless, &late] {
            let job = frozen.job(id).await;
            assert!(is_lost(&job), "{job:#}");
            assert_eq!(
                job["stdout"], "up\n",
                "a late write of the server that was frozen"
            );
        }
        world.forgive(&[endless, late]);
        all_is_well(world, &frozen, Load::Listened).await;
        frozen.stop().await;
    })
    .await;
}

/// A server freezes at a failpoint for longer than its leases hold, and then goes on as if nothing had been.
async fn frozen_at_failpoints(db: TestDb) {
    again_and_again(db, async |db, mut rng| {
        let mut names = points::all();
        // Whichever server looks first ends what ran out, and that may always be the other one.
        names.retain(|name| points::trigger(name) == Trigger::Load && !points::needs_expiry(name));
        rng.shuffle(&mut names);
        // Where locks are held, and where a job is about to start.
        let always = ["commit.before.EndJob", "attempt.prepared", "claim.answered"];
        if !is_long() {
            names.truncate(FROZEN_AT);
        }
        names.retain(|name| !always.contains(&name.as_str()));
        names.extend(always.map(str::to_owned));

        let (steady, mut victim) = tokio::join!(setup(&db).start(), setup(&db).start());
        let world = World::begin(&steady, Load::Listened, &mut rng).await;
        for name in &names {
            victim.kill().await;
            nothing_lives(&victim, name).await;
            eprintln!("to freeze at {name}");
            let at = rng.u32(1..=3);
            victim.arm(&format!("{name}=stop@{at}"));
            victim.relaunch().await;
            world.moved([&steady, &victim]);
            until("the server freezes", async || {
                if is_stopped(victim.pid()) {
                    Ok(())
                } else {
                    Err(name)
                }
            })
            .await;
            world.moved([&steady]);
            // The other one goes on and keeps its own leases, whatever locks the frozen one held.
            let longer = (LEASE * 3 / 2).as_secs_f64();
            let job = steady
                .completed(json!({ "command": { "shell": { "command": format!("sleep {longer}") } } }))
                .await;
            assert_eq!(job["attempt"], 1, "{job:#}");
            world.forgive(&[job["id"].as_str().unwrap().to_owned()]);
            victim.signal("CONT");
            world.moved([&steady, &victim]);
            victim.ready().await;
            world.goes_on(3).await;
        }
        victim.stop().await;
        world.moved([&steady]);
        all_is_well(world, &steady, Load::Listened).await;
        steady.stop().await;
    })
    .await;
}
