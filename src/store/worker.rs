//! The rows of the workers that a server runs itself.

use std::collections::BTreeSet;

use entity::{job, worker};
use futures_util::future::BoxFuture;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, Condition, DbBackend, EntityTrait, IntoActiveModel, QueryFilter,
    QueryOrder, QuerySelect,
};
use uuid::Uuid;

use super::dialect;
use super::error::StoreError;
use super::transaction::{InTx, SelectInTx};
use super::tx::Tx;
use super::writer::Operation;
use crate::domain::{Timestamp, WorkerId};

/// The kind of the workers that a server runs itself.
pub const LOCAL_BACKEND: &str = "local";

/// Gives this node rows for its workers. A row whose server is gone is taken over once it holds no job any more, so
/// that restarts do not pile up workers and `worker-001-local` stays what it is.
#[derive(Debug)]
pub struct JoinPool {
    /// This server process.
    pub node: Uuid,
    /// Ids for rows that have to be made; as many workers join.
    pub ids: Vec<WorkerId>,
    /// Rows not heard of since then have no server any more.
    pub silent_since: Timestamp,
    /// When.
    pub now: Timestamp,
}

/// A worker of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolMember {
    /// Its id.
    pub id: WorkerId,
    /// Its name.
    pub name: String,
}

impl Operation for JoinPool {
    type Output = Vec<PoolMember>;

    fn apply<'t>(&'t self, tx: &'t mut Tx) -> BoxFuture<'t, Result<Vec<PoolMember>, StoreError>> {
        Box::pin(self.join(tx))
    }
}

impl JoinPool {
    async fn join(&self, tx: &mut Tx) -> Result<Vec<PoolMember>, StoreError> {
        // Two nodes that start together must not choose the same names or take over the same rows.
        if let Some(lock) = dialect::commit_order_lock(tx.backend()) {
            tx.later(lock).await?;
        }
        let rows = worker::Entity::find()
            .filter(worker::Column::Internal.eq(true))
            .order_by_asc(worker::Column::Name)
            .all_in(tx)
            .await?;
        let mut taken: BTreeSet<u64> = rows.iter().filter_map(|row| number_of(&row.name)).collect();
        // A lease in the name of a row is ended before the row changes hands: the new holder would renew it, and
        // nobody would run the job.
        let holding = job::Entity::find()
            .select_only()
            .column(job::Column::WorkerId)
            .filter(dialect::is_running())
            .filter(job::Column::WorkerId.is_not_null())
            .rows_in(tx)
            .await?;
        let holding: BTreeSet<Uuid> = holding
            .iter()
            .map(|row| row.get("worker_id"))
            .collect::<Result<_, _>>()?;
        let mut ownerless = rows
            .into_iter()
            .filter(|row| !holding.contains(&row.id))
            .filter(|row| row.node_id != Some(self.node) || !row.online)
            .filter(|row| !row.online || row.last_heartbeat < self.silent_since.micros());
        let mut members = Vec::with_capacity(self.ids.len());
        for &fresh in &self.ids {
            if let Some(row) = ownerless.next() {
                worker::Entity::update_many()
                    .col_expr(worker::Column::NodeId, Expr::value(self.node))
                    .col_expr(worker::Column::Online, Expr::value(true))
                    .col_expr(worker::Column::LastHeartbeat, Expr::value(self.now.micros()))
                    .filter(worker::Column::Id.eq(row.id))
                    .run_in(tx)
                    .await?;
                members.push(PoolMember {
                    id: WorkerId::from_uuid(row.id),
                    name: row.name,
                });
                continue;
            }
            let number = (1..).find(|number| !taken.contains(number)).unwrap_or(u64::MAX);
            taken.insert(number);
            let name = format!("worker-{number:03}-{LOCAL_BACKEND}");
            let row = worker::Model {
                id: fresh.uuid(),
                name: name.clone(),
                backend_type: LOCAL_BACKEND.to_owned(),
                internal: true,
                node_id: Some(self.node),
                online: true,
                max_parallel_tasks: 1,
                supported_problems: "[]".to_owned(),
                registered_at: self.now.micros(),
                last_heartbeat: self.now.micros(),
                tasks_completed: 0,
                tasks_failed: 0,
            };
            worker::Entity::insert(row.into_active_model().reset_all())
                .run_in(tx)
                .await?;
            members.push(PoolMember { id: fresh, name });
        }
        tx.committed.workers = true;
        Ok(members)
    }
}

/// Parts workers into those that are still this node's and those that another one has taken over, as happens to a node
/// that was frozen for longer than a lease. The rows stay as they are until the commit.
pub(super) async fn part(
    tx: &Tx,
    workers: &[WorkerId],
) -> Result<(Vec<WorkerId>, Vec<WorkerId>), StoreError> {
    // A file has one server, so nobody else is there to take anything over.
    if workers.is_empty() || tx.backend() == DbBackend::Sqlite {
        return Ok((workers.to_vec(), Vec::new()));
    }
    let (sql, values) = mine(tx, workers);
    let mut held = BTreeSet::new();
    for row in tx.rows(tx.statement(&sql, values)).await? {
        held.insert(WorkerId::from_uuid(row.get("mine_id")?));
    }
    Ok(workers.iter().partition(|worker| held.contains(worker)))
}

/// A SELECT of those of these workers that are still this node's, each with a number from 1, and its values: see [`part`].
/// What is held in the name of one that is another node's by now would be renewed there and run here.
pub(super) fn mine(tx: &Tx, workers: &[WorkerId]) -> (String, Vec<sea_orm::Value>) {
    let ids = dialect::id_list(workers.iter().map(|worker| worker.uuid()));
    if tx.backend() == DbBackend::Sqlite {
        let all = "SELECT unhex(value, '-') AS mine_id, key + 1 AS mine_number FROM json_each(?)";
        return (all.to_owned(), vec![ids]);
    }
    let sql = format!(
        "SELECT wanted.id AS mine_id, row_number() OVER () AS mine_number
         FROM (SELECT CAST(json_array_elements_text(CAST(? AS json)) AS uuid) AS id) AS wanted
         LEFT JOIN (SELECT id, node_id FROM worker WHERE id {}{}) AS stored ON stored.id = wanted.id
         WHERE node_id IS NULL OR node_id = ?",
        dialect::among_ids(tx.backend()),
        dialect::for_share(tx.backend()),
    );
    (sql, vec![ids.clone(), ids, tx.node().into()])
}

/// The number in `worker-007-local`.
fn number_of(name: &str) -> Option<u64> {
    name.strip_prefix("worker-")?.split('-').next()?.parse().ok()
}

/// Takes workers of this node out of service.
#[derive(Debug)]
pub struct LeavePool {
    /// This server process.
    pub node: Uuid,
    /// Those that leave.
    pub workers: Vec<WorkerId>,
}

impl Operation for LeavePool {
    type Output = ();

    fn apply<'t>(&'t self, tx: &'t mut Tx) -> BoxFuture<'t, Result<(), StoreError>> {
        Box::pin(async move {
            worker::Entity::update_many()
                .col_expr(worker::Column::Online, Expr::value(false))
                .filter(
                    Condition::all()
                        .add(dialect::is_among(
                            tx.backend(),
                            worker::Column::Id,
                            self.workers.iter().map(|id| id.uuid()),
                        ))
                        .add(worker::Column::NodeId.eq(self.node)),
                )
                .run_in(tx)
                .await?;
            tx.committed.workers = true;
            Ok(())
        })
    }
}
