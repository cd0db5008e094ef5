//! The one writer of a node: a queue, and one transaction for all that wait in it.
//!
//! A commit costs a sync of the disk, whatever it holds; so while one is under way the next writes gather, and go
//! together. What comes while a group is still being written joins it: on an idle server a job is so stored and claimed
//! by one commit. With one caller this is a commit for each write, with a hundred it is one for all.

use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::Thread;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use sea_orm::DbBackend;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::condition::Condition;
use super::error::StoreError;
use super::moves::{EndJob, end_at_once};
use super::transaction::{CommitError, WriteAccess};
use super::trouble::Away;
use super::tx::Tx;
use crate::domain::Changes;
use crate::failpoint::failpoint;

/// Operations that wait. Each holds its caller, so this bounds memory, not throughput: beyond it callers wait to
/// hand over instead of waiting for the answer.
const QUEUE: usize = 4_096;

/// Operations in one transaction. Enough that a commit's cost vanishes in it, and few enough that the first of them
/// does not wait long for the last.
const GROUP: usize = 512;

/// How often a transaction looks whether more has come, before it commits: the first of it must not wait for a stream of
/// others.
const ROUNDS: u32 = 3;

/// How long a transaction waits at most for as many to join it as the last one had. On a busy server that makes fewer and
/// larger commits, and each costs all its readers a wake-up.
const LONGEST_GATHERING: Duration = Duration::from_micros(200);

/// How often a transaction is tried whose connection was lost before the commit, or that lost a deadlock.
const TRIES: u32 = 4;

/// The pause before the second try, growing with each: whoever the deadlock was with must get through meanwhile.
const PAUSE: Duration = Duration::from_millis(50);

/// One write, with what it answers. It may be applied more than once, each time in a transaction of its own after
/// the earlier one was rolled back.
pub trait Operation: Send + Sync + 'static {
    /// What the caller gets once it is durable.
    type Output: Send + 'static;

    /// The end of an attempt, where it is one: a group's are written together.
    #[doc(hidden)]
    fn end(&self) -> Option<&EndJob> {
        None
    }

    /// Whether a job waits for its answer to be started.
    #[doc(hidden)]
    fn is_awaited_by_jobs(&self) -> bool {
        false
    }

    /// Writes. What a caller can mend belongs into the output, and then nothing may have been written.
    fn apply<'t>(&'t self, tx: &'t mut Tx) -> BoxFuture<'t, Result<Self::Output, StoreError>>;
}

/// Who is told of a commit, before the callers get their answers, but for those whom jobs wait for.
pub(super) type OnCommit = Box<dyn Fn(Changes) + Send + Sync>;

/// What was handed over and is not written yet.
type Queue = mpsc::Receiver<Box<dyn Queued>>;

/// A handle to the writer. Cheap to clone.
#[derive(Clone)]
pub struct Writer {
    queue: mpsc::Sender<Box<dyn Queued>>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl Writer {
    /// A handle, and the writer itself, which runs until every handle is gone and the queue is empty.
    /// A group that took longer than `patience` and found the database away speaks for all that wait behind it.
    pub(super) fn new(
        db: WriteAccess,
        node: Uuid,
        on_commit: OnCommit,
        condition: Condition,
        patience: Duration,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let work = Work {
            db,
            node,
            on_commit,
            condition,
            patience,
        };
        // Boxed, since it is large, and passed on from hand to hand: each copy of it would stay in somebody's stack.
        (Self { queue }, Box::pin(work.run(waiting)))
    }

    /// Hands over a write and waits until it is durable.
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the database failed; the write did then not happen, except that [`StoreError::Unknown`]
    /// leaves it open. A connection that was lost before the commit is opened again without the caller noticing.
    pub async fn write<O: Operation>(&self, operation: O) -> Result<O::Output, StoreError> {
        self.hand_over(operation).await?.durable().await
    }

    /// Hands over a write, and does not wait for it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Closed`]: there is no writer any more.
    pub async fn hand_over<O: Operation>(&self, operation: O) -> Result<Answer<O::Output>, StoreError> {
        let (queued, answer) = queued(operation);
        self.queue.send(queued).await.map_err(|_| StoreError::Closed)?;
        Ok(answer)
    }
}

fn queued<O: Operation>(operation: O) -> (Box<dyn Queued>, Answer<O::Output>) {
    let (reply, answer) = oneshot::channel();
    let queued = Waiting {
        operation,
        output: None,
        reply,
    };
    (Box::new(queued), Answer(answer))
}

/// The answer to a write that was handed over. The write stands where this is dropped.
#[derive(Debug)]
pub struct Answer<T>(oneshot::Receiver<Result<T, StoreError>>);

impl<T> Answer<T> {
    /// Waits until the write is durable.
    ///
    /// # Errors
    ///
    /// Those of [`Writer::write`].
    pub async fn durable(self) -> Result<T, StoreError> {
        self.0.await.map_err(|_| StoreError::Closed)?
    }
}

/// An operation of any kind, with its place for the answer.
trait Queued: Send {
    fn end(&self) -> Option<&EndJob>;
    fn is_awaited_by_jobs(&self) -> bool;
    fn apply<'t>(&'t mut self, tx: &'t mut Tx) -> BoxFuture<'t, Result<(), StoreError>>;
    fn settle(self: Box<Self>, result: Result<(), StoreError>);
    /// What its failpoints are named after: the type of its operation.
    #[cfg(feature = "failpoints")]
    fn name(&self) -> &'static str;
}

struct Waiting<O: Operation> {
    operation: O,
    output: Option<O::Output>,
    reply: oneshot::Sender<Result<O::Output, StoreError>>,
}

impl<O: Operation> Queued for Waiting<O> {
    fn end(&self) -> Option<&EndJob> {
        self.operation.end()
    }

    fn is_awaited_by_jobs(&self) -> bool {
        self.operation.is_awaited_by_jobs()
    }

    fn apply<'t>(&'t mut self, tx: &'t mut Tx) -> BoxFuture<'t, Result<(), StoreError>> {
        Box::pin(async move {
            self.output = Some(self.operation.apply(tx).await?);
            Ok(())
        })
    }

    fn settle(self: Box<Self>, result: Result<(), StoreError>) {
        let Waiting { output, reply, .. } = *self;
        let answer = result.and_then(|()| output.ok_or(StoreError::Closed));
        // A caller that went away does not need the answer; the write stands.
        let _ = reply.send(answer);
    }

    #[cfg(feature = "failpoints")]
    fn name(&self) -> &'static str {
        // Of one that is noted in the audit log it is what is noted.
        let name = std::any::type_name::<O>().rsplit("::").next().unwrap_or_default();
        name.trim_end_matches('>')
    }
}

/// What the writer works with.
struct Work {
    db: WriteAccess,
    node: Uuid,
    on_commit: OnCommit,
    condition: Condition,
    patience: Duration,
}

impl Work {
    async fn run(self, mut waiting: Queue) {
        let mut group = Vec::new();
        let mut company = 0;
        while waiting.recv_many(&mut group, GROUP).await > 0 {
            gather(&mut group, &mut waiting, company);
            company = group.len();
            let started = Instant::now();
            let away = self.commit(std::mem::take(&mut group), Some(&mut waiting)).await;
            if let Some(away) = away.filter(|_| started.elapsed() >= self.patience) {
                // Each of them has waited all the while, and would only wait as long again.
                while let Ok(queued) = waiting.try_recv() {
                    queued.settle(Err(StoreError::Unavailable(away.again())));
                }
            }
        }
    }

    /// Writes a group, with those of `waiting` that come meanwhile, and tells its callers. Gives what was in the way where
    /// the database is away.
    async fn commit(&self, mut group: Vec<Box<dyn Queued>>, mut waiting: Option<&mut Queue>) -> Option<Away> {
        let started = Instant::now();
        let mut tries = 1;
        let outcome = loop {
            // A second try is not made longer, and might fail for what joined the first.
            let joining = waiting.take();
            match transact(&self.db, self.node, &mut group, joining, tries).await {
                Err(CommitError::Before(error))
                    if error.is_passing() && tries < TRIES && started.elapsed() < self.patience =>
                {
                    tracing::info!(error = %crate::telemetry::chain(&error), group.size = group.len(), "a group of writes is tried again");
                    tokio::time::sleep(PAUSE * tries).await;
                    tries += 1;
                }
                outcome => break outcome,
            }
        };
        match outcome {
            Ok(committed) => {
                crate::telemetry::metrics::store_committed(started.elapsed(), group.len());
                // A job that is to start comes before all who hear of it.
                let (first, group) = group
                    .into_iter()
                    .partition::<Vec<_>, _>(|queued| queued.is_awaited_by_jobs());
                for queued in first {
                    queued.settle(Ok(()));
                }
                if !committed.is_empty() {
                    // What changed nothing needed no room and no right to write, so it proves nothing.
                    self.condition.written();
                    (self.on_commit)(committed);
                }
                failpoint!("commit.told");
                for queued in group {
                    queued.settle(Ok(()));
                }
                None
            }
            // A database that is away is away for each of them, and each would wait for it in turn.
            Err(CommitError::Before(error)) if group.len() > 1 && !error.is_unavailable() => {
                tracing::debug!(error = %crate::telemetry::chain(&error), group.size = group.len(), "a group of writes failed; each is tried alone");
                for queued in group {
                    Box::pin(self.commit(vec![queued], None)).await;
                }
                None
            }
            Err(CommitError::Before(error)) => self.fail(group, error),
            Err(CommitError::During(error)) => {
                tracing::warn!(error = %crate::telemetry::chain(&error), group.size = group.len(), "a commit was cut off");
                let error = match error {
                    StoreError::Unavailable(away) => StoreError::Unknown(away),
                    other => other,
                };
                self.fail(group, error)
            }
        }
    }

    /// Tells one failure to all of a group.
    fn fail(&self, mut group: Vec<Box<dyn Queued>>, error: StoreError) -> Option<Away> {
        let away = match &error {
            StoreError::Unavailable(away) | StoreError::Unknown(away) => Some(away.again()),
            StoreError::Database(_) | StoreError::Unreadable(_) | StoreError::Closed => None,
        };
        if let Some(away) = &away {
            self.condition.failed(away.trouble);
        }
        let last = group.pop();
        for queued in group {
            queued.settle(Err(error.again()));
        }
        if let Some(queued) = last {
            queued.settle(Err(error));
        }
        away
    }
}

/// Waits until so many are in a group, but not for long. It blocks: the writer has its thread to itself, and a runtime's
/// clock is too coarse.
fn gather(group: &mut Vec<Box<dyn Queued>>, waiting: &mut Queue, company: usize) {
    let until = Instant::now() + LONGEST_GATHERING;
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = Context::from_waker(&waker);
    while group.len() < company.min(GROUP) {
        let room = GROUP - group.len();
        match waiting.poll_recv_many(&mut context, group, room) {
            Poll::Ready(0) => return,
            Poll::Ready(_) => {}
            Poll::Pending => {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return;
                }
                std::thread::park_timeout(left);
            }
        }
    }
}

/// Wakes a thread that is parked.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Takes those that wait into a group.
fn join(group: &mut Vec<Box<dyn Queued>>, waiting: &mut Queue) {
    while group.len() < GROUP
        && let Ok(queued) = waiting.try_recv()
    {
        group.push(queued);
    }
}

async fn transact(
    db: &WriteAccess,
    node: Uuid,
    group: &mut Vec<Box<dyn Queued>>,
    joining: Option<&mut Queue>,
    try_number: u32,
) -> Result<Changes, CommitError> {
    let conn = db
        .begin()
        .await
        .map_err(|error| CommitError::Before(error.into()))?;
    let mut tx = Tx::new(conn, node, try_number > 1);
    if let Err(error) = apply(&mut tx, group, joining).await {
        // A connection that was lost takes its transaction with it, and one that does not answer is not asked again.
        if !error.is_unavailable() {
            tx.roll_back().await;
        }
        return Err(CommitError::Before(error));
    }
    let changes = tx.commit().await?;
    #[cfg(feature = "failpoints")]
    for queued in group.iter_mut() {
        failpoint!(
            format!("commit.after.{}", queued.name()),
            return Err(CommitError::During(cut_off()))
        );
    }
    Ok(changes)
}

/// Writes a group in a transaction, with those that come meanwhile.
async fn apply(
    tx: &mut Tx,
    group: &mut Vec<Box<dyn Queued>>,
    mut joining: Option<&mut Queue>,
) -> Result<(), StoreError> {
    let (mut applied, mut rounds) = (0, 0);
    while applied < group.len() {
        let newly = &mut group[applied..];
        if tx.backend() == DbBackend::Postgres {
            let ends: Vec<&EndJob> = newly.iter().filter_map(|queued| queued.end()).collect();
            end_at_once(tx, &ends).await?;
        }
        // Those whose rows are asked for come last: the answer is there once another one is, as that of a claim.
        let (ending, others) = newly
            .iter_mut()
            .partition::<Vec<_>, _>(|queued| queued.end().is_some_and(|end| tx.is_ending(&end.job)));
        let told = tx.events();
        for queued in others {
            queued.apply(tx).await?;
        }
        let by_others = tx.events() - told;
        for queued in ending {
            queued.apply(tx).await?;
        }
        // Their events come first all the same: a worker's job has ended before its next one starts.
        tx.put_behind(told, by_others);
        (applied, rounds) = (group.len(), rounds + 1);
        // Other nodes wait for the lock that orders commits, and whoever holds it should not wait for rows of theirs.
        if rounds < ROUNDS
            && !tx.ordered
            && let Some(waiting) = &mut joining
        {
            join(group, waiting);
        }
    }
    tx.flush().await?;
    #[cfg(feature = "failpoints")]
    for queued in group.iter_mut() {
        failpoint!(format!("commit.before.{}", queued.name()), return Err(cut_off()));
    }
    Ok(())
}

/// What the driver says of a connection that was lost.
#[cfg(feature = "failpoints")]
fn cut_off() -> StoreError {
    let error = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    let error = sea_orm::SqlxError::Io(error);
    StoreError::from(sea_orm::DbErr::Exec(sea_orm::RuntimeErr::SqlxError(error.into())))
}
