//! Standard input: nothing, a document, and one that nobody reads.

use runql::process::Exit;

use crate::support::{bash, program, run, slot};

#[tokio::test]
async fn without_a_document_there_is_nothing_to_read() {
    let mut slot = slot().await;
    let ran = run(&mut slot, bash("cat; readlink /proc/self/fd/0")).await;
    assert_eq!(ran.text(), "/dev/null\n");
}

#[tokio::test]
async fn documents_of_any_size_arrive_whole() {
    let mut slot = slot().await;
    for size in [0, 1, 65_535, 65_536, 65_537, 5_000_000] {
        let document: Vec<u8> = (0..=250_u8).cycle().take(size).collect();
        let mut spec = program("cat", &[]);
        spec.stdin = Some(document.clone());
        let ran = run(&mut slot, spec).await;
        assert_eq!(ran.ended().exit, Exit::Code(0));
        assert!(ran.stdout == document, "{size} bytes became {}", ran.stdout.len());
    }
}

#[tokio::test]
async fn a_document_may_be_left_unread() {
    let mut slot = slot().await;
    for script in [
        "exit 2",
        "exec <&-; echo going on; exit 2",
        "head -c 3 >/dev/null; exit 2",
    ] {
        let mut spec = bash(script);
        spec.stdin = Some(vec![b'x'; 5_000_000]);
        assert_eq!(run(&mut slot, spec).await.ended().exit, Exit::Code(2), "{script}");
    }
}

#[tokio::test]
async fn writing_the_output_does_not_wait_for_reading_the_input() {
    let mut slot = slot().await;
    let mut spec = bash("head -c 3000000 /dev/zero; wc -c >&2");
    spec.stdin = Some(vec![b'x'; 3_000_000]);
    let ran = run(&mut slot, spec).await;
    assert_eq!(
        (ran.stdout.len(), ran.stderr.as_slice()),
        (3_000_000, b"3000000\n".as_slice())
    );
}
