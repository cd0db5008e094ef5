//! How many programs a second, against the floor: the standard library's own spawning in the same binary.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use runql::process::{OUTPUT_BOUND, Outcome, Sandbox, Spec, controls};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::support::{no_sandbox, slot_in};

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

/// Runs a second, and the median time of one in microseconds.
async fn through(slots: usize, sandbox: &Sandbox) -> (f64, f64) {
    let mut ready = Vec::new();
    for _ in 0..slots {
        ready.push(slot_in(sandbox).await);
    }
    let own = std::env::temp_dir()
        .canonicalize()
        .expect("a folder")
        .join("runql-throughput");
    std::fs::create_dir_all(&own).expect("made");
    let own = &own;
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for mut slot in ready {
        let own = own.clone();
        tasks.spawn(async move {
            let mut times = Vec::new();
            for _ in 0..RUNS / slots {
                let (sender, receiver) = mpsc::channel(OUTPUT_BOUND);
                let mut spec = Spec::new("/bin/true", &own);
                spec.writable = vec![own.clone()];
                let begun = Instant::now();
                spec.timeout = Some(Duration::from_secs(60));
                let outcome = slot.run(spec, controls().1, sender).await;
                assert!(matches!(outcome, Outcome::Ended(_)), "{outcome:?}");
                times.push(begun.elapsed().as_secs_f64() * 1e6);
                drop(receiver);
            }
            times
        });
    }
    let mut times = Vec::new();
    while let Some(done) = tasks.join_next().await {
        times.extend(done.expect("no panic"));
    }
    let rate = (RUNS as f64) / begun.elapsed().as_secs_f64();
    times.sort_by(f64::total_cmp);
    (rate, times[times.len() / 2])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, to be looked at by a person"]
async fn runs_a_second() {
    // As a server's own: below folders that seldom change.
    let hidden = vec![Path::new(env!("CARGO_TARGET_TMPDIR")).join("runql-throughput.db")];
    let walls = Sandbox {
        hidden,
        ..Sandbox::default()
    };
    for n in [1, 2, 4] {
        for (name, sandbox) in [("without a sandbox", no_sandbox()), ("with one", walls.clone())] {
            let mut measured = Vec::new();
            for _ in 0..5 {
                let floor = tokio::task::block_in_place(|| floor(n));
                let (ours, median) = through(n, &sandbox).await;
                measured.push((ours, median, floor));
            }
            measured.sort_by(|a, b| a.0.total_cmp(&b.0));
            let (ours, median, floor) = measured[2];
            say(format_args!(
                "{n} at a time {name}: {ours:.0}/s through slots, median {median:.0} us, {floor:.0}/s floor"
            ));
        }
    }
}
