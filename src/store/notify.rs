//! Hints from the other nodes, by LISTEN and NOTIFY of Postgres. They carry no truth and may be lost: whoever waits
//! for one also looks from time to time.

use std::collections::BTreeSet;
use std::time::Duration;

use sea_orm::sqlx::Executor as _;
use sea_orm::sqlx::postgres::PgListener;
use sea_orm::{SqlxError, Value};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::connect::{Backend, Store};
use super::sockets;
use crate::domain::{Changes, EventSeq, JobId};

const CHANNEL: &str = "runql";

/// Ids of each kind in one payload, which may have 8,000 bytes: beyond it the hint says that there were more.
const IDS_PER_PAYLOAD: usize = 60;

/// A connection that was quiet for so long is asked whether it lives, and how long that may take: nothing is ever sent
/// over it, so a peer that is gone would not be noticed.
const QUIET: Duration = Duration::from_secs(15);
const PATIENCE: Duration = Duration::from_secs(5);

/// The first pause after a lost connection; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What one node tells the others.
#[derive(Debug, Serialize, Deserialize)]
struct Payload {
    /// Who tells; a node passes over its own.
    node: Uuid,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_event: Option<i64>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    jobs: BTreeSet<JobId>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    logs: BTreeSet<JobId>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    cancels: BTreeSet<JobId>,
    #[serde(default)]
    queued: bool,
    #[serde(default)]
    workers: bool,
    /// Whether there was more than fits.
    #[serde(default)]
    more: bool,
}

/// What follows the columns of a SELECT that has the number of the last event as `seq`: the other nodes are told when the
/// transaction commits. Its values are [`values`].
pub(super) const WITH_LAST_EVENT: &str =
    ", pg_notify(?, CAST(? AS TEXT) || ',\"last_event\":' || COALESCE(CAST(seq AS TEXT), 'null') || '}')";

/// The values of [`WITH_LAST_EVENT`].
pub(super) fn values(hint: String) -> [Value; 2] {
    [CHANNEL.into(), hint.into()]
}

/// What tells the other nodes of a commit, but for its last event and the end; none where nothing is to be told.
pub(super) fn hint(node: Uuid, committed: &Changes) -> Option<String> {
    if committed.is_empty() {
        return None;
    }
    let payload = Payload {
        node,
        last_event: None,
        jobs: committed.jobs.iter().copied().take(IDS_PER_PAYLOAD).collect(),
        logs: committed.logs.iter().copied().take(IDS_PER_PAYLOAD).collect(),
        cancels: committed.cancels.iter().copied().take(IDS_PER_PAYLOAD).collect(),
        queued: committed.queued,
        workers: committed.workers,
        more: [&committed.jobs, &committed.logs, &committed.cancels]
            .iter()
            .any(|ids| ids.len() > IDS_PER_PAYLOAD),
    };
    let text = serde_json::to_string(&payload).ok()?;
    text.strip_suffix('}').map(ToOwned::to_owned)
}

/// Listens for what other nodes commit, until `stop`. A connection that was lost is opened again; since hints were
/// missed meanwhile, `on_hint` is then told that anything may have changed. Does nothing on SQLite, which has one node.
pub async fn listen(store: &Store, on_hint: impl Fn(Option<Changes>), stop: CancellationToken) {
    if store.backend() == Backend::Sqlite {
        return stop.cancelled().await;
    }
    let mut pause = FIRST_PAUSE;
    loop {
        let session = stop
            .run_until_cancelled(session(store, &on_hint, &mut pause))
            .await;
        let Some(Err(error)) = session else { return };
        tracing::warn!(error = %crate::telemetry::chain(&error), retry_ms = crate::telemetry::millis(pause), "hints from other nodes are cut off; polling goes on");
        if stop
            .run_until_cancelled(tokio::time::sleep(pause))
            .await
            .is_none()
        {
            return;
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn session(
    store: &Store,
    on_hint: &impl Fn(Option<Changes>),
    pause: &mut Duration,
) -> Result<std::convert::Infallible, SqlxError> {
    let pool = store.pool().get_postgres_connection_pool();
    let port = pool.connect_options().get_port();
    let connecting = Box::pin(PgListener::connect_with(pool));
    let mut listener = sockets::while_connecting(port, connecting).await?;
    listener.listen(CHANNEL).await?;
    *pause = FIRST_PAUSE;
    on_hint(None);
    loop {
        let notification = match tokio::time::timeout(QUIET, listener.try_recv()).await {
            Ok(received) => match received? {
                Some(notification) => notification,
                // The connection was lost, and is a new one.
                None => {
                    on_hint(None);
                    continue;
                }
            },
            Err(_) => {
                let asked = tokio::time::timeout(PATIENCE, listener.execute("SELECT 1")).await;
                asked.map_err(|_| SqlxError::Io(std::io::ErrorKind::TimedOut.into()))??;
                continue;
            }
        };
        match serde_json::from_str::<Payload>(notification.payload()) {
            Ok(payload) if payload.node == store.node() => {}
            Ok(payload) => {
                let all_cancels = payload.cancels.len() < IDS_PER_PAYLOAD;
                on_hint(Some(Changes {
                    last_event: payload.last_event.map(EventSeq),
                    jobs: payload.jobs,
                    logs: payload.logs,
                    cancels: payload.cancels,
                    queued: payload.queued,
                    workers: payload.workers,
                    more: payload.more,
                }));
                if !all_cancels {
                    on_hint(None);
                }
            }
            Err(error) => {
                tracing::warn!(error = %crate::telemetry::chain(&error), "a hint of another version was passed over")
            }
        }
    }
}
