//! What the tests of real processes share: a slot, a run with its output gathered, and a look for what is left.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use runql::process::{
    Controls, Ended, OUTPUT_BOUND, Outcome, OutputChunk, Sandbox, SandboxMode, Slot, Spec, StopHandle,
    Stream, controls,
};
use tokio::sync::{mpsc, oneshot};

/// How long anything that has to happen may take on a busy machine.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

/// The executable whose `main` serves as a spawner.
pub(crate) fn executable() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_runql"))
}

/// Programs are kept from nothing: most tests here are about other things.
pub(crate) fn no_sandbox() -> Sandbox {
    Sandbox {
        mode: SandboxMode::Off,
        ..Sandbox::default()
    }
}

/// A new slot, whose programs are kept from nothing.
pub(crate) async fn slot() -> Slot {
    slot_in(&no_sandbox()).await
}

/// A new slot, whose programs are kept from what the sandbox says.
pub(crate) async fn slot_in(sandbox: &Sandbox) -> Slot {
    Slot::start(executable(), sandbox)
        .await
        .expect("a spawner starts")
}

/// An entry of the environment that no other process has.
pub(crate) fn marker() -> OsString {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("RUNQL_TEST_MARKER={}-{number}", std::process::id()).into()
}

/// A program with a marker of its own in its environment.
pub(crate) fn program(name: &str, args: &[&str]) -> Spec {
    let mut spec = Spec::new(name, "/");
    spec.args = args.iter().map(OsString::from).collect();
    let marker = marker();
    let (key, value) = marker.to_str().and_then(|m| m.split_once('=')).expect("a pair");
    spec.env = vec![
        (key.into(), value.into()),
        ("PATH".into(), std::env::var_os("PATH").expect("a PATH")),
    ];
    spec.marker = Some(marker);
    spec
}

/// A script for bash.
pub(crate) fn bash(script: &str) -> Spec {
    program("bash", &["-c", script])
}

/// A script for Python.
pub(crate) fn python(script: &str) -> Spec {
    program("python3", &["-c", script])
}

/// What a run gave.
pub(crate) struct Ran {
    pub(crate) outcome: Outcome,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl Ran {
    /// How the program ended; panics if there was none.
    pub(crate) fn ended(&self) -> &Ended {
        match &self.outcome {
            Outcome::Ended(ended) => ended,
            other => panic!("the program did not end by itself: {other:?}"),
        }
    }

    /// Standard output as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("UTF-8")
    }
}

/// Runs to the end and gathers all output.
pub(crate) async fn run(slot: &mut Slot, spec: Spec) -> Ran {
    run_with(slot, spec, controls().1).await
}

/// The same with controls.
pub(crate) async fn run_with(slot: &mut Slot, spec: Spec, controls: Controls) -> Ran {
    let (sender, receiver) = mpsc::channel(OUTPUT_BOUND);
    let both = async { tokio::join!(slot.run(spec, controls, sender), gather(receiver)) };
    let (outcome, (stdout, stderr)) = tokio::time::timeout(BOUND, both).await.expect("the run ends");
    Ran {
        outcome,
        stdout,
        stderr,
    }
}

async fn gather(mut receiver: mpsc::Receiver<OutputChunk>) -> (Vec<u8>, Vec<u8>) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let Some(chunk) = receiver.recv().await {
        match chunk.stream {
            Stream::Stdout => stdout.extend(chunk.bytes),
            Stream::Stderr => stderr.extend(chunk.bytes),
        }
    }
    (stdout, stderr)
}

/// A run in which something is done once the program has printed a line that ends in `word`.
pub(crate) async fn run_until_ready(
    slot: &mut Slot,
    spec: Spec,
    word: &str,
    then: impl FnOnce(&StopHandle, u32),
) -> Ran {
    let (handle, controls) = controls();
    let (told, started) = oneshot::channel::<runql::process::Started>();
    let (sender, mut receiver) = mpsc::channel::<OutputChunk>(OUTPUT_BOUND);
    let watch = async {
        let mut stdout = Vec::new();
        while !stdout.ends_with(format!("{word}\n").as_bytes()) {
            stdout.extend(receiver.recv().await.expect("the program says the word").bytes);
        }
        then(&handle, started.await.expect("started").pid);
        let (rest, stderr) = gather(receiver).await;
        stdout.extend(rest);
        (stdout, stderr)
    };
    let both = async { tokio::join!(slot.run(spec, controls.on_start(told), sender), watch) };
    let (outcome, (stdout, stderr)) = tokio::time::timeout(BOUND, both).await.expect("the run ends");
    Ran {
        outcome,
        stdout,
        stderr,
    }
}

/// The processes that carry the marker or have the word on their command line, and still live.
pub(crate) fn alive(marker: &OsString) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").expect("/proc");
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
            let has = |text: Vec<u8>| text.windows(marker.len()).any(|part| part == marker.as_bytes());
            // A process that has ended has no environment and no command line any more.
            has(read("environ")) || has(read("cmdline"))
        })
        .collect()
}

/// Whether the process is there and has not ended.
pub(crate) fn lives(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
}

/// Waits, with a bound, until the condition holds.
pub(crate) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + BOUND;
    while !condition() {
        assert!(Instant::now() < deadline, "it never came true that {what}");
        std::thread::yield_now();
    }
}

/// The same inside a task: other tasks go on meanwhile.
pub(crate) async fn wait_until_async(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + BOUND;
    while !condition() {
        assert!(Instant::now() < deadline, "it never came true that {what}");
        tokio::task::yield_now().await;
    }
}
