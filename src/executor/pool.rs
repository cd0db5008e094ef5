//! The workers that this server runs itself, as others see and change them.

use tokio::sync::oneshot;

use crate::domain::WorkerId;
use crate::store::StoreError;

/// The most workers of one server. Each holds a process; more would not make a machine faster.
pub const MOST_WORKERS: usize = 1_024;

/// The pool as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolState {
    /// Whether it takes jobs.
    pub running: bool,
    /// How many workers it is to have; while it shrinks, busy ones stay until their job has ended.
    pub size: usize,
    /// Those it has.
    pub workers: Vec<WorkerId>,
}

/// What a change did.
#[derive(Debug, Clone)]
pub struct PoolChange {
    /// The size before.
    pub previous: usize,
    /// The pool afterwards.
    pub state: PoolState,
}

/// Why the pool did not change.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// More workers than a server has.
    #[error("a server runs at most {limit} workers")]
    TooMany {
        /// How many it may have.
        limit: usize,
    },
    /// The store failed.
    #[error("the workers could not be stored")]
    Store(#[source] StoreError),
    /// The server is going down.
    #[error("the server is shutting down")]
    Closed,
}

type Reply = oneshot::Sender<Result<PoolChange, PoolError>>;

/// What the pool's owner is asked for.
#[derive(Debug)]
pub(super) enum PoolCommand {
    Scale {
        size: usize,
        reply: Reply,
    },
    Start {
        reply: Reply,
    },
    /// Workers that are no longer this node's are to be replaced.
    Replace {
        lost: Vec<WorkerId>,
    },
    Stop {
        cancel_running: bool,
        reply: Reply,
    },
}
