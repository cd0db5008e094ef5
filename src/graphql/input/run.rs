//! The inputs of the mutations on jobs.

use async_graphql::{ID, InputObject};

use super::command::CommandInput;
use super::{TagInput, job_id, millis};
use crate::domain::{EnvValue, EnvVar, JobId, JobStatus as DomainStatus, Metadata};
use crate::executor::{JobRequest, Refusal, RefusalCode};
use crate::graphql::scalar::{DateTime, SafeInt};
use crate::graphql::words::JobStatus;
use crate::store::CleanupFilter;

/// A job as a caller asks for it.
#[derive(Debug, Clone, InputObject)]
pub(in crate::graphql) struct RunInput {
    /// What to run.
    command: CommandInput,
    /// The queue to wait in: a name of your own, for filters.
    #[graphql(default_with = "Some(\"default\".to_owned())")]
    queue: Option<String>,
    /// Higher runs first: −100 to 100.
    #[graphql(default_with = "Some(0)")]
    priority: Option<i32>,
    /// How long one attempt may take; where left out, as long as the script or else the server says.
    timeout_ms: Option<SafeInt>,
    /// Not before this moment; where left out, as soon as a worker is free.
    run_at: Option<DateTime>,
    /// How often it may be tried: 1 is no retry.
    #[graphql(default_with = "Some(1)")]
    max_attempts: Option<i32>,
    /// The pause before the second attempt. It doubles before each further one, up to an hour, and is
    /// shortened at random so that jobs that failed together do not come back together.
    #[graphql(default_with = "Some(SafeInt(1_000))")]
    backoff_ms: Option<SafeInt>,
    /// Variables for its environment, beyond those that the server passes on.
    #[graphql(default_with = "Some(Vec::new())")]
    env: Option<Vec<EnvVarInput>>,
    /// The folder to run in, below the server's work root; where left out, an empty one that is removed afterwards.
    working_dir: Option<String>,
    /// A second run with the same key answers with the first one's job, so that a request can be sent again safely.
    idempotency_key: Option<String>,
    /// Ids of jobs that must be COMPLETED before this one starts.
    #[graphql(default_with = "Some(Vec::new())")]
    depends_on: Option<Vec<ID>>,
    /// Who asks, and what for.
    metadata: Option<JobMetadataInput>,
}

/// A variable of the process's environment.
#[derive(Debug, Clone, InputObject)]
pub(in crate::graphql) struct EnvVarInput {
    /// Its name.
    name: String,
    /// Its value. It is never shown again, but it is stored with the job: what must not be comes as a `secret`.
    #[graphql(default)]
    value: String,
    /// The name of a secret of the server instead of a value. It is read when an attempt starts, never stored, and masked
    /// in all that the job prints or hands back.
    secret: Option<String>,
}

impl EnvVarInput {
    fn into_variable(self, index: usize) -> Result<EnvVar, Refusal> {
        let value = match self.secret {
            None => EnvValue::Value(self.value),
            Some(secret) if self.value.is_empty() => EnvValue::Secret(secret),
            Some(_) => {
                let path = ["env", &index.to_string(), "secret"];
                let message = format!("{} has a value or a secret, not both", self.name);
                return Err(Refusal::new(RefusalCode::Invalid, &path, message));
            }
        };
        Ok(EnvVar {
            name: self.name,
            value,
        })
    }
}

/// Who asks for a job, and what for: labels to find it by.
#[derive(Debug, Clone, InputObject)]
pub(in crate::graphql) struct JobMetadataInput {
    /// Who asks, in one word of yours: `ui`, `server`, `test`, …
    source: Option<String>,
    /// The conversation that it belongs to.
    conversation_id: Option<ID>,
    /// Labels of your own.
    #[graphql(default_with = "Some(Vec::new())")]
    tags: Option<Vec<TagInput>>,
}

impl RunInput {
    /// The request in the executor's words, or all inputs that do not fit it.
    pub(in crate::graphql) fn into_request(self) -> Result<JobRequest, Vec<Refusal>> {
        let mut refusals = Vec::new();
        let mut steps = Vec::new();
        let mut request = JobRequest::new(self.command.into_domain(&mut steps, &mut refusals));
        request.steps = steps;
        let mut time = |value: SafeInt, field: &str| match millis(value, &[field]) {
            Ok(time) => Some(time),
            Err(refusal) => {
                refusals.push(refusal);
                None
            }
        };
        request.timeout = self.timeout_ms.and_then(|value| time(value, "timeoutMs"));
        if let Some(backoff) = self.backoff_ms.and_then(|value| time(value, "backoffMs")) {
            request.backoff = backoff;
        }
        if let Some(queue) = self.queue {
            request.queue = queue;
        }
        request.priority = self.priority.unwrap_or(request.priority);
        request.max_attempts = self.max_attempts.unwrap_or(request.max_attempts);
        request.run_at = self.run_at.map(|moment| moment.0);
        request.env = self
            .env
            .into_iter()
            .flatten()
            .enumerate()
            .filter_map(|(index, variable)| match variable.into_variable(index) {
                Ok(variable) => Some(variable),
                Err(refusal) => {
                    refusals.push(refusal);
                    None
                }
            })
            .collect();
        request.working_dir = self.working_dir;
        request.idempotency_key = self.idempotency_key;
        for (index, id) in self.depends_on.into_iter().flatten().enumerate() {
            match job_id(&id, &["dependsOn", &index.to_string()]) {
                Ok(id) => request.depends_on.push(id),
                Err(refusal) => refusals.push(refusal),
            }
        }
        request.metadata = self.metadata.map(Metadata::from).unwrap_or_default();
        if refusals.is_empty() {
            Ok(request)
        } else {
            Err(refusals)
        }
    }
}

impl From<JobMetadataInput> for Metadata {
    fn from(metadata: JobMetadataInput) -> Self {
        Self {
            source: metadata.source,
            conversation_id: metadata.conversation_id.map(|id| id.0),
            tags: metadata.tags.into_iter().flatten().map(Into::into).collect(),
        }
    }
}

/// Which job to stop, and how.
#[derive(Debug, Clone, InputObject)]
pub(in crate::graphql) struct CancelInput {
    /// The job.
    id: ID,
    /// Why, for those who read the job later.
    pub(in crate::graphql) reason: Option<String>,
    /// The time between SIGTERM and SIGKILL; where left out, the server's own.
    grace_ms: Option<SafeInt>,
}

impl CancelInput {
    pub(in crate::graphql) fn id(&self) -> Result<JobId, Refusal> {
        job_id(&self.id, &["id"])
    }

    pub(in crate::graphql) fn grace(&self) -> Result<Option<std::time::Duration>, Refusal> {
        self.grace_ms.map(|value| millis(value, &["graceMs"])).transpose()
    }
}

/// Which job to run once more.
#[derive(Debug, Clone, InputObject)]
pub(in crate::graphql) struct RerunInput {
    /// A job that has ended.
    id: ID,
}

impl RerunInput {
    pub(in crate::graphql) fn id(&self) -> Result<JobId, Refusal> {
        job_id(&self.id, &["id"])
    }
}

/// Which ended jobs to delete.
#[derive(Debug, Clone, InputObject)]
pub(in crate::graphql) struct CleanupInput {
    /// Those that ended before this moment; where left out, whenever they ended.
    finished_before: Option<DateTime>,
    /// Those that ended so; PENDING and RUNNING are refused.
    #[graphql(
        default_with = "Some(vec![JobStatus::Completed, JobStatus::Failed, JobStatus::Timeout, JobStatus::Cancelled])"
    )]
    statuses: Option<Vec<JobStatus>>,
    /// Says how many it would delete, and deletes nothing.
    #[graphql(default_with = "Some(false)")]
    dry_run: Option<bool>,
}

impl CleanupInput {
    pub(in crate::graphql) fn is_dry_run(&self) -> bool {
        self.dry_run.unwrap_or(false)
    }

    /// The filter in the store's words, or the statuses in it that are not final.
    pub(in crate::graphql) fn into_filter(self) -> Result<CleanupFilter, Vec<Refusal>> {
        let statuses: Vec<DomainStatus> = match self.statuses {
            Some(statuses) => statuses.into_iter().map(Into::into).collect(),
            None => DomainStatus::ALL
                .iter()
                .copied()
                .filter(|status| status.is_final())
                .collect(),
        };
        let refusals: Vec<Refusal> = statuses
            .iter()
            .enumerate()
            .filter(|(_, status)| !status.is_final())
            .map(|(index, status)| {
                let message = format!("only jobs that have ended can be deleted, and {status} is no end");
                Refusal::new(RefusalCode::Invalid, &["statuses", &index.to_string()], message)
            })
            .collect();
        if refusals.is_empty() {
            Ok(CleanupFilter {
                finished_before: self.finished_before.map(|moment| moment.0),
                statuses,
            })
        } else {
            Err(refusals)
        }
    }
}
