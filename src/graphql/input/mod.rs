//! What clients hand over: the inputs of the schema, and their way into the domain's words.
//!
//! An input keeps what the client wrote; its conversion checks what the domain's types cannot hold (a negative time,
//! an id that is none) and leaves every rule of the service to the executor. In mutations a refusal carries the path
//! of the input at fault and goes into the payload; in queries a bad argument is an error of its own.

mod command;
mod filter;
mod run;
mod token;
mod worker;

pub(super) use filter::{JobFilter, JobOrder, LogFilter, StatsFilter, WorkerFilter};
pub(super) use run::{CancelInput, CleanupInput, RerunInput, RunInput};
pub(super) use token::{AuditLogFilter, CreateTokenInput, RevokeTokenInput, RotateTokenInput};
pub(super) use worker::{
    ClaimInput, HeartbeatInput, RegisterWorkerInput, ReportInput, ScaleWorkersInput, StopWorkersInput,
};

use std::time::Duration;

use async_graphql::{ID, InputObject};

use super::scalar::SafeInt;
use crate::domain::{JobId, Tag, WorkerId};
use crate::executor::{Refusal, RefusalCode};

/// A label to put on a job, or to find jobs by.
#[derive(Debug, Clone, InputObject)]
pub(super) struct TagInput {
    /// Its name.
    key: String,
    /// Its value.
    value: String,
}

impl From<TagInput> for Tag {
    fn from(tag: TagInput) -> Self {
        Self {
            key: tag.key,
            value: tag.value,
        }
    }
}

/// A time in milliseconds, which cannot be negative.
fn millis(value: SafeInt, path: &[&str]) -> Result<Duration, Refusal> {
    u64::try_from(value.0).map(Duration::from_millis).map_err(|_| {
        let message = format!("{} is below zero: a time in milliseconds is 0 or more", value.0);
        Refusal::new(RefusalCode::Invalid, path, message)
    })
}

/// The id of a job, as an input names it.
fn job_id(id: &ID, path: &[&str]) -> Result<JobId, Refusal> {
    id.parse().map_err(|_| {
        let message = format!("`{}` is not the id of a job: ids are UUIDs", id.as_str());
        Refusal::new(RefusalCode::Invalid, path, message)
    })
}

/// The id of a worker, as an input names it.
fn worker_id(id: &ID) -> Result<WorkerId, Refusal> {
    id.parse().map_err(|_| {
        let message = format!("`{}` is not the id of a worker: ids are UUIDs", id.as_str());
        Refusal::new(RefusalCode::Invalid, &["workerId"], message)
    })
}

#[cfg(test)]
mod tests;
