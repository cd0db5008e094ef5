//! The store, on both databases: the same suite proves the same promises.

mod awaited;
mod cancel;
mod claim;
mod cleanup;
mod commit_order;
mod events;
mod fencing;
mod figures;
mod fixture;
mod group;
mod idempotency;
mod lease;
mod lifecycle;
mod log;
mod notify;
mod open;
mod outage;
mod paging;
mod plan_ends;
mod plans;
mod pool;
mod properties;
mod queue_limit;
mod remote;
mod retry;
