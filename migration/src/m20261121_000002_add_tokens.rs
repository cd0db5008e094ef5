//! Tokens, and the audit log.

#![expect(elided_lifetimes_in_paths, reason = "the trait's own signature elides it")]

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

use crate::WHOLE;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const STATEMENTS: &[&str] = &[
    "CREATE TABLE token (
        id {uuid} NOT NULL PRIMARY KEY,
        name TEXT NOT NULL,
        hash {bytes} NOT NULL,
        previous_hash {bytes},
        previous_until BIGINT,
        scopes TEXT NOT NULL,
        limits TEXT,
        created_at BIGINT NOT NULL,
        created_by TEXT NOT NULL,
        expires_at BIGINT,
        revoked_at BIGINT,
        rotated_at BIGINT,
        last_used_at BIGINT,
        CONSTRAINT token_previous CHECK ((previous_hash IS NULL) = (previous_until IS NULL))
    )",
    // A name can be taken again once the token that had it is revoked.
    "CREATE UNIQUE INDEX token_name ON token (name) WHERE revoked_at IS NULL",
    "CREATE TABLE audit (
        id {uuid} NOT NULL PRIMARY KEY,
        at BIGINT NOT NULL,
        action TEXT NOT NULL,
        actor TEXT NOT NULL,
        token_id {uuid},
        address TEXT,
        target {uuid},
        detail TEXT
    ){without_rowid}",
    "CREATE INDEX audit_target ON audit (target, id) WHERE target IS NOT NULL",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        WHOLE
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        let (uuid, bytes, without_rowid) = match db.get_database_backend() {
            DbBackend::Sqlite => ("BLOB", "BLOB", " WITHOUT ROWID"),
            _ => ("UUID", "BYTEA", ""),
        };
        for statement in STATEMENTS {
            let sql = statement
                .replace("{uuid}", uuid)
                .replace("{bytes}", bytes)
                .replace("{without_rowid}", without_rowid);
            db.execute_unprepared(&sql).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        for table in ["audit", "token"] {
            db.execute_unprepared(&format!("DROP TABLE {table}")).await?;
        }
        Ok(())
    }
}
