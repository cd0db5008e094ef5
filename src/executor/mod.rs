//! The service: takes jobs, runs them, and tells how they went. GraphQL is one of its users; another Rust program
//! that embeds it is another.
//!
//! ```text
//!   submit ─▶ validate ─▶ InsertJobs ─▶ hint ─▶ dispatcher ─▶ ClaimJobs ─▶ attempt ─▶ process
//!                                                                │            ├─ log writer ─▶ AppendLog
//!   keeper: leases, cancels        housekeeping: due, expired,   │            └─ EndJob
//!   feed ─▶ listeners                            retention       └ pool: scale, start, stop
//! ```
//!
//! | file | what |
//! | --- | --- |
//! | `request`, `expand`, `validate*` | what is asked for, and what is wrong with it |
//! | `acting` | in whose name, what they may run, and the audit log |
//! | `dispatcher`, `pool` | which worker runs what |
//! | `attempt`, `prepare`, `secrets`, `outcome` | one attempt from claim to end |
//! | `log_writer` | what a process prints |
//! | `remote*` | workers that are no part of a server |
//! | `keeper`, `running` | what this node holds |
//! | `housekeeping` | what any node does for all |
//! | `feed`, `listen`, `health` | events and logs, live; how it is |

mod acting;
mod attempt;
mod dispatcher;
mod expand;
mod feed;
mod health;
mod housekeeping;
mod keeper;
mod listen;
mod log_writer;
mod options;
mod outcome;
mod pool;
mod prepare;
mod remote;
mod remote_check;
mod request;
mod running;
mod secrets;
mod start_error;
mod submit;
mod tasks;
mod time;
mod validate;
mod validate_command;
mod validate_plan;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{RwLock, Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

pub use acting::Acting;
pub use feed::LoadedEvent;
pub use health::{Condition, Health};
pub use listen::{EventQuery, ListenError, LogBatch, LogPlace};
pub use options::{Options, Secret};
pub use pool::{MOST_WORKERS, PoolChange, PoolError, PoolState};
pub use remote::{
    LONGEST_WAIT, RemoteError, TaskClaim, TaskLine, TaskProgress, TaskReport, WorkerHeartbeat,
    WorkerRegistration,
};
pub use request::{JobRequest, Refusal, RefusalCode, StepRequest, SubmitError};
pub use secrets::SecretSources;
pub use start_error::StartError;

use crate::auth::Tokens;
use crate::domain::{JobId, Timestamp, WorkerId};
use crate::event::Hints;
use crate::pipeline;
use crate::program::Programs;
use crate::script::{Catalog, Interpreters};
use crate::store::{Backend, CancelJob, Cancelled, CleanupFilter, Reader, Store, StoreError, StoreOptions};
use crate::supervisor::Supervisor;
use dispatcher::Dispatcher;
use feed::Feed;
use pool::PoolCommand;
use running::Running;

/// Changes of the pool that wait for its owner; each has a caller that waits too.
const COMMANDS: usize = 16;

/// How often, within one lease, the other nodes can wait for a frozen one's transaction to be rolled back.
const SILENCES: u32 = 4;

/// What all parts of one executor share.
#[derive(Debug)]
struct Context {
    options: Options,
    store: Store,
    hints: Hints,
    catalog: Arc<Catalog>,
    pipelines: Arc<pipeline::Catalog>,
    programs: Programs,
    running: Running,
    /// Read while jobs are claimed that are not on the list of the running ones yet.
    claiming: Arc<RwLock<()>>,
    feed: Feed,
    tokens: Tokens,
    pool: watch::Sender<PoolState>,
    commands: mpsc::Sender<PoolCommand>,
    spawner: PathBuf,
    /// A permit for each call of a registered worker that may wait.
    waiting: Semaphore,
    /// Cancelled when calls that wait are to answer at once: the server goes down.
    closing: CancellationToken,
    /// Cancelled when a shutdown is to wait for nobody.
    hurry: CancellationToken,
    started: Instant,
}

impl Context {
    /// The workers of this node, those included that leave once their job has ended.
    fn members(&self) -> Vec<WorkerId> {
        self.pool.borrow().workers.clone()
    }

    /// Until when a process may run whose lease was taken or renewed at this moment: after that another node may run the
    /// job. Where there is no other node, nothing is gained by stopping it.
    fn held_until(&self, renewed: Instant) -> Option<Instant> {
        match self.store.backend() {
            Backend::Sqlite => None,
            Backend::Postgres => renewed.checked_add(self.options.lease),
        }
    }

    /// A worker that was not heard of since then is gone.
    fn silent_since(&self, now: Timestamp) -> Timestamp {
        now.before(self.options.lease)
    }
}

/// Runs jobs. Cheap to clone; every clone is the same executor.
///
/// ```no_run
/// use runql::domain::{Command, Script};
/// use runql::executor::{Executor, JobRequest, Options};
/// use runql::supervisor::Supervisor;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let mut supervisor = Supervisor::new();
/// let options = Options::new("sqlite://jobs.db?mode=rwc", "./scripts", "./work");
/// let grace = options.shutdown_grace * 2;
/// let executor = Executor::start(options, &mut supervisor).await?;
/// let script = Script {
///     script: "hello.sh".to_owned(),
///     interpreter: None,
///     args: Vec::new(),
///     parameters: serde_json::Map::new(),
///     context: serde_json::Map::new(),
/// };
/// let submitted = executor.submit(JobRequest::new(Command::Script(script))).await?;
/// let ended = executor.wait(submitted.job.id).await?;
/// println!("{:?}", ended.map(|job| job.status));
/// supervisor.shutdown(grace).await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Executor(Arc<Context>);

impl Executor {
    /// Opens the store, puts in order what a dead server left, and starts the workers. Its tasks belong to
    /// `supervisor`, and end with it: running jobs get [`Options::shutdown_grace`] to end.
    ///
    /// The program must call [`run_spawner_if_asked`](crate::process::run_spawner_if_asked) first in its `main`,
    /// since it is started again as the supervisor of processes.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing is left behind then, and it can be tried again.
    pub async fn start(options: Options, supervisor: &mut Supervisor) -> Result<Self, StartError> {
        let spawner = match &options.spawner {
            Some(path) => path.clone(),
            None => crate::process::own_executable().map_err(StartError::Spawner)?,
        };
        let hints = Hints::default();
        let published = hints.clone();
        let mut store_options = StoreOptions::new(options.database_url.0.clone());
        store_options.silence = store_options.silence.min(options.lease / SILENCES);
        let (store, writer) = Store::open(&store_options, move |changes| published.publish(&changes))
            .await
            .map_err(StartError::Open)?;
        let tokens = Tokens::load(
            store.writer().clone(),
            store.reader().clone(),
            options.tokens.clone(),
            options.require_tokens,
        );
        let tokens = tokens.await.map_err(StartError::Store)?;
        crate::program::check_sandbox(&spawner, &options.sandbox)
            .await
            .map_err(StartError::Sandbox)?;
        let programs = Programs::of_process(options.sandbox.run_as.as_ref());
        let interpreters = Interpreters::new(options.interpreters.clone(), programs.path().to_owned());
        let (commands, orders) = mpsc::channel(COMMANDS);
        let context = Arc::new(Context {
            catalog: Arc::new(Catalog::new(options.scripts_dir.clone(), interpreters)),
            pipelines: Arc::new(pipeline::Catalog::new(options.pipelines_dir.clone())),
            pool: watch::Sender::new(PoolState::default()),
            running: Running::default(),
            claiming: Arc::default(),
            feed: Feed::default(),
            waiting: Semaphore::new(options.max_waiting.min(Semaphore::MAX_PERMITS)),
            closing: CancellationToken::new(),
            hurry: CancellationToken::new(),
            started: Instant::now(),
            tokens,
            options,
            store,
            hints,
            programs,
            commands,
            spawner,
        });
        let mut dispatcher = Dispatcher::new(Arc::clone(&context), orders);
        let halt = CancellationToken::new();
        let mut writer = Box::pin(tasks::write(Arc::clone(&context), writer, halt.clone()));
        // Where this is given up, too, the writer ends and the store is closed.
        let halt = halt.drop_guard();
        let prepared = async {
            context.feed.skip_to(context.store.reader().last_event().await?);
            housekeeping::recover(&context).await?;
            dispatcher.join().await
        };
        let prepared = tokio::select! {
            prepared = prepared => prepared,
            () = &mut writer => return Err(StartError::Store(StoreError::Closed)),
        };
        if let Err(error) = prepared {
            drop(halt);
            writer.await;
            return Err(StartError::Store(error));
        }
        tasks::supervise(&context, dispatcher, (writer, halt), supervisor);
        Ok(Self(context))
    }

    /// Asks for a running job to stop, or takes a pending one out of the queue.
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the store failed.
    pub async fn cancel(
        &self,
        id: JobId,
        reason: Option<String>,
        grace: Option<Duration>,
    ) -> Result<Cancelled, StoreError> {
        self.0
            .store
            .writer()
            .write(CancelJob {
                id,
                reason,
                grace,
                now: time::now(),
            })
            .await
    }

    /// Deletes ended jobs with their logs and events; with `dry_run`, only counts them.
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the store failed; some may be deleted then.
    pub async fn cleanup(&self, filter: CleanupFilter, dry_run: bool) -> Result<u64, StoreError> {
        if dry_run {
            return self.0.store.reader().count_cleanup(&filter).await;
        }
        housekeeping::clean_up(&self.0, filter).await
    }

    /// Asks the store.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        self.0.store.reader()
    }

    /// The scripts that can be run. Its calls block: use a thread for them.
    #[must_use]
    pub fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.0.catalog)
    }

    /// The pipelines that can be run. Its calls block: use a thread for them.
    #[must_use]
    pub fn pipelines(&self) -> Arc<pipeline::Catalog> {
        Arc::clone(&self.0.pipelines)
    }

    /// The tokens that clients authenticate by.
    #[must_use]
    pub fn tokens(&self) -> &Tokens {
        &self.0.tokens
    }

    /// The settings.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.0.options
    }

    /// Which database the store lives in.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.0.store.backend()
    }

    /// This moment, by the clock of this node.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        time::now()
    }

    /// How long it has run.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.0.started.elapsed()
    }

    /// A worker that was not heard of since then is gone.
    #[must_use]
    pub fn silent_since(&self) -> Timestamp {
        self.0.silent_since(time::now())
    }

    /// Counts up when a worker changed.
    #[must_use]
    pub fn workers_changed(&self) -> watch::Receiver<u64> {
        self.0.hints.workers()
    }

    /// The workers of this node.
    #[must_use]
    pub fn pool(&self) -> PoolState {
        self.0.pool.borrow().clone()
    }

    /// Changes the number of workers. Fewer let running jobs end.
    ///
    /// # Errors
    ///
    /// [`PoolError`]; nothing was changed then.
    pub async fn scale_workers(&self, size: usize) -> Result<PoolChange, PoolError> {
        self.order(|reply| PoolCommand::Scale { size, reply }).await
    }

    /// Lets the workers take jobs.
    ///
    /// # Errors
    ///
    /// [`PoolError::Closed`] while the server goes down.
    pub async fn start_workers(&self) -> Result<PoolChange, PoolError> {
        self.order(|reply| PoolCommand::Start { reply }).await
    }

    /// Takes no more jobs; with `cancel_running`, cancels those under way on this node.
    ///
    /// # Errors
    ///
    /// [`PoolError::Closed`] while the server goes down.
    pub async fn stop_workers(&self, cancel_running: bool) -> Result<PoolChange, PoolError> {
        self.order(|reply| PoolCommand::Stop {
            cancel_running,
            reply,
        })
        .await
    }

    async fn order(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<PoolChange, PoolError>>) -> PoolCommand,
    ) -> Result<PoolChange, PoolError> {
        let (reply, answer) = oneshot::channel();
        self.0
            .commands
            .send(command(reply))
            .await
            .map_err(|_| PoolError::Closed)?;
        answer.await.map_err(|_| PoolError::Closed)?
    }

    /// Makes a shutdown that is under way wait for no job: all get SIGKILL, and their ends are still stored.
    pub fn hurry(&self) {
        self.0.hurry.cancel();
    }
}
