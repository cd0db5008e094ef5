//! The program: reads what it was asked to do, does it, and ends with a code that says how it went.
//!
//! | code | meaning |
//! | --- | --- |
//! | 0 | done, or ended in order after a signal |
//! | 1 | failed; the reason is on standard error, or in the log once that is open |
//! | 2 | the arguments or the settings are wrong |

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use runql::config::{self, Chosen, Config, ConfigError, Environment, Invocation, TokenCommand};
use runql::store::{self, Store, StoreOptions};
use runql::telemetry::{LogFilter, LogFormat};
use runql::worker::WorkerError;
use runql::{server, telemetry, worker};

/// A request makes hundreds of small allocations and hands many of them to another thread. The C library's allocator takes
/// a quarter of the time of a page of jobs for that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The code for arguments and settings that are wrong.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    // Before anything else, and before there is a second thread: a spawner has to stay small.
    if let Some(code) = runql::process::run_spawner_if_asked() {
        return code;
    }
    keep_memory_private();
    let invocation = match config::parse(std::env::args_os(), &Environment::of_process()) {
        Ok(invocation) => invocation,
        // Clap lays its message out itself; help and the version go to standard output and are no failure.
        Err(ConfigError::Usage(message)) => {
            let printed = message.print();
            let asked_for = printed.is_ok() && !message.use_stderr();
            return if asked_for {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(USAGE)
            };
        }
        Err(error) => {
            complain(telemetry::chain(&error));
            return ExitCode::from(USAGE);
        }
    };
    let done = match invocation {
        Invocation::Serve(config) => return serve(*config),
        Invocation::Worker(settings) => return work(*settings),
        Invocation::Migrate(config) => runtime().and_then(|runtime| runtime.block_on(migrate(*config))),
        Invocation::Token(config, command) => {
            runtime().and_then(|runtime| runtime.block_on(token(*config, command)))
        }
        Invocation::Backup(config, file) => runtime().and_then(|runtime| {
            let url = config.storage.database_url.with_password();
            Ok(runtime.block_on(store::backup(url, &file))?)
        }),
        Invocation::Schema => schema(),
        Invocation::CheckConfig(settings) => print_settings(&settings),
    };
    done.map_or_else(
        |error| {
            complain(telemetry::chain(&*error));
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

/// Keeps the environment and the memory of this process, which may hold passwords and tokens, from other programs of the
/// same user: they can neither read nor trace it, and it leaves no core dump.
fn keep_memory_private() {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        complain(format_args!(
            "other programs of this user can read its memory: {error}"
        ));
    }
}

/// Tells a person at the terminal what went wrong.
fn complain(problem: impl Display) {
    // Where standard error is closed nobody listens, and the exit code still tells.
    let _ = writeln!(std::io::stderr(), "runql: {problem}");
}

/// Opens the log: from here on, it is the place where everything is told.
fn open_log(level: &LogFilter, format: LogFormat) -> Result<(), ExitCode> {
    if let Err(error) = telemetry::init_logging(level, format) {
        complain(telemetry::chain(&error));
        return Err(ExitCode::FAILURE);
    }
    telemetry::log_panics();
    Ok(())
}

/// Lets this process open as many files as the system allows it at all, and warns where a setting wants more.
fn open_many_files(connections: usize, programs: usize, setting: &str) {
    /// What is open besides: the store, scripts, logs, and connections that are on their way out.
    const BESIDES: usize = 200;
    /// The pipes of one program, its spawner and its folders.
    const EACH_PROGRAM: usize = 8;
    let needed = programs
        .saturating_mul(EACH_PROGRAM)
        .saturating_add(connections)
        .saturating_add(BESIDES);
    match runql::process::raise_open_files() {
        Ok(Some(allowed)) if usize::try_from(allowed).is_ok_and(|allowed| allowed < needed) => {
            tracing::warn!(
                allowed,
                needed,
                "too few files may be open: raise the hard limit (`ulimit -Hn`, or LimitNOFILE= in systemd) or lower \
                 {setting}"
            );
        }
        Ok(_) => {}
        Err(error) => {
            tracing::warn!(error = %telemetry::chain(&error), "the limit on open files cannot be raised");
        }
    }
}

/// Runs jobs for a server on another machine.
fn work(settings: config::Worker) -> ExitCode {
    if let Err(code) = open_log(&settings.log_level, settings.log_format) {
        return code;
    }
    let programs = usize::try_from(settings.parallel).unwrap_or(usize::MAX);
    open_many_files(0, programs, "--parallel");
    let done = runtime().and_then(|runtime| Ok(runtime.block_on(worker::run(settings))?));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = %telemetry::chain(&*error), "the worker ended");
            match error.downcast_ref::<WorkerError>() {
                Some(error) if error.is_usage() => ExitCode::from(USAGE),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// Serves the API.
fn serve(config: Config) -> ExitCode {
    if let Err(code) = open_log(&config.logging.log_level, config.logging.log_format) {
        return code;
    }
    open_many_files(
        config.limits.max_connections,
        config.jobs.workers,
        "--max-connections",
    );
    match runtime().and_then(|runtime| runtime.block_on(server::serve(config))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = %telemetry::chain(&*error), "the server ended");
            ExitCode::FAILURE
        }
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be started")
}

/// Brings the store to this version's form, and does nothing else.
async fn migrate(config: Config) -> anyhow::Result<()> {
    let options = StoreOptions::new(config.storage.database_url.with_password());
    let (store, _) = Store::open(&options, |_| {})
        .await
        .context("the store cannot be opened")?;
    store.close().await;
    Ok(())
}

/// Makes, lists or changes tokens.
async fn token(config: Config, command: TokenCommand) -> anyhow::Result<()> {
    let url = config.storage.database_url.with_password();
    runql::auth::carry_out(command, url, &mut std::io::stdout()).await?;
    Ok(())
}

/// Prints the schema that clients generate their types from.
fn schema() -> anyhow::Result<()> {
    std::io::stdout()
        .write_all(runql::graphql::sdl().as_bytes())
        .context("standard output cannot be written")
}

/// Prints each setting with the place that it was set in.
fn print_settings(settings: &[Chosen]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let width = settings
        .iter()
        .map(|chosen| chosen.setting.len())
        .max()
        .unwrap_or(0);
    for Chosen {
        setting,
        value,
        origin,
    } in settings
    {
        let value = if value.is_empty() { "none" } else { value };
        writeln!(out, "{setting:width$}  {value}  ({origin})")
            .context("standard output cannot be written")?;
    }
    Ok(())
}
