//! A listener that is cut off again and again while jobs run has seen everything, in order, exactly once.

use std::collections::BTreeSet;

use runql::store::Backend;
use serde_json::json;
use tokio::task::JoinSet;

use super::{EVENTS, is_end, marker, replay, stories};
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;
use crate::support::socket::Socket;

both_stores!(a_listener_that_is_cut_off_200_times_misses_nothing);

const CUTS: usize = 200;
const JOBS: usize = 160;
const CLIENTS: usize = 4;

async fn a_listener_that_is_cut_off_200_times_misses_nothing(db: TestDb) {
    let mut apps = vec![Setup::new(&db).start().await];
    if db.backend() == Backend::Postgres {
        // It comes back to whichever server it finds.
        apps.push(Setup::new(&db).start().await);
    }
    let start = marker(&apps[0]).await;

    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let url = apps[client % apps.len()].url();
        clients.spawn(run_jobs(url, JOBS / CLIENTS));
    }
    let mut after = start.clone();
    let mut seen = Vec::new();
    let (mut cuts, mut ended) = (0, 0);
    while ended < JOBS {
        let app = &apps[fastrand::usize(..apps.len())];
        let mut socket = Socket::listen(app, EVENTS, json!({ "after": after })).await;
        // As many as come while nobody cuts; at most a few where somebody does, and sometimes none.
        let most = if cuts < CUTS {
            fastrand::usize(..=4)
        } else {
            usize::MAX
        };
        for _ in 0..most {
            if ended == JOBS {
                break;
            }
            let event = socket.next("jobEvents").await;
            event["cursor"].as_str().unwrap().clone_into(&mut after);
            ended += usize::from(is_end(&event));
            seen.push(event);
        }
        // Dropped in the middle of whatever the server sends.
        drop(socket);
        cuts += 1;
    }
    assert!(cuts > CUTS, "cut off {cuts} times only");
    let ids: BTreeSet<String> = clients.join_all().await.into_iter().flatten().collect();
    assert_eq!(ids.len(), JOBS);

    let stories = stories(&seen);
    assert_eq!(stories.keys().cloned().collect::<BTreeSet<_>>(), ids);
    for (id, story) in &stories {
        assert_eq!(*story, ["CREATED", "STARTED", "COMPLETED"], "{id}");
    }
    for app in &apps {
        assert!(
            replay(app, &start, JOBS).await == seen,
            "another listener saw another story"
        );
    }
    for app in apps {
        app.stop().await;
    }
}

async fn run_jobs(url: String, count: usize) -> Vec<String> {
    let http = reqwest::Client::new();
    let query = "mutation { run(input: { command: { shell: { command: \"true\" } } }) { job { id } } }";
    let mut ids = Vec::new();
    for _ in 0..count {
        let sent = http
            .post(format!("{url}/graphql"))
            .json(&json!({ "query": query }))
            .send();
        let answer: serde_json::Value = sent.await.unwrap().json().await.unwrap();
        ids.push(answer["data"]["run"]["job"]["id"].as_str().unwrap().to_owned());
    }
    ids
}
