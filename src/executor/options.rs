//! How jobs are run here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use super::secrets::SecretSources;
use crate::auth::TokenFile;
use crate::domain::{JobKind, Pattern};
use crate::process::Sandbox;

/// The settings of an [`Executor`](super::Executor). Begin with [`Options::new`] and change what differs.
#[derive(Debug, Clone)]
pub struct Options {
    /// `sqlite://FILE?mode=rwc` or `postgres://…`. It may hold a password: never log it.
    pub database_url: Secret,
    /// The folder below which scripts lie.
    pub scripts_dir: PathBuf,
    /// The folder below which jobs work.
    pub work_dir: PathBuf,
    /// The folder below which pipelines lie; none need be there.
    pub pipelines_dir: PathBuf,
    /// Interpreters by extension, beyond the known ones.
    pub interpreters: BTreeMap<String, Vec<String>>,
    /// The commands that run agents, by a pattern of their targets. Of patterns that fit, the one without `*` wins, then
    /// the one with more text beside its `*`, then the last of the map. Agents that none fits are left to registered
    /// workers.
    pub agents: BTreeMap<Pattern, Vec<String>>,
    /// The kinds of command that may run besides scripts.
    pub allow: BTreeSet<JobKind>,
    /// Jobs that run at once.
    pub workers: usize,
    /// Whether the workers take jobs from the start.
    pub start_workers: bool,
    /// How long a job may run that does not say.
    pub default_timeout: Duration,
    /// The longest that a job may ask for.
    pub max_timeout: Duration,
    /// Handed to tasks whose parameters name no `max_steps`.
    pub default_max_steps: u32,
    /// After how long the jobs of a node that went silent are taken from it.
    pub lease: Duration,
    /// The time between SIGTERM and SIGKILL.
    pub cancel_grace: Duration,
    /// How long running jobs may go on when the executor is shut down.
    pub shutdown_grace: Duration,
    /// Bytes of log that are kept of one job.
    pub log_bytes_per_job: u64,
    /// The most steps of a plan, those of plans within it included.
    pub max_plan_steps: usize,
    /// The most jobs that may be pending.
    pub queue_limit: u64,
    /// The most calls of registered workers that wait at the same time.
    pub max_waiting: usize,
    /// After how long ended jobs are deleted; none is never.
    pub retention: Option<Duration>,
    /// After how long lines of the audit log are deleted; none is never.
    pub audit_retention: Option<Duration>,
    /// Tokens that are declared in a file, beside those of the store.
    pub tokens: Option<TokenFile>,
    /// Whether everybody is asked for a token even where there was never one.
    pub require_tokens: bool,
    /// The programs that `exec` may name; none is any.
    pub programs: Option<BTreeSet<String>>,
    /// Where the secrets are that jobs ask for by name.
    pub secrets: SecretSources,
    /// What jobs are kept from, and as whom they run. Name the files of the store in [`Sandbox::hidden`].
    pub sandbox: Sandbox,
    /// The program that supervises processes: this one, unless a test says otherwise.
    pub spawner: Option<PathBuf>,
}

impl Options {
    /// The defaults, with this store, scripts and working directories. Pipelines lie in a folder `pipelines` beside the
    /// scripts.
    #[must_use]
    pub fn new(
        database_url: impl Into<String>,
        scripts_dir: impl Into<PathBuf>,
        work_dir: impl Into<PathBuf>,
    ) -> Self {
        let scripts_dir = scripts_dir.into();
        Self {
            database_url: Secret(database_url.into()),
            pipelines_dir: scripts_dir.with_file_name("pipelines"),
            scripts_dir,
            work_dir: work_dir.into(),
            interpreters: BTreeMap::new(),
            agents: BTreeMap::new(),
            allow: BTreeSet::new(),
            workers: std::thread::available_parallelism().map_or(1, usize::from).max(3),
            start_workers: true,
            default_timeout: Duration::from_secs(30 * 60),
            max_timeout: Duration::from_secs(24 * 3_600),
            default_max_steps: 30,
            lease: Duration::from_secs(30),
            cancel_grace: Duration::from_secs(5),
            shutdown_grace: Duration::from_secs(10),
            log_bytes_per_job: 64 << 20,
            max_plan_steps: 10_000,
            queue_limit: 100_000,
            max_waiting: 1_000,
            retention: None,
            audit_retention: None,
            tokens: None,
            require_tokens: false,
            programs: None,
            secrets: SecretSources::default(),
            sandbox: Sandbox::default(),
            spawner: None,
        }
    }
}

impl Options {
    /// The program that runs agents of this target, and its first arguments; none where a registered worker runs them.
    pub(super) fn agent(&self, target: &str) -> Option<(&str, &[String])> {
        let fits = self.agents.iter().filter(|(pattern, _)| pattern.matches(target));
        let best = fits.max_by_key(|(pattern, _)| pattern.rank());
        let (program, args) = best?.1.split_first()?;
        Some((program, args))
    }
}

/// Text that `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}
