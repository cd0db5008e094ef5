//! Whether the database can be used: read, and written.
//!
//! A full disk lets itself be read, so asking is not enough; and writing to find out would cost a commit for each who
//! asks. So the writer keeps what its last failure was, and only while there is one is a write tried for the answer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use sea_orm::ConnectionTrait;

use super::connect::{Store, has_unknown};
use super::dialect;
use super::error::StoreError;
use super::trouble::Trouble;
use super::tx::Tx;
use super::writer::Operation;

/// For so long after a failure a success proves nothing: on a full disk a small write finds room between two that do not.
const HELD: Duration = Duration::from_secs(1);

/// What last kept the writer from writing, until it has written again. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Condition(Arc<Mutex<Option<(Trouble, Instant)>>>);

impl Condition {
    pub(super) fn get(&self) -> Option<Trouble> {
        self.lock().map(|(trouble, _)| trouble)
    }

    pub(super) fn failed(&self, trouble: Trouble) {
        *self.lock() = Some((trouble, Instant::now()));
    }

    pub(super) fn written(&self) {
        self.lock().take_if(|(_, failed)| failed.elapsed() >= HELD);
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Trouble, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes something that changes nothing: proof that the database takes writes.
struct TryOut;

impl Operation for TryOut {
    type Output = ();

    fn apply<'t>(&'t self, tx: &'t mut Tx) -> BoxFuture<'t, Result<(), StoreError>> {
        Box::pin(async move {
            let sql = "UPDATE seaql_migrations SET applied_at = applied_at";
            tx.batch(sql).await?;
            tx.committed.queued = true;
            Ok(())
        })
    }
}

impl Store {
    /// Whether a newer version of this program has changed the tables since this one opened them.
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the database failed.
    pub async fn is_outdated(&self) -> Result<bool, StoreError> {
        let db = &self.reader().db;
        let sql = dialect::statement(
            db.get_database_backend(),
            "SELECT version FROM seaql_migrations",
            [],
        );
        let rows = db.query_all_raw(sql).await?;
        let applied: Vec<String> = rows
            .iter()
            .map(|row| row.try_get("", "version"))
            .collect::<Result<_, _>>()?;
        Ok(has_unknown(applied.iter().map(String::as_str)))
    }

    /// Whether the database can be read and written: how long it took to answer the smallest question, or what is in
    /// the way. `patience` bounds the whole.
    ///
    /// # Errors
    ///
    /// The [`Trouble`].
    pub async fn check(&self, patience: Duration) -> Result<Duration, Trouble> {
        let asked = async {
            let latency = self.reader().ping().await?;
            if self.condition().get().is_some() {
                self.writer().write(TryOut).await?;
            }
            Ok::<_, StoreError>(latency)
        };
        match tokio::time::timeout(patience, asked).await {
            Ok(Ok(latency)) => self.condition().get().map_or(Ok(latency), Err),
            Ok(Err(error)) => {
                tracing::warn!(error = %crate::telemetry::chain(&error), "the database cannot be used");
                Err(error.trouble().unwrap_or(Trouble::Failed))
            }
            Err(_) => {
                let patience_ms = crate::telemetry::millis(patience);
                tracing::warn!(patience_ms, "the database does not answer");
                // Who waits for a connection sees only that it takes long; the writer may know why.
                Err(self.condition().get().unwrap_or(Trouble::NoAnswer))
            }
        }
    }
}
