//! What all transports of one endpoint share: the executor, the settings, and the counts that are limited.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::config::TransportConfig;
use super::document::Documents;
use super::persisted::PersistedQueries;
use super::rate::Rates;
use super::shared::Payloads;

/// One endpoint.
pub(super) struct Transport<E> {
    pub(super) executor: E,
    pub(super) config: TransportConfig,
    pub(super) persisted: PersistedQueries,
    pub(super) documents: Documents,
    /// What listeners are answered alike.
    pub(super) payloads: Arc<Payloads>,
    /// What each payer has left, where that is limited.
    pub(super) rates: Option<Arc<Rates>>,
    /// A permit for each socket that may be open.
    pub(super) sockets: Arc<Semaphore>,
    /// A permit for each subscription that may be live.
    pub(super) subscriptions: Arc<Semaphore>,
    /// Every socket and event stream, so that the end of all can be awaited.
    pub(super) tracker: TaskTracker,
    pub(super) shutdown: CancellationToken,
}

impl<E> Transport<E> {
    pub(super) fn new(executor: E, config: TransportConfig, shutdown: CancellationToken) -> Self {
        Self {
            executor,
            persisted: PersistedQueries::new(config.max_persisted_queries, config.max_persisted_bytes),
            documents: Documents::default(),
            payloads: Arc::default(),
            rates: config.rate_limit.map(|limit| Arc::new(Rates::new(limit))),
            sockets: Arc::new(Semaphore::new(config.max_sockets)),
            subscriptions: Arc::new(Semaphore::new(config.max_subscriptions)),
            tracker: TaskTracker::new(),
            shutdown,
            config,
        }
    }

    pub(super) fn handle(&self) -> TransportHandle {
        TransportHandle {
            sockets: Gauge {
                free: Arc::clone(&self.sockets),
                all: self.config.max_sockets,
            },
            subscriptions: Gauge {
                free: Arc::clone(&self.subscriptions),
                all: self.config.max_subscriptions,
            },
            tracker: self.tracker.clone(),
        }
    }
}

/// Tells what is open, and when nothing is any more.
#[derive(Debug, Clone)]
pub struct TransportHandle {
    sockets: Gauge,
    subscriptions: Gauge,
    tracker: TaskTracker,
}

#[derive(Debug, Clone)]
struct Gauge {
    free: Arc<Semaphore>,
    all: usize,
}

impl Gauge {
    fn used(&self) -> usize {
        self.all.saturating_sub(self.free.available_permits())
    }
}

impl TransportHandle {
    /// Sockets that are open now.
    #[must_use]
    pub fn open_sockets(&self) -> usize {
        self.sockets.used()
    }

    /// Subscriptions that are live now, over sockets and event streams.
    #[must_use]
    pub fn open_subscriptions(&self) -> usize {
        self.subscriptions.used()
    }

    /// Waits, after the shutdown was asked for, until every socket and event stream has ended. An HTTP server's own
    /// graceful shutdown does not wait for sockets.
    pub async fn closed(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}
