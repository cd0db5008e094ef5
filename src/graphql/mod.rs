//! The GraphQL schema over the executor's handle and the store's reader: it parses, calls and converts, and decides
//! nothing.
//!
//! ```text
//!   query ──────────┐                      ┌─▶ store::Reader   (questions; loaders ask for many at once)
//!   mutation ───────┼─▶ input ─▶ executor ─┤
//!   subscription ───┘              │       └─▶ script::Catalog (on blocking threads)
//!         ▲                        ▼
//!         └── types ◀── domain values, refusals, streams
//! ```
//!
//! | file | what |
//! | --- | --- |
//! | `schema` | building it, printing it; `limits` refuses operations that are too large |
//! | `query`, `mutation`, `subscription` | the entry points |
//! | `input`, `types`, `words`, `scalar` | what goes in and what comes out |
//! | `page`, `cursor`, `loader`, `context` | pages, places in them, batches of questions, shorthands |
//! | `resolve` | answers fields that are at hand without the machinery for those that ask |
//! | `error` | faults of the layers below, with their codes |
//!
//! The schema is written in doc comments: what stands there is what people read in GraphiQL. `schema.graphql` at the
//! root of the repository is printed from it, and a test fails where the two differ.

mod access;
mod context;
mod cursor;
mod error;
mod input;
mod limits;
mod loader;
mod mutation;
mod page;
mod query;
mod resolve;
mod scalar;
mod schema;
mod subscription;
mod types;
mod words;

#[cfg(fuzzing)]
pub(crate) use cursor::invariants;
pub use schema::{Limits, Schema, build, sdl};
