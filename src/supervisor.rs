//! The owner of every background task of the server.
//!
//! Responsible for noticing that a task ended or panicked while it should have run, and for ending all of them in order.
//! Not responsible for what they do, nor for tasks that an owner of their own awaits (a connection, an attempt).
//!
//! ```text
//! start     writer → dispatcher → http        each is handed a token of its own
//! wait      returns when the shutdown is asked for, or with the first task that ended by itself
//! shutdown  http ← dispatcher ← writer        the reverse: each is told to stop once the one before it has ended
//! ```

use std::collections::HashMap;
use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::telemetry::chain;

/// How long the tasks that are left may take once the grace is over; then they are told all at once, and aborted.
const LAST_CALL: Duration = Duration::from_secs(1);

/// Tasks that wait to be taken over from a [`Spawner`]. The owner only moves them into its set, so a few are enough;
/// where it is full, the spawner waits.
const REQUESTS: usize = 16;

/// Any error that a task can end with.
pub type BoxError = Box<dyn Error + Send + Sync>;

type Task = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

/// Owns the background tasks of one server.
#[derive(Debug)]
pub struct Supervisor {
    tasks: JoinSet<Result<(), BoxError>>,
    running: HashMap<Id, Running>,
    started: u64,
    shutdown: CancellationToken,
    requests: mpsc::Receiver<Request>,
    spawner: Spawner,
}

#[derive(Debug)]
struct Running {
    name: &'static str,
    /// Its place in the order of starts.
    number: u64,
    stop: CancellationToken,
}

struct Request {
    name: &'static str,
    task: Task,
    stop: CancellationToken,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A task that ended although it should have run on.
#[derive(Debug, thiserror::Error)]
pub enum TaskFailure {
    /// It returned before it was asked to.
    #[error("the task `{task}` ended by itself")]
    Ended {
        /// Its name.
        task: &'static str,
    },
    /// It returned an error.
    #[error("the task `{task}` failed")]
    Failed {
        /// Its name.
        task: &'static str,
        /// What it returned.
        #[source]
        error: BoxError,
    },
    /// It panicked.
    #[error("the task `{task}` panicked: {message}")]
    Panicked {
        /// Its name.
        task: &'static str,
        /// What it said.
        message: String,
    },
}

impl TaskFailure {
    /// The name of the task.
    #[must_use]
    pub const fn task(&self) -> &'static str {
        match self {
            Self::Ended { task } | Self::Failed { task, .. } | Self::Panicked { task, .. } => task,
        }
    }
}

/// Hands tasks to a [`Supervisor`] from elsewhere.
#[derive(Debug, Clone)]
pub struct Spawner(mpsc::Sender<Request>);

/// The supervisor takes no more tasks.
#[derive(Debug, thiserror::Error)]
#[error("the server is shutting down")]
pub struct ShuttingDown;

impl Spawner {
    /// As [`Supervisor::spawn`]; the task starts once its owner takes it.
    ///
    /// # Errors
    ///
    /// Once the shutdown has begun.
    pub async fn spawn<F, Fut, E>(&self, name: &'static str, task: F) -> Result<(), ShuttingDown>
    where
        F: FnOnce(CancellationToken) -> Fut,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        self.0
            .send(Request::new(name, task))
            .await
            .map_err(|_| ShuttingDown)
    }
}

impl Request {
    fn new<F, Fut, E>(name: &'static str, task: F) -> Self
    where
        F: FnOnce(CancellationToken) -> Fut,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let stop = CancellationToken::new();
        let task = task(stop.clone());
        Self {
            name,
            task: Box::pin(async move { task.await.map_err(Into::into) }),
            stop,
        }
    }
}

impl Default for Supervisor {
    fn default() -> Self {
        Self::new()
    }
}

impl Supervisor {
    /// A supervisor without tasks.
    #[must_use]
    pub fn new() -> Self {
        let (sender, requests) = mpsc::channel(REQUESTS);
        Self {
            tasks: JoinSet::new(),
            running: HashMap::new(),
            started: 0,
            shutdown: CancellationToken::new(),
            requests,
            spawner: Spawner(sender),
        }
    }

    /// Hands tasks to this supervisor from elsewhere.
    #[must_use]
    pub fn spawner(&self) -> Spawner {
        self.spawner.clone()
    }

    /// Cancelled as soon as the shutdown is asked for, before any task is told to stop; cancelling it asks for it.
    #[must_use]
    pub fn shutdown_token(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Starts a task that runs until the token that it is handed is cancelled. Tasks are stopped in the reverse of the
    /// order in which they were started, so what others need comes first.
    pub fn spawn<F, Fut, E>(&mut self, name: &'static str, task: F)
    where
        F: FnOnce(CancellationToken) -> Fut,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        self.start(Request::new(name, task));
    }

    fn start(&mut self, Request { name, task, stop }: Request) {
        let id = self.tasks.spawn(task).id();
        self.started += 1;
        self.running.insert(
            id,
            Running {
                name,
                number: self.started,
                stop,
            },
        );
    }

    /// Waits until the shutdown is asked for.
    ///
    /// # Errors
    ///
    /// The first task that ended before that, and how. The others still run: call [`Supervisor::shutdown`].
    pub async fn wait(&mut self) -> Result<(), TaskFailure> {
        let shutdown = self.shutdown.clone();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                Some(request) = self.requests.recv() => self.start(request),
                Some(ended) = self.tasks.join_next_with_id() => {
                    if let (_, Some(failure)) = self.ended(ended) {
                        return Err(failure);
                    }
                }
            }
        }
    }

    /// Stops the tasks, the last started first, and each only once the one started after it has ended. Those that have
    /// not ended when `grace` is over are told all at once and, a moment later, aborted.
    ///
    /// Returns the names of the aborted, which are in the log as well; so are the tasks that fail on the way.
    pub async fn shutdown(mut self, grace: Duration) -> Vec<&'static str> {
        self.shutdown.cancel();
        self.requests.close();
        while let Some(request) = self.requests.recv().await {
            self.start(request);
        }
        let deadline = Instant::now() + grace;
        while let Some((&id, task)) = self.running.iter().max_by_key(|(_, task)| task.number) {
            tracing::debug!(task = task.name, "stopping");
            task.stop.cancel();
            if timeout_at(deadline, self.until_ended(Some(id))).await.is_err() {
                break;
            }
        }
        for task in self.running.values() {
            task.stop.cancel();
        }
        if !self.running.is_empty() {
            let _ = timeout_at(Instant::now() + LAST_CALL, self.until_ended(None)).await;
        }
        let aborted: Vec<_> = self.running.drain().map(|(_, task)| task.name).collect();
        for task in &aborted {
            tracing::warn!(
                task,
                grace_ms = crate::telemetry::millis(grace),
                "did not end within the grace and was aborted"
            );
        }
        self.tasks.shutdown().await;
        aborted
    }

    /// Waits for one task, or for all of them; logs those that fail meanwhile.
    async fn until_ended(&mut self, wanted: Option<Id>) {
        while let Some(ended) = self.tasks.join_next_with_id().await {
            let (id, failure) = self.ended(ended);
            if let Some(failure) = failure {
                tracing::error!(task = failure.task(), error = %chain(&failure), "a task failed during the shutdown");
            }
            if wanted == Some(id) {
                return;
            }
        }
    }

    /// Takes a task off the books. It failed where it returned an error, panicked, or was not asked to end.
    fn ended(&mut self, ended: Result<(Id, Result<(), BoxError>), JoinError>) -> (Id, Option<TaskFailure>) {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let Some(Running { name: task, stop, .. }) = self.running.remove(&id) else {
            return (id, None);
        };
        let failure = match ended {
            Ok((_, Ok(()))) if stop.is_cancelled() => None,
            Ok((_, Ok(()))) => Some(TaskFailure::Ended { task }),
            Ok((_, Err(error))) => Some(TaskFailure::Failed { task, error }),
            Err(error) => panic_message(error).map(|message| TaskFailure::Panicked { task, message }),
        };
        (id, failure)
    }
}

/// What a task said when it panicked; none where it was aborted.
fn panic_message(error: JoinError) -> Option<String> {
    let payload = error.try_into_panic().ok()?;
    Some(match payload.downcast::<String>() {
        Ok(message) => *message,
        Err(payload) => payload
            .downcast_ref::<&str>()
            .map_or_else(|| "no message".to_owned(), |message| (*message).to_owned()),
    })
}

/// Runs a task on a thread of its own, where it may block, and whose sockets wake nobody else. It begins at the first poll,
/// and goes on to its end where this is dropped.
pub(crate) async fn on_a_thread(name: &str, task: impl Future<Output = ()> + Send + 'static) {
    let (done, ended) = oneshot::channel();
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.inspect_err(|error| tracing::error!(%error, "a thread could not be set up"));
        if let Ok(runtime) = runtime {
            runtime.block_on(task);
        }
        // Whoever waited may have gone away.
        let _ = done.send(());
    };
    match std::thread::Builder::new().name(name.to_owned()).spawn(run) {
        Ok(thread) => {
            if ended.await.is_err()
                && let Err(panic) = thread.join()
            {
                std::panic::resume_unwind(panic);
            }
        }
        Err(error) => tracing::error!(%error, thread = name, "a thread could not be started"),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    async fn until_stopped(stop: CancellationToken) -> Result<(), Infallible> {
        stop.cancelled().await;
        Ok(())
    }

    #[tokio::test]
    async fn tasks_end_in_the_reverse_order_of_their_starts_and_one_after_the_other() {
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut supervisor = Supervisor::new();
        for name in ["writer", "dispatcher", "http"] {
            let order = Arc::clone(&order);
            supervisor.spawn(name, async move |stop: CancellationToken| {
                stop.cancelled().await;
                order.lock().unwrap().push(format!("{name} told"));
                tokio::task::yield_now().await;
                order.lock().unwrap().push(format!("{name} ended"));
                Ok::<_, Infallible>(())
            });
        }
        supervisor.shutdown_token().cancel();
        supervisor.wait().await.unwrap();
        assert_eq!(supervisor.shutdown(SOON).await, Vec::<&str>::new());
        assert_eq!(
            *order.lock().unwrap(),
            [
                "http told",
                "http ended",
                "dispatcher told",
                "dispatcher ended",
                "writer told",
                "writer ended"
            ]
        );
    }

    #[tokio::test]
    async fn a_task_that_ends_by_itself_is_reported_with_its_cause() {
        type Case = (fn(&mut Supervisor), &'static str);
        let cases: [Case; 3] = [
            (
                |s| s.spawn("early", async |_| Ok::<_, Infallible>(())),
                "the task `early` ended by itself",
            ),
            (
                |s| s.spawn("broken", async |_| Err(std::io::Error::other("disk full"))),
                "the task `broken` failed: disk full",
            ),
            (
                |s| {
                    s.spawn("rash", async |_| -> Result<(), Infallible> {
                        panic!("no {}", "more")
                    })
                },
                "the task `rash` panicked: no more",
            ),
        ];
        for (spawn, expected) in cases {
            let mut supervisor = Supervisor::new();
            supervisor.spawn("steady", until_stopped);
            spawn(&mut supervisor);
            let failure = supervisor.wait().await.unwrap_err();
            assert_eq!(chain(&failure).to_string(), expected);
            assert!(expected.contains(failure.task()));
            assert_eq!(supervisor.shutdown(SOON).await, Vec::<&str>::new());
        }
    }

    #[tokio::test]
    async fn a_task_that_does_not_stop_is_named_and_aborted_and_the_others_still_end_by_themselves() {
        let mut supervisor = Supervisor::new();
        let (sender, ended) = tokio::sync::oneshot::channel();
        supervisor.spawn("writer", async move |stop: CancellationToken| {
            stop.cancelled().await;
            sender
                .send(())
                .map_err(|()| std::io::Error::other("nobody waits"))
        });
        supervisor.spawn("stubborn", async |_| {
            std::future::pending::<()>().await;
            Ok::<_, Infallible>(())
        });
        assert_eq!(supervisor.shutdown(Duration::from_millis(20)).await, ["stubborn"]);
        ended.await.unwrap();
    }

    #[tokio::test]
    async fn a_task_from_elsewhere_is_supervised_until_the_shutdown_and_refused_after_it() {
        let mut supervisor = Supervisor::new();
        let spawner = supervisor.spawner();
        spawner
            .spawn("guest", async |_| Err(std::io::Error::other("gone")))
            .await
            .unwrap();
        let failure = supervisor.wait().await.unwrap_err();
        assert_eq!(chain(&failure).to_string(), "the task `guest` failed: gone");
        assert_eq!(supervisor.shutdown(SOON).await, Vec::<&str>::new());
        spawner.spawn("late", until_stopped).await.unwrap_err();
    }

    #[tokio::test]
    async fn waiting_without_tasks_goes_on_until_the_shutdown_is_asked_for() {
        let mut supervisor = Supervisor::new();
        let token = supervisor.shutdown_token();
        let ((), waited) = tokio::join!(async { token.cancel() }, supervisor.wait());
        waited.unwrap();
    }
}
