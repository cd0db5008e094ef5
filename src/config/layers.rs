//! The layers that settings come from, each laid over the one below it.
//!
//! A variable and a key of the file are read as the flag of the same setting would be, by the same parser: what a setting
//! takes is written down once, and each refusal is traced to the place that it came from.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use clap::builder::{OsStr, Resettable};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use toml::{Table, Value};

use super::error::{ConfigError, Origin, problem};
use super::file::{TableKey, texts};
use super::invocation::{Chosen, Environment};
use super::settings::Config;

/// The file that is read where no other is named, if there is one.
pub(super) const DEFAULT_FILE: &str = "runql.toml";
/// The setting that cannot stand in the file that it names.
const FILE: &str = "config";

/// The settings while layers are laid over them.
pub(super) struct Layers {
    parser: Command,
    pub(super) config: Config,
    /// By flag; without an entry it is the default.
    set: HashMap<String, (Origin, String)>,
}

impl Layers {
    /// The lowest layer: every default.
    pub(super) fn defaults() -> Result<Self, ConfigError> {
        let parser = || {
            Config::augment_args(Command::new("runql"))
                .no_binary_name(true)
                .disable_help_flag(true)
                .mut_args(|arg| arg.env(Resettable::<OsStr>::Reset))
        };
        let defaults = parser()
            .try_get_matches_from(None::<OsString>)
            .map_err(ConfigError::Usage)?;
        Ok(Self {
            parser: given_only(parser()),
            config: Config::from_arg_matches(&defaults).map_err(ConfigError::Usage)?,
            set: HashMap::new(),
        })
    }

    /// Where a setting, by the name of its flag, was set.
    pub(super) fn origin(&self, flag: &str) -> Origin {
        self.set
            .get(flag)
            .map_or(Origin::Default, |(origin, _)| origin.clone())
    }

    /// All settings as text, each with its origin.
    pub(super) fn chosen(&self) -> Vec<Chosen> {
        let all = Config::augment_args(Command::new("runql"));
        all.get_arguments()
            .filter_map(|arg| {
                let setting = arg.get_long()?.to_owned();
                let (origin, value) = self.set.get(&setting).cloned().unwrap_or_else(|| {
                    (
                        Origin::Default,
                        join(arg.get_default_values().iter().map(AsRef::as_ref)),
                    )
                });
                let value = match setting.as_str() {
                    "database-url" => self.config.storage.database_url.to_string(),
                    "interpreter" => self.config.scripts.interpreters_text(),
                    "agent" => self.config.scripts.agents_text(),
                    "work-dir" => self.config.storage.work_dir().display().to_string(),
                    _ => value,
                };
                Some(Chosen {
                    setting,
                    value,
                    origin,
                })
            })
            .collect()
    }

    /// The flags of all settings.
    pub(super) fn settings(&self) -> impl Iterator<Item = &Arg> {
        self.parser.get_arguments()
    }

    /// Lays the file over the settings: the one that the flags or the environment name, or the usual one if it exists.
    pub(super) fn file(
        &mut self,
        environment: &Environment<'_>,
        flags: &[&ArgMatches],
    ) -> Result<(), ConfigError> {
        let named = flags
            .iter()
            .rev()
            .find_map(|matches| matches.get_one::<PathBuf>(FILE).cloned());
        let named = named.or_else(|| {
            let variable = self.settings_with_variables().find(|(flag, _)| flag == FILE)?.1;
            environment.variable(&variable).map(PathBuf::from)
        });
        let path = named.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
        let text = match std::fs::read_to_string(environment.directory.join(&path)) {
            Ok(text) => text,
            Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(ConfigError::Unreadable { path, error }),
        };
        let table: Table = toml::from_str(&text).map_err(|error| ConfigError::Syntax {
            line: error
                .span()
                .map_or(1, |span| text[..span.start].lines().count().max(1)),
            problem: error.message().to_owned(),
            path: path.clone(),
        })?;
        for (key, value) in table {
            self.key(&path, key, value)?;
        }
        Ok(())
    }

    fn key(&mut self, path: &Path, key: String, value: Value) -> Result<(), ConfigError> {
        let table = TableKey::by_key(&key);
        let flag = table.map_or(key.as_str(), |table| table.flag);
        let arg = self
            .settings()
            .find(|arg| arg.get_long() == Some(flag) && flag != FILE && TableKey::by_flag(&key).is_none());
        let Some(arg) = arg else {
            let nearest = self.nearest_key(&key);
            return Err(ConfigError::UnknownKey {
                path: path.to_owned(),
                key,
                nearest,
            });
        };
        let many = matches!(arg.get_action(), ArgAction::Append);
        let origin = Origin::File {
            path: path.to_owned(),
            key: key.clone(),
        };
        let values = texts(value, table, many).map_err(|problem| ConfigError::Value {
            origin: origin.clone(),
            problem: problem.to_owned(),
        })?;
        let flag = flag.to_owned();
        self.lay(&flag, origin, values.into_iter().map(OsString::from))
    }

    fn nearest_key(&self, key: &str) -> Option<String> {
        self.settings()
            .filter_map(Arg::get_long)
            .filter(|known| *known != FILE)
            .map(|known| TableKey::by_flag(known).map_or(known, |table| table.key))
            .map(|known| (strsim::jaro_winkler(known, &key.to_lowercase()), known))
            .filter(|(likeness, _)| *likeness > 0.8)
            .max_by(|(a, _), (b, _)| a.total_cmp(b))
            .map(|(_, known)| known.to_owned())
    }

    /// Lays the environment over the settings. A variable that is empty counts as not set.
    pub(super) fn environment(&mut self, environment: &Environment<'_>) -> Result<(), ConfigError> {
        let variables: Vec<_> = self.settings_with_variables().collect();
        for (flag, name) in variables {
            let Some(value) = environment.variable(&name) else {
                continue;
            };
            let values = match value.to_str() {
                Some(list) if TableKey::by_flag(&flag).is_some() => {
                    list.split(',').map(OsString::from).collect()
                }
                _ => vec![value],
            };
            self.lay(&flag, Origin::Variable(name), values)?;
        }
        Ok(())
    }

    fn settings_with_variables(&self) -> impl Iterator<Item = (String, String)> {
        Config::augment_args(Command::new("runql"))
            .get_arguments()
            .filter_map(|arg| Some((arg.get_long()?.to_owned(), arg.get_env()?.to_str()?.to_owned())))
            .collect::<Vec<_>>()
            .into_iter()
    }

    /// Lays one setting over what is there, as if its flag had been given with each of the values.
    fn lay(
        &mut self,
        flag: &str,
        origin: Origin,
        values: impl IntoIterator<Item = OsString>,
    ) -> Result<(), ConfigError> {
        let mut text = Vec::new();
        let mut arguments = Vec::new();
        for value in values {
            let mut argument = OsString::from(format!("--{flag}="));
            argument.push(&value);
            arguments.push(argument);
            text.push(value);
        }
        let matches = self
            .parser
            .clone()
            .try_get_matches_from(arguments)
            .map_err(|error| ConfigError::Value {
                problem: problem(&error),
                origin: origin.clone(),
            })?;
        self.update(&matches)?;
        self.set
            .insert(flag.to_owned(), (origin, join(text.iter().map(AsRef::as_ref))));
        Ok(())
    }

    /// Lays the flags that were given over the settings.
    pub(super) fn flags(&mut self, matches: &ArgMatches) -> Result<(), ConfigError> {
        self.update(matches)?;
        for arg in self.parser.get_arguments() {
            let id = arg.get_id().as_str();
            let (Some(flag), Some(ValueSource::CommandLine)) = (arg.get_long(), matches.value_source(id))
            else {
                continue;
            };
            let text = join(matches.get_raw(id).into_iter().flatten());
            self.set
                .insert(flag.to_owned(), (Origin::Flag(flag.to_owned()), text));
        }
        Ok(())
    }

    fn update(&mut self, matches: &ArgMatches) -> Result<(), ConfigError> {
        // A layer adds to the tables of those below it, where every other list replaces the one below.
        let (interpreters, agents) = {
            let scripts = &self.config.scripts;
            (scripts.interpreters.clone(), scripts.agents.clone())
        };
        self.config
            .update_from_arg_matches(matches)
            .map_err(ConfigError::Usage)?;
        let scripts = &mut self.config.scripts;
        add_to(interpreters, &mut scripts.interpreters);
        add_to(agents, &mut scripts.agents);
        Ok(())
    }
}

/// Puts the entries of the layers below in front of those that a layer brought, where it brought any.
fn add_to<T: PartialEq>(mut below: Vec<T>, entries: &mut Vec<T>) {
    if *entries != below {
        below.append(entries);
        *entries = below;
    }
}

/// A command whose flags take no value but one that is given: neither a default nor a variable.
pub(super) fn given_only(command: Command) -> Command {
    command
        .mut_args(|arg| {
            // What is no setting has no other place to be given in.
            let required = arg.is_positional() && arg.is_required_set();
            arg.env(Resettable::<OsStr>::Reset)
                .default_value(Resettable::<OsStr>::Reset)
                .required(required)
        })
        .mut_subcommands(given_only)
}

fn join<'a>(values: impl Iterator<Item = &'a std::ffi::OsStr>) -> String {
    values
        .map(std::ffi::OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(",")
}
