//! A job: its order, its state and its result.

use sea_orm::entity::prelude::*;
use serde::Deserialize;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel, Deserialize)]
#[sea_orm(table_name = "job")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub kind: String,
    pub name: String,
    /// JSON.
    pub command: String,
    pub status: String,
    pub wait: Option<String>,
    pub queue: String,
    pub priority: i32,
    pub attempt: i32,
    pub max_attempts: i32,
    pub backoff_ms: i64,
    pub timeout_ms: i64,
    pub created_at: i64,
    pub updated_at: i64,
    pub run_at: i64,
    pub started_at: Option<i64>,
    pub finished_at: Option<i64>,
    pub exit_code: Option<i32>,
    pub signal: Option<String>,
    /// JSON.
    pub output: Option<String>,
    pub error_code: Option<String>,
    pub error_message: Option<String>,
    pub progress_current: Option<i32>,
    pub progress_total: Option<i32>,
    pub progress_step: Option<String>,
    pub progress_at: Option<i64>,
    pub worker_id: Option<Uuid>,
    pub lease_until: Option<i64>,
    /// JSON.
    pub env: Option<String>,
    pub working_dir: Option<String>,
    pub idempotency_key: Option<String>,
    pub source: Option<String>,
    pub conversation_id: Option<String>,
    /// JSON; `job_tag` holds the same for looking up.
    pub tags: Option<String>,
    pub parent_id: Option<Uuid>,
    pub step_key: Option<String>,
    pub step_index: Option<i32>,
    /// Dependencies that have not come to their end yet.
    pub blockers: i32,
    /// Whether the plan that it is a step of has not let it in yet.
    pub gated: bool,
    /// What a registered worker must support to take it; none is for a server's own workers.
    pub route: Option<String>,
    pub cancel_at: Option<i64>,
    pub cancel_reason: Option<String>,
    pub cancel_grace_ms: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
