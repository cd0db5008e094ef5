//! The same work without a server.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::proc;

/// What a thread gave; its panic is an error.
pub(crate) fn join<T>(thread: std::thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("a thread panicked"))?
}

/// Times a second.
pub(crate) fn rate(count: usize, time: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
    let count = count as f64;
    count / time.as_secs_f64()
}

/// /bin/true a second by `xargs -P2 -n1`.
pub(crate) fn xargs(jobs: usize) -> Result<f64> {
    let lines: String = (0..jobs).map(|index| format!("{index}\n")).collect();
    let started = Instant::now();
    let mut child = Command::new("xargs")
        .args(["-P2", "-n1", "/bin/true"])
        .stdin(Stdio::piped())
        .spawn()
        .context("xargs cannot be started")?;
    let mut input = child.stdin.take().context("its input is a pipe")?;
    input.write_all(lines.as_bytes())?;
    drop(input);
    ensure!(child.wait()?.success(), "xargs failed");
    Ok(rate(jobs, started.elapsed()))
}

/// /bin/true a second by posix_spawn, two in flight.
pub(crate) fn spawns(jobs: usize) -> Result<f64> {
    let started = Instant::now();
    std::thread::scope(|scope| {
        let threads = [(); 2].map(|()| {
            scope.spawn(|| -> Result<()> {
                for _ in 0..jobs / 2 {
                    spawn("/bin/true", &[])?;
                }
                Ok(())
            })
        });
        threads.into_iter().try_for_each(join)
    })?;
    Ok(rate(jobs, started.elapsed()))
}

/// Spawns a program and waits for its end.
pub(crate) fn spawn(program: &str, args: &[&str]) -> Result<Duration> {
    let started = Instant::now();
    // The standard library takes posix_spawn where nothing asks for more.
    let status = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()?;
    ensure!(status.success(), "{program} ended with {status}");
    Ok(started.elapsed())
}

/// `cat source | cat > file`: what receiving bytes costs that go to a file.
pub(crate) struct Cat {
    source: Child,
    sink: Child,
}

impl Cat {
    /// Starts both.
    pub(crate) fn start(source: &Path, file: &Path) -> Result<Self> {
        let mut from = Command::new("/bin/cat")
            .arg(source)
            .stdout(Stdio::piped())
            .spawn()?;
        let pipe = from.stdout.take().context("its output is a pipe")?;
        let sink = Command::new("/bin/cat")
            .stdin(pipe)
            .stdout(File::create(file)?)
            .spawn()?;
        Ok(Self { source: from, sink })
    }

    /// Waits for the end; gives the seconds of processor time that the receiver took.
    pub(crate) fn wait(mut self) -> Result<f64> {
        ensure!(self.source.wait()?.success(), "cat failed");
        // A process that has ended tells its times until it is waited for.
        let pid = self.sink.id();
        let stat = format!("/proc/{pid}/stat");
        while !std::fs::read_to_string(&stat)?.contains(") Z ") {
            std::thread::sleep(Duration::from_micros(200));
        }
        let cpu = proc::cpu(pid)?;
        ensure!(self.sink.wait()?.success(), "cat failed");
        Ok(cpu)
    }
}
