//! The words of the product and its rules, with nothing that touches the outside.
//!
//! Here live the ids, the commands, the job with its one [`transition()`] function, the log line and the retry
//! policy. Nothing here reads a clock, rolls dice, opens a file or knows a database: what a rule needs to know is
//! handed in. Every other layer may import this one; this one imports none of them.

mod access;
mod command;
mod event;
mod filter;
mod id;
mod job;
mod line;
mod log;
mod pattern;
mod plan;
mod retry;
mod stats;
mod time;
mod transition;
mod word;
mod worker;

pub use access::{
    Actor, AuditAction, AuditEntry, Caller, RunLimits, Scope, Scopes, SecretHash, Token, TokenSecrets,
};
pub use command::{AwsCli, Command, Exec, JobKind, Plan, Script, Shell, Strategy, Target, Task};
pub use event::{Changes, EventSeq, JobEvent, JobEventType};
pub use filter::{JobFilter, NamePattern, TimeRange};
pub use id::{JobId, TokenId, WorkerId};
pub use job::{
    Attempt, CancelRequest, Dependency, EnvValue, EnvVar, Fault, FaultCode, Job, MOST_TAGS, Metadata, NewJob,
    PlanRules, ProcessEnd, Progress, StepPlace, Tag, WaitReason,
};
pub use line::{LONGEST_STRUCTURED_LINE, LineCommand, ParsedLine, line_command, parse_line};
pub use log::{LogLevel, LogLine, LogStream, log_limit_notice};
pub use pattern::{NoPattern, Pattern};
pub use plan::{PlanFault, StepLink, StepName, links};
pub use retry::{RetryPolicy, backoff};
pub use stats::{Histogram, StatusCounts};
pub use time::Timestamp;
pub use transition::{IllegalMove, JobStatus, Move, Step, transition};
pub use word::UnknownWord;
pub use worker::{LONGEST_WORKER_NAME, Worker, WorkerStatus, is_worker_name};
