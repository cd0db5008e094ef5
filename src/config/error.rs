//! What is wrong with the settings, and where each of them was set.

use std::error::Error as _;
use std::fmt;
use std::io;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Where a setting was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere.
    Default,
    /// This key of the file.
    File {
        /// The file.
        path: PathBuf,
        /// The key in it.
        key: String,
    },
    /// This variable of the environment.
    Variable(String),
    /// This flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, key } => write!(f, "`{key}` in {}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => write!(f, "--{name}"),
        }
    }
}

/// Why the settings cannot be used. Each names what is wrong, where it stands, and what is allowed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The command line cannot be understood, or asks for help or the version; it prints itself.
    #[error("{0}")]
    Usage(clap::Error),
    /// A setting has a value that it does not take.
    #[error("{origin}: {problem}")]
    Value {
        /// Where it was set.
        origin: Origin,
        /// What is wrong, and what is allowed.
        problem: String,
    },
    /// The file holds a key that is no setting.
    #[error("{}: unknown key `{key}`{}", path.display(), suggestion(nearest.as_deref()))]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The setting that was probably meant.
        nearest: Option<String>,
    },
    /// The file cannot be read.
    #[error("the configuration file {} cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// The file is not TOML. Its text is not repeated, since it may hold a password.
    #[error("{}, line {line}: {problem}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// A setting is right by itself, and wrong beside another one.
    #[error("{origin}: {problem}")]
    Conflict {
        /// Where it was set.
        origin: Origin,
        /// What is wrong, and how to mend it.
        problem: String,
    },
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |key| format!("; did you mean `{key}`?"))
}

/// An error of the command line; where a value was refused, it is told in the words of the refusal, since the usual
/// report would repeat the value, which may hold a password.
pub(super) fn usage(error: clap::Error) -> ConfigError {
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else {
        return ConfigError::Usage(error);
    };
    if error.kind() != ErrorKind::ValueValidation {
        return ConfigError::Usage(error);
    }
    let flag = argument.split([' ', '=']).next().unwrap_or(argument);
    ConfigError::Value {
        origin: Origin::Flag(flag.trim_start_matches('-').to_owned()),
        problem: problem(&error),
    }
}

/// What is wrong with the value of one setting.
pub(super) fn problem(error: &clap::Error) -> String {
    match (error.kind(), error.source()) {
        (ErrorKind::ValueValidation, Some(refusal)) => refusal.to_string(),
        (ErrorKind::ArgumentConflict, _) => "takes one value".to_owned(),
        (ErrorKind::InvalidValue, _) => "a value is missing".to_owned(),
        (kind, _) => kind.as_str().unwrap_or("cannot be understood").to_owned(),
    }
}
