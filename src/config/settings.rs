//! The settings themselves. Each field is one flag, one variable and one key of the file, with its unit, its default and
//! its bounds; the first sentence of its comment is what `--help` shows.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;
use ipnet::IpNet;

use super::database::DatabaseUrl;
use super::sandbox::Sandboxing;
use super::values::{
    Agent, Allow, Interpreter, RateLimit, ScopeWord, address, bytes, duration, host, issuer, millis, minutes,
    network, origin, whole,
};
use crate::domain::{Pattern, Scope};
use crate::telemetry::{LogFilter, LogFormat};

/// All settings, as the server runs with them.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// How it is reached.
    #[command(flatten)]
    pub server: Server,
    /// Where it keeps what it must not lose.
    #[command(flatten)]
    pub storage: Storage,
    /// What it may run.
    #[command(flatten)]
    pub scripts: Scripts,
    /// How jobs are run.
    #[command(flatten)]
    pub jobs: Jobs,
    /// What jobs are kept from.
    #[command(flatten)]
    pub sandbox: Sandboxing,
    /// What one client may ask for.
    #[command(flatten)]
    pub limits: Limits,
    /// What it writes about itself.
    #[command(flatten)]
    pub logging: Logging,
}

/// How the server is reached, and by whom.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Server")]
pub struct Server {
    /// Address and port to listen on; port 0 takes a free one. Any address but a loopback one needs tokens
    #[arg(
        long, env = "RUNQL_LISTEN", value_name = "ADDRESS",
        default_value = "127.0.0.1:8000", value_parser = address,
    )]
    pub listen: SocketAddr,
    /// Who else may use it.
    #[command(flatten)]
    pub access: Access,
    /// Time that running jobs get to end after SIGTERM, in milliseconds
    #[arg(
        long = "shutdown-grace-ms", env = "RUNQL_SHUTDOWN_GRACE_MS", value_name = "MS",
        default_value = "10000", value_parser = millis(0..=3_600_000),
    )]
    pub shutdown_grace: Duration,
}

/// Who may use the server beyond its own pages.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Server")]
pub struct Access {
    /// File with tokens that clients authenticate by, beside those of the store
    #[arg(long, env = "RUNQL_TOKENS_FILE", value_name = "FILE")]
    pub tokens_file: Option<PathBuf>,
    /// Whose signed tokens count as well.
    #[command(flatten)]
    pub oidc: OidcConfig,
    /// Web pages that may call the server, beyond its own: their origins, separated by commas
    #[arg(
        long, env = "RUNQL_ALLOWED_ORIGINS", value_name = "ORIGIN",
        value_delimiter = ',', value_parser = origin,
    )]
    pub allowed_origins: Vec<String>,
    /// Proxies whose X-Forwarded-For is believed: addresses or networks such as 10.0.0.0/8, separated by commas
    #[arg(
        long, env = "RUNQL_TRUSTED_PROXIES", value_name = "NET",
        value_delimiter = ',', value_parser = network,
    )]
    pub trusted_proxies: Vec<IpNet>,
    /// Names by which the server may be called, beyond its own, such as runql.example.org, separated by commas
    #[arg(long, env = "RUNQL_ALLOWED_HOSTS", value_name = "HOST", value_delimiter = ',', value_parser = host)]
    pub allowed_hosts: Vec<String>,
}

/// An identity provider whose signed tokens let people in.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Server")]
pub struct OidcConfig {
    /// OpenID Connect issuer whose signed tokens (JWT) are taken: its https address [default: none]
    #[arg(long = "oidc-issuer", env = "RUNQL_OIDC_ISSUER", value_name = "URL", value_parser = issuer)]
    pub issuer: Option<String>,
    /// Name that the issuer's tokens must carry as their audience, needed with --oidc-issuer
    #[arg(long = "oidc-audience", env = "RUNQL_OIDC_AUDIENCE", value_name = "NAME")]
    pub audience: Option<String>,
    /// Claim of the issuer's tokens that tells their scopes, with dots into objects, such as realm_access.roles
    #[arg(
        long = "oidc-scope-claim",
        env = "RUNQL_OIDC_SCOPE_CLAIM",
        value_name = "CLAIM",
        default_value = "scope"
    )]
    pub scope_claim: String,
    /// What a word of that claim allows, as WORD=SCOPE, separated by commas [default: runql:read=read and so on]
    #[arg(
        long = "oidc-scope-map",
        env = "RUNQL_OIDC_SCOPE_MAP",
        value_name = "WORD=SCOPE",
        value_delimiter = ','
    )]
    pub(super) scope_map: Vec<ScopeWord>,
}

impl OidcConfig {
    /// Each word with the scope that it gives.
    #[must_use]
    pub fn scopes(&self) -> Vec<(String, Scope)> {
        if self.scope_map.is_empty() {
            let word = |scope: &Scope| format!("runql:{}", scope.as_str().to_ascii_lowercase());
            return Scope::ALL.iter().map(|scope| (word(scope), *scope)).collect();
        }
        let entries = self.scope_map.iter();
        entries.map(|entry| (entry.word.clone(), entry.scope)).collect()
    }
}

/// Where the server keeps what it must not lose.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Storage")]
pub struct Storage {
    /// The store: an SQLite file, or postgres://… for many nodes that share one queue
    #[arg(
        long,
        env = "DATABASE_URL",
        value_name = "URL",
        default_value = "sqlite://runql.db?mode=rwc"
    )]
    pub database_url: DatabaseUrl,
    /// Folder for the working directories of jobs [default: a folder `work` beside the SQLite file]
    #[arg(long, env = "RUNQL_WORK_DIR", value_name = "DIR")]
    pub(super) work_dir: Option<PathBuf>,
    /// Age at which ended jobs are deleted with their logs and events, such as 12h or 30d [default: never]
    #[arg(
        long, env = "RUNQL_RETENTION", value_name = "AGE",
        value_parser = duration(Duration::from_secs(60)),
    )]
    pub retention: Option<Duration>,
    /// Age at which lines of the audit log are deleted, such as 90d [default: never]
    #[arg(
        long, env = "RUNQL_AUDIT_RETENTION", value_name = "AGE",
        value_parser = duration(Duration::from_secs(60)),
    )]
    pub audit_retention: Option<Duration>,
}

/// What the server may run.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "What may run")]
pub struct Scripts {
    /// Folder of the scripts that can be run
    #[arg(
        long,
        env = "RUNQL_SCRIPTS_DIR",
        value_name = "DIR",
        default_value = "./scripts"
    )]
    pub scripts_dir: PathBuf,
    /// Folder of the pipelines that can be run
    #[arg(
        long,
        env = "RUNQL_PIPELINES_DIR",
        value_name = "DIR",
        default_value = "./pipelines"
    )]
    pub pipelines_dir: PathBuf,
    /// What may run besides scripts: exec, shell, aws_cli, separated by commas [default: nothing]
    #[arg(long, env = "RUNQL_ALLOW", value_name = "KIND", value_delimiter = ',')]
    pub(super) allow: Vec<Allow>,
    /// Programs that exec may name, as their names or paths, separated by commas [default: any]
    #[arg(
        long,
        env = "RUNQL_ALLOW_PROGRAMS",
        value_name = "PROGRAM",
        value_delimiter = ','
    )]
    pub allow_programs: Vec<String>,
    /// Folder with a file for each secret that jobs may ask for, by its name [default: none]
    #[arg(long, env = "RUNQL_SECRETS_DIR", value_name = "DIR")]
    pub secrets_dir: Option<PathBuf>,
    /// Variables of the server's own environment that jobs may ask for as secrets, separated by commas
    #[arg(
        long = "secret-env",
        env = "RUNQL_SECRET_ENV",
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub secret_env: Vec<String>,
    /// Interpreter of scripts by extension, as EXT=COMMAND, before shebang and default; repeatable. In the file: the table `interpreters`
    #[arg(long = "interpreter", env = "RUNQL_INTERPRETERS", value_name = "EXT=COMMAND")]
    pub(super) interpreters: Vec<Interpreter>,
    /// Command that runs agents whose targets match a pattern, as PATTERN=COMMAND; repeatable. In the file: the table `agents`
    #[arg(long = "agent", env = "RUNQL_AGENTS", value_name = "PATTERN=COMMAND")]
    pub(super) agents: Vec<Agent>,
}

/// How jobs are run.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Jobs")]
pub struct Jobs {
    /// Jobs that this server runs at once; by default 3, or the number of cores where that is more
    #[arg(
        long, env = "NUM_INTERNAL_WORKERS", value_name = "COUNT",
        default_value_t = default_workers(), value_parser = whole::<usize>(0..=1_024),
    )]
    pub workers: usize,
    /// Whether the workers take jobs as soon as the server starts
    #[arg(
        long, env = "AUTO_START_WORKERS", value_name = "true|false",
        default_value = "true", action = clap::ArgAction::Set, value_parser = BoolishValueParser::new(), hide_possible_values = true,
    )]
    pub auto_start_workers: bool,
    /// Time that a job may run where it does not say, in minutes
    #[arg(
        long = "default-timeout-minutes", env = "DEFAULT_TIMEOUT_MINUTES", value_name = "MINUTES",
        default_value = "30", value_parser = minutes(1..=525_600),
    )]
    pub default_timeout: Duration,
    /// Longest time that a job may ask for, in minutes
    #[arg(
        long = "max-timeout-minutes", env = "MAX_TIMEOUT_MINUTES", value_name = "MINUTES",
        default_value = "1440", value_parser = minutes(1..=525_600),
    )]
    pub max_timeout: Duration,
    /// Handed to tasks whose parameters name no max_steps
    #[arg(
        long, env = "DEFAULT_MAX_STEPS", value_name = "COUNT",
        default_value = "30", value_parser = whole::<u32>(1..=1_000_000),
    )]
    pub default_max_steps: u32,
    /// Time after which the jobs of a server that went silent are taken from it, in milliseconds
    #[arg(
        long = "lease-ms", env = "RUNQL_LEASE_MS", value_name = "MS",
        default_value = "30000", value_parser = millis(100..=3_600_000),
    )]
    pub lease: Duration,
    /// Time between SIGTERM and SIGKILL for a job that is cancelled or times out, in milliseconds
    #[arg(
        long = "cancel-grace-ms", env = "RUNQL_CANCEL_GRACE_MS", value_name = "MS",
        default_value = "5000", value_parser = millis(0..=3_600_000),
    )]
    pub cancel_grace: Duration,
    /// Log that is kept of one job; what it prints beyond that is counted and dropped. Bytes, or 64MiB
    #[arg(
        long, env = "RUNQL_LOG_BYTES_PER_JOB", value_name = "BYTES",
        default_value = "67108864", value_parser = bytes::<u64>(1_024..=1 << 40),
    )]
    pub log_bytes_per_job: u64,
    /// Steps of a plan, those of plans within it included
    #[arg(
        long, env = "RUNQL_MAX_PLAN_STEPS", value_name = "COUNT",
        default_value = "10000", value_parser = whole::<usize>(1..=100_000),
    )]
    pub max_plan_steps: usize,
    /// Pending jobs at which `run` is refused with LIMIT_EXCEEDED
    #[arg(
        long, env = "RUNQL_QUEUE_LIMIT", value_name = "COUNT",
        default_value = "100000", value_parser = whole::<u64>(1..=100_000_000),
    )]
    pub queue_limit: u64,
}

/// What one client may ask for.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// Size of a request. Bytes, or 2MiB
    #[arg(
        long, env = "RUNQL_MAX_REQUEST_BYTES", value_name = "BYTES",
        default_value = "2097152", value_parser = bytes::<usize>(1_024..=1 << 30),
    )]
    pub max_request_bytes: usize,
    /// Levels of nested fields in an operation
    #[arg(
        long, env = "RUNQL_MAX_QUERY_DEPTH", value_name = "COUNT",
        default_value = "15", value_parser = whole::<usize>(1..=1_000),
    )]
    pub max_query_depth: usize,
    /// Fields that an operation may select, each counted once for every entry of the pages that it is in
    #[arg(
        long, env = "RUNQL_MAX_QUERY_COST", value_name = "COUNT",
        default_value = "100000", value_parser = whole::<usize>(1..=1_000_000_000),
    )]
    pub max_query_cost: usize,
    /// Aliases in an operation
    #[arg(
        long, env = "RUNQL_MAX_ALIASES", value_name = "COUNT",
        default_value = "100", value_parser = whole::<usize>(0..=100_000),
    )]
    pub max_aliases: usize,
    /// Entries of a page
    #[arg(
        long, env = "RUNQL_MAX_PAGE_SIZE", value_name = "COUNT",
        default_value = "1000", value_parser = whole::<usize>(1..=100_000),
    )]
    pub max_page_size: usize,
    /// Operations in one request
    #[arg(
        long, env = "RUNQL_MAX_BATCH", value_name = "COUNT",
        default_value = "20", value_parser = whole::<usize>(1..=10_000),
    )]
    pub max_batch: usize,
    /// Time that a query or a mutation may take, beyond what a worker's call waits for work, in milliseconds
    #[arg(
        long = "max-execution-ms", env = "RUNQL_MAX_EXECUTION_MS", value_name = "MS",
        default_value = "30000", value_parser = millis(1..=3_600_000),
    )]
    pub max_execution: Duration,
    /// Whether clients may ask for the schema
    #[arg(
        long, env = "RUNQL_INTROSPECTION", value_name = "true|false",
        default_value = "true", action = clap::ArgAction::Set, value_parser = BoolishValueParser::new(), hide_possible_values = true,
    )]
    pub introspection: bool,
    /// File with the only operations that are executed: ids and texts, or a manifest of Apollo's form [default: any]
    #[arg(long, env = "RUNQL_PERSISTED_OPERATIONS", value_name = "FILE")]
    pub persisted_operations: Option<PathBuf>,
    /// Cost that a token, or an address without one, may ask for in a second, and at once: 1000 or 1000:20000 [default: any]
    #[arg(long, env = "RUNQL_RATE_LIMIT", value_name = "COST[:BURST]")]
    pub rate_limit: Option<RateLimit>,
    /// Subscriptions open at once, over all connections; as many calls of remote workers may wait
    #[arg(
        long, env = "RUNQL_MAX_LISTENERS", value_name = "COUNT",
        default_value = "20000", value_parser = whole::<usize>(1..=10_000_000),
    )]
    pub max_listeners: usize,
    /// Subscriptions open at once on one connection
    #[arg(
        long, env = "RUNQL_MAX_LISTENERS_PER_CONNECTION", value_name = "COUNT",
        default_value = "200", value_parser = whole::<usize>(1..=1_000_000),
    )]
    pub max_listeners_per_connection: usize,
    /// Connections open at once; those that became a WebSocket count as listeners instead
    #[arg(
        long, env = "RUNQL_MAX_CONNECTIONS", value_name = "COUNT",
        default_value = "10000", value_parser = whole::<usize>(1..=1_000_000),
    )]
    pub max_connections: usize,
    /// Time that a client may take to send the head of a request, and to begin the next one, in milliseconds
    #[arg(
        long = "request-head-timeout-ms", env = "RUNQL_REQUEST_HEAD_TIMEOUT_MS", value_name = "MS",
        default_value = "30000", value_parser = millis(100..=3_600_000),
    )]
    pub request_head_timeout: Duration,
}

/// What the server writes about itself, and where it reads the rest from.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "General")]
pub struct Logging {
    /// Log lines to write: off, error, warn, info, debug, trace, or by module: runql=debug,info
    #[arg(long, env = "LOG_LEVEL", value_name = "FILTER", default_value = "info")]
    pub log_level: LogFilter,
    /// Form of log lines: text, json, or auto for text on a terminal and json elsewhere
    #[arg(
        long, env = "RUNQL_LOG_FORMAT", value_name = "FORMAT",
        default_value = "auto", value_parser = super::values::log_format,
    )]
    pub log_format: LogFormat,
    /// File with settings, by the names of the flags [default: runql.toml where there is one]
    #[arg(long, env = "RUNQL_CONFIG", value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
}

/// Enough to overlap jobs that wait on a small machine, and no fewer than a large one has cores.
fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).max(3)
}

impl Storage {
    /// The folder for the working directories of jobs: the one that was set, or `work` beside the SQLite file.
    #[must_use]
    pub fn work_dir(&self) -> PathBuf {
        self.work_dir.clone().unwrap_or_else(|| {
            let file = self.database_url.sqlite_file().unwrap_or_default();
            file.with_file_name("work")
        })
    }
}

impl Scripts {
    /// Whether commands of this kind may run.
    #[must_use]
    pub fn allows(&self, kind: Allow) -> bool {
        self.allow.contains(&kind)
    }

    /// The interpreter of each extension (without the dot, in lower case): the program and its first arguments.
    #[must_use]
    pub fn interpreters(&self) -> BTreeMap<String, Vec<String>> {
        // Later layers stand behind earlier ones, so the last entry of an extension wins.
        self.interpreters
            .iter()
            .map(|entry| (entry.extension.clone(), entry.command.clone()))
            .collect()
    }

    /// The command of agents by the pattern of their targets: the program and its first arguments.
    #[must_use]
    pub fn agents(&self) -> BTreeMap<Pattern, Vec<String>> {
        // As with interpreters, the last entry of a pattern wins.
        self.agents
            .iter()
            .map(|entry| (entry.pattern.clone(), entry.command.clone()))
            .collect()
    }

    /// The interpreters as the variable would hold them.
    pub(super) fn interpreters_text(&self) -> String {
        entries_text(self.interpreters())
    }

    /// The agents as the variable would hold them.
    pub(super) fn agents_text(&self) -> String {
        entries_text(self.agents())
    }
}

/// Commands by what they are for, as a variable would hold them.
fn entries_text(entries: BTreeMap<impl std::fmt::Display, Vec<String>>) -> String {
    let entries = entries.into_iter().map(|(name, command)| {
        let command = shlex::try_join(command.iter().map(String::as_str)).unwrap_or_default();
        format!("{name}={command}")
    });
    entries.collect::<Vec<_>>().join(",")
}
