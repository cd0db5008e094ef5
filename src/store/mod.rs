//! The truth: every job, event and log line, in SQLite or in Postgres.
//!
//! This is the only importer of `sea_orm`. It knows the domain and nothing of processes, listeners or GraphQL.
//!
//! ```text
//!   callers ── Operation ──▶ queue ──▶ writer ── one transaction for all that wait ──▶ commit ──▶ replies
//!                                         │                                               └─────▶ Changes (hints)
//!   readers ── Reader ──▶ pools of their own, never behind a writer
//! ```
//!
//! All writes of a node go through one writer on one connection. On SQLite that is what the file allows; on Postgres
//! it groups commits, and makes the order in which events get their numbers easy to keep. What fails in a group is
//! tried again alone, so that one bad row harms nobody else.
//!
//! | file | what |
//! | --- | --- |
//! | `connect`, `pool`, `file`, `sockets` | opening, migrating, the lock on a SQLite file |
//! | `backup` | a copy of a SQLite file under a running server |
//! | `bounded`, `trouble`, `error`, `condition` | waiting with a bound, what goes wrong, whether it can be used |
//! | `dialect` | every difference between the two databases |
//! | `writer` | the queue and the group commit |
//! | `tx`, `counters`, `rows`, `at_once` | what one transaction gathers, and how it is written |
//! | `transaction`, `sqlite`, `postgres` | what a transaction runs on |
//! | `cells` | what the rows of both databases hold |
//! | `sqlite_readers` | what reads a SQLite file with every request; the rest is read by the ORM's driver |
//! | `insert`, `claim`, `moves`, `cancel`, `lease`, `cleanup`, `worker`, `log`, `remote*`, `token` | the operations |
//! | `audit` | who did what, written with what was done |
//! | `steps` | what the end of a job means for its plan and for what waits for it |
//! | `read`, `list`, `events`, `stats`, `log_read` | the questions |

mod at_once;
mod audit;
mod backup;
mod bounded;
mod cancel;
mod cells;
mod claim;
mod cleanup;
mod condition;
mod connect;
mod counters;
mod dialect;
mod ends;
mod error;
mod events;
mod file;
mod insert;
mod last_line;
mod lease;
mod list;
mod log;
mod log_codec;
mod log_pack;
mod log_read;
mod moves;
mod notify;
#[cfg(test)]
mod plan_test;
mod pool;
mod postgres;
mod read;
mod record;
mod remote;
mod remote_claim;
mod remote_report;
mod rows;
mod sockets;
mod sqlite;
mod sqlite_readers;
mod stats;
mod steps;
mod together;
mod token;
mod transaction;
mod trouble;
mod tx;
mod worker;
mod writer;

pub use audit::{AuditFilter, AuditPage, Audited, DeleteAudit, Note, RecordAudit};
pub use backup::{BackupError, backup};
pub use cancel::{CancelJob, Cancelled};
pub use claim::{ClaimJobs, FreeWorkers};
pub use cleanup::{CleanedUp, CleanupBatch, CleanupFilter, MOST_AT_ONCE, Place};
pub use connect::{Backend, OpenError, Store, StoreOptions};
pub use error::StoreError;
pub use events::{EventFilter, EventPage};
pub use insert::{InsertJobs, InsertRefused, Inserted};
pub use lease::{ExpireLeases, Expired, Held, PromoteDue, RenewLeases, Renewed, Whose};
pub use list::{JobOrder, JobOrderField, JobPage, Keyset, PageRequest};
pub use log::AppendLog;
pub use log_codec::{LogChunk, LogEncoder, LogSize};
pub use log_pack::{LooseChunk, Room};
pub use log_read::{LogFilter, LogPage, LogPiece};
pub use moves::{AttemptEnd, EndJob, EndResult, RecordProgress, ReleaseJob};
pub use notify::listen;
pub use read::Reader;
pub use remote::{BackAgain, Heartbeat, MOST_REMOTE_WORKERS, RegisterWorker, RemoteFault, SignedIn};
pub use remote_claim::ClaimTasks;
pub use remote_report::{Report, ReportedLine, ReportedResult};
pub use stats::{Figures, StatsWindow};
pub use steps::SweepPlans;
pub use token::{CreateToken, MOST_TOKENS, RevokeToken, RotateToken, TokenFault, TouchTokens};
pub use trouble::{Away, Trouble};
pub use tx::Tx;
pub use worker::{JoinPool, LOCAL_BACKEND, LeavePool, PoolMember};
pub use writer::{Answer, Operation, Writer};
