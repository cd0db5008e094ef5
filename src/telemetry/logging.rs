//! Where log lines go, and in which form: standard error, as text for a person at a terminal, as JSON for all others.

use std::fmt;
use std::io::IsTerminal;
use std::str::FromStr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Crates whose lines below a warning tell of their own workings, not of the server's. A filter that names one of
/// them wins over this list.
const QUIET: &[&str] = &[
    "sqlx",
    "sea_orm",
    "sea_orm_migration",
    "hyper",
    "hyper_util",
    "h2",
    "rustls",
    "tower_http",
];

/// Which log lines are written: `info`, or `runql=debug,info` for one level by default and others by module.
///
/// It is checked when it is made: `inf` would otherwise be taken for a module of that name, and the log stay empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(String);

/// A filter that cannot be understood.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "`{text}` is not a log filter: off, error, warn, info, debug or trace, or a list such as runql=debug,info"
)]
pub struct BadLogFilter {
    text: String,
}

impl FromStr for LogFilter {
    type Err = BadLogFilter;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadLogFilter {
            text: text.to_owned(),
        };
        let mut default = None;
        let mut directives = Vec::new();
        for directive in text
            .split(',')
            .map(str::trim)
            .filter(|directive| !directive.is_empty())
        {
            if directive.contains(['=', '[']) {
                directives.push(directive.to_owned());
            } else {
                default = Some(level(directive).ok_or_else(bad)?);
            }
        }
        if default.is_none() && directives.is_empty() {
            return Err(bad());
        }
        let default = default.unwrap_or(LevelFilter::ERROR);
        let mut all = vec![default.to_string()];
        if default > LevelFilter::WARN {
            all.extend(QUIET.iter().map(|krate| format!("{krate}=warn")));
        }
        // The last directive for a module wins, so what was asked for comes after what is kept quiet.
        all.extend(directives);
        let filter = all.join(",");
        EnvFilter::try_new(&filter).map_err(|_| bad())?;
        Ok(Self(filter))
    }
}

/// A level by its name, in any case; the names that other programs use for two of them are taken as well.
fn level(name: &str) -> Option<LevelFilter> {
    Some(match name.to_ascii_lowercase().as_str() {
        "off" => LevelFilter::OFF,
        "error" | "critical" => LevelFilter::ERROR,
        "warn" | "warning" => LevelFilter::WARN,
        "info" => LevelFilter::INFO,
        "debug" => LevelFilter::DEBUG,
        "trace" => LevelFilter::TRACE,
        _ => return None,
    })
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// One line for a person.
    Text,
    /// One JSON object for each line.
    Json,
}

/// The process already has a receiver of log lines: an embedder's, or that of an earlier call.
#[derive(Debug, thiserror::Error)]
#[error("log lines already have a receiver in this process")]
pub struct LoggingInUse(#[source] Box<dyn std::error::Error + Send + Sync>);

/// Sends the log lines of this process to standard error from now on.
///
/// # Errors
///
/// Where the process already has a receiver, which then stays: an embedder that has its own can ignore this.
pub fn init_logging(filter: &LogFilter, format: LogFormat) -> Result<(), LoggingInUse> {
    let terminal = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&filter.0))
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
        LogFormat::Auto if !terminal => lines.json().flatten_event(true).try_init(),
        LogFormat::Auto | LogFormat::Text => lines.with_ansi(terminal).try_init(),
    }
    .map_err(LoggingInUse)
}

/// Makes a panic a log line like any other, from now on and for the whole process: its message and its place, without a
/// backtrace.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!(
            panic.message = panic.payload_as_str().unwrap_or("no message"),
            panic.location = panic.location().map(tracing::field::display),
            thread = std::thread::current().name(),
            "panicked",
        );
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> String {
        text.parse::<LogFilter>().unwrap().to_string()
    }

    #[test]
    fn a_level_keeps_other_crates_quiet_unless_they_are_named() {
        assert!(filter("info").starts_with("info,sqlx=warn,"));
        assert!(filter("sqlx=debug,info").ends_with(",sqlx=debug"));
        assert_eq!(filter("ERROR"), "error");
        assert_eq!(filter("off"), "off");
        assert_eq!(filter("runql=debug"), "error,runql=debug");
        assert_eq!(filter("WARNING"), "warn");
    }

    #[test]
    fn a_misspelt_level_is_refused_instead_of_taken_for_a_module() {
        for text in ["inf", "", ",", "runql=loud", "info,verbose"] {
            let error = text.parse::<LogFilter>().unwrap_err().to_string();
            assert!(
                error.contains(&format!("`{text}`")) && error.contains("debug"),
                "{error}"
            );
        }
    }
}
