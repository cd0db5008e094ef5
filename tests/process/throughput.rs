//! How many programs a second, against the floor: the standard library's own spawning in the same binary.

use std::io::Write;
use std::time::{Duration, Instant};

use runql::process::{OUTPUT_BOUND, Outcome, Spec, controls};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::support::slot;

const RUNS: usize = 2000;

fn say(text: std::fmt::Arguments<'_>) {
    writeln!(std::io::stdout(), "{text}").expect("written");
}

fn floor(threads: usize) -> f64 {
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for _ in 0..RUNS / threads {
                    let mut command = std::process::Command::new("/bin/true");
                    command
                        .env_clear()
                        .current_dir("/")
                        .stdin(std::process::Stdio::null());
                    assert!(command.status().expect("started").success());
                }
            });
        }
    });
    (RUNS as f64) / begun.elapsed().as_secs_f64()
}

async fn through(slots: usize) -> f64 {
    let mut ready = Vec::new();
    for _ in 0..slots {
        ready.push(slot().await);
    }
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for mut slot in ready {
        tasks.spawn(async move {
            for _ in 0..RUNS / slots {
                let (sender, receiver) = mpsc::channel(OUTPUT_BOUND);
                let mut spec = Spec::new("/bin/true", "/");
                spec.timeout = Some(Duration::from_secs(60));
                let outcome = slot.run(spec, controls().1, sender).await;
                assert!(matches!(outcome, Outcome::Ended(_)), "{outcome:?}");
                drop(receiver);
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no panic");
    }
    (RUNS as f64) / begun.elapsed().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, to be looked at by a person"]
async fn runs_a_second() {
    for n in [1, 2, 3, 4] {
        let mut ratios = Vec::new();
        for _ in 0..5 {
            let floor = tokio::task::block_in_place(|| floor(n));
            let ours = through(n).await;
            ratios.push((ours / floor, ours, floor));
        }
        ratios.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (ratio, ours, floor) = ratios[2];
        say(format_args!(
            "{n} at a time: {ours:.0}/s through slots, {floor:.0}/s floor, ratio {ratio:.2}"
        ));
    }
}
