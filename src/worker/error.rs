//! Why a worker cannot work, or cannot go on.

use std::path::PathBuf;

/// Why a worker cannot work.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The settings name no server.
    #[error("there is no server's address among the settings")]
    NoServer,
    /// The command cannot be run here.
    #[error("the command cannot be run: {0}")]
    Command(String),
    /// The folder cannot be used.
    #[error("the work folder {} cannot be used", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        error: std::io::Error,
    },
    /// Another worker uses the folder.
    #[error("another worker uses the work folder {}: give each one of its own with --work-dir", .0.display())]
    FolderInUse(PathBuf),
    /// The HTTP client cannot be made.
    #[error("requests cannot be sent from here")]
    Client(#[source] reqwest::Error),
    /// This executable cannot be started anew to supervise programs.
    #[error("programs cannot be supervised")]
    Spawner(#[source] std::io::Error),
    /// Programs cannot be run as the settings want them to.
    #[error("jobs cannot be run as the settings of the sandbox say")]
    Sandbox(#[source] std::io::Error),
    /// Signals cannot be received.
    #[error("signals cannot be received")]
    Signals(#[source] std::io::Error),
    /// The server does not take this worker.
    #[error("the server at {server} does not take this worker: {reason}")]
    Refused {
        /// Its address.
        server: String,
        /// What it said.
        reason: String,
    },
    /// The server does not let this worker in any more: its token was revoked, rotated or has expired.
    #[error("the server at {server} does not take this worker any more: {reason}")]
    ShutOut {
        /// Its address.
        server: String,
        /// What it said.
        reason: String,
    },
}

impl WorkerError {
    /// Whether the arguments are at fault.
    #[must_use]
    pub const fn is_usage(&self) -> bool {
        matches!(self, Self::NoServer | Self::Command(_))
    }
}
