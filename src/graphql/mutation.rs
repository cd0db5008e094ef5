//! Changes.

use async_graphql::{Context, Object};

use super::context::ContextExt as _;
use super::error::{ApiError, ApiResult};
use super::input::{
    CancelInput, ClaimInput, CleanupInput, CreateTokenInput, HeartbeatInput, RegisterWorkerInput,
    ReportInput, RerunInput, RevokeTokenInput, RotateTokenInput, RunInput, ScaleWorkersInput,
    StopWorkersInput,
};
use super::types::{
    CancelPayload, ClaimPayload, CleanupPayload, ReportPayload, RunManyPayload, RunPayload, TokenPayload,
    WorkerPayload, WorkerPool, WorkerPoolPayload,
};
use crate::auth::{Issued, NewTokenError};
use crate::executor::{PoolChange, PoolError, Refusal, RefusalCode, RemoteError};
use crate::store::{Cancelled, TokenFault};

/// The root of all mutations.
#[derive(Debug)]
pub struct Mutation;

/// What can be changed. Each mutation answers with a payload. A refusal that the caller can mend stands in
/// its `errors`, with a code and the path of the input at fault, and then nothing was changed. What the
/// caller cannot mend is a GraphQL error of the operation, with `extensions.code`.
#[Object]
impl Mutation {
    /// Asks for a job. The answer comes once the job is stored for good: from then on it is not lost, and
    /// starts as soon as a worker is free.
    async fn run(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to run, and how.")] input: RunInput,
    ) -> ApiResult<RunPayload> {
        match input.into_request() {
            Ok(request) => RunPayload::of(ctx.acting().submit(request).await),
            Err(refusals) => Ok(RunPayload::refused(refusals)),
        }
    }

    /// Asks for many jobs at once. Either all of them are stored or, where one is refused, none.
    async fn run_many(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The jobs.")] inputs: Vec<RunInput>,
    ) -> ApiResult<RunManyPayload> {
        let mut requests = Vec::with_capacity(inputs.len());
        let mut refused = Vec::new();
        for (index, input) in inputs.into_iter().enumerate() {
            match input.into_request() {
                Ok(request) => requests.push(request),
                Err(refusals) => refused.extend(refusals.into_iter().map(|refusal| (index, refusal))),
            }
        }
        if !refused.is_empty() {
            return Ok(RunManyPayload::refused(refused));
        }
        RunManyPayload::of(ctx.acting().submit_all(requests).await)
    }

    /// Stops a job that waits or runs, with its children. Its processes get SIGTERM and, if they are still
    /// there when the grace is over, SIGKILL.
    async fn cancel(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which job, and how.")] input: CancelInput,
    ) -> ApiResult<CancelPayload> {
        let (id, grace) = match (input.id(), input.grace()) {
            (Ok(id), Ok(grace)) => (id, grace),
            (Err(refusal), _) | (_, Err(refusal)) => return Ok(CancelPayload::refused(None, refusal)),
        };
        let cancelled = match ctx.acting().cancel(id, input.reason, grace).await? {
            Ok(cancelled) => cancelled,
            Err(refusal) => return Ok(CancelPayload::refused(None, refusal)),
        };
        Ok(match cancelled {
            Cancelled::Done(job) | Cancelled::Requested(job) => CancelPayload::done(job.into()),
            Cancelled::AlreadyEnded(job) => {
                let message = format!("the job has already ended: it is {}", job.status);
                let refusal = Refusal::new(RefusalCode::Conflict, &["id"], message);
                CancelPayload::refused(Some(job.into()), refusal)
            }
            Cancelled::NotFound => {
                let message = format!("there is no job {id}");
                CancelPayload::refused(None, Refusal::new(RefusalCode::NotFound, &["id"], message))
            }
        })
    }

    /// Runs a job that has ended once more: a new job with the same command and settings. The old one stays
    /// as it is.
    async fn rerun(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which job.")] input: RerunInput,
    ) -> ApiResult<RunPayload> {
        match input.id() {
            Ok(id) => RunPayload::of(ctx.acting().rerun(id).await),
            Err(refusal) => Ok(RunPayload::refused([refusal])),
        }
    }

    /// Deletes ended jobs with their logs and events, batch by batch, the oldest first, while other work goes on.
    /// Cursors of events that were deleted expire. Whoever goes away before the answer ends it after the batch under
    /// way; what is left is there for the next call.
    async fn cleanup(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which jobs.")] input: CleanupInput,
    ) -> ApiResult<CleanupPayload> {
        let dry_run = input.is_dry_run();
        match input.into_filter() {
            Ok(filter) => Ok(CleanupPayload::done(ctx.acting().cleanup(filter, dry_run).await?)),
            Err(refusals) => Ok(CleanupPayload::refused(refusals)),
        }
    }

    /// Sets how many workers this server runs itself, until it is started anew.
    async fn scale_workers(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How many.")] input: ScaleWorkersInput,
    ) -> ApiResult<WorkerPoolPayload> {
        match input.size() {
            Ok(size) => pool_payload(ctx.acting().scale_workers(size).await),
            Err(refusal) => Ok(WorkerPoolPayload::refused(refusal)),
        }
    }

    /// Lets this server's workers take jobs again.
    async fn start_workers(&self, ctx: &Context<'_>) -> ApiResult<WorkerPoolPayload> {
        pool_payload(ctx.acting().start_workers().await)
    }

    /// Lets this server's workers take no more jobs. Those under way run to their end, unless
    /// `cancelRunning` says otherwise; new ones are still stored, and wait.
    async fn stop_workers(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What becomes of jobs under way.")] input: Option<StopWorkersInput>,
    ) -> ApiResult<WorkerPoolPayload> {
        let cancel_running = input.unwrap_or_default().cancels_running();
        pool_payload(ctx.acting().stop_workers(cancel_running).await)
    }

    /// Makes a token for clients to sign their requests with. Its secret is in the answer, and nowhere else. Once there
    /// is a token, the server asks everybody for one.
    async fn create_token(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The token.")] input: CreateTokenInput,
    ) -> ApiResult<TokenPayload> {
        match input.into_new() {
            Ok(new) => token_payload(ctx.executor().tokens().create(new, &ctx.caller().actor).await),
            Err(refusal) => Ok(TokenPayload::refused(refusal)),
        }
    }

    /// Replaces a token's secret. The new one is in the answer, and nowhere else.
    async fn rotate_token(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which token.")] input: RotateTokenInput,
    ) -> ApiResult<TokenPayload> {
        match (input.id(), input.keep()) {
            (Ok(id), Ok(keep)) => token_payload(
                ctx.executor()
                    .tokens()
                    .rotate(id, Some(keep), &ctx.caller().actor)
                    .await,
            ),
            (Err(refusal), _) | (_, Err(refusal)) => Ok(TokenPayload::refused(refusal)),
        }
    }

    /// Ends a token for good. Sockets and streams that were opened with it are cut off, on all servers within seconds.
    async fn revoke_token(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which token.")] input: RevokeTokenInput,
    ) -> ApiResult<TokenPayload> {
        match input.id() {
            Ok(id) => match ctx.executor().tokens().revoke(id, &ctx.caller().actor).await {
                Ok(token) => Ok(TokenPayload::done(token)),
                Err(error) => token_refused(error),
            },
            Err(refusal) => Ok(TokenPayload::refused(refusal)),
        }
    }

    /// Makes a remote worker known, under an id that it uses from then on.
    async fn register_worker(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The worker.")] input: RegisterWorkerInput,
    ) -> ApiResult<WorkerPayload> {
        let lease = ctx.executor().options().lease;
        Ok(match ctx.acting().register_worker(input.into()).await {
            Ok(worker) => WorkerPayload::done(worker, Vec::new(), lease),
            Err(error) => WorkerPayload::refused_all(refusals(error)?),
        })
    }

    /// Tells that a remote worker is alive, and extends the leases of the jobs that it still runs.
    async fn heartbeat(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The worker and its jobs.")] input: HeartbeatInput,
    ) -> ApiResult<WorkerPayload> {
        let sign = match input.into_sign() {
            Ok(sign) => sign,
            Err(refusal) => return Ok(WorkerPayload::refused(refusal)),
        };
        ctx.allow_wait(sign.wait);
        let lease = ctx.executor().options().lease;
        Ok(match ctx.executor().heartbeat(sign).await {
            Ok((worker, stop)) => WorkerPayload::done(worker, stop, lease),
            Err(error) => WorkerPayload::refused_all(refusals(error)?),
        })
    }

    /// Hands the next jobs that it supports to a remote worker, no more than it has room for.
    async fn claim(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The worker, and how many.")] input: ClaimInput,
    ) -> ApiResult<ClaimPayload> {
        let claim = match input.into_claim() {
            Ok(claim) => claim,
            Err(refusal) => return Ok(ClaimPayload::refused(refusal)),
        };
        ctx.allow_wait(claim.wait);
        Ok(match ctx.executor().claim(claim).await {
            Ok(jobs) => ClaimPayload::done(jobs),
            Err(error) => ClaimPayload::refused_all(refusals(error)?),
        })
    }

    /// Takes what a remote worker has to tell of a job that it claimed: log lines, progress, the result.
    async fn report(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What there is to tell.")] input: ReportInput,
    ) -> ApiResult<ReportPayload> {
        let report = match input.into_report() {
            Ok(report) => report,
            Err(refusal) => return Ok(ReportPayload::refused(refusal)),
        };
        Ok(match ctx.executor().report(report).await {
            Ok(job) => ReportPayload::done(job),
            Err(error) => ReportPayload::refused_all(refusals(error)?),
        })
    }
}

fn token_payload(issued: Result<Issued, NewTokenError>) -> ApiResult<TokenPayload> {
    match issued {
        Ok(issued) => Ok(TokenPayload::issued(&issued)),
        Err(error) => token_refused(error),
    }
}

fn token_refused(error: NewTokenError) -> ApiResult<TokenPayload> {
    if let NewTokenError::Store(fault) = error {
        return Err(fault.into());
    }
    let (code, path) = match &error {
        NewTokenError::Name => (RefusalCode::Invalid, "name"),
        NewTokenError::NoScope | NewTokenError::NothingToNarrow => (RefusalCode::Invalid, "scopes"),
        NewTokenError::Past => (RefusalCode::Invalid, "expiresAt"),
        NewTokenError::Refused(fault) => match fault {
            TokenFault::Unknown(_) => (RefusalCode::NotFound, "id"),
            TokenFault::Revoked(_) => (RefusalCode::Conflict, "id"),
            TokenFault::NameTaken(_) => (RefusalCode::Conflict, "name"),
            TokenFault::TooMany => (RefusalCode::LimitExceeded, "name"),
        },
        NewTokenError::Random(_) | NewTokenError::Store(_) => return Err(ApiError::internal(&error)),
    };
    Ok(TokenPayload::refused(Refusal::new(
        code,
        &[path],
        error.to_string(),
    )))
}

/// What the caller can mend; the rest is an error of the operation.
fn refusals(error: RemoteError) -> ApiResult<Vec<Refusal>> {
    match error {
        RemoteError::Refused { refusals } => Ok(refusals),
        RemoteError::Store(fault) => Err(fault.into()),
    }
}

fn pool_payload(changed: Result<PoolChange, PoolError>) -> ApiResult<WorkerPoolPayload> {
    match changed {
        Ok(change) => Ok(WorkerPoolPayload {
            worker_pool: Some(WorkerPool(change.state)),
            previous_size: Some(change.previous),
            errors: Vec::new(),
        }),
        Err(PoolError::TooMany { limit }) => {
            let message = format!("this server runs at most {limit} workers");
            let refusal = Refusal::new(RefusalCode::LimitExceeded, &["size"], message);
            Ok(WorkerPoolPayload::refused(refusal))
        }
        Err(fault) => Err(fault.into()),
    }
}
