//! Building the schema, and printing it.

use async_graphql::{ID, SDLExportOptions};

use super::access::AccessExtension;
use super::limits::LimitsExtension;
use super::loader::loaders;
use super::mutation::Mutation;
use super::query::Query;
use super::subscription::Subscription;
use crate::executor::Executor;

/// The schema, ready to execute. Cheap to clone.
pub type Schema = async_graphql::Schema<Query, Mutation, Subscription>;

/// What one operation may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Levels of nested fields.
    pub max_depth: usize,
    /// Fields, each counted once for every entry of the pages that it is in.
    pub max_cost: usize,
    /// Aliases.
    pub max_aliases: usize,
    /// Entries of a page.
    pub max_page_size: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_depth: 15,
            max_cost: 100_000,
            max_aliases: 100,
            max_page_size: 1_000,
        }
    }
}

/// The schema over an executor. Each request needs an `Arc<Caller>` in its data, or it has no rights.
#[must_use]
pub fn build(executor: Executor, limits: Limits) -> Schema {
    builder()
        .extension(AccessExtension)
        .extension(LimitsExtension(limits))
        // The walk that measures a document is recursive, and is bounded by this before it begins. The deepest
        // introspection query of the usual tools nests 15 levels.
        .limit_recursive_depth(limits.max_depth.clamp(32, 100))
        .data(loaders(executor.clone()))
        .data(executor)
        .data(limits)
        .finish()
}

/// The schema as text, as `schema.graphql` holds it. It needs no executor, since nothing is executed.
#[must_use]
pub fn sdl() -> String {
    let options = SDLExportOptions::new()
        .prefer_single_line_descriptions()
        .include_specified_by()
        .use_space_ident();
    builder().finish().sdl_with_options(options)
}

fn builder() -> async_graphql::SchemaBuilder<Query, Mutation, Subscription> {
    async_graphql::Schema::build(Query, Mutation, Subscription).override_output_type_description::<ID>(
        "Names one object. It is written as a string, and is not meant to be read: here it is a UUID.",
    )
}
