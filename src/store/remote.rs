//! Workers that registered through the API: who they are, and that they live.
//!
//! ```text
//!   RegisterWorker ─▶ a row, found again by its name
//!   Heartbeat ──────▶ the worker is online, the leases of the jobs that it names are renewed ─▶ what it must stop
//! ```
//!
//! A worker is known by its name: one that was started anew registers under the name it had, and is the same worker.

use std::collections::BTreeSet;
use std::time::Duration;

use entity::worker;
use futures_util::future::BoxFuture;
use sea_orm::sea_query::Expr;
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter};

use super::error::StoreError;
use super::transaction::{InTx, SelectInTx};
use super::tx::Tx;
use super::worker::LOCAL_BACKEND;
use super::writer::Operation;
use super::{dialect, record};
use crate::domain::{JobId, JobStatus, Pattern, Timestamp, WorkerId};

/// Registered workers that one database keeps. They are listed in one piece, and their patterns are looked through for
/// each job that waits for one.
pub const MOST_REMOTE_WORKERS: u64 = 10_000;

/// Why a registered worker's call was refused; nothing was changed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RemoteFault {
    /// It never registered.
    #[error("there is no worker {0}: register it, and use the id that this gives")]
    UnknownWorker(WorkerId),
    /// A server runs it itself, and speaks for it.
    #[error("{0} is a worker that a server runs itself: only that server speaks for it")]
    ServersOwn(String),
    /// The name is kept for the workers that servers run themselves.
    #[error(
        "the name {0} belongs to a worker that a server runs itself: choose another kind than {LOCAL_BACKEND}"
    )]
    NameTaken(String),
    /// There are as many as there may be.
    #[error(
        "{MOST_REMOTE_WORKERS} workers have registered, which is the limit: use the name of one that is gone"
    )]
    TooMany,
    /// It runs as many jobs as it said it can.
    #[error(
        "the worker runs {running} jobs and takes no more than {limit}: claim again when one has ended, or register \
         with a higher maxParallelTasks"
    )]
    NoRoom {
        /// How many it holds.
        running: u64,
        /// How many it may hold.
        limit: u32,
    },
    /// There is no such job.
    #[error("there is no job {0}")]
    UnknownJob(JobId),
    /// The job has ended.
    #[error("the job has already ended: it is {0}")]
    Ended(JobStatus),
    /// The job waits, and nobody runs it.
    #[error("the job is PENDING: attempt {0} is over, and nobody runs it now")]
    NotRunning(u32),
    /// The job is at another attempt.
    #[error("attempt {reported} is not the one that runs: the job is at attempt {latest}")]
    OtherAttempt {
        /// The attempt that the report is about.
        reported: u32,
        /// The attempt that the job is at.
        latest: u32,
    },
    /// Another worker holds the job.
    #[error("the job is held by another worker")]
    NotHeld,
}

/// The row of a registered worker, locked as `lock` says.
pub(super) async fn registered(
    tx: &Tx,
    id: WorkerId,
    lock: &str,
) -> Result<Result<worker::Model, RemoteFault>, StoreError> {
    let statement = tx.statement(
        &format!("SELECT * FROM worker WHERE id = ?{lock}"),
        [id.uuid().into()],
    );
    let row = tx.row(statement).await?;
    let row = row.map(|row| row.model::<worker::Model>()).transpose()?;
    Ok(match row {
        None => Err(RemoteFault::UnknownWorker(id)),
        Some(row) if row.internal => Err(RemoteFault::ServersOwn(row.name)),
        Some(row) => Ok(row),
    })
}

/// Notes that a worker was heard of, and whether it takes jobs; none leaves that as it is. Listeners are told where
/// this changes what they see.
pub(super) async fn heard_of(
    tx: &mut Tx,
    row: &worker::Model,
    online: Option<bool>,
    lease: Duration,
    now: Timestamp,
) -> Result<(), StoreError> {
    let online = online.unwrap_or(row.online);
    let was_silent = row.last_heartbeat < now.before(lease).micros();
    worker::Entity::update_many()
        .col_expr(worker::Column::LastHeartbeat, Expr::value(now.micros()))
        .col_expr(worker::Column::Online, Expr::value(online))
        .filter(worker::Column::Id.eq(row.id))
        .run_in(tx)
        .await?;
    tx.committed.workers |= was_silent || online != row.online;
    Ok(())
}

/// Makes a worker known, or makes one that was known by this name what it is now.
#[derive(Debug)]
pub struct RegisterWorker {
    /// The id that it gets where its name is new.
    pub id: WorkerId,
    /// `worker-007-gpu`.
    pub name: String,
    /// The kind of machine or service that it runs on.
    pub backend_type: String,
    /// The most that it runs at once.
    pub max_parallel_tasks: u32,
    /// What it takes.
    pub supported_problems: Vec<Pattern>,
    /// When.
    pub now: Timestamp,
}

impl Operation for RegisterWorker {
    /// Its id.
    type Output = Result<WorkerId, RemoteFault>;

    fn apply<'t>(&'t self, tx: &'t mut Tx) -> BoxFuture<'t, Result<Self::Output, StoreError>> {
        Box::pin(self.register(tx))
    }
}

impl RegisterWorker {
    async fn register(&self, tx: &mut Tx) -> Result<Result<WorkerId, RemoteFault>, StoreError> {
        let local = self.name.splitn(3, '-').nth(2) == Some(LOCAL_BACKEND);
        // Two nodes that are asked at the same moment must not both make a row.
        if let Some(lock) = dialect::key_lock(tx.backend(), &self.name) {
            tx.later(lock).await?;
        }
        let known = worker::Entity::find()
            .filter(worker::Column::Name.eq(self.name.as_str()))
            .one_in(tx)
            .await?;
        if local || known.as_ref().is_some_and(|row| row.internal) {
            return Ok(Err(RemoteFault::NameTaken(self.name.clone())));
        }
        let patterns: Vec<&str> = self.supported_problems.iter().map(Pattern::as_str).collect();
        let row = worker::Model {
            id: known.as_ref().map_or(self.id.uuid(), |row| row.id),
            name: self.name.clone(),
            backend_type: self.backend_type.clone(),
            internal: false,
            node_id: None,
            online: true,
            max_parallel_tasks: record::number(self.max_parallel_tasks),
            supported_problems: serde_json::to_string(&patterns)?,
            registered_at: known.as_ref().map_or(self.now.micros(), |row| row.registered_at),
            last_heartbeat: self.now.micros(),
            tasks_completed: known.as_ref().map_or(0, |row| row.tasks_completed),
            tasks_failed: known.as_ref().map_or(0, |row| row.tasks_failed),
        };
        let id = WorkerId::from_uuid(row.id);
        if known.is_none() {
            let others = worker::Entity::find()
                .filter(worker::Column::Internal.eq(false))
                .count_in(tx)
                .await?;
            if others >= MOST_REMOTE_WORKERS {
                return Ok(Err(RemoteFault::TooMany));
            }
            worker::Entity::insert(row.into_active_model().reset_all())
                .run_in(tx)
                .await?;
        } else {
            // Its counters are left to those who count; jobs that it held are left to their leases.
            worker::Entity::update_many()
                .col_expr(worker::Column::BackendType, Expr::value(row.backend_type))
                .col_expr(worker::Column::Online, Expr::value(true))
                .col_expr(
                    worker::Column::MaxParallelTasks,
                    Expr::value(row.max_parallel_tasks),
                )
                .col_expr(
                    worker::Column::SupportedProblems,
                    Expr::value(row.supported_problems),
                )
                .col_expr(worker::Column::LastHeartbeat, Expr::value(row.last_heartbeat))
                .filter(worker::Column::Id.eq(row.id))
                .run_in(tx)
                .await?;
        }
        tx.committed.workers = true;
        Ok(Ok(id))
    }
}

/// A worker's sign of life, with the jobs that it still runs.
#[derive(Debug)]
pub struct Heartbeat {
    /// The worker.
    pub worker: WorkerId,
    /// False signs it off.
    pub online: bool,
    /// The jobs that it runs; no other lease is renewed.
    pub jobs: Vec<JobId>,
    /// How long it holds them from now on, never beyond their timeouts.
    pub lease: Duration,
    /// When.
    pub now: Timestamp,
}

/// What a heartbeat found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedIn {
    /// Among the jobs that were named, those that the worker should stop: it does not hold them any more, their time
    /// is up, or somebody asked.
    pub stop: Vec<JobId>,
}

impl Operation for Heartbeat {
    type Output = Result<SignedIn, RemoteFault>;

    fn apply<'t>(&'t self, tx: &'t mut Tx) -> BoxFuture<'t, Result<Self::Output, StoreError>> {
        Box::pin(async move {
            let row = match registered(tx, self.worker, "").await? {
                Ok(row) => row,
                Err(fault) => return Ok(Err(fault)),
            };
            // The jobs before the worker: so does a report, and the two never wait for each other in a circle.
            let held = renew(tx, self.worker, &self.jobs, self.lease, self.now).await?;
            heard_of(tx, &row, Some(self.online), self.lease, self.now).await?;
            let stop = self.jobs.iter().copied().filter(|job| !held.contains(job));
            Ok(Ok(SignedIn {
                stop: stop.collect::<BTreeSet<_>>().into_iter().collect(),
            }))
        })
    }
}

/// Renews the leases of those of these jobs that the worker holds, whose time is not up and that nobody wants stopped:
/// a worker that does not care loses them. Tells which they are.
pub(super) async fn renew(
    tx: &Tx,
    worker: WorkerId,
    jobs: &[JobId],
    lease: Duration,
    now: Timestamp,
) -> Result<BTreeSet<JobId>, StoreError> {
    let mut held = BTreeSet::new();
    let until = now.after(lease).micros();
    let sql = format!(
        "UPDATE job SET lease_until = CASE WHEN {DEADLINE} < ? THEN {DEADLINE} ELSE ? END
         WHERE id {among} AND {HELD} RETURNING id",
        among = dialect::among_ids(tx.backend()),
    );
    let ids = dialect::id_list(jobs.iter().map(|job| job.uuid()));
    let values = [
        until.into(),
        until.into(),
        ids,
        worker.uuid().into(),
        now.micros().into(),
    ];
    for row in tx.rows(tx.statement(&sql, values)).await? {
        held.insert(JobId::from_uuid(row.get("id")?));
    }
    Ok(held)
}

/// When an attempt's time is up.
const DEADLINE: &str = "started_at + timeout_ms * 1000";

/// What a worker holds and may go on with. The values: the worker, and the moment.
pub(super) const HELD: &str =
    "status = 'RUNNING' AND worker_id = ? AND cancel_at IS NULL AND started_at + timeout_ms * 1000 > ?";

/// Gives registered workers a lease more on all that they hold, for the server that they would have told was away.
#[derive(Debug)]
pub struct BackAgain {
    /// How much.
    pub lease: Duration,
    /// When.
    pub now: Timestamp,
}

impl Operation for BackAgain {
    /// On how many jobs.
    type Output = u64;

    fn apply<'t>(&'t self, tx: &'t mut Tx) -> BoxFuture<'t, Result<u64, StoreError>> {
        Box::pin(async move {
            let until = self.now.after(self.lease).micros();
            let sql = format!(
                "UPDATE job SET lease_until = CASE WHEN {DEADLINE} < ? THEN {DEADLINE} ELSE ? END
                 WHERE status = 'RUNNING' AND lease_until < ?
                    AND worker_id IN (SELECT id FROM worker WHERE NOT internal)",
            );
            let statement = tx.statement(&sql, [until.into(), until.into(), until.into()]);
            tx.execute(statement).await
        })
    }
}
