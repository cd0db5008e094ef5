//! What `runql token` is asked to do.

use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::error::{ConfigError, Origin};
use super::values::duration;
use crate::domain::{JobKind, Pattern, RunLimits, Scope, Scopes};

/// What is to be done with tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenCommand {
    /// Make one.
    Create {
        /// What people call it.
        name: String,
        /// What it allows.
        scopes: Scopes,
        /// What RUN is narrowed to.
        limits: RunLimits,
        /// How long it counts; none is for ever.
        lasts: Option<Duration>,
        /// Print an entry for the tokens file, and store nothing.
        entry: bool,
    },
    /// Print them.
    List {
        /// Those too that are revoked.
        all: bool,
    },
    /// Replace a secret.
    Rotate {
        /// The token's name or id.
        token: String,
        /// How long the secret before still counts; none ends it at once.
        keep: Option<Duration>,
    },
    /// End one for good.
    Revoke {
        /// The token's name or id.
        token: String,
    },
}

/// The subcommand with its verbs. Each takes the settings of the server as well, to find its store.
pub(super) fn command(settings: impl Fn(&'static str) -> Command) -> Command {
    let list = |name: &'static str, of: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name(of)
            .value_delimiter(',')
            .action(ArgAction::Append)
            .help(help)
    };
    let token = || {
        Arg::new("token")
            .value_name("NAME")
            .required(true)
            .help("Its name or its id")
    };
    let lasting = |name: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name("TIME")
            .value_parser(duration(Duration::from_secs(1)))
            .help(help)
    };
    Command::new("token")
        .about("Make, list, rotate and revoke the tokens that clients authenticate by")
        .subcommand(
            settings("create")
                .about("Make a token, and print it: it is shown this once")
                .arg(
                    Arg::new("name")
                        .long("name")
                        .value_name("NAME")
                        .help("What people call it"),
                )
                .arg(list(
                    "scopes",
                    "SCOPE",
                    "What it allows: read, run, worker, admin; none includes another",
                ))
                .arg(lasting(
                    "expires",
                    "How long it counts, such as 90d [default: for ever]",
                ))
                .arg(list(
                    "kinds",
                    "KIND",
                    "Kinds of jobs that it may run, such as script [default: all]",
                ))
                .arg(list(
                    "names",
                    "PATTERN",
                    "Names of jobs that it may run, such as 'deploy/*' [default: all]",
                ))
                .arg(list("queues", "PATTERN", "Queues that it may use [default: all]"))
                .arg(
                    Arg::new("entry")
                        .long("entry")
                        .action(ArgAction::SetTrue)
                        .help("Store nothing, and print an entry for --tokens-file"),
                ),
        )
        .subcommand(
            settings("list")
                .about("Print all tokens, without their secrets")
                .arg(
                    Arg::new("all")
                        .long("all")
                        .action(ArgAction::SetTrue)
                        .help("Those too that were revoked"),
                ),
        )
        .subcommand(
            settings("rotate")
                .about("Replace the secret of a token, and print the new one")
                .arg(token())
                .arg(lasting(
                    "keep",
                    "How long the old one still counts, such as 1h [default: not at all]",
                )),
        )
        .subcommand(settings("revoke").about("End a token for good").arg(token()))
}

impl TokenCommand {
    /// Reads what a verb was given.
    pub(super) fn read(verb: &str, matches: &ArgMatches) -> Result<Self, ConfigError> {
        let wrong = |flag: &str, problem: String| ConfigError::Value {
            origin: Origin::Flag(flag.to_owned()),
            problem,
        };
        let token = || {
            let token = matches.get_one::<String>("token").cloned();
            token.ok_or_else(|| wrong("token", "say which token: its name or its id".to_owned()))
        };
        let words = |flag: &str| matches.get_many::<String>(flag).into_iter().flatten();
        let patterns = |flag: &str| {
            let parsed = words(flag).map(|word| word.parse::<Pattern>());
            parsed
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| wrong(flag, error.to_string()))
        };
        Ok(match verb {
            "create" => {
                let scopes = words("scopes").map(|word| word.to_ascii_uppercase().parse::<Scope>());
                let kinds = words("kinds").map(|word| word.to_ascii_uppercase().parse::<JobKind>());
                Self::Create {
                    name: matches
                        .get_one::<String>("name")
                        .cloned()
                        .ok_or_else(|| wrong("name", "say what the token is called".to_owned()))?,
                    scopes: scopes.collect::<Result<_, _>>().map_err(|error| {
                        wrong(
                            "scopes",
                            format!("{error}: there are read, run, worker and admin"),
                        )
                    })?,
                    limits: RunLimits {
                        kinds: kinds
                            .collect::<Result<_, _>>()
                            .map_err(|error| wrong("kinds", error.to_string()))?,
                        names: patterns("names")?,
                        queues: patterns("queues")?,
                    },
                    lasts: matches.get_one::<Duration>("expires").copied(),
                    entry: matches.get_flag("entry"),
                }
            }
            "rotate" => Self::Rotate {
                token: token()?,
                keep: matches.get_one::<Duration>("keep").copied(),
            },
            "revoke" => Self::Revoke { token: token()? },
            _ => Self::List {
                all: matches.get_flag("all"),
            },
        })
    }
}
