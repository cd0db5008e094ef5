//! What clients authenticate by.

use sea_orm::entity::prelude::*;
use serde::Deserialize;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel, Deserialize)]
#[sea_orm(table_name = "token")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// Unique among those that are not revoked.
    pub name: String,
    /// SHA-256 of the secret.
    #[serde(with = "serde_bytes")]
    pub hash: Vec<u8>,
    /// That of the secret before the last rotation.
    #[serde(with = "serde_bytes")]
    pub previous_hash: Option<Vec<u8>>,
    /// Until when the secret before still counts.
    pub previous_until: Option<i64>,
    /// Words, separated by commas.
    pub scopes: String,
    /// JSON; null where nothing is narrowed.
    pub limits: Option<String>,
    pub created_at: i64,
    pub created_by: String,
    pub expires_at: Option<i64>,
    pub revoked_at: Option<i64>,
    pub rotated_at: Option<i64>,
    pub last_used_at: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
