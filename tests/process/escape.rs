//! Descendants that try to stay: in the background, behind the pipe, in another session, without an environment.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use runql::process::{Exit, Spec, StopCause};

use crate::support::{alive, bash, lives, marker, python, run, run_until_ready, slot};

/// A script that leaves something behind, with a word on its command lines that outlives any change of environment.
fn leaving(script: &str) -> (Spec, OsString) {
    let word = marker();
    let text = word.to_str().expect("text").to_owned();
    (bash(&script.replace("WORD", &text)), word)
}

#[tokio::test]
async fn whatever_is_left_behind_is_killed_after_the_leak_grace() {
    let mut slot = slot().await;
    for (script, leaked) in [
        // In the background of the same group, with and without the pipe.
        ("bash -c 'sleep 1000; : WORD' & echo done", 2),
        ("bash -c 'sleep 1000; : WORD' >&- 2>&- & echo done", 2),
        // In a session of its own.
        ("setsid bash -c 'sleep 1000; : WORD' & echo done", 2),
        // Without the environment, deaf, and twice removed from the program.
        (
            "(setsid env -i bash -c 'trap \"\" TERM HUP INT; while :; do /bin/sleep 1000; done; : WORD' &) ; echo done",
            2,
        ),
    ] {
        let (mut spec, word) = leaving(script);
        spec.leak_grace = Duration::from_millis(100);
        let marker = spec.marker.clone().expect("a marker");
        let ran = run(&mut slot, spec).await;
        assert_eq!(
            (ran.text(), ran.ended().exit),
            ("done\n", Exit::Code(0)),
            "{script}"
        );
        assert_eq!((alive(&word), alive(&marker)), (vec![], vec![]), "{script}");
        assert!(
            ran.ended().leaked <= leaked && ran.ended().leaked > 0,
            "{script}: {:?}",
            ran.ended()
        );
        assert_eq!(
            (ran.ended().unkillable, ran.ended().stopped),
            (0, None),
            "{script}"
        );
        assert!(ran.ended().duration < Duration::from_secs(5), "{script}");
    }
}

#[tokio::test]
async fn a_daemon_is_killed_with_the_program_that_is_stopped() {
    let mut slot = slot().await;
    let spec = python(
        "import os, sys, time, signal\n\
         if os.fork() == 0:\n\
         \x20   os.setsid()\n\
         \x20   if os.fork() > 0: os._exit(0)\n\
         \x20   signal.signal(signal.SIGTERM, signal.SIG_IGN)\n\
         \x20   os.chdir('/')\n\
         \x20   print(os.getpid(), 'ready', flush=True)\n\
         \x20   os.execve('/bin/sleep', ['sleep', '1000'], {})\n\
         os.wait()\n\
         time.sleep(1000)",
    );
    let ran = run_until_ready(&mut slot, spec, "ready", |handle, _| {
        handle.stop(StopCause::Cancelled, Duration::from_secs(5));
    })
    .await;
    let daemon: u32 = ran
        .text()
        .split(' ')
        .next()
        .expect("a pid")
        .parse()
        .expect("a number");
    assert!(!lives(daemon));
    assert_eq!((ran.ended().exit, ran.ended().leaked), (Exit::Signal(15), 1));
}

#[tokio::test]
async fn a_leftover_that_ends_in_time_is_no_leak_and_its_output_counts() {
    let mut slot = slot().await;
    let (mut spec, _) = leaving("(sleep 0.2; echo late) & echo early");
    spec.leak_grace = Duration::from_secs(15);
    let ran = run(&mut slot, spec).await;
    assert_eq!((ran.text(), ran.ended().leaked), ("early\nlate\n", 0));
    assert!(
        ran.ended().duration < Duration::from_millis(190),
        "{:?}",
        ran.ended().duration
    );
}

#[tokio::test]
async fn a_stop_ends_the_leak_grace() {
    let mut slot = slot().await;
    let (mut spec, word) = leaving("(echo $BASHPID ready; exec bash -c 'sleep 1000; : WORD') & exit 3");
    spec.leak_grace = Duration::from_secs(1000);
    let begun = Instant::now();
    let ran = run_until_ready(&mut slot, spec, "ready", |handle, pid| {
        crate::support::wait_until("the program itself has ended", || !lives(pid));
        handle.stop(StopCause::Cancelled, Duration::from_secs(1000));
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(15));
    assert_eq!(alive(&word), [0; 0]);
    // The program had ended by itself, so it was not stopped.
    assert_eq!((ran.ended().exit, ran.ended().stopped), (Exit::Code(3), None));
}

#[tokio::test]
async fn a_pipe_held_by_a_stranger_does_not_hold_the_run() {
    let mut slot = slot().await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("bound");
    // The program hands its standard output to this process, which is no descendant of its spawner.
    let holder = std::thread::spawn(move || {
        let (connection, _) = listener.accept().expect("a connection");
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = rustix::net::RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0; 1];
        let mut parts = [std::io::IoSliceMut::new(&mut byte)];
        rustix::net::recvmsg(
            &connection,
            &mut parts,
            &mut control,
            rustix::net::RecvFlags::empty(),
        )
        .expect("received");
        control
            .drain()
            .filter_map(|message| match message {
                rustix::net::RecvAncillaryMessage::ScmRights(fds) => Some(fds.collect::<Vec<_>>()),
                _ => None,
            })
            .flatten()
            .collect::<Vec<_>>()
    });
    let spec = python(&format!(
        "import socket\ns = socket.socket(socket.AF_UNIX); s.connect({:?})\n\
         print('handed over', flush=True)\nsocket.send_fds(s, [b'x'], [1])",
        path.display().to_string()
    ));
    let ran = run(&mut slot, spec).await;
    let held = holder.join().expect("received");
    assert_eq!(
        (held.len(), ran.text(), ran.ended().leaked),
        (1, "handed over\n", 0)
    );
}

#[tokio::test]
async fn a_program_that_breeds_is_killed_to_the_last() {
    let mut slot = slot().await;
    // Each process keeps making new ones in sessions of their own, within a bound that protects this machine.
    let mut spec = python(
        "import os, time, signal\n\
         print('ready', flush=True)\n\
         end = time.time() + 60\n\
         while time.time() < end:\n\
         \x20   if os.fork() == 0:\n\
         \x20       os.setsid()\n\
         \x20       if os.fork() > 0: os._exit(0)\n\
         \x20       time.sleep(1000)\n\
         \x20   time.sleep(0.002)",
    );
    spec.leak_grace = Duration::ZERO;
    let marker = spec.marker.clone().expect("a marker");
    let ran = run_until_ready(&mut slot, spec, "ready", |handle, _| {
        crate::support::wait_until("there are many", || alive(&marker).len() > 30);
        handle.stop(StopCause::Cancelled, Duration::ZERO);
    })
    .await;
    assert_eq!(alive(&marker), [0; 0]);
    // Of those that were counted one is the program itself, and some were about to end by themselves.
    assert!(
        ran.ended().leaked >= 15 && ran.ended().unkillable == 0,
        "{:?}",
        ran.ended()
    );
}

#[tokio::test]
async fn orphans_that_end_do_not_pile_up_as_zombies() {
    let mut slot = slot().await;
    let spawner = slot.pid();
    let spec = bash("for i in $(seq 50); do (true &); done; echo ready; read -t 10 < <(sleep 5)");
    run_until_ready(&mut slot, spec, "ready", |handle, pid| {
        crate::support::wait_until("all orphans are reaped", || {
            let path = format!("/proc/{spawner}/task/{spawner}/children");
            std::fs::read_to_string(path).is_ok_and(|children| children.trim() == pid.to_string())
        });
        handle.stop(StopCause::Cancelled, Duration::from_secs(5));
    })
    .await;
}
