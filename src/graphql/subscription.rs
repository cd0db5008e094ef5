//! Streams.
//!
//! Each is the executor's stream, converted item by item. A fault is sent as an error with its code, and is the last
//! item: a stream that went on after a fault would have a gap that nobody sees.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_graphql::{Context, ID};
use async_stream::try_stream;
use futures_util::{Stream, StreamExt as _};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::context::ContextExt as _;
use super::cursor::Cursor;
use super::error::{ApiError, ApiResult};
use super::input::{JobFilter, LogFilter, StatsFilter};
use super::types::{Job, JobEvent, LogBatch, Stats, Worker, attempt_of};
use super::words::JobEventType;
use crate::domain::{self, JobId, WorkerId};
use crate::executor::{EventQuery, Executor};
use crate::http::{ErrorCode, LastEventId, Sharing};
use crate::store::{Reader, StatsWindow};

/// The shortest interval at which figures are sent.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// How long after its last heartbeat the silence of a worker is noticed at the latest, beyond its lease: nobody tells
/// of what does not happen.
const SILENCE_IS_LOOKED_FOR_EVERY: Duration = Duration::from_secs(5);

/// How long a listener to workers rests after a look. Workers change with each job, and many listeners that looked each
/// time would keep the database busy; what changes twice in between is told once.
const REST: Duration = Duration::from_millis(100);

/// The root of all subscriptions.
#[derive(Debug)]
pub struct Subscription;

/// What can be listened to, over WebSocket (graphql-transport-ws) or server-sent events. Whoever was cut
/// off hands the last cursor that it saw to `after`: it gets what it missed, in order, and then what
/// happens, without a gap and nothing twice. Where some of that has been deleted, the cursor is refused
/// with the code CURSOR_EXPIRED.
#[async_graphql::Subscription]
impl Subscription {
    /// All that happens to the jobs that match, in the order in which it was stored.
    async fn job_events(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which jobs, by what they are when the event is sent; all where left out.")] filter: Option<
            JobFilter,
        >,
        #[graphql(desc = "Which types of events; all where left out.")] types: Option<Vec<JobEventType>>,
        #[graphql(desc = "The last cursor that was seen; from now on where left out.")] after: Option<String>,
    ) -> Result<impl Stream<Item = ApiResult<JobEvent>> + 'static, ApiError> {
        let after = resumed(ctx, after)
            .map(|cursor| Cursor::event(&cursor))
            .transpose()?;
        let query = EventQuery {
            filter: filter.unwrap_or_default().into_domain()?,
            types: types.map(|types| types.into_iter().map(Into::into).collect()),
        };
        let events = ctx.executor().events(after, query).await?;
        let events = match ctx.data_opt::<Arc<Sharing>>() {
            Some(sharing) => sharing.each_once(events, |event| event.number).left_stream(),
            None => events.right_stream(),
        };
        Ok(until_fault(events.map(|event| event.map(JobEvent::from))))
    }

    /// One job: as it is now, then after each change. Completes once the job has ended.
    async fn job(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The job's id.")] id: ID,
    ) -> Result<impl Stream<Item = ApiResult<Job>> + 'static, ApiError> {
        let id = existing(ctx, &id).await?.id;
        let jobs = ctx.executor().watch(id);
        Ok(until_fault(jobs.map(|job| job.map(Job::from))))
    }

    /// The lines of a job's log as they come, several at a time. Completes once the job has ended and all
    /// lines are sent.
    async fn job_logs(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The job's id.")] id: ID,
        #[graphql(desc = "Which lines; all where left out.")] filter: Option<LogFilter>,
        #[graphql(desc = "The last cursor that was seen; from the first line on where left out.")]
        after: Option<String>,
    ) -> Result<impl Stream<Item = ApiResult<LogBatch>> + 'static, ApiError> {
        let id = existing(ctx, &id).await?.id;
        let after = resumed(ctx, after)
            .map(|cursor| Cursor::log(&cursor, id))
            .transpose()?;
        let filter = filter.unwrap_or_default();
        let attempt = filter.attempt()?;
        attempt_of(attempt, [after])?;
        let batches = ctx.executor().follow_log(id, after, filter.into(), attempt);
        Ok(until_fault(
            batches.map(move |batch| batch.map(|batch| LogBatch::of(id, batch))),
        ))
    }

    /// The figures of now, then anew at each interval.
    async fn stats(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Over which jobs; all where left out.")] filter: Option<StatsFilter>,
        #[graphql(desc = "At least 100.", default_with = "Some(1_000)")] interval_ms: Option<i32>,
    ) -> Result<impl Stream<Item = ApiResult<Stats>> + 'static, ApiError> {
        let every = checked_interval(interval_ms.unwrap_or(1_000))?;
        let window = filter.unwrap_or_default().into_window()?;
        Ok(figures(ctx.reader().clone(), window, every))
    }

    /// Each worker that changes, as it is afterwards. A heartbeat alone is no change.
    async fn workers(&self, ctx: &Context<'_>) -> impl Stream<Item = ApiResult<Worker>> + 'static {
        changed_workers(ctx.executor().clone())
    }
}

/// Where a listener wants to go on. A `Last-Event-ID` wins: a browser's `EventSource` that connects again sends what it
/// saw last in that header, while its URL still holds the `after` that it began with.
fn resumed(ctx: &Context<'_>, after: Option<String>) -> Option<String> {
    ctx.data_opt::<LastEventId>().map(|last| last.0.clone()).or(after)
}

/// The job that a listener names, which must be there: a stream of nothing would look like a job at rest.
async fn existing(ctx: &Context<'_>, id: &ID) -> ApiResult<domain::Job> {
    let job = match id.parse::<JobId>() {
        Ok(id) => ctx.reader().job(id).await?,
        Err(_) => None,
    };
    job.ok_or_else(|| ApiError::new(ErrorCode::NotFound, format!("There is no job `{}`.", id.as_str())))
}

/// The items of a stream up to its first fault, with it.
fn until_fault<T, E>(
    items: impl Stream<Item = Result<T, E>> + Send + 'static,
) -> impl Stream<Item = ApiResult<T>> + Send + 'static
where
    T: Send + 'static,
    E: Into<ApiError> + Send + 'static,
{
    try_stream! {
        let mut items = pin!(items);
        while let Some(item) = items.next().await {
            yield item.map_err(Into::into)?;
        }
    }
}

fn checked_interval(millis: i32) -> ApiResult<Duration> {
    let every = Duration::from_millis(u64::try_from(millis).unwrap_or(0));
    if every < SHORTEST_INTERVAL {
        let message = format!(
            "`intervalMs` is {millis}; it must be at least {}.",
            SHORTEST_INTERVAL.as_millis()
        );
        return Err(ApiError::input(message));
    }
    Ok(every)
}

fn figures(
    reader: Reader,
    window: StatsWindow,
    every: Duration,
) -> impl Stream<Item = ApiResult<Stats>> + Send + 'static {
    try_stream! {
        let mut ticks = interval(every);
        // A listener that was slow wants the figures of now, not those that it missed.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let stats = Stats::new(window.clone());
            // Read here, so that a fault ends the stream instead of filling each answer with errors.
            stats.figures(&reader).await?;
            yield stats;
        }
    }
}

fn changed_workers(executor: Executor) -> impl Stream<Item = ApiResult<Worker>> + Send + 'static {
    // Before the first poll is over: what the client asks for next is a change already.
    let mut changes = executor.workers_changed();
    try_stream! {
        let mut seen: HashMap<WorkerId, Face> = HashMap::new();
        let before = executor.reader().workers(executor.silent_since()).await?;
        // What has changed meanwhile may be in there or not, so then each worker is told of.
        if !changes.has_changed().unwrap_or(false) {
            seen.extend(before.iter().map(|worker| (worker.id, Face::of(worker))));
        }
        let mut is_first = true;
        loop {
            let notice = timeout(SILENCE_IS_LOOKED_FOR_EVERY, changes.changed()).await;
            if let Ok(Err(_)) = notice {
                // The executor is gone, and so are all changes.
                break;
            }
            let workers = executor.reader().workers(executor.silent_since()).await?;
            seen.retain(|id, _| workers.iter().any(|worker| worker.id == *id));
            let (mut changed, same): (Vec<_>, Vec<_>) = workers.into_iter().partition(|worker| {
                let face = Face::of(worker);
                seen.insert(worker.id, face.clone()) != Some(face)
            });
            // A notice can come later than its change is seen: the first may be of what the look before it had found.
            if notice.is_ok() && std::mem::take(&mut is_first) && changed.is_empty() {
                changed = same;
            }
            for worker in changed {
                yield Worker(worker);
            }
            sleep(REST).await;
        }
    }
}

/// What listeners are told of in a worker: all but its heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Face {
    status: domain::WorkerStatus,
    max_parallel_tasks: u32,
    supported_problems: Vec<String>,
    tasks: (i64, i64),
}

impl Face {
    fn of(worker: &domain::Worker) -> Self {
        Self {
            status: worker.status,
            max_parallel_tasks: worker.max_parallel_tasks,
            supported_problems: worker.supported_problems.clone(),
            tasks: (worker.tasks_completed, worker.tasks_failed),
        }
    }
}
