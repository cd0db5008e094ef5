//! Output: whole, in order, and never more of it in memory than the channel holds.

use std::time::Duration;

use runql::process::{Exit, OUTPUT_BOUND, Outcome, OutputChunk, StopCause, controls};
use tokio::sync::{mpsc, oneshot};

use crate::support::{BOUND, alive, bash, python, run, slot, wait_until_async};

#[tokio::test]
async fn five_thousand_lines_arrive_whole_and_in_order() {
    let mut slot = slot().await;
    let ran = run(
        &mut slot,
        bash("for i in $(seq 5000); do echo line $i; done; echo last >&2"),
    )
    .await;
    let expected: String = (1..=5000).map(|i| format!("line {i}\n")).collect();
    assert_eq!(ran.text(), expected);
    assert_eq!(ran.stderr, b"last\n");
}

#[tokio::test]
async fn bytes_are_not_touched() {
    let mut slot = slot().await;
    let ran = run(
        &mut slot,
        python("import sys; o=sys.stdout.buffer; o.write(bytes(range(256))*1000); o.flush(); sys.stderr.buffer.write(b'\\xff\\xfe no newline')"),
    )
    .await;
    let expected: Vec<u8> = (0..=255_u8).cycle().take(256_000).collect();
    assert!(ran.stdout == expected, "{} bytes", ran.stdout.len());
    assert_eq!(ran.stderr, b"\xff\xfe no newline");
}

#[tokio::test]
async fn a_program_that_closes_its_output_runs_on() {
    let mut slot = slot().await;
    let ran = run(
        &mut slot,
        bash("echo a; exec >&- 2>&-; read -t 0.2 < <(read -t 5); exit 6"),
    )
    .await;
    assert_eq!((ran.text(), ran.ended().exit), ("a\n", Exit::Code(6)));
}

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .expect("a peak");
    line.split_ascii_whitespace()
        .nth(1)
        .expect("a number")
        .parse()
        .expect("kB")
}

#[tokio::test]
async fn a_flood_passes_through_in_bounded_memory() {
    const FLOOD: usize = 200 * 1024 * 1024;
    let mut slot = slot().await;
    run(&mut slot, bash("true")).await;
    let before = resident();
    let (sender, mut receiver) = mpsc::channel::<OutputChunk>(OUTPUT_BOUND);
    let count = async {
        let mut count = 0;
        while let Some(chunk) = receiver.recv().await {
            assert!(chunk.bytes.iter().all(|byte| *byte == 0));
            count += chunk.bytes.len();
        }
        count
    };
    let spec = bash(&format!("head -c {FLOOD} /dev/zero"));
    let (outcome, count) = tokio::join!(slot.run(spec, controls().1, sender), count);
    assert!(matches!(outcome, Outcome::Ended(_)), "{outcome:?}");
    assert_eq!(count, FLOOD);
    let grown = resident() - before;
    assert!(grown < 32 * 1024, "the peak grew by {grown} kB");
}

#[tokio::test]
async fn nobody_who_listens_is_nobody_who_hinders() {
    let mut slot = slot().await;
    let (sender, receiver) = mpsc::channel(1);
    drop(receiver);
    let outcome = slot
        .run(bash("head -c 10000000 /dev/zero; exit 5"), controls().1, sender)
        .await;
    assert!(
        matches!(&outcome, Outcome::Ended(ended) if ended.exit == Exit::Code(5)),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_stuck_consumer_stops_the_program_but_not_its_killing() {
    let mut slot = slot().await;
    let mut spec = bash("trap '' TERM; cat /dev/zero");
    let marker = spec.marker.clone().expect("a marker");
    spec.timeout = Some(Duration::from_millis(200));
    spec.timeout_grace = Duration::from_millis(50);
    let before = resident();
    let (told, started) = oneshot::channel();
    let (sender, mut receiver) = mpsc::channel::<OutputChunk>(OUTPUT_BOUND);
    let consumer = async {
        started.await.expect("started");
        wait_until_async("the channel is full", || receiver.len() == OUTPUT_BOUND).await;
        wait_until_async("the flood is dead", || alive(&marker).is_empty()).await;
        let grown = resident() - before;
        let mut count = 0;
        while let Some(chunk) = receiver.recv().await {
            count += chunk.bytes.len();
        }
        (count, grown)
    };
    let both = async { tokio::join!(slot.run(spec, controls().1.on_start(told), sender), consumer) };
    let (outcome, (count, grown)) = tokio::time::timeout(BOUND, both).await.expect("it ends");
    let Outcome::Ended(ended) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(
        (ended.exit, ended.stopped),
        (Exit::Signal(9), Some(StopCause::Timeout))
    );
    assert!(
        count >= OUTPUT_BOUND * 1024,
        "what was in the channel and the pipe is still handed on"
    );
    assert!(grown < 32 * 1024, "the peak grew by {grown} kB");
}
