//! One table each, and nothing of GraphQL: a row is not an answer.
//!
//! Both databases keep the same shapes: instants are integers of microseconds since 1970, JSON is text, closed sets
//! are the words of the schema. The constraints stand in the migrations.

#![expect(
    missing_docs,
    reason = "a column's meaning is told once, at the field of the domain that it fills"
)]

pub mod attempt;
pub mod audit;
pub mod job;
pub mod job_dependency;
pub mod job_event;
pub mod job_tag;
pub mod log_chunk;
pub mod meta;
pub mod plan;
pub mod stat;
pub mod token;
pub mod worker;
