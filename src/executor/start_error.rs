//! Why an executor did not start.

use crate::store::{OpenError, StoreError, Trouble};

/// Why an executor did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store could not be opened.
    #[error("the store could not be opened")]
    Open(#[source] OpenError),
    /// The store failed after it was opened.
    #[error("the store failed at the start")]
    Store(#[source] StoreError),
    /// This program's own file cannot be named, and the options name no other.
    #[error("the program that supervises processes cannot be found")]
    Spawner(#[source] std::io::Error),
    /// Jobs cannot be run as the options want them to.
    #[error("jobs cannot be run as the settings of the sandbox say")]
    Sandbox(#[source] std::io::Error),
}

impl StartError {
    /// What keeps the database from being used; trying again may help. None where it will not.
    #[must_use]
    pub const fn trouble(&self) -> Option<Trouble> {
        match self {
            Self::Open(OpenError::Store(error)) | Self::Store(error) => error.trouble(),
            Self::Open(_) | Self::Spawner(_) | Self::Sandbox(_) => None,
        }
    }
}
