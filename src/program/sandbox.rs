//! What is in force of the sandbox, found out before the first job needs it.

use std::io;
use std::path::Path;

use crate::process::{LANDLOCK_COMPLETE, Limits, RunAs, Sandbox, SandboxMode, Slot};

/// Starts a spawner and ends it again, and says once in the log what jobs are kept from.
///
/// # Errors
///
/// Where jobs could not be run so: there is no such kernel, no right to be that user, or a folder that it cannot read.
pub(crate) async fn check_sandbox(spawner: &Path, sandbox: &Sandbox) -> io::Result<()> {
    let slot = Slot::start(spawner, sandbox).await?;
    let landlock = slot.landlock();
    slot.close().await;
    let user = sandbox
        .run_as
        .as_ref()
        .map_or("the server's own", |user| user.name.as_str());
    let Limits {
        cpu_seconds,
        memory,
        open_files,
        processes,
        file_size,
        millicpus,
    } = sandbox.limits;
    tracing::info!(
        landlock,
        user,
        cpu_seconds,
        memory_bytes = memory,
        open_files,
        processes,
        file_size_bytes = file_size,
        millicpus,
        cgroup = sandbox.cgroup.as_ref().map(tracing::field::display),
        "sandbox"
    );
    if sandbox.mode == SandboxMode::Off {
        tracing::warn!("the sandbox is off: jobs may do all that their user may");
    } else if landlock == 0 {
        tracing::warn!(
            landlock,
            wanted = LANDLOCK_COMPLETE,
            "this kernel keeps jobs from little: it has no Landlock, so they may write, read and signal all that their user \
             may"
        );
    } else if landlock < LANDLOCK_COMPLETE {
        tracing::warn!(
            landlock,
            wanted = LANDLOCK_COMPLETE,
            "this kernel's Landlock keeps jobs from writing, but not from signalling the server and its spawners"
        );
    }
    let root = RunAs::is_root(sandbox.run_as.as_ref());
    if root {
        tracing::warn!("jobs run as root, whom a sandbox holds badly: name another user with --run-as");
    }
    if root && processes.is_some() && sandbox.cgroup.is_none() {
        tracing::warn!("--job-processes holds for no job: the kernel does not count root's processes");
    }
    Ok(())
}
