//! RunQL: a GraphQL API that runs scripts and commands for real, keeps what they printed and how they ended, and tells
//! every change to whoever listens.
//!
//! # The way of a request
//!
//! ```text
//!  request          resolver              service               store / process             event           subscription
//!  http, server ─▶ graphql/mutation ─▶ executor/submit ─▶ store/insert (row + event) ─▶ event (hint) ─▶ graphql/subscription
//!                                         │ dispatcher ─▶ attempt ─▶ process/run                              ▲ reads
//!                                         │                  │ chunks                                         │ after its
//!                                         └── log_writer ◀───┘ ─▶ store/log ─▶ event (hint) ─▶ executor/feed ─┘ own place
//! ```
//!
//! # The layers
//!
//! Each may import those below it, never one above; a test reads the `use` lines and holds them to this table.
//!
//! | layer | module | what it is for |
//! | --- | --- | --- |
//! | 0 | [`domain`] | words and rules: the job, its one [`transition`](domain::transition()), ids, logs; no clock, no I/O |
//! | 0 | [`telemetry`], [`supervisor`], `clock` | log lines, metrics, the owner of background tasks, the time |
//! | 0 | `brief` | work that blocks for some microseconds |
//! | 0 | `failpoint` | places where a test makes the program die or fail; nothing in any other build |
//! | 1 | [`store`] | the truth, in SQLite or Postgres; the only user of the database |
//! | 1 | [`process`] | programs, supervised so that nothing is left of them; knows no jobs |
//! | 1 | [`script`] | which scripts there are, what runs them, which parameters they take |
//! | 1 | [`pipeline`] | which pipelines there are, what they take, the steps that a run of one has |
//! | 1 | [`event`] | hints that something changed; never the truth |
//! | 1 | [`http`], [`graphiql`] | transports, the page |
//! | 2 | [`config`], [`auth`] | the settings; who somebody is, and what they may do |
//! | 2 | `program` | what it takes to run a job's program, whoever runs it |
//! | 3 | [`executor`] | the service: takes jobs, runs them, tells how they went |
//! | 3 | [`worker`] | a worker on another machine: knows a server's API and no store |
//! | 4 | [`graphql`] | the API: parses, calls the executor, converts |
//! | 5 | [`server`] | listens, and ends in order |
//!
//! # What always holds
//!
//! * A job that was answered is on disk. A status changes only by [`transition`](domain::transition()), guarded by
//!   the status and attempt that were expected, in one transaction with its event.
//! * Events become visible in the order of their numbers, so "all after mine" misses nothing.
//! * A hint may be lost. Whoever waits for one registers first, then reads, then waits for more than it has seen.
//! * Memory is bounded by settings, never by how many jobs, listeners or bytes there are.
//!
//! Another program can run jobs without the server: see [`executor::Executor`] and `examples/embed.rs`.

pub mod auth;
mod brief;
mod clock;
pub mod config;
pub mod domain;
pub mod event;
pub mod executor;
mod failpoint;
pub mod graphiql;
pub mod graphql;
pub mod http;
pub mod pipeline;
pub mod process;
mod program;
pub mod script;
pub mod server;
pub mod store;
pub mod supervisor;
pub mod telemetry;
pub mod worker;

/// What the targets below `fuzz/` call. Only they are built with this.
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing {
    /// The output of a job: how it is cut, and its secrets.
    pub fn output(data: &[u8]) {
        crate::program::invariants::hold_for(data);
    }

    /// What a script says of itself.
    pub fn header(head: &str) {
        crate::script::invariants::hold_for(head);
    }

    /// The file of a pipeline.
    pub fn pipeline(text: &str) {
        crate::pipeline::invariants::hold_for(text);
    }

    /// A cursor that a client hands over.
    pub fn cursor(data: &[u8]) {
        crate::graphql::invariants::hold_for(data);
    }
}
