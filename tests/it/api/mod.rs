//! The API as a client meets it: the real server over HTTP, with real processes, on both databases.

mod bad_input;
mod cleanup;
mod fixture;
mod idempotency;
mod list;
mod loaders;
mod operators;
mod order;
mod pages;
mod pipelines;
mod plans;
mod protocol;
mod remote;
mod rerun;
mod retention;
mod retry;
mod run;
mod scripts;
mod selections;
mod stats;
mod workers;
