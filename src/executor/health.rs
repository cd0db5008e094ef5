//! How this server is: one finding for everybody who asks.

use std::time::Duration;

use super::Executor;
use super::time::now;
use crate::domain::{StatusCounts, Worker};
use crate::store::{StoreError, Trouble};
use crate::telemetry::chain;

/// How long the database may take to answer before it counts as away: whoever asks for the health does not wait long.
const PATIENCE: Duration = Duration::from_secs(3);

/// How a server is, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It takes jobs and runs them.
    Healthy,
    /// It takes jobs, but runs none: its worker pool is stopped or empty.
    Degraded,
    /// Its database cannot be used, so it can neither take nor run jobs.
    Unhealthy,
}

impl Condition {
    /// The word for programs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "HEALTHY",
            Self::Degraded => "DEGRADED",
            Self::Unhealthy => "UNHEALTHY",
        }
    }
}

/// What an examination found.
#[derive(Debug, Clone)]
pub struct Health {
    /// In one word.
    pub condition: Condition,
    /// How long the database took to answer the smallest question, or why it cannot be used.
    pub database: Result<Duration, Trouble>,
    /// The workers of all servers; none where the database cannot be used.
    pub workers: Vec<Worker>,
    /// How many jobs there are; all 0 where the database cannot be used.
    pub queue: StatusCounts,
}

impl Executor {
    /// Finds out how this server is. A database that fails is a finding, not an error.
    pub async fn examine(&self) -> Health {
        let asked = async {
            let latency = self.check_database().await?;
            let figures = async {
                let workers = self.reader().workers(self.0.silent_since(now())).await?;
                let queue = self.reader().status_counts(None).await?;
                Ok::<_, StoreError>((workers, queue))
            };
            match tokio::time::timeout(PATIENCE, figures).await {
                Ok(Ok((workers, queue))) => Ok((latency, workers, queue)),
                Ok(Err(error)) => {
                    tracing::warn!(error = %chain(&error), "the database's figures cannot be read");
                    Err(error.trouble().unwrap_or(Trouble::Failed))
                }
                Err(_) => Err(Trouble::NoAnswer),
            }
        };
        match asked.await {
            Ok((latency, workers, queue)) => {
                let pool = self.pool();
                let idle = !pool.running || pool.size == 0;
                Health {
                    condition: if idle {
                        Condition::Degraded
                    } else {
                        Condition::Healthy
                    },
                    database: Ok(latency),
                    workers,
                    queue,
                }
            }
            Err(trouble) => Health {
                condition: Condition::Unhealthy,
                database: Err(trouble),
                workers: Vec::new(),
                queue: StatusCounts::default(),
            },
        }
    }

    /// Whether the database can be read and written: how long it took to answer, or what is in the way.
    ///
    /// # Errors
    ///
    /// The [`Trouble`].
    pub async fn check_database(&self) -> Result<Duration, Trouble> {
        self.0.store.check(PATIENCE).await
    }
}
