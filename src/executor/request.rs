//! What is asked for, and how it is refused.

use std::time::Duration;

use crate::domain::{Command, EnvVar, JobId, Metadata, Timestamp};
use crate::store::StoreError;

/// A job as a caller asks for it, before any check. Begin with [`JobRequest::new`] and change what differs.
#[derive(Debug, Clone)]
pub struct JobRequest {
    /// What to run.
    pub command: Command,
    /// The queue to wait in.
    pub queue: String,
    /// −100 to 100; higher runs first.
    pub priority: i32,
    /// How long one attempt may take; none is the script's or the server's own.
    pub timeout: Option<Duration>,
    /// Not before this moment.
    pub run_at: Option<Timestamp>,
    /// How often it may be tried; 1 is no retry.
    pub max_attempts: i32,
    /// The pause after the first failure; it doubles with each further one.
    pub backoff: Duration,
    /// Its environment beyond the server's allow-list.
    pub env: Vec<EnvVar>,
    /// Its working directory below the work root; none is one of its own.
    pub working_dir: Option<String>,
    /// A second request with the same key is answered with the first one's job.
    pub idempotency_key: Option<String>,
    /// Jobs that must complete before.
    pub depends_on: Vec<JobId>,
    /// Who asks, and what for.
    pub metadata: Metadata,
    /// The steps of a plan, in its order; none for any other command.
    pub steps: Vec<StepRequest>,
}

/// A step of a plan as a caller asks for it.
#[derive(Debug, Clone)]
pub struct StepRequest {
    /// Unique within the plan; its index, from 0, where left out.
    pub key: Option<String>,
    /// The keys of the steps that must complete before; only in a dependency graph.
    pub depends_on: Vec<String>,
    /// What to run.
    pub run: JobRequest,
}

impl JobRequest {
    /// A request with the defaults.
    #[must_use]
    pub fn new(command: Command) -> Self {
        Self {
            command,
            queue: "default".to_owned(),
            priority: 0,
            timeout: None,
            run_at: None,
            max_attempts: 1,
            backoff: Duration::from_secs(1),
            env: Vec::new(),
            working_dir: None,
            idempotency_key: None,
            depends_on: Vec::new(),
            metadata: Metadata::default(),
            steps: Vec::new(),
        }
    }
}

/// The kinds of refusal that a caller can mend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalCode {
    /// The input is wrong.
    Invalid,
    /// What it names is not there.
    NotFound,
    /// Not in this status.
    Conflict,
    /// This server does not allow it.
    NotAllowed,
    /// A limit of this server.
    LimitExceeded,
}

/// A refusal of one input, with what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Its kind.
    pub code: RefusalCode,
    /// What is wrong, and what to do.
    pub message: String,
    /// The input at fault, below the request: `["command", "script", "name"]`. Empty where all requests together are
    /// at fault, as with a queue that is full.
    pub path: Vec<String>,
}

impl Refusal {
    /// A refusal of the input at this path.
    #[must_use]
    pub fn new(code: RefusalCode, path: &[&str], message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            path: path.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    /// The same refusal, of an input that stands below this place.
    #[must_use]
    pub fn below(self, place: &[&str]) -> Self {
        let place = place.iter().map(|&name| name.to_owned());
        Self {
            path: place.chain(self.path).collect(),
            ..self
        }
    }
}

/// Why nothing was stored.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The inputs at fault, each with the index of its request.
    #[error("{}", refusals.first().map_or("refused", |(_, refusal)| refusal.message.as_str()))]
    Refused {
        /// All that was found wrong.
        refusals: Vec<(usize, Refusal)>,
    },
    /// The store failed.
    #[error("the job could not be stored")]
    Store(#[from] StoreError),
    /// The scripts folder could not be read.
    #[error("the scripts folder could not be read")]
    Scripts(#[source] std::io::Error),
}

impl SubmitError {
    pub(super) fn refused(index: usize, refusal: Refusal) -> Self {
        Self::Refused {
            refusals: vec![(index, refusal)],
        }
    }
}
