//! A run of lines of one attempt's log. The three offsets count the bytes before this chunk: of all streams, of
//! standard output and of standard error, so that a range of bytes is found without reading from the start.

use sea_orm::entity::prelude::*;
use serde::Deserialize;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel, Deserialize)]
#[sea_orm(table_name = "log_chunk")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub job_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub attempt: i32,
    #[sea_orm(primary_key, auto_increment = false)]
    pub first_line: i64,
    pub line_count: i32,
    pub total_offset: i64,
    pub stdout_offset: i64,
    pub stderr_offset: i64,
    /// One bit for each stream that has a line here.
    pub streams: i32,
    /// One bit for each level that has a line here.
    pub levels: i32,
    pub at: i64,
    /// A head for each line: see the store's codec.
    #[serde(with = "serde_bytes")]
    pub heads: Vec<u8>,
    /// The bytes of the lines, as they were printed.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
    /// Whether heads and bytes are compressed.
    pub compressed: bool,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
