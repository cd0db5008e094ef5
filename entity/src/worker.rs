//! Those who run jobs.

use sea_orm::entity::prelude::*;
use serde::Deserialize;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel, Deserialize)]
#[sea_orm(table_name = "worker")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    #[sea_orm(unique)]
    pub name: String,
    pub backend_type: String,
    pub internal: bool,
    /// The server process that runs it; none for one that registered.
    pub node_id: Option<Uuid>,
    /// False once it was taken out of service in order.
    pub online: bool,
    pub max_parallel_tasks: i32,
    /// JSON.
    pub supported_problems: String,
    pub registered_at: i64,
    pub last_heartbeat: i64,
    pub tasks_completed: i64,
    pub tasks_failed: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
