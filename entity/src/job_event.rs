//! What happened to a job. `seq` grows in the order of commits.

use sea_orm::entity::prelude::*;
use serde::Deserialize;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel, Deserialize)]
#[sea_orm(table_name = "job_event")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub seq: i64,
    pub job_id: Uuid,
    pub kind: String,
    pub at: i64,
    pub status: String,
    pub previous_status: Option<String>,
    pub attempt: i32,
    pub progress_current: Option<i32>,
    pub progress_total: Option<i32>,
    pub progress_step: Option<String>,
    pub error_code: Option<String>,
    pub error_message: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
