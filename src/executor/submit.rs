//! Taking jobs in, and waiting for them.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::{StreamExt, pin_mut};

use super::acting::OnBehalf;
use super::request::{JobRequest, Refusal, RefusalCode, StepRequest, SubmitError};
use super::validate::Checker;
use super::validate_plan::CheckedJob;
use super::{Context, Executor, ListenError};
use crate::brief::briefly;
use crate::domain::{Command, Job, JobId, RetryPolicy, Strategy};
use crate::failpoint::failpoint;
use crate::store::{Audited, InsertJobs, InsertRefused, Inserted, Operation, StoreError};

/// Jobs in one request: they are stored in one transaction, which others wait behind.
const MOST_AT_ONCE: usize = 10_000;

impl Executor {
    /// Stores a job, and answers once it is durable. It starts as soon as a worker is free.
    ///
    /// # Errors
    ///
    /// [`SubmitError`]; nothing was stored then.
    pub async fn submit(&self, request: JobRequest) -> Result<Inserted, SubmitError> {
        let mut inserted = self.submit_all(vec![request]).await?;
        inserted
            .pop()
            .ok_or(SubmitError::Store(crate::store::StoreError::Closed))
    }

    /// Stores many jobs in one transaction, all of them or none.
    ///
    /// # Errors
    ///
    /// [`SubmitError`] with every input at fault; nothing was stored then.
    pub async fn submit_all(&self, requests: Vec<JobRequest>) -> Result<Vec<Inserted>, SubmitError> {
        self.take_in(requests, None).await
    }

    pub(super) async fn take_in(
        &self,
        requests: Vec<JobRequest>,
        behalf: Option<OnBehalf>,
    ) -> Result<Vec<Inserted>, SubmitError> {
        if requests.len() > MOST_AT_ONCE {
            let message = format!(
                "{} jobs at once are above the limit of {MOST_AT_ONCE}",
                requests.len()
            );
            return Err(SubmitError::refused(
                0,
                Refusal::new(RefusalCode::LimitExceeded, &[], message),
            ));
        }
        let jobs = if is_checked_soon(&requests) {
            briefly(|| check_all(&self.0, requests)).await?
        } else {
            let context = Arc::clone(&self.0);
            let checked = tokio::task::spawn_blocking(move || check_all(&context, requests));
            // A blocking task is lost only when the runtime goes down.
            checked
                .await
                .map_err(|error| SubmitError::Scripts(std::io::Error::other(error)))??
        };
        let refusals = behalf
            .as_ref()
            .map_or_else(Vec::new, |behalf| behalf.against(&jobs));
        if !refusals.is_empty() {
            return Err(SubmitError::Refused { refusals });
        }
        self.insert(jobs, behalf).await
    }

    /// Runs an ended job once more, as a new job with the same command.
    ///
    /// # Errors
    ///
    /// [`SubmitError`]: there is no such job, it has not ended, or what it names is no longer there.
    pub async fn rerun(&self, id: JobId) -> Result<Inserted, SubmitError> {
        self.run_again(id, None).await
    }

    pub(super) async fn run_again(
        &self,
        id: JobId,
        behalf: Option<OnBehalf>,
    ) -> Result<Inserted, SubmitError> {
        let refused =
            |code, message: String| Err(SubmitError::refused(0, Refusal::new(code, &["id"], message)));
        let Some(job) = self.0.store.reader().job(id).await? else {
            return refused(RefusalCode::NotFound, format!("there is no job {id}"));
        };
        if !job.status.is_final() {
            let message = format!("the job is {} and can be run again once it has ended", job.status);
            return refused(RefusalCode::Conflict, message);
        }
        let again = self.again(job).await?;
        let stored = self.take_in(vec![again], behalf).await;
        let stored = stored.and_then(|mut stored| stored.pop().ok_or(SubmitError::Store(StoreError::Closed)));
        stored.map_err(|error| match error {
            // The job is the only input here, whatever of it does not fit any more.
            SubmitError::Refused { refusals } => SubmitError::Refused {
                refusals: refusals
                    .into_iter()
                    .map(|(index, refusal)| {
                        let at_fault = if refusal.path.is_empty() {
                            Vec::new()
                        } else {
                            vec!["id".to_owned()]
                        };
                        (
                            index,
                            Refusal {
                                path: at_fault,
                                ..refusal
                            },
                        )
                    })
                    .collect(),
            },
            other => other,
        })
    }

    /// The request that a job came from. Its steps are asked for again as they were, those of a pipeline as its file
    /// has them now.
    fn again(&self, job: Job) -> BoxFuture<'_, Result<JobRequest, StoreError>> {
        Box::pin(async move {
            let RetryPolicy {
                max_attempts,
                backoff,
            } = job.retry;
            let steps = match &job.command {
                Command::Plan(plan) => self.steps_again(job.id, &plan.strategy).await?,
                _ => Vec::new(),
            };
            Ok(JobRequest {
                command: job.command,
                queue: job.queue,
                priority: job.priority,
                timeout: Some(job.timeout),
                run_at: None,
                max_attempts: i32::try_from(max_attempts).unwrap_or(i32::MAX),
                backoff,
                env: job.env,
                working_dir: job.working_dir,
                idempotency_key: None,
                depends_on: Vec::new(),
                metadata: job.metadata,
                steps,
            })
        })
    }

    async fn steps_again(&self, plan: JobId, strategy: &Strategy) -> Result<Vec<StepRequest>, StoreError> {
        let reader = self.0.store.reader();
        let mut depends_on: HashMap<String, Vec<String>> = match strategy {
            Strategy::DependencyGraph { .. } => reader.step_dependencies(plan).await?.into_iter().collect(),
            // What the strategy says already is not said by the steps.
            Strategy::Serial { .. } | Strategy::Parallel { .. } => HashMap::new(),
        };
        let mut steps = Vec::new();
        for job in reader.steps(plan).await? {
            let key = job.step_key.clone();
            let depends_on = key
                .as_ref()
                .and_then(|key| depends_on.remove(key))
                .unwrap_or_default();
            let run = self.again(job).await?;
            steps.push(StepRequest { key, depends_on, run });
        }
        Ok(steps)
    }

    async fn insert(
        &self,
        checked: Vec<(usize, CheckedJob)>,
        behalf: Option<OnBehalf>,
    ) -> Result<Vec<Inserted>, SubmitError> {
        let queue_limit = self.0.options.queue_limit;
        // Where each job that waits for others stands in its request, for the case that one of those is not there.
        let origins: HashMap<JobId, (usize, Vec<String>, Vec<JobId>)> = checked
            .iter()
            .filter(|(_, checked)| !checked.job.depends_on.is_empty())
            .map(|(index, CheckedJob { job, place })| {
                let awaited = job.depends_on.iter().map(|awaited| awaited.job).collect();
                (job.id, (*index, place.clone(), awaited))
            })
            .collect();
        let jobs = checked.into_iter().map(|(_, checked)| checked.job).collect();
        let operation = InsertJobs { jobs, queue_limit };
        let stored = match behalf {
            None => self.hand_in(operation).await?,
            Some(behalf) => {
                let note = Box::new(move |stored: &Result<Vec<Inserted>, InsertRefused>| {
                    stored
                        .as_deref()
                        .map_or_else(|_| Vec::new(), |stored| behalf.entries(stored))
                });
                self.hand_in(Audited { operation, note }).await?
            }
        };
        failpoint!("run.stored");
        stored.map_err(|refused| {
            let (code, job, awaited) = match refused {
                InsertRefused::QueueFull { .. } => {
                    let message = format!("the queue is full: {refused}; try again once jobs have started");
                    return SubmitError::refused(0, Refusal::new(RefusalCode::LimitExceeded, &[], message));
                }
                InsertRefused::NoSuchJob { job, awaited } => (RefusalCode::NotFound, job, awaited),
                InsertRefused::NeverStarts { job, awaited, .. } => (RefusalCode::Conflict, job, awaited),
            };
            let (index, place, all) = origins.get(&job).cloned().unwrap_or_default();
            // What the request names comes before what its plan adds.
            let at = all
                .iter()
                .position(|other| *other == awaited)
                .unwrap_or_default()
                .to_string();
            let place: Vec<&str> = place.iter().map(String::as_str).collect();
            let refusal = Refusal::new(code, &["dependsOn", &at], refused.to_string());
            SubmitError::refused(index, refusal.below(&place))
        })
    }

    /// Hands jobs to the writer, and tells whoever may claim them while they are written.
    async fn hand_in<O: Operation>(&self, operation: O) -> Result<O::Output, StoreError> {
        let stored = self.0.store.writer().hand_over(operation).await?;
        self.0.hints.jobs_come();
        stored.durable().await
    }

    /// Waits until a job has ended. None where there is no such job.
    ///
    /// # Errors
    ///
    /// [`ListenError::Store`] where the store failed.
    pub async fn wait(&self, id: JobId) -> Result<Option<Job>, ListenError> {
        let states = self.watch(id);
        pin_mut!(states);
        let mut last = None;
        while let Some(job) = states.next().await {
            last = Some(job?);
        }
        Ok(last.filter(|job| job.status.is_final()))
    }
}

/// Whether it takes no more than a look at a file or two.
fn is_checked_soon(requests: &[JobRequest]) -> bool {
    let [request] = requests else { return false };
    !matches!(request.command, Command::Plan(_) | Command::Pipeline(_))
}

fn check_all(context: &Context, requests: Vec<JobRequest>) -> Result<Vec<(usize, CheckedJob)>, SubmitError> {
    let checker = Checker {
        options: &context.options,
        catalog: &context.catalog,
        pipelines: &context.pipelines,
        programs: &context.programs,
    };
    let mut jobs = Vec::with_capacity(requests.len());
    let mut all = Vec::new();
    let most = MOST_AT_ONCE.max(checker.options.max_plan_steps) + requests.len();
    for (index, request) in requests.into_iter().enumerate() {
        match checker.check(request).map_err(SubmitError::Scripts)? {
            Ok(checked) => jobs.extend(checked.into_iter().map(|checked| (index, checked))),
            Err(refusals) => all.extend(refusals.into_iter().map(|refusal| (index, refusal))),
        }
        if jobs.len() > most {
            let message = format!("all jobs and steps together are above the limit of {most}");
            let refusal = Refusal::new(RefusalCode::LimitExceeded, &[], message);
            return Err(SubmitError::refused(0, refusal));
        }
    }
    if all.is_empty() {
        Ok(jobs)
    } else {
        Err(SubmitError::Refused { refusals: all })
    }
}
