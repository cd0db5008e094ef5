//! What jobs are kept from, for the server's own workers and for those on other machines alike.

use std::path::{Path, PathBuf};

use clap::Args;

use super::layers::DEFAULT_FILE;
use super::settings::Config;
use super::values::{Refused, bytes, thousandths, whole};
use crate::process::{Cgroup, Limits, RunAs, Sandbox, SandboxMode};

/// Processes of a job, or of a user that has no others than jobs: enough for a build on many cores, too few for a bomb.
const PROCESSES: u64 = 1_024;

/// What jobs are kept from.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sandbox")]
pub struct Sandboxing {
    /// Whether jobs may write only their own folders and reach neither the server nor each other: auto as far as the kernel can, require to start only where it can, off
    #[arg(long = "sandbox", env = "RUNQL_SANDBOX", value_name = "MODE", default_value = "auto", value_parser = mode)]
    pub(super) mode: SandboxMode,
    /// Files and folders that jobs may write besides their own, separated by commas
    #[arg(
        long = "job-write",
        env = "RUNQL_JOB_WRITE",
        value_name = "PATH",
        value_delimiter = ','
    )]
    pub(super) write: Vec<PathBuf>,
    /// User that jobs run as, as USER or USER:GROUP, by name or number; only root can set it [default: the server's own]
    #[arg(long = "run-as", env = "RUNQL_RUN_AS", value_name = "USER")]
    pub(super) run_as: Option<String>,
    /// Processor time that a process of a job may use, in seconds [default: no limit]
    #[arg(
        long = "job-cpu-seconds", env = "RUNQL_JOB_CPU_SECONDS", value_name = "SECONDS",
        value_parser = whole::<u64>(1..=31_536_000),
    )]
    pub(super) cpu_seconds: Option<u64>,
    /// Control group of version 2 that was handed over to the server, such as by systemd's Delegate=yes: `auto` for the one it runs in, or a path. With it, limits on memory and processes hold for a job as a whole [default: none]
    #[arg(long = "job-cgroup", env = "RUNQL_JOB_CGROUP", value_name = "GROUP")]
    pub(super) cgroup: Option<String>,
    /// Processors that a job may use, such as 1.5; needs --job-cgroup [default: no limit]
    #[arg(long = "job-cpus", env = "RUNQL_JOB_CPUS", value_name = "COUNT", value_parser = thousandths)]
    pub(super) millicpus: Option<u64>,
    /// Memory that a process of a job may write to, where reserved address space does not count; with --job-cgroup also all memory of a job. Bytes, or 2GiB [default: no limit]
    #[arg(
        long = "job-memory", env = "RUNQL_JOB_MEMORY", value_name = "BYTES",
        value_parser = bytes::<u64>(16 << 20..=1 << 50),
    )]
    pub(super) memory: Option<u64>,
    /// Files that a process of a job may have open
    #[arg(
        long = "job-open-files", env = "RUNQL_JOB_OPEN_FILES", value_name = "COUNT",
        default_value = "4096", value_parser = whole::<u64>(64..=1 << 30),
    )]
    pub(super) open_files: u64,
    /// Processes and threads that a job may have with --job-cgroup, and otherwise all that the user of the jobs has on this machine [default: no limit, or 1024 with --job-cgroup or --run-as]
    #[arg(
        long = "job-processes", env = "RUNQL_JOB_PROCESSES", value_name = "COUNT",
        value_parser = whole::<u64>(1..=1 << 22),
    )]
    pub(super) processes: Option<u64>,
    /// Size of a file that a job may write. Bytes, or 16GiB
    #[arg(
        long = "job-file-size", env = "RUNQL_JOB_FILE_SIZE", value_name = "BYTES",
        default_value = "17179869184", value_parser = bytes::<u64>(1 << 20..=1 << 60),
    )]
    pub(super) file_size: u64,
}

/// The files of an SQLite store: its own, those of its journals, and that of the server's lock.
const STORE_FILES: [&str; 5] = ["", "-wal", "-shm", "-journal", ".lock"];

fn mode(text: &str) -> Result<SandboxMode, Refused> {
    match text.trim() {
        "auto" => Ok(SandboxMode::Auto),
        "off" => Ok(SandboxMode::Off),
        "require" => Ok(SandboxMode::Require),
        _ => Err(Refused::new(text, "auto, require or off")),
    }
}

impl Sandboxing {
    /// The sandbox of these settings. Jobs may not read what is hidden, and must be able to read what is needed.
    ///
    /// # Errors
    ///
    /// One sentence, where there is no such user, or no such control group.
    pub fn policy(&self, hidden: &[PathBuf], needed: &[PathBuf]) -> Result<Sandbox, String> {
        let run_as = match &self.run_as {
            None => None,
            Some(text) => Some(RunAs::find(text.trim()).map_err(|problem| format!("--run-as: {problem}"))?),
        };
        let limits = Limits {
            cpu_seconds: self.cpu_seconds,
            memory: self.memory,
            open_files: Some(self.open_files),
            processes: self
                .processes
                .or((run_as.is_some() || self.cgroup.is_some()).then_some(PROCESSES)),
            file_size: Some(self.file_size),
            millicpus: self.millicpus,
        };
        let absolute = |paths: &[PathBuf]| paths.iter().map(|path| absolute(path)).collect::<Vec<_>>();
        Ok(Sandbox {
            mode: self.mode,
            hidden: absolute(hidden),
            writable: absolute(&self.write),
            needed: absolute(needed),
            cgroup: self.cgroup(&limits)?,
            limits,
            run_as,
        })
    }

    fn cgroup(&self, limits: &Limits) -> Result<Option<Cgroup>, String> {
        let dir = match self.cgroup.as_deref().map(str::trim) {
            None if self.millicpus.is_some() => {
                return Err("--job-cpus needs a control group: name one with --job-cgroup".to_owned());
            }
            None => return Ok(None),
            Some("auto") => None,
            Some(dir) => Some(Path::new(dir)),
        };
        Cgroup::take_over(dir, limits)
            .map(Some)
            .map_err(|problem| format!("--job-cgroup: {problem}"))
    }
}

impl Config {
    /// The sandbox of a server's jobs, which keeps them from the server's own files.
    ///
    /// # Errors
    ///
    /// As [`Sandboxing::policy`].
    pub fn sandbox(&self) -> Result<Sandbox, String> {
        let usual = Some(PathBuf::from(DEFAULT_FILE)).filter(|file| file.exists());
        let mut hidden: Vec<PathBuf> = self.logging.config.clone().or(usual).into_iter().collect();
        hidden.extend(self.server.access.tokens_file.clone());
        hidden.extend(self.scripts.secrets_dir.clone());
        if let Some(database) = self.storage.database_url.sqlite_file() {
            // Where it is a link, SQLite keeps its other files beside the real one.
            let real = database.canonicalize().ok();
            for base in [Some(database), real].into_iter().flatten() {
                hidden.extend(STORE_FILES.iter().map(|ending| {
                    let mut name = base.clone().into_os_string();
                    name.push(ending);
                    PathBuf::from(name)
                }));
            }
        }
        self.sandbox.policy(
            &hidden,
            &[self.scripts.scripts_dir.clone(), self.storage.work_dir()],
        )
    }
}

/// From where this process was started; the spawner stands there too, but who knows for how long.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
