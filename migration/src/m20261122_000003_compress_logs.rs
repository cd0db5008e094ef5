//! Logs are compressed by whoever writes them. Those that are there stay as they are.
//!
//! No version was published before this one, so there is none that could meet what it cannot read.

#![expect(elided_lifetimes_in_paths, reason = "the trait's own signature elides it")]

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

use crate::WHOLE;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        WHOLE
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        db.execute_unprepared("ALTER TABLE log_chunk ADD COLUMN compressed BOOLEAN NOT NULL DEFAULT FALSE")
            .await?;
        if db.get_database_backend() == DbBackend::Postgres {
            // It would try to compress them once more, with a slower method.
            let sql = "ALTER TABLE log_chunk ALTER COLUMN heads SET STORAGE EXTERNAL,
                ALTER COLUMN bytes SET STORAGE EXTERNAL";
            db.execute_unprepared(sql).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        // What is compressed would be garbage to the version before.
        db.execute_unprepared("DELETE FROM log_chunk WHERE compressed")
            .await?;
        db.execute_unprepared("ALTER TABLE log_chunk DROP COLUMN compressed")
            .await?;
        Ok(())
    }
}
