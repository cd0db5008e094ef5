//! The settings of `runql worker`, which needs neither a database nor a file: flags, and variables below them.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStr, Resettable};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches};
use url::Url;

use super::error::{ConfigError, Origin, problem};
use super::invocation::Environment;
use super::layers::given_only;
use super::sandbox::Sandboxing;
use super::values::{kind, millis, server, whole, worker_name};
use crate::domain::Pattern;
use crate::telemetry::{LogFilter, LogFormat};

/// The variable that holds the token. It is no flag: everybody on the machine can read those.
const TOKEN: &str = "RUNQL_TOKEN";

/// All settings of a worker.
#[derive(Debug, Clone, Args)]
pub struct Worker {
    /// Address of the server: http://HOST:PORT, or that of its API
    #[arg(long, env = "RUNQL_SERVER", value_name = "URL", value_parser = server)]
    server: Option<Url>,
    /// Problem ids and targets to take, with * for any characters; repeat it, or separate them by commas
    #[arg(
        long,
        env = "RUNQL_SUPPORTS",
        value_name = "PATTERN",
        value_delimiter = ',',
        default_value = "*"
    )]
    pub supports: Vec<Pattern>,
    /// Name, such as worker-007-gpu; by default one is made, and kept in the work folder
    #[arg(long, env = "RUNQL_WORKER_NAME", value_name = "NAME", value_parser = worker_name)]
    pub name: Option<String>,
    /// Kind of machine or service that it runs on, which is the end of a name that is made
    #[arg(
        long, env = "RUNQL_WORKER_KIND", value_name = "KIND",
        default_value = "remote", value_parser = kind,
    )]
    pub kind: String,
    /// Jobs to run at once
    #[arg(
        long, env = "RUNQL_PARALLEL", value_name = "COUNT",
        default_value = "1", value_parser = whole::<u32>(1..=1_000),
    )]
    pub parallel: u32,
    /// Folder for the working directories of jobs; each worker needs one of its own
    #[arg(
        long,
        env = "RUNQL_WORKER_DIR",
        value_name = "DIR",
        default_value = "runql-worker"
    )]
    pub work_dir: PathBuf,
    /// Variables of its own environment that the command gets too; repeat it, or separate them by commas
    #[arg(long, env = "RUNQL_PASS_ENV", value_name = "NAME", value_delimiter = ',')]
    pub pass_env: Vec<String>,
    /// Time between SIGTERM and SIGKILL for a job that is cancelled or times out, in milliseconds
    #[arg(
        long = "cancel-grace-ms", env = "RUNQL_CANCEL_GRACE_MS", value_name = "MS",
        default_value = "5000", value_parser = millis(0..=3_600_000),
    )]
    pub cancel_grace: Duration,
    /// Time that running jobs get to end after SIGTERM, in milliseconds
    #[arg(
        long = "shutdown-grace-ms", env = "RUNQL_SHUTDOWN_GRACE_MS", value_name = "MS",
        default_value = "10000", value_parser = millis(0..=3_600_000),
    )]
    pub shutdown_grace: Duration,
    /// Longest time between two signs of life, in milliseconds; a third of the server's lease where that is shorter
    #[arg(
        long = "heartbeat-ms", env = "RUNQL_HEARTBEAT_MS", value_name = "MS",
        default_value = "60000", value_parser = millis(10..=60_000),
    )]
    pub heartbeat: Duration,
    /// What jobs are kept from.
    #[command(flatten)]
    pub sandbox: Sandboxing,
    /// Log lines to write: off, error, warn, info, debug, trace, or by module: runql=debug,info
    #[arg(long, env = "LOG_LEVEL", value_name = "FILTER", default_value = "info")]
    pub log_level: LogFilter,
    /// Form of log lines: text, json, or auto for text on a terminal and json elsewhere
    #[arg(
        long, env = "RUNQL_LOG_FORMAT", value_name = "FORMAT",
        default_value = "auto", value_parser = super::values::log_format,
    )]
    pub log_format: LogFormat,
    /// Program that runs each job, with its arguments, after `--`
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
    #[arg(skip)]
    token: Option<Token>,
}

/// What a worker shows to be let in. Neither `Debug` nor anything else shows it.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// The token itself, for the request and for nothing else.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Worker {
    /// The address of the server's API; none where there is no such setting, which reading them refuses.
    #[must_use]
    pub fn server(&self) -> Option<&Url> {
        self.server.as_ref()
    }

    /// What it shows to be let in.
    #[must_use]
    pub fn token(&self) -> Option<&Token> {
        self.token.as_ref()
    }

    /// Reads the flags over the environment over the defaults.
    pub(super) fn read(environment: &Environment<'_>, flags: &ArgMatches) -> Result<Self, ConfigError> {
        let parser = || {
            Self::augment_args(Command::new("worker"))
                .no_binary_name(true)
                .disable_help_flag(true)
                .mut_args(|arg| arg.env(Resettable::<OsStr>::Reset))
        };
        let defaults = parser()
            .try_get_matches_from(None::<OsString>)
            .map_err(ConfigError::Usage)?;
        let mut worker = Self::from_arg_matches(&defaults).map_err(ConfigError::Usage)?;
        let variables = Self::augment_args(Command::new("worker"));
        for arg in variables.get_arguments() {
            let (Some(flag), Some(name)) = (arg.get_long(), arg.get_env().and_then(|name| name.to_str()))
            else {
                continue;
            };
            let given = flags.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
            let Some(value) = environment.variable(name).filter(|_| !given) else {
                continue;
            };
            let mut argument = OsString::from(format!("--{flag}="));
            argument.push(&value);
            let matches = given_only(parser())
                .try_get_matches_from([argument])
                .map_err(|error| ConfigError::Value {
                    origin: Origin::Variable(name.to_owned()),
                    problem: problem(&error),
                })?;
            worker
                .update_from_arg_matches(&matches)
                .map_err(ConfigError::Usage)?;
        }
        worker
            .update_from_arg_matches(flags)
            .map_err(ConfigError::Usage)?;
        worker.token = token(environment)?;
        worker.check()
    }

    /// Checks what a setting cannot tell by itself.
    fn check(self) -> Result<Self, ConfigError> {
        let wrong = |flag: &str, problem: &str| {
            Err(ConfigError::Conflict {
                origin: Origin::Flag(flag.to_owned()),
                problem: problem.to_owned(),
            })
        };
        if self.server.is_none() {
            return wrong(
                "server",
                "say where the server is: --server http://HOST:8000, or RUNQL_SERVER",
            );
        }
        if self.command.is_empty() {
            return wrong(
                "supports",
                "say what runs the jobs: the command comes last, after `--`, as in `-- python3 solve.py`",
            );
        }
        if self
            .pass_env
            .iter()
            .any(|name| name.is_empty() || name.contains('=') || name.starts_with("RUNQL_"))
        {
            return wrong(
                "pass-env",
                "takes names of variables, without values; those that begin with RUNQL_ are set for each job",
            );
        }
        Ok(self)
    }
}

fn token(environment: &Environment<'_>) -> Result<Option<Token>, ConfigError> {
    let Some(value) = environment.variable(TOKEN) else {
        return Ok(None);
    };
    let token = value.into_string().ok().map(|text| text.trim().to_owned());
    match token.filter(|token| !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic())) {
        Some(token) => Ok(Some(Token(token))),
        None => Err(ConfigError::Value {
            origin: Origin::Variable(TOKEN.to_owned()),
            problem: "is not a token: it has printable ASCII characters without spaces".to_owned(),
        }),
    }
}
