//! The closed sets of words in the schema. Each mirrors one of the domain's and converts both ways; a word that one
//! side lacks does not compile.

use async_graphql::Enum;

use crate::{domain, executor, store};

/// What a job runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "domain::JobKind")]
pub(super) enum JobKind {
    /// A file below the scripts folder.
    Script,
    /// A program with its arguments, without a shell.
    Exec,
    /// A line for a shell.
    Shell,
    /// An operation of the AWS command line.
    AwsCli,
    /// Work that a worker takes by its problem id.
    Task,
    /// An agent, by its target.
    Agent,
    /// A plan kept in a file, by its target.
    Pipeline,
    /// Steps that are jobs themselves.
    Plan,
}

/// Where a job stands: PENDING → RUNNING → one of COMPLETED, FAILED, TIMEOUT, CANCELLED.
/// A retry goes back from RUNNING to PENDING; a job that has ended never changes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "domain::JobStatus")]
pub(super) enum JobStatus {
    /// Stored, and waiting: `waitReason` says for what.
    Pending,
    /// A worker runs it.
    Running,
    /// It ended well.
    Completed,
    /// It ended badly: `error` says how.
    Failed,
    /// It ran longer than its `timeoutMs`, and was stopped.
    Timeout,
    /// It was stopped because somebody asked.
    Cancelled,
}

/// Why a PENDING job has not started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "domain::WaitReason")]
pub(super) enum WaitReason {
    /// Next in line: it starts as soon as a worker is free.
    Queued,
    /// Its `runAt` has not come.
    Scheduled,
    /// A job that it depends on has not completed.
    Blocked,
    /// It failed, and waits out the pause before its next attempt.
    Backoff,
    /// None of the workers that are registered supports it.
    NoWorker,
    /// Its queue is paused, or the worker pool is stopped: `startWorkers` lets it go on.
    Paused,
}

/// Why a job or an attempt did not complete, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "domain::FaultCode")]
pub(super) enum JobErrorCode {
    /// The process ended with a code other than 0; `exitCode` has it.
    ExitCode,
    /// The process was ended by a signal that the server did not send; `signal` has its name.
    Signalled,
    /// Its process could not be started: the program is missing, or may not be run.
    SpawnFailed,
    /// It ran longer than its `timeoutMs`.
    Timeout,
    /// Somebody asked for it to stop.
    Cancelled,
    /// Whoever ran it was no longer heard of: the worker, its server or its machine went away.
    WorkerLost,
    /// One of the jobs in `dependsOn` did not complete, so it never started.
    DependencyFailed,
    /// It is a plan, and a step of it failed.
    StepFailed,
    /// A remote worker reported that it failed.
    Reported,
    /// A fault of the server itself, whose log says more.
    Internal,
}

/// What happened to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "domain::JobEventType")]
pub(super) enum JobEventType {
    /// It was stored.
    Created,
    /// A worker took it: an attempt began.
    Started,
    /// It told how far it is.
    Progressed,
    /// Its attempt failed, and it goes back to the queue for another.
    RetryScheduled,
    /// It ended well.
    Completed,
    /// It ended badly.
    Failed,
    /// It ran longer than it may.
    TimedOut,
    /// It was cancelled.
    Cancelled,
}

/// Where a line of a log came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "domain::LogStream")]
pub(super) enum LogStream {
    /// The process, on its standard output.
    Stdout,
    /// The process, on its standard error.
    Stderr,
    /// The server: started, timed out, cancelled, …
    System,
}

/// How grave a line of a log is, in rising order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "domain::LogLevel")]
pub(super) enum LogLevel {
    /// For those who look for a fault.
    Debug,
    /// What happens; plain lines are of this level.
    Info,
    /// What may need a look.
    Warning,
    /// What went wrong.
    Error,
    /// What went wrong and ends the work.
    Critical,
}

/// What a worker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "domain::WorkerStatus")]
pub(super) enum WorkerStatus {
    /// Ready for a job.
    Idle,
    /// Running at least one.
    Busy,
    /// Not heard of for longer than a lease.
    Offline,
}

/// By which moment jobs are ordered; their ids decide between equals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[expect(clippy::enum_variant_names, reason = "these are the words of the schema")]
pub(super) enum JobOrderField {
    /// When they were asked for.
    CreatedAt,
    /// When they started. Lists only jobs that did.
    StartedAt,
    /// When they ended. Lists only jobs that did.
    FinishedAt,
}

impl From<JobOrderField> for store::JobOrderField {
    fn from(field: JobOrderField) -> Self {
        match field {
            JobOrderField::CreatedAt => Self::CreatedAt,
            JobOrderField::StartedAt => Self::StartedAt,
            JobOrderField::FinishedAt => Self::FinishedAt,
        }
    }
}

/// Which end of an order comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub(super) enum OrderDirection {
    /// The earliest first.
    Asc,
    /// The latest first.
    Desc,
}

/// What an input was refused for, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "executor::RefusalCode")]
pub(super) enum UserErrorCode {
    /// The value is not accepted: it is malformed, out of range, or does not fit the script's parameters.
    Invalid,
    /// What it names is not there.
    NotFound,
    /// The job's status does not allow it.
    Conflict,
    /// This server is set up not to allow it: that kind of command, that program, that folder.
    NotAllowed,
    /// A limit of this server: the length of its queue, the size of a plan, the longest timeout, …
    LimitExceeded,
}

/// How the server is, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "executor::Condition")]
pub(super) enum HealthStatus {
    /// It takes jobs and runs them.
    Healthy,
    /// It takes jobs, but runs none: its worker pool is stopped or empty.
    Degraded,
    /// Its database cannot be used, so it can neither take nor run jobs.
    Unhealthy,
}

/// What keeps the database from being used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "store::Trouble")]
pub(super) enum DatabaseProblem {
    /// No connection could be made, or the one there was is lost.
    Unreachable,
    /// It was asked, and did not answer in time.
    NoAnswer,
    /// Its disk is full.
    NoRoom,
    /// It takes no changes: its file or file system is read-only, or it is a standby.
    ReadOnly,
    /// It has no connection, lock or memory to spare.
    Busy,
    /// It failed otherwise; the server's log says how.
    Failed,
}

/// Where the server keeps its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "store::Backend")]
pub(super) enum DatabaseBackend {
    /// A SQLite file beside the server.
    Sqlite,
    /// A Postgres server, which several nodes may share.
    Postgres,
}

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "domain::Scope")]
pub(super) enum Scope {
    /// Read: all queries and subscriptions.
    Read,
    /// Start jobs, cancel them and run them again.
    Run,
    /// Be a worker: register, claim jobs, report on them.
    Worker,
    /// Everything else: cleaning up, the worker pool, schedules, tokens.
    Admin,
}

/// What was done, in the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "domain::AuditAction")]
pub(super) enum AuditAction {
    /// A job was asked for.
    Run,
    /// A job that had ended was asked for once more.
    Rerun,
    /// A job was to be stopped.
    Cancel,
    /// Ended jobs were deleted.
    Cleanup,
    /// The number of a server's workers was changed.
    ScaleWorkers,
    /// A server's workers were let take jobs again.
    StartWorkers,
    /// A server's workers were told to take no more jobs.
    StopWorkers,
    /// A remote worker was made known.
    RegisterWorker,
    /// A token was made.
    CreateToken,
    /// A token's secret was replaced.
    RotateToken,
    /// A token was ended for good.
    RevokeToken,
}

#[cfg(test)]
mod tests {
    use async_graphql::resolver_utils::EnumType;

    use super::*;

    /// The words are the same in the schema, in the store and in Rust.
    #[test]
    fn the_words_of_the_schema_are_those_of_the_domain() {
        macro_rules! same_words {
            ($($name:ident of $domain:ident),+) => {$(
                let schema: Vec<&str> = $name::items().iter().map(|item| item.name).collect();
                let domain: Vec<&str> = domain::$domain::ALL.iter().map(|word| word.as_str()).collect();
                assert_eq!(schema, domain, stringify!($name));
                for &word in domain::$domain::ALL {
                    assert_eq!(domain::$domain::from($name::from(word)), word);
                }
            )+};
        }
        same_words!(
            JobKind of JobKind, JobStatus of JobStatus, WaitReason of WaitReason, JobErrorCode of FaultCode,
            JobEventType of JobEventType, LogStream of LogStream, LogLevel of LogLevel,
            WorkerStatus of WorkerStatus, Scope of Scope, AuditAction of AuditAction
        );
    }
}
