//! Takes what a program prints and hands it on in pieces, soon and in order.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::process::OutputChunk;

/// How long a line may wait to be handed on: a person who watches does not notice, and one piece serves many lines.
const FLUSH_AFTER: Duration = Duration::from_millis(50);

/// Where the output of one attempt goes.
pub(crate) trait Sink {
    /// Adds what was read.
    fn take(&mut self, chunk: &OutputChunk);
    /// Whether there is enough for a piece.
    fn is_full(&self) -> bool;
    /// Hands on what there is, however long that takes; what was handed on before comes first.
    async fn flush(&mut self);
    /// Told once the output has ended.
    async fn close(&mut self);
}

/// Takes output until the process and all who hold its pipes are done.
///
/// While the sink takes no more nothing is read: the pipe fills, and the process waits. So a flood costs the flooder.
pub(crate) async fn drain(sink: &mut impl Sink, output: &mut mpsc::Receiver<OutputChunk>) {
    let mut flush_at: Option<Instant> = None;
    loop {
        let due = async {
            match flush_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            chunk = output.recv() => {
                let Some(chunk) = chunk else { break };
                sink.take(&chunk);
                if !sink.is_full() {
                    flush_at.get_or_insert_with(|| Instant::now() + FLUSH_AFTER);
                    continue;
                }
            }
            () = due => {}
        }
        sink.flush().await;
        flush_at = None;
    }
    sink.close().await;
}
