//! What the program was asked to do: the subcommand, and the settings that it runs with.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::builder::ValueParser;
use clap::{Arg, ArgMatches, Args, Command};

use super::error::{ConfigError, Origin, usage};
use super::layers::{Layers, given_only};
use super::settings::Config;
use super::token::TokenCommand;
use super::worker::Worker;

/// What the program was asked to do.
#[derive(Debug)]
pub enum Invocation {
    /// Serve the API.
    Serve(Box<Config>),
    /// Bring the store to this version's form.
    Migrate(Box<Config>),
    /// Make, list or change tokens.
    Token(Box<Config>, TokenCommand),
    /// Copy the store to this file.
    Backup(Box<Config>, PathBuf),
    /// Run jobs for a server on another machine.
    Worker(Box<Worker>),
    /// Print the schema.
    Schema,
    /// Print the settings, which are right.
    CheckConfig(Vec<Chosen>),
}

/// A setting, with the place that it was set in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// The name of its flag.
    pub setting: String,
    /// Its value as text, without a password; empty where it has none.
    pub value: String,
    /// Where it was set.
    pub origin: Origin,
}

/// What settings are read from, besides the command line.
pub struct Environment<'a> {
    variables: &'a dyn Fn(&str) -> Option<OsString>,
    pub(super) directory: &'a Path,
}

impl std::fmt::Debug for Environment<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Variables hold secrets of all kinds.
        f.debug_struct("Environment")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

impl<'a> Environment<'a> {
    /// These variables, and this folder for relative paths to the file.
    pub fn new(variables: &'a dyn Fn(&str) -> Option<OsString>, directory: &'a Path) -> Self {
        Self { variables, directory }
    }

    pub(super) fn variable(&self, name: &str) -> Option<OsString> {
        (self.variables)(name).filter(|value| !value.is_empty())
    }
}

impl Environment<'static> {
    /// Those of this process.
    #[must_use]
    pub fn of_process() -> Self {
        Self {
            variables: &|name| std::env::var_os(name),
            directory: Path::new(""),
        }
    }
}

/// Reads the command line, the environment and the file.
///
/// # Errors
///
/// Where one of them cannot be understood or holds a setting that is wrong, and where help or the version is asked for.
pub fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    environment: &Environment<'_>,
) -> Result<Invocation, ConfigError> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let matches = read(&arguments)?;
    let subcommand = matches.subcommand();
    if let Some(("schema", _)) = subcommand {
        return Ok(Invocation::Schema);
    }
    if let Some(("worker", flags)) = subcommand {
        return Ok(Invocation::Worker(Box::new(Worker::read(environment, flags)?)));
    }
    let order = subcommand.filter(|(name, _)| *name == "token");
    let order = order.and_then(|(_, matches)| matches.subcommand());
    let flags: Vec<&ArgMatches> = [&matches]
        .into_iter()
        .chain(order.or(subcommand).map(|(_, matches)| matches))
        .collect();
    let mut layers = lay_all(environment, &flags)?;
    settle(&mut layers)?;
    Ok(match subcommand {
        Some(("migrate", _)) => Invocation::Migrate(Box::new(layers.config)),
        Some(("token", _)) => {
            let command = order.map(|(verb, matches)| TokenCommand::read(verb, matches));
            let command = command.transpose()?.unwrap_or(TokenCommand::List { all: false });
            Invocation::Token(Box::new(layers.config), command)
        }
        Some(("backup", matches)) => {
            let file = matches
                .get_one::<PathBuf>(BACKUP_FILE)
                .cloned()
                .unwrap_or_default();
            Invocation::Backup(Box::new(layers.config), file)
        }
        Some(("check-config", _)) => Invocation::CheckConfig(layers.chosen()),
        _ => Invocation::Serve(Box::new(layers.config)),
    })
}

/// The argument that names the file of a backup.
const BACKUP_FILE: &str = "file";

fn read(arguments: &[OsString]) -> Result<ArgMatches, ConfigError> {
    given_only(command())
        .try_get_matches_from(arguments)
        .map_err(|error| {
            if error.use_stderr() {
                return usage(error);
            }
            // Only the whole command knows the defaults and the variables that help shows.
            ConfigError::Usage(command().try_get_matches_from(arguments).err().unwrap_or(error))
        })
}

fn command() -> Command {
    let settings = |name: &'static str| {
        Config::augment_args(Command::new(name)).mut_args(|arg| arg.hide_env_values(true))
    };
    settings("runql")
        .version(env!("CARGO_PKG_VERSION"))
        .max_term_width(120)
        .about("A GraphQL execution API: runs scripts and commands, and shows every change live")
        .after_help(
            "Without a command, `runql` serves. Each setting is a flag, the variable in [env: …], and a key of runql.toml\n\
             by the name of the flag; flags win over variables, variables over the file.",
        )
        .subcommand(settings("serve").about("Serve the API, which also brings the store to this version's form"))
        .subcommand(settings("migrate").about("Bring the store to this version's form, and exit"))
        .subcommand(super::token::command(settings))
        .subcommand(
            settings("backup")
                .about("Copy a SQLite store to a new file, while a server may be using it")
                .arg(
                    Arg::new(BACKUP_FILE)
                        .value_name("FILE")
                        .required(true)
                        .value_parser(ValueParser::path_buf())
                        .help("The file to make; it must not be there yet"),
                ),
        )
        .subcommand(
            Worker::augment_args(Command::new("worker"))
                .mut_args(|arg| arg.hide_env_values(true))
                .about("Run tasks and agents for a server, on this machine and without a database")
                .after_help(
                    "Each setting is a flag or the variable in [env: …]; flags win. A token is read from RUNQL_TOKEN.\n\
                     The command gets each job as JSON on standard input.",
                ),
        )
        .subcommand(Command::new("schema").about("Print the GraphQL schema"))
        .subcommand(settings("check-config").about("Check all settings, and print where each comes from"))
}

fn lay_all(environment: &Environment<'_>, flags: &[&ArgMatches]) -> Result<Layers, ConfigError> {
    let mut layers = Layers::defaults()?;
    layers.file(environment, flags)?;
    layers.environment(environment)?;
    for matches in flags {
        layers.flags(matches)?;
    }
    Ok(layers)
}

/// Checks what a setting cannot tell by itself, and settles what depends on another.
fn settle(layers: &mut Layers) -> Result<(), ConfigError> {
    let conflict = |origin, problem| Err(ConfigError::Conflict { origin, problem });
    let jobs = &mut layers.config.jobs;
    let (default, max) = (jobs.default_timeout, jobs.max_timeout);
    if default > max {
        // Whoever only lowers the longest timeout means that one to hold for all jobs.
        jobs.default_timeout = max;
        let origin = layers.origin("default-timeout-minutes");
        if origin != Origin::Default {
            let minutes = max.as_secs() / 60;
            return conflict(
                origin,
                format!("above the {minutes} minutes of --max-timeout-minutes"),
            );
        }
    }
    Ok(())
}
