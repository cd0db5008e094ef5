//! One run: from the request to the spawner until the last byte of output is handed on.
//!
//! ```text
//! prepare ──fail──▶ SpawnFailed | NotStarted
//!    │ request sent
//! attend: output, input, reports, stops and the timeout, each at any time, until the spawner reports the end
//!    │ Ended                        │ Failed            │ socket closed
//! drain what is in the pipes    SpawnFailed         kill what is found ──▶ Lost
//! ```
//!
//! All of it happens in the caller's task. A consumer that does not take the output stops the reading, and so the
//! program; stops, the timeout and the program's end are attended to all the same.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use tokio::sync::mpsc::{self, error::TrySendError};

use super::control::{Controls, Order, Started, Stop, StopCause};
use super::lost::kill_leftovers;
use super::outcome::{Ended, Outcome, SpawnError, SpawnErrorKind};
use super::output::{OutputChunk, OutputPipe, Stream};
use super::protocol::{EndReport, Report, StartReport, encode_hold, encode_start, encode_stop, monotonic};
use super::slot::Slot;
use super::spawner::too_long;
use super::spec::Spec;
use super::stdin::InputPipe;
use crate::failpoint::failpoint;

/// How long the spawner may take to read a request, or to report the end after the killing. Its own bound on a sweep is
/// far shorter, so one that says nothing is itself paused or stuck, and taken for lost.
const PATIENCE: Duration = Duration::from_secs(8);

impl Slot {
    /// Runs one program and returns when it is gone, with all that descended from it, and all its output is handed
    /// on. Output is thrown away once the receiver is dropped.
    ///
    /// If the future is dropped before its end, everything is killed and the slot is not alive any more.
    pub async fn run(
        &mut self,
        mut spec: Spec,
        mut controls: Controls,
        output: mpsc::Sender<OutputChunk>,
    ) -> Outcome {
        if let Some(cause) = controls.requested() {
            return Outcome::NotStarted(cause);
        }
        if let Err(error) = spec.check() {
            return Outcome::SpawnFailed(error);
        }
        self.runs += 1;
        let Some(frame) = encode_start(self.runs, &spec, controls.held_until().map(on_the_clock)) else {
            return Outcome::SpawnFailed(too_long(None));
        };
        let (pipes, theirs) = match Pipes::open(spec.stdin.take()) {
            Ok(pipes) => pipes,
            Err(error) => return Outcome::SpawnFailed(no_pipes(&error)),
        };
        let guard = ShutOnDrop {
            slot: self,
            finished: false,
        };
        let run = Run {
            guard,
            spec,
            controls,
            output,
            pipes,
            waiting: None,
            requested: Instant::now(),
            started: None,
            stop: None,
        };
        run.attend(&frame, theirs).await
    }
}

/// Shuts the slot unless the run came to its end: whatever runs in it is then killed.
struct ShutOnDrop<'a> {
    slot: &'a mut Slot,
    finished: bool,
}

impl Drop for ShutOnDrop<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.slot.shut();
        }
    }
}

/// This side's ends.
struct Pipes {
    stdout: OutputPipe,
    stderr: OutputPipe,
    stdin: InputPipe,
}

impl Pipes {
    /// All pipes, and the program's ends in the order in which the protocol has them.
    fn open(document: Option<Vec<u8>>) -> std::io::Result<(Self, Vec<OwnedFd>)> {
        let (stdout, program_stdout) = OutputPipe::open(Stream::Stdout)?;
        let (stderr, program_stderr) = OutputPipe::open(Stream::Stderr)?;
        let mut theirs = vec![program_stdout, program_stderr];
        let stdin = match document {
            None => InputPipe::none(),
            Some(document) => {
                let (stdin, program_stdin) = InputPipe::open(document)?;
                theirs.push(program_stdin);
                stdin
            }
        };
        let ours = Self {
            stdout,
            stderr,
            stdin,
        };
        Ok((ours, theirs))
    }

    /// The program goes on for a while, so its pipes are worth the runtime's attention.
    fn attend(&mut self) -> std::io::Result<()> {
        self.stdout.attend()?;
        self.stderr.attend()?;
        self.stdin.attend()
    }
}

/// The state of one run.
struct Run<'a> {
    guard: ShutOnDrop<'a>,
    spec: Spec,
    controls: Controls,
    output: mpsc::Sender<OutputChunk>,
    pipes: Pipes,
    /// A chunk that the channel has no room for yet; nothing more is read while there is one.
    waiting: Option<OutputChunk>,
    requested: Instant,
    started: Option<Started>,
    stop: Option<Stop>,
}

/// What a run waits for.
enum Event {
    /// A chunk that had waited is handed on, or nobody wants it any more.
    Room,
    Readable(Stream),
    Report(std::io::Result<Report>),
    Order(Order),
}

impl Run<'_> {
    async fn attend(mut self, frame: &[u8], theirs: Vec<OwnedFd>) -> Outcome {
        // A request that does not fit into the socket waits for a spawner that may be paused.
        let sending = self.guard.slot.link.send(frame, &theirs);
        if !matches!(tokio::time::timeout(PATIENCE, sending).await, Ok(Ok(()))) {
            return self.lost().await;
        }
        // The program's ends must be the program's alone, or its output would never come to an end.
        drop(theirs);
        failpoint!("process.requested");
        loop {
            match self.next().await {
                Event::Room => {}
                Event::Readable(stream) => self.read(stream),
                Event::Order(Order::Stop(stop)) => {
                    if self.send_stop(stop).await.is_err() {
                        return self.lost().await;
                    }
                }
                Event::Report(Ok(Report::Started(start))) => {
                    failpoint!("process.started");
                    self.note_start(start);
                    if let Err(error) = self.pipes.attend() {
                        tracing::error!(%error, "a program's pipes cannot be attended to, so it is killed");
                        return self.lost().await;
                    }
                }
                Event::Order(Order::Hold(until)) => {
                    let slot = &mut *self.guard.slot;
                    let frame = encode_hold(slot.runs, on_the_clock(until));
                    if slot.link.send(&frame, &[]).await.is_err() {
                        return self.lost().await;
                    }
                }
                Event::Report(Ok(Report::Failed { error, .. })) => {
                    self.guard.finished = true;
                    if error.kind == SpawnErrorKind::TooLate {
                        return Outcome::NotStarted(StopCause::Shutdown);
                    }
                    return Outcome::SpawnFailed(error);
                }
                Event::Report(Ok(Report::Ended(end))) => return self.ended(end).await,
                Event::Report(Ok(Report::Hello { .. }) | Err(_)) => return self.lost().await,
            }
        }
    }

    async fn next(&mut self) -> Event {
        let timeout = self.timeout_at();
        let slot = &mut *self.guard.slot;
        let patience = self
            .stop
            .and_then(|stop| stop.kill_at.checked_add(PATIENCE))
            .map(Into::into);
        let idle = self.waiting.is_none();
        tokio::select! {
            () = make_room(&self.output, &mut self.waiting), if !idle => Event::Room,
            () = self.pipes.stdout.readable(), if idle => Event::Readable(Stream::Stdout),
            () = self.pipes.stderr.readable(), if idle => Event::Readable(Stream::Stderr),
            never = self.pipes.stdin.write() => match never {},
            report = slot.link.receive() => Event::Report(report),
            order = self.controls.next() => Event::Order(order),
            () = until(timeout) => Event::Order(Order::Stop(Stop::new(StopCause::Timeout, self.spec.timeout_grace))),
            () = until(patience) => Event::Report(Err(std::io::ErrorKind::TimedOut.into())),
        }
    }

    /// When the program has run too long, unless it is being stopped already. Before the news of its start has
    /// come, and it might never come from a spawner that is paused, the request counts.
    fn timeout_at(&self) -> Option<tokio::time::Instant> {
        let from = self.started.map_or(self.requested, |started| started.at);
        match (self.stop, self.spec.timeout) {
            (None, Some(timeout)) => from.checked_add(timeout).map(Into::into),
            _ => None,
        }
    }

    fn read(&mut self, stream: Stream) {
        let pipe = match stream {
            Stream::Stdout => &mut self.pipes.stdout,
            Stream::Stderr => &mut self.pipes.stderr,
        };
        let Some(chunk) = pipe.read(&mut self.guard.slot.scratch) else {
            return;
        };
        match self.output.try_send(chunk) {
            // Nobody wants it: the program is not made to wait for that.
            Ok(()) | Err(TrySendError::Closed(_)) => {}
            Err(TrySendError::Full(chunk)) => self.waiting = Some(chunk),
        }
    }

    fn note_start(&mut self, start: StartReport) -> Started {
        let age = monotonic().saturating_sub(start.at);
        let now = (Instant::now(), SystemTime::now());
        let started = Started {
            pid: start.pid,
            at: now.0.checked_sub(age).unwrap_or(now.0),
            wall: now.1.checked_sub(age).unwrap_or(now.1),
        };
        self.started = Some(started);
        self.controls.tell_started(started);
        started
    }

    /// The first cause stays; a later stop can only bring the killing forward.
    async fn send_stop(&mut self, asked: Stop) -> std::io::Result<()> {
        let stop = match self.stop {
            None => asked,
            Some(first) => Stop {
                cause: first.cause,
                kill_at: first.kill_at.min(asked.kill_at),
            },
        };
        self.stop = Some(stop);
        let grace = stop.kill_at.saturating_duration_since(Instant::now());
        let slot = &mut *self.guard.slot;
        slot.link.send(&encode_stop(slot.runs, grace), &[]).await
    }

    async fn ended(mut self, end: EndReport) -> Outcome {
        // A program that was over at once is told of only now.
        let started = match self.started {
            Some(started) => started,
            None => self.note_start(end.start),
        };
        self.guard.finished = true;
        self.drain().await;
        let slot = &mut *self.guard.slot;
        let (ended_by_memory, refused_processes) = slot.group.as_mut().map_or((0, 0), |group| {
            (group.ended_by_memory.growth(), group.refused_processes.growth())
        });
        if ended_by_memory > 0 {
            // What it left in a file system in memory is still counted in its group, and is not to be the next one's.
            slot.shut();
        }
        Outcome::Ended(Ended {
            exit: end.exit,
            // Where nobody here asked for the stop, the time was over for which the program was held.
            stopped: end
                .stopped
                .then(|| self.stop.map_or(StopCause::Shutdown, |stop| stop.cause)),
            pid: started.pid,
            started: started.at,
            started_wall: started.wall,
            duration: end.duration,
            leaked: end.leaked,
            unkillable: end.unkillable,
            usage: end.usage,
            limits: slot.limits,
            ended_by_memory,
            refused_processes,
        })
    }

    /// The spawner is gone: finds and kills what it ran, by other means.
    async fn lost(mut self) -> Outcome {
        let slot = &mut *self.guard.slot;
        slot.shut();
        // Usually it is dead already; one that talks nonsense must be before its programs are looked for.
        let _ = slot.spawner.start_kill();
        if let Some(group) = &slot.group {
            group.kill();
        }
        let (spawner, marker) = (slot.pid, self.spec.marker.take());
        let cleaning = tokio::task::spawn_blocking(move || {
            if let Some(pid) = Pid::from_raw(spawner.cast_signed()) {
                // Its orphans are only known once it has ended. It stays a zombie, so that its number stays taken.
                let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
            }
            kill_leftovers(spawner, marker);
        });
        if let Err(error) = cleaning.await {
            tracing::error!(%error, "looking for what a lost spawner left behind failed");
        }
        // The zombie has served its purpose.
        let _ = self.guard.slot.spawner.wait().await;
        self.drain().await;
        Outcome::Lost
    }

    /// Hands on what is left in the pipes, however slow the consumer is. All writers are gone.
    async fn drain(&mut self) {
        let scratch = &mut self.guard.slot.scratch;
        if let Some(chunk) = self.waiting.take() {
            let _ = self.output.send(chunk).await;
        }
        for pipe in [&mut self.pipes.stdout, &mut self.pipes.stderr] {
            let mut left = pipe.available();
            while left > 0
                && let Some(chunk) = pipe.drain(scratch)
            {
                left = left.saturating_sub(chunk.bytes.len());
                if self.output.send(chunk).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Hands the chunk on as soon as there is room, or drops it once nobody listens.
async fn make_room(output: &mpsc::Sender<OutputChunk>, waiting: &mut Option<OutputChunk>) {
    match output.reserve().await {
        Ok(room) => {
            if let Some(chunk) = waiting.take() {
                room.send(chunk);
            }
        }
        Err(_) => *waiting = None,
    }
}

/// A moment as both processes know it.
fn on_the_clock(moment: Instant) -> Duration {
    monotonic().saturating_add(moment.saturating_duration_since(Instant::now()))
}

async fn until(moment: Option<tokio::time::Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn no_pipes(error: &std::io::Error) -> SpawnError {
    let message = format!("the server is out of resources for the program's pipes: {error}");
    SpawnError::new(SpawnErrorKind::Resources, error.raw_os_error(), message)
}
