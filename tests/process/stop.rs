//! Stops: before, during and after, by request and by timeout, and against programs that do not want to go.

use std::time::{Duration, Instant};

use runql::process::{Exit, Outcome, OutputChunk, StopCause, Stream, controls};

use crate::support::{alive, bash, run, run_until_ready, run_with, slot};

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_stop_before_the_start_starts_nothing() {
    let mut slot = slot().await;
    let folder = tempfile::tempdir().expect("a folder");
    let (handle, controls) = controls();
    handle.stop(StopCause::Cancelled, LONG);
    let spec = bash(&format!("touch {}/started", folder.path().display()));
    let ran = run_with(&mut slot, spec, controls).await;
    assert!(matches!(ran.outcome, Outcome::NotStarted(StopCause::Cancelled)));
    run(&mut slot, bash("true")).await;
    assert!(!folder.path().join("started").exists());
}

#[tokio::test]
async fn a_stop_lets_the_program_say_goodbye() {
    let mut slot = slot().await;
    let spec = bash("trap 'echo goodbye; exit 9' TERM; echo ready; while :; do sleep 0.05; done");
    let ran = run_until_ready(&mut slot, spec, "ready", |handle, _| {
        handle.stop(StopCause::Shutdown, LONG);
    })
    .await;
    assert_eq!(ran.text(), "ready\ngoodbye\n");
    assert_eq!(
        (ran.ended().exit, ran.ended().stopped),
        (Exit::Code(9), Some(StopCause::Shutdown))
    );
}

#[tokio::test]
async fn what_ignores_the_request_is_killed_after_the_grace() {
    let mut slot = slot().await;
    let spec = bash("trap '' TERM; sleep 1000 & echo ready; wait; wait");
    let marker = spec.marker.clone().expect("a marker");
    let asked = std::cell::Cell::new(None);
    let ran = run_until_ready(&mut slot, spec, "ready", |handle, _| {
        asked.set(Some(Instant::now()));
        handle.stop(StopCause::Cancelled, Duration::from_millis(300));
    })
    .await;
    let taken = asked.get().expect("asked").elapsed();
    assert_eq!(
        (ran.ended().exit, ran.ended().stopped),
        (Exit::Signal(9), Some(StopCause::Cancelled))
    );
    assert!(
        taken >= Duration::from_millis(300) && taken < Duration::from_secs(5),
        "{taken:?}"
    );
    assert_eq!(alive(&marker), [0; 0]);
}

#[tokio::test]
async fn a_second_stop_shortens_the_grace_and_keeps_the_cause() {
    let mut slot = slot().await;
    let spec = bash("trap 'echo asked' TERM; echo ready; while :; do sleep 0.02; done");
    let (handle, controls) = controls();
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<OutputChunk>(16);
    let asker = async {
        let mut seen = Vec::new();
        while let Some(chunk) = receiver.recv().await {
            if chunk.stream == Stream::Stderr {
                // The shell tells there that the sleep was terminated.
                continue;
            }
            seen.extend(chunk.bytes);
            if seen.ends_with(b"ready\n") {
                handle.stop(StopCause::Cancelled, LONG);
            } else if seen.ends_with(b"asked\n") {
                handle.stop(StopCause::Shutdown, Duration::ZERO);
            }
        }
        seen
    };
    let (outcome, seen) = tokio::join!(slot.run(spec, controls, sender), asker);
    assert_eq!(seen, b"ready\nasked\n");
    let Outcome::Ended(ended) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(
        (ended.exit, ended.stopped),
        (Exit::Signal(9), Some(StopCause::Cancelled))
    );
}

#[tokio::test]
async fn no_grace_is_no_request() {
    let mut slot = slot().await;
    let spec = bash("trap 'echo asked' TERM; echo ready; while :; do sleep 0.02; done");
    let ran = run_until_ready(&mut slot, spec, "ready", |handle, _| {
        handle.stop(StopCause::Cancelled, Duration::ZERO);
    })
    .await;
    assert_eq!((ran.text(), ran.ended().exit), ("ready\n", Exit::Signal(9)));
}

#[tokio::test]
async fn a_program_that_is_paused_can_be_stopped() {
    let mut slot = slot().await;
    let spec = bash("trap 'echo woken; exit 3' TERM; echo ready; kill -STOP $$");
    let ran = run_until_ready(&mut slot, spec, "ready", |handle, pid| {
        crate::support::wait_until("it has paused", || {
            std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") T "))
        });
        handle.stop(StopCause::Cancelled, LONG);
    })
    .await;
    assert_eq!((ran.text(), ran.ended().exit), ("ready\nwoken\n", Exit::Code(3)));
}

#[tokio::test]
async fn a_stop_at_any_moment_of_a_short_program_is_answered() {
    let mut slot = slot().await;
    let mut seen = [0; 3];
    for delay in (0..300).map(|step| Duration::from_micros(step * 10)) {
        let (handle, controls) = controls();
        let stopper = std::thread::spawn(move || {
            let until = Instant::now() + delay;
            while Instant::now() < until {
                std::hint::spin_loop();
            }
            handle.stop(StopCause::Cancelled, LONG);
        });
        let ran = run_with(&mut slot, crate::support::program("true", &[]), controls).await;
        stopper.join().expect("asked");
        match ran.outcome {
            Outcome::NotStarted(StopCause::Cancelled) => seen[0] += 1,
            Outcome::Ended(ended) if ended.stopped == Some(StopCause::Cancelled) => seen[1] += 1,
            Outcome::Ended(ended) => {
                assert_eq!(ended.exit, Exit::Code(0));
                seen[2] += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    // A stop that came too late for one run has not hit the next.
    assert_eq!(run(&mut slot, bash("exit 1")).await.ended().exit, Exit::Code(1));
    assert_eq!(seen.iter().sum::<i32>(), 300);
}

#[tokio::test]
async fn the_timeout_counts_from_the_start() {
    let mut slot = slot().await;
    let mut spec = bash("echo begun; sleep 1000");
    spec.timeout = Some(Duration::from_millis(300));
    let marker = spec.marker.clone().expect("a marker");
    let ran = run(&mut slot, spec).await;
    assert_eq!(ran.text(), "begun\n");
    assert_eq!(
        (ran.ended().exit, ran.ended().stopped),
        (Exit::Signal(15), Some(StopCause::Timeout))
    );
    let duration = ran.ended().duration;
    assert!(
        duration >= Duration::from_millis(300) && duration < Duration::from_secs(5),
        "{duration:?}"
    );
    assert_eq!(alive(&marker), [0; 0]);
    let mut spec = bash("true");
    spec.timeout = Some(Duration::MAX);
    assert_eq!(run(&mut slot, spec).await.ended().stopped, None);
}

#[tokio::test]
async fn the_grace_belongs_to_the_whole_group() {
    let mut slot = slot().await;
    // A shell that dies at once of what its child takes its time to obey.
    let mut spec = bash(
        "bash -c 'trap \"sleep 0.4; echo tidied up; exit\" TERM; echo ready; while :; do sleep 0.02; done'; :",
    );
    spec.leak_grace = Duration::ZERO;
    let ran = run_until_ready(&mut slot, spec, "ready", |handle, _| {
        handle.stop(StopCause::Cancelled, LONG);
    })
    .await;
    assert_eq!(ran.text(), "ready\ntidied up\n");
    assert_eq!((ran.ended().exit, ran.ended().leaked), (Exit::Signal(15), 0));
}

#[tokio::test]
async fn what_is_held_no_longer_is_killed_though_nobody_asks() {
    let mut slot = slot().await;
    let (handle, controls) = controls();
    handle.hold(Instant::now() + Duration::from_millis(300));
    let ran = run_with(&mut slot, bash("trap '' TERM; echo up; sleep 1000"), controls).await;
    assert_eq!(ran.text(), "up\n");
    assert_eq!(
        (ran.ended().exit, ran.ended().stopped),
        (Exit::Signal(9), Some(StopCause::Shutdown))
    );
    assert_eq!(run(&mut slot, bash("echo next")).await.text(), "next\n");
}

#[tokio::test]
async fn what_is_held_longer_runs_on() {
    let mut slot = slot().await;
    let (handle, controls) = controls();
    handle.hold(Instant::now() + Duration::from_secs(2));
    let longer = async { handle.hold(Instant::now() + LONG) };
    let run = run_with(&mut slot, bash("sleep 2.5; echo done"), controls);
    let (ran, ()) = tokio::join!(run, longer);
    assert_eq!((ran.text(), ran.ended().stopped), ("done\n", None));
}

#[tokio::test]
async fn what_comes_too_late_is_not_started() {
    let mut slot = slot().await;
    let folder = tempfile::tempdir().expect("a folder");
    let (handle, controls) = controls();
    handle.hold(Instant::now());
    let spec = bash(&format!("touch {}/started", folder.path().display()));
    let ran = run_with(&mut slot, spec, controls).await;
    assert!(matches!(ran.outcome, Outcome::NotStarted(StopCause::Shutdown)));
    run(&mut slot, bash("true")).await;
    assert!(!folder.path().join("started").exists());
}
