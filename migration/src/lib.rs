//! The changes that make the store what it is, in order. `runql serve` applies them by itself.
//!
//! While an upgrade rolls over many nodes, servers of the version before go on for a moment on tables that are changed
//! already. So a migration only adds: what the version before reads stays, and what it writes is still accepted, which
//! means that a new column has a default or may be null. What is no longer used is dropped one version later.

pub use sea_orm_migration::prelude::*;

mod m20261121_000001_create_jobs;
mod m20261121_000002_add_tokens;
mod m20261122_000003_compress_logs;

/// Whether a migration is a transaction. On SQLite, too, where it would not be one by itself: what a server that was killed
/// meanwhile had made would be in the way of each later start.
const WHOLE: Option<bool> = Some(true);

/// Applies the migrations, and tells which there are.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261121_000001_create_jobs::Migration),
            Box::new(m20261121_000002_add_tokens::Migration),
            Box::new(m20261122_000003_compress_logs::Migration),
        ]
    }
}
