//! Storing the lines of a job that still runs.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::error::StoreError;
use super::log_codec::{LogChunk, chunk_row};
use super::tx::Tx;
use super::writer::Operation;
use super::{dialect, record};
use crate::domain::JobId;

/// Adds to the log of a running attempt. What an attempt printed last goes with [`EndJob`](super::EndJob).
#[derive(Debug)]
pub struct AppendLog {
    /// The job.
    pub job: JobId,
    /// The attempt that printed.
    pub attempt: u32,
    /// The lines, in their order.
    pub chunks: Arc<[LogChunk]>,
}

impl Operation for AppendLog {
    /// Whether the attempt is still the one that runs; otherwise nothing was written.
    type Output = bool;

    fn apply<'t>(&'t self, tx: &'t mut Tx) -> BoxFuture<'t, Result<bool, StoreError>> {
        Box::pin(async move {
            let attempt = record::number(self.attempt);
            // The lock holds off another node that is about to end this attempt: its log then ends first.
            let sql = format!(
                "SELECT 1 AS one FROM job WHERE id = ? AND status = 'RUNNING' AND attempt = ?{}",
                dialect::for_update(tx.backend()),
            );
            let statement = tx.statement(&sql, [self.job.uuid().into(), attempt.into()]);
            let runs = tx.row(statement).await?.is_some();
            if runs {
                for chunk in &*self.chunks {
                    tx.add_chunk(chunk_row(self.job, attempt, chunk.clone()), self.job);
                }
            }
            Ok(runs)
        })
    }
}
