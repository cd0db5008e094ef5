//! The end of a slot in all its forms: closed, dropped, its run abandoned, its spawner killed, its server killed.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use runql::process::{Exit, OUTPUT_BOUND, Outcome, Slot, controls};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::mpsc;

use crate::support::{
    alive, bash, executable, lives, no_sandbox, program, run, run_until_ready, slot, wait_until,
    wait_until_async,
};

/// A deaf program with a deaf escapee in another session and a child in its own group.
const STUBBORN: &str = "trap '' TERM HUP INT; sleep 1000 & (setsid bash -c 'trap \"\" TERM; sleep 1000' &); \
                        echo ready; sleep 1000";

fn kill(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).expect("a pid");
    kill_process(pid, signal).expect("killed");
}

#[tokio::test]
async fn closing_ends_the_spawner() {
    let slot = slot().await;
    let pid = slot.pid();
    assert!(slot.is_alive() && lives(pid));
    slot.close().await;
    assert!(
        !std::path::Path::new(&format!("/proc/{pid}")).exists(),
        "not even a zombie is left"
    );
}

#[tokio::test]
async fn an_abandoned_run_is_killed_and_so_is_a_dropped_slot() {
    let mut slot = slot().await;
    let spawner = slot.pid();
    let spec = bash(STUBBORN);
    let marker = spec.marker.clone().expect("a marker");
    let (sender, mut receiver) = mpsc::channel(OUTPUT_BOUND);
    {
        let run = slot.run(spec, controls().1, sender);
        tokio::select! {
            outcome = run => panic!("{outcome:?}"),
            chunk = receiver.recv() => assert_eq!(chunk.expect("output").bytes, b"ready\n"),
        }
    }
    assert!(!slot.is_alive());
    wait_until_async("nothing of the program is left", || alive(&marker).is_empty()).await;
    wait_until_async("the spawner is gone", || !lives(spawner)).await;
    assert!(matches!(
        run(&mut slot, bash("true")).await.outcome,
        Outcome::Lost
    ));
    drop(slot);

    let slot = crate::support::slot().await;
    let spawner = slot.pid();
    drop(slot);
    wait_until_async("the spawner is gone", || !lives(spawner)).await;
}

#[tokio::test]
async fn a_dropped_slot_and_its_run_in_one_task_leave_nothing() {
    let mut slot = slot().await;
    let spec = bash(STUBBORN);
    let marker = spec.marker.clone().expect("a marker");
    let (sender, mut receiver) = mpsc::channel(OUTPUT_BOUND);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move { slot.run(spec, controls().1, sender).await });
    receiver.recv().await.expect("output");
    wait_until_async("the program has its company", || alive(&marker).len() >= 3).await;
    tasks.shutdown().await;
    wait_until_async("nothing of the program is left", || alive(&marker).is_empty()).await;
}

#[tokio::test]
async fn a_killed_spawner_is_a_lost_run_and_nothing_is_left() {
    let mut slot = slot().await;
    let spawner = slot.pid();
    // A member of the session without the environment, and one with it outside of the session.
    let mut spec = bash(&format!(
        "env -i bash -c 'trap \"\" TERM; /bin/sleep 1000 & wait' & {STUBBORN}"
    ));
    spec.stdin = Some(vec![b'x'; 1_000_000]);
    let marker = spec.marker.clone().expect("a marker");
    let ran = run_until_ready(&mut slot, spec, "ready", |_, _| kill(spawner, Signal::KILL)).await;
    assert!(matches!(ran.outcome, Outcome::Lost), "{:?}", ran.outcome);
    assert_eq!(alive(&marker), [0; 0]);
    assert!(!in_session(spawner));
    assert!(!slot.is_alive());
    assert!(matches!(
        run(&mut slot, bash("true")).await.outcome,
        Outcome::Lost
    ));
}

#[tokio::test]
async fn a_program_that_pauses_its_spawner_is_stopped_all_the_same() {
    let mut slot = slot().await;
    let mut spec = bash("kill -STOP $PPID; echo ready; exec sleep 1000");
    spec.timeout = Some(Duration::from_millis(50));
    spec.timeout_grace = Duration::ZERO;
    let marker = spec.marker.clone().expect("a marker");
    let ran = run(&mut slot, spec).await;
    assert!(matches!(ran.outcome, Outcome::Lost), "{:?}", ran.outcome);
    assert_eq!(alive(&marker), [0; 0]);
}

#[tokio::test]
async fn a_dropped_slot_with_a_paused_spawner_leaves_nothing() {
    let mut slot = slot().await;
    let spec = bash("kill -STOP $PPID; exec sleep 1000");
    let marker = spec.marker.clone().expect("a marker");
    let (spawner, paused) = (slot.pid(), |pid: u32| {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") T "))
    });
    tokio::select! {
        outcome = slot.run(spec, controls().1, mpsc::channel(1).0) => panic!("{outcome:?}"),
        () = wait_until_async("the spawner is paused", || paused(spawner)) => {}
    }
    drop(slot);
    wait_until_async("nothing of the program is left", || alive(&marker).is_empty()).await;
    wait_until_async("the spawner is gone", || !lives(spawner)).await;
}

fn in_session(session: u32) -> bool {
    std::fs::read_dir("/proc")
        .expect("/proc")
        .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("stat")).ok())
        .any(|stat| {
            let fields = after_the_name(&stat);
            fields.first() != Some(&"Z") && fields.get(3) == Some(&session.to_string().as_str())
        })
}

/// The session of a process; 0 where its leader lives outside of this namespace of processes, which `getsid` of the
/// library takes for impossible.
fn session(pid: u32) -> u32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a living process");
    after_the_name(&stat)[3].parse().expect("a number")
}

/// The fields of a process's `stat` from its state on: its name may hold anything.
fn after_the_name(stat: &str) -> Vec<&str> {
    let fields = stat.rsplit(')').next().unwrap_or("");
    fields.split_ascii_whitespace().collect()
}

#[tokio::test]
async fn an_idle_spawner_that_is_killed_is_noticed() {
    let slot = slot().await;
    kill(slot.pid(), Signal::KILL);
    wait_until_async("the slot is known to be dead", || !slot.is_alive()).await;
}

#[tokio::test]
async fn polite_signals_do_not_end_a_spawner() {
    let mut slot = slot().await;
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT] {
        kill(slot.pid(), signal);
    }
    assert_eq!(run(&mut slot, bash("exit 3")).await.ended().exit, Exit::Code(3));
    assert!(slot.is_alive());
}

#[test]
fn an_interrupt_from_the_terminal_does_not_reach_spawner_and_program() {
    // ^C goes to the foreground group, which a server's is.
    let (mut server, spawner, program, marker) = held_slot();
    assert_ne!(session(spawner), session(server.id()));
    assert_eq!(session(program), session(spawner));
    server.kill().expect("killed");
    server.wait().expect("reaped");
    wait_until("nothing of the program is left", || alive(&marker).is_empty());
}

#[test]
fn a_killed_server_leaves_nothing() {
    for _ in 0..5 {
        let (mut server, spawner, program, marker) = held_slot();
        assert!(lives(spawner) && lives(program));
        // The program, its child, the escapee, and the server itself.
        wait_until("the program has its company", || alive(&marker).len() >= 4);
        server.kill().expect("killed");
        server.wait().expect("reaped");
        wait_until("the spawner is gone", || !lives(spawner));
        assert!(alive(&marker).is_empty(), "the spawner is the last to go");
    }
}

/// A process that holds a slot with a stubborn program: this test binary, started anew for the test below.
fn held_slot() -> (std::process::Child, u32, u32, std::ffi::OsString) {
    let marker = crate::support::marker();
    let mut server = Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "lost::holds_a_slot", "--ignored", "--nocapture"])
        .env("MARKER_FOR_HOLDER", &marker)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let lines = BufReader::new(server.stdout.take().expect("piped")).lines();
    let line = lines
        .map_while(Result::ok)
        .find_map(|line| line.split_once("holding ").map(|(_, rest)| rest.to_owned()))
        .expect("the helper holds a slot");
    let (spawner, program) = line.split_once(' ').expect("two numbers");
    let number = |text: &str| text.parse().expect("a number");
    (server, number(spawner), number(program), marker)
}

#[tokio::test]
#[ignore = "the helper of the tests above: it waits until it is killed"]
async fn holds_a_slot() {
    let marker = std::env::var_os("MARKER_FOR_HOLDER").expect("started by a test");
    let mut slot = Slot::start(executable(), &no_sandbox())
        .await
        .expect("a spawner starts");
    let spawner = slot.pid();
    let mut spec = program("bash", &["-c", STUBBORN]);
    spec.env.push(("MARK".into(), marker));
    run_until_ready(&mut slot, spec, "ready", |_, pid| {
        use std::io::{Read, Write};
        writeln!(std::io::stdout(), "holding {spawner} {pid}").expect("written");
        // Until it is killed, or whoever started it is gone.
        let _ = std::io::stdin().read(&mut [0]);
    })
    .await;
}
