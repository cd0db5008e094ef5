//! Who did what, from where.

use sea_orm::entity::prelude::*;
use serde::Deserialize;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel, Deserialize)]
#[sea_orm(table_name = "audit")]
pub struct Model {
    /// Sorts by the moment.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub at: i64,
    pub action: String,
    pub actor: String,
    pub token_id: Option<Uuid>,
    /// The address that the request came from.
    pub address: Option<String>,
    /// The job, worker or token.
    pub target: Option<Uuid>,
    /// JSON; null where there is nothing to say.
    pub detail: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
