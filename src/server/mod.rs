//! The server: one listener, the routes, and the order of start and shutdown.
//!
//! ```text
//!   start     listen ─▶ /health says so, /ready is 503 ─▶ the store opens (tried again while it is away) ─▶ /ready
//!   shutdown  no new connections, sockets closed ─▶ running jobs end ─▶ leases, events ─▶ the store
//! ```
//!
//! It listens before the store is open, so that whoever deploys it sees what it waits for.

mod access;
mod connections;
mod job_log;
mod routes;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::auth::{Authenticator, Oidc, TokenFile};
use crate::config::{Allow, Config};
use crate::domain::JobKind;
use crate::executor::{Executor, Options, Secret, SecretSources, StartError};
use crate::failpoint::failpoint;
use crate::graphql;
use crate::http::{
    GuardConfig, Manifest, RateLimit, SchemaShape, TransportConfig, TransportHandle, graphql_routes,
    with_outer_layers,
};
use crate::store::Trouble;
use crate::supervisor::Supervisor;
use crate::telemetry::{Metrics, chain};
use crate::worker;
use access::Doorman;

/// Pauses between tries to open a store that is away.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long open connections get to finish at the shutdown.
const CONNECTION_GRACE: Duration = Duration::from_secs(10);

/// What the tasks may take to end beyond the jobs' own graces.
const TASK_GRACE: Duration = Duration::from_secs(10);

/// What there is once the store is open.
struct Live {
    executor: Executor,
    doorman: Doorman,
    routes: Router,
    transport: TransportHandle,
}

/// Shared by all routes.
#[derive(Clone)]
struct Shared {
    live: Arc<OnceLock<Live>>,
    metrics: Metrics,
    /// What kept the store from being opened at the last try.
    trouble: Arc<Mutex<Option<Trouble>>>,
    /// Cancelled when the shutdown begins: not ready any more.
    closing: CancellationToken,
    /// Whether the schema is told to whoever asks.
    introspection: bool,
}

impl Shared {
    fn trouble(&self) -> Option<Trouble> {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves until SIGTERM or SIGINT. A second signal ends running jobs at once.
///
/// # Errors
///
/// Where the address cannot be listened on, the store refuses for good, or a task fails.
pub async fn serve(config: Config) -> anyhow::Result<()> {
    let metrics = Metrics::of_process()?;
    let mut signals = Signals::new()?;
    let listener = TcpListener::bind(config.server.listen)
        .await
        .with_context(|| format!("{} cannot be listened on", config.server.listen))?;
    let address = listener
        .local_addr()
        .context("the address that is listened on is unknown")?;

    let mut supervisor = Supervisor::new();
    let upkeep = metrics.clone();
    supervisor.spawn("metrics", move |stop| async move {
        upkeep.keep_small(stop).await;
        Ok::<_, std::convert::Infallible>(())
    });
    let shared = Shared {
        live: Arc::default(),
        metrics,
        trouble: Arc::default(),
        closing: CancellationToken::new(),
        introspection: config.limits.introspection,
    };
    let app = with_outer_layers(routes::routes(shared.clone()), guard(&config, &shared));
    let closing = shared.closing.clone();
    let bounds = connections::Bounds {
        connections: config.limits.max_connections,
        head_timeout: config.limits.request_head_timeout,
    };
    let connections = connections::serve(listener, app, bounds, closing);
    tokio::pin!(connections);
    tracing::info!(%address, "listening");

    let mut listening = true;
    let ended = tokio::select! {
        ended = run(&config, &shared, &mut supervisor) => ended,
        () = &mut connections => {
            listening = false;
            Ok(())
        }
        () = signals.next() => Ok(()),
    };

    tracing::info!("shutting down");
    failpoint!("shutdown.begun");
    shared.closing.cancel();
    let live = shared.live.get();
    let rests = async {
        if let Some(live) = live {
            live.executor.stop_waiting();
        }
        // From the signal on no job is started, however long it takes to say goodbye to the connections.
        if let Some(live) = live
            && let Err(error) = live.executor.stop_workers(false).await
        {
            tracing::warn!(error = %chain(&error), "the workers could not be told to take no more jobs");
        }
    };
    let drained = async {
        if listening {
            connections.await;
        }
        if let Some(live) = live {
            live.transport.closed().await;
        }
    };
    if tokio::time::timeout(CONNECTION_GRACE, async { tokio::join!(rests, drained) })
        .await
        .is_err()
    {
        tracing::warn!(
            grace_ms = crate::telemetry::millis(CONNECTION_GRACE),
            "connections are still open and are dropped"
        );
    }
    failpoint!("shutdown.drained");
    let grace = config.server.shutdown_grace + config.jobs.cancel_grace + TASK_GRACE;
    let shutdown = supervisor.shutdown(grace);
    tokio::pin!(shutdown);
    tokio::select! {
        _ = &mut shutdown => {}
        () = signals.next() => {
            tracing::warn!("asked again: running jobs are killed");
            if let Some(live) = live {
                live.executor.hurry();
            }
            shutdown.await;
        }
    }
    failpoint!("shutdown.ended");
    tracing::info!("ended");
    ended
}

/// Opens the store, and then waits for a task to fail.
async fn run(config: &Config, shared: &Shared, supervisor: &mut Supervisor) -> anyhow::Result<()> {
    let executor = open(config, shared, supervisor).await?;
    let limits = graphql::Limits {
        max_depth: config.limits.max_query_depth,
        max_cost: config.limits.max_query_cost,
        max_aliases: config.limits.max_aliases,
        max_page_size: config.limits.max_page_size,
        introspection: config.limits.introspection,
    };
    let tokens = executor.tokens();
    let oidc = Oidc::new(&config.server.access.oidc)
        .context("there can be no client for the OpenID Connect issuer")?;
    if tokens.is_required() && !tokens.any_valid() && oidc.is_none() {
        let listen = config.server.listen;
        if !listen.ip().to_canonical().is_loopback() {
            anyhow::bail!(
                "others can reach {listen}, and there the server starts only with tokens, since whoever reaches it runs \
                 programs: make one with `runql token create`, name an issuer with --oidc-issuer, or take a loopback \
                 address such as 127.0.0.1:{}",
                listen.port(),
            );
        }
        tracing::warn!("no token is valid, so nobody is let in: `runql token create` makes one");
    }
    if let Some(oidc) = oidc.clone() {
        supervisor.spawn("issuer-keys", move |stop| async move {
            oidc.keep(stop).await;
            Ok::<_, std::convert::Infallible>(())
        });
    }
    let doorman = Doorman::new(
        Authenticator::new(tokens.clone(), oidc),
        &config.server.access.trusted_proxies,
    );
    let schema = graphql::build(executor.clone(), limits);
    let shape = SchemaShape::from_sdl(&graphql::sdl()).context("the schema cannot be read back")?;
    let transport = TransportConfig {
        max_request_bytes: config.limits.max_request_bytes,
        max_batch: config.limits.max_batch,
        max_sockets: config.limits.max_listeners,
        max_subscriptions: config.limits.max_listeners,
        max_subscriptions_per_connection: config.limits.max_listeners_per_connection,
        max_execution: config.limits.max_execution,
        rate_limit: config.limits.rate_limit.map(|limit| RateLimit {
            per_second: limit.per_second,
            burst: limit.burst,
        }),
        manifest: manifest(config)?,
        shape: Arc::new(shape),
        on_connect: doorman.on_connect(),
        ..TransportConfig::default()
    };
    let (api, transport) = graphql_routes(schema, transport, shared.closing.clone());
    let routes = api.merge(job_log::routes(executor.clone()));
    let jobs = executor.pool().size;
    if shared
        .live
        .set(Live {
            executor,
            doorman,
            routes,
            transport,
        })
        .is_err()
    {
        anyhow::bail!("the server was started twice");
    }
    tracing::info!(workers = jobs, "ready");
    Ok(supervisor.wait().await?)
}

/// Opens the store; while it is away, says so and tries again.
async fn open(config: &Config, shared: &Shared, supervisor: &mut Supervisor) -> anyhow::Result<Executor> {
    let mut pause = FIRST_PAUSE;
    let options = options(config)?;
    loop {
        let error: StartError = match Executor::start(options.clone(), supervisor).await {
            Ok(executor) => return Ok(executor),
            Err(error) => error,
        };
        let Some(trouble) = error.trouble() else {
            return Err(error.into());
        };
        *shared.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble);
        tracing::warn!(error = %chain(&error), retry_ms = crate::telemetry::millis(pause), "the store is away");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn options(config: &Config) -> anyhow::Result<Options> {
    let kinds = [
        (Allow::Exec, JobKind::Exec),
        (Allow::Shell, JobKind::Shell),
        (Allow::AwsCli, JobKind::AwsCli),
    ];
    let allow: BTreeSet<JobKind> = kinds
        .into_iter()
        .filter(|(allow, _)| config.scripts.allows(*allow))
        .map(|(_, kind)| kind)
        .collect();
    let database_url = config.storage.database_url.with_password().to_owned();
    let file = config.server.access.tokens_file.as_deref();
    Ok(Options {
        sandbox: config.sandbox().map_err(anyhow::Error::msg)?,
        pipelines_dir: config.scripts.pipelines_dir.clone(),
        interpreters: config.scripts.interpreters(),
        agents: config.scripts.agents(),
        allow,
        workers: config.jobs.workers,
        start_workers: config.jobs.auto_start_workers,
        default_timeout: config.jobs.default_timeout,
        max_timeout: config.jobs.max_timeout,
        default_max_steps: config.jobs.default_max_steps,
        max_plan_steps: config.jobs.max_plan_steps,
        lease: config.jobs.lease,
        cancel_grace: config.jobs.cancel_grace,
        shutdown_grace: config.server.shutdown_grace,
        log_bytes_per_job: config.jobs.log_bytes_per_job,
        queue_limit: config.jobs.queue_limit,
        max_waiting: config.limits.max_listeners,
        retention: config.storage.retention,
        audit_retention: config.storage.audit_retention,
        tokens: file.map(TokenFile::read).transpose()?,
        programs: (!config.scripts.allow_programs.is_empty())
            .then(|| config.scripts.allow_programs.iter().cloned().collect()),
        secrets: SecretSources {
            dir: config.scripts.secrets_dir.clone(),
            variables: config.scripts.secret_env.clone(),
        },
        require_tokens: !config.server.listen.ip().to_canonical().is_loopback()
            || config.server.access.oidc.issuer.is_some(),
        database_url: Secret(database_url),
        ..Options::new(
            String::new(),
            config.scripts.scripts_dir.clone(),
            config.storage.work_dir(),
        )
    })
}

/// The only operations that are executed, where the settings have such a list.
fn manifest(config: &Config) -> anyhow::Result<Option<Arc<Manifest>>> {
    let Some(path) = &config.limits.persisted_operations else {
        return Ok(None);
    };
    let manifest = Manifest::read(path)?;
    if manifest.is_empty() {
        tracing::warn!(path = %path.display(), "the list of persisted operations is empty: every operation is refused");
    }
    tracing::info!(
        operations = manifest.len(),
        "only persisted operations are executed"
    );
    // The program's own worker has to be served as well.
    Ok(Some(Arc::new(manifest.with_texts(worker::OPERATIONS))))
}

fn guard(config: &Config, shared: &Shared) -> GuardConfig {
    let live = Arc::clone(&shared.live);
    GuardConfig {
        // Without tokens nothing else tells a foreign web page from the person at this machine.
        check_host_and_origin: Arc::new(move || live.get().is_none_or(|live| !live.doorman.is_required())),
        allowed_hosts: config.server.access.allowed_hosts.clone(),
        allowed_origins: config.server.access.allowed_origins.clone(),
    }
}

/// The signals that ask for the end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("SIGTERM cannot be received")?,
            interrupt: signal(SignalKind::interrupt()).context("SIGINT cannot be received")?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
