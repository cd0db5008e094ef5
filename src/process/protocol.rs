//! What the server and a spawner say to each other.
//!
//! First comes `Settle`, which is answered by `Hello` or `Failed`. Then one program at a time: `Start` is answered by
//! `Failed`, or by `Started` and then `Ended`. A program that is over within [`NOTICE`] has no `Started`, since `Ended`
//! tells all of it. Each of them carries the number of the run, so that a `Stop` that crossed an `Ended` on its way stops
//! nothing else. `Hold` moves the moment at which the spawner kills the program by itself. The program's ends of the
//! pipes travel with the first byte of `Start`: standard output, standard error, and standard input if there is a
//! document to read. Times are nanoseconds of the system's monotonic clock, which both processes share.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

use super::codec::{Decoder, Encoder, Malformed};
use super::outcome::{Exit, SpawnError, SpawnErrorKind, Usage};
use super::sandbox::{Sandbox, put_paths, take_paths};
use super::spec::Spec;

/// The first argument that makes this executable a spawner.
pub(super) const SPAWNER_ARGUMENT: &str = "__runql-spawner";

/// Changes whenever the frames do: an executable that was replaced may be asked to serve an older one.
pub(super) const VERSION: u64 = 2;

/// How long the news of a start is held back. Most small programs are over by then, and a message and several
/// system calls for each of them are spared; for all others it is too short to be noticed.
pub(super) const NOTICE: Duration = Duration::from_millis(4);

/// At most this many descriptors travel with one request.
pub(super) const MOST_FDS: usize = 3;

const START: u64 = 1;
const STOP: u64 = 2;
const HOLD: u64 = 3;
const SETTLE: u64 = 4;
const HELLO: u64 = 11;
const STARTED: u64 = 12;
const FAILED: u64 = 13;
const ENDED: u64 = 14;

/// The system's monotonic clock.
pub(super) fn monotonic() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    // The monotonic clock counts from the boot, so neither part is ever negative.
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

/// From the server to the spawner.
#[derive(Debug)]
pub(super) enum Request {
    Settle(Box<Sandbox>),
    Start(Box<Start>),
    Stop { run: u64, grace: Duration },
    Hold { run: u64, until: Duration },
}

/// What the spawner needs to know of a [`Spec`]; times other than the leak grace are the server's business.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) run: u64,
    pub(super) has_stdin: bool,
    /// When the program is killed unless a `Hold` moves that; zero for never.
    pub(super) held_until: Duration,
    pub(super) leak_grace: Duration,
    pub(super) marker: Option<OsString>,
    pub(super) program: OsString,
    pub(super) current_dir: PathBuf,
    pub(super) writable: Vec<PathBuf>,
    pub(super) args: Vec<OsString>,
    pub(super) env: Vec<(OsString, OsString)>,
}

/// The frame of a `Start`, or nothing if it is larger than anything the system would take.
pub(super) fn encode_start(run: u64, spec: &Spec, held_until: Option<Duration>) -> Option<Vec<u8>> {
    let mut to = Encoder::new(START);
    to.number(run);
    to.number(u64::from(spec.stdin.is_some()));
    put_time(&mut to, held_until.unwrap_or_default());
    put_time(&mut to, spec.leak_grace);
    // The empty marker stands for none: it could not be told from an empty entry.
    put_text(&mut to, spec.marker.as_deref().unwrap_or_default());
    put_text(&mut to, &spec.program);
    put_text(&mut to, spec.current_dir.as_os_str());
    put_paths(&mut to, &spec.writable);
    to.number(spec.args.len() as u64);
    for arg in &spec.args {
        put_text(&mut to, arg);
    }
    to.number(spec.env.len() as u64);
    for (name, value) in &spec.env {
        put_text(&mut to, name);
        put_text(&mut to, value);
    }
    to.finish()
}

/// The frame of a `Settle`, or nothing if it is too large.
pub(super) fn encode_settle(sandbox: &Sandbox) -> Option<Vec<u8>> {
    let mut to = Encoder::new(SETTLE);
    sandbox.encode(&mut to);
    to.finish()
}

/// The frame of a `Stop`.
pub(super) fn encode_stop(run: u64, grace: Duration) -> Vec<u8> {
    let mut to = Encoder::new(STOP);
    to.number(run);
    put_time(&mut to, grace);
    to.finish().unwrap_or_default()
}

/// The frame of a `Hold`.
pub(super) fn encode_hold(run: u64, until: Duration) -> Vec<u8> {
    let mut to = Encoder::new(HOLD);
    to.number(run);
    put_time(&mut to, until);
    to.finish().unwrap_or_default()
}

impl Request {
    pub(super) fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let mut from = Decoder::new(body);
        match from.number()? {
            SETTLE => Ok(Self::Settle(Box::new(Sandbox::decode(&mut from)?))),
            START => Ok(Self::Start(Box::new(Start::decode(&mut from)?))),
            STOP => Ok(Self::Stop {
                run: from.number()?,
                grace: take_time(&mut from)?,
            }),
            HOLD => Ok(Self::Hold {
                run: from.number()?,
                until: take_time(&mut from)?,
            }),
            _ => Err(Malformed),
        }
    }
}

impl Start {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let run = from.number()?;
        let has_stdin = from.number()? != 0;
        let held_until = take_time(from)?;
        let leak_grace = take_time(from)?;
        let marker = Some(take_text(from)?).filter(|marker| !marker.is_empty());
        let program = take_text(from)?;
        let current_dir = PathBuf::from(take_text(from)?);
        let writable = take_paths(from)?;
        let count: usize = from.narrow()?;
        let args = (0..count).map(|_| take_text(from)).collect::<Result<_, _>>()?;
        let count: usize = from.narrow()?;
        let env = (0..count)
            .map(|_| Ok((take_text(from)?, take_text(from)?)))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            run,
            has_stdin,
            held_until,
            leak_grace,
            marker,
            program,
            current_dir,
            writable,
            args,
            env,
        })
    }
}

/// From the spawner to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Report {
    /// The version of Landlock that programs are under; 0 is none.
    Hello {
        version: u64,
        landlock: u32,
    },
    Started(StartReport),
    Failed {
        run: u64,
        error: SpawnError,
    },
    Ended(EndReport),
}

/// That a program has started, and when by the monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StartReport {
    pub(super) run: u64,
    pub(super) pid: u32,
    pub(super) at: Duration,
}

/// How a program ended, as the spawner saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EndReport {
    pub(super) start: StartReport,
    pub(super) exit: Exit,
    pub(super) duration: Duration,
    /// A stop had reached the program before it ended.
    pub(super) stopped: bool,
    pub(super) leaked: usize,
    pub(super) unkillable: usize,
    pub(super) usage: Usage,
}

impl Report {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut to;
        match self {
            Self::Hello { version, landlock } => {
                to = Encoder::new(HELLO);
                to.number(*version);
                to.number(u64::from(*landlock));
            }
            Self::Started(start) => {
                to = Encoder::new(STARTED);
                start.encode(&mut to);
            }
            Self::Failed { run, error } => {
                to = Encoder::new(FAILED);
                to.number(*run);
                to.number(error.kind as u64);
                to.number(u64::from(error.errno.unwrap_or(0).unsigned_abs()));
                to.bytes(error.message.as_bytes());
            }
            Self::Ended(end) => {
                to = Encoder::new(ENDED);
                end.encode(&mut to);
            }
        }
        // Reports are small, but for a program's name in a message, which the request already bounded.
        to.finish().unwrap_or_default()
    }

    pub(super) fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let mut from = Decoder::new(body);
        Ok(match from.number()? {
            HELLO => Self::Hello {
                version: from.number()?,
                landlock: from.narrow()?,
            },
            STARTED => Self::Started(StartReport::decode(&mut from)?),
            FAILED => {
                let run = from.number()?;
                let kind = SpawnErrorKind::from_code(from.number()?);
                let errno = Some(from.narrow()?).filter(|errno| *errno != 0);
                let message = String::from_utf8_lossy(from.bytes()?).into_owned();
                let error = SpawnError::new(kind, errno, message);
                Self::Failed { run, error }
            }
            ENDED => Self::Ended(EndReport::decode(&mut from)?),
            _ => return Err(Malformed),
        })
    }
}

impl StartReport {
    fn encode(&self, to: &mut Encoder) {
        to.number(self.run);
        to.number(u64::from(self.pid));
        put_time(to, self.at);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            run: from.number()?,
            pid: from.narrow()?,
            at: take_time(from)?,
        })
    }
}

impl EndReport {
    fn encode(&self, to: &mut Encoder) {
        let (signalled, number) = match self.exit {
            Exit::Code(code) => (0, code),
            Exit::Signal(signal) => (1, signal),
        };
        self.start.encode(to);
        to.number(signalled);
        to.number(u64::from(number.unsigned_abs()));
        put_time(to, self.duration);
        to.number(u64::from(self.stopped));
        to.number(self.leaked as u64);
        to.number(self.unkillable as u64);
        put_time(to, self.usage.user);
        put_time(to, self.usage.system);
        to.number(self.usage.max_rss);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let start = StartReport::decode(from)?;
        let signalled = from.number()? != 0;
        let number = from.narrow()?;
        Ok(Self {
            start,
            exit: if signalled {
                Exit::Signal(number)
            } else {
                Exit::Code(number)
            },
            duration: take_time(from)?,
            stopped: from.number()? != 0,
            leaked: from.narrow()?,
            unkillable: from.narrow()?,
            usage: Usage {
                user: take_time(from)?,
                system: take_time(from)?,
                max_rss: from.number()?,
            },
        })
    }
}

fn put_time(to: &mut Encoder, time: Duration) {
    to.number(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
}

fn take_time(from: &mut Decoder<'_>) -> Result<Duration, Malformed> {
    Ok(Duration::from_nanos(from.number()?))
}

pub(super) fn put_text(to: &mut Encoder, text: &OsStr) {
    to.bytes(text.as_bytes());
}

pub(super) fn take_text(from: &mut Decoder<'_>) -> Result<OsString, Malformed> {
    Ok(OsString::from_vec(from.bytes()?.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_arrives_as_it_was_sent() {
        let mut spec = Spec::new("prog", "/dir");
        spec.args = vec!["a".into(), "".into(), OsString::from_vec(vec![0xff, 0x0a])];
        spec.env = vec![("N".into(), "v=w".into())];
        spec.marker = Some("N=v=w".into());
        spec.writable = vec!["/dir".into(), "/other".into()];
        spec.stdin = Some(Vec::new());
        let frame = encode_start(7, &spec, Some(Duration::from_nanos(5))).expect("small");
        let Request::Start(start) = Request::decode(&frame[4..]).expect("well formed") else {
            panic!("not a start");
        };
        assert_eq!(
            (start.run, start.has_stdin, start.held_until, start.leak_grace),
            (7, true, Duration::from_nanos(5), spec.leak_grace)
        );
        assert_eq!(
            (start.program, start.current_dir),
            (spec.program, spec.current_dir)
        );
        assert_eq!(
            (start.args, start.env, start.marker, start.writable),
            (spec.args, spec.env, spec.marker, spec.writable)
        );
    }

    #[test]
    fn reports_arrive_as_they_were_sent() {
        let start = StartReport {
            run: 1,
            pid: 2,
            at: Duration::from_nanos(3),
        };
        let end = EndReport {
            start,
            exit: Exit::Signal(9),
            duration: Duration::from_millis(5),
            stopped: true,
            leaked: 2,
            unkillable: 1,
            usage: Usage {
                user: Duration::from_micros(1),
                system: Duration::from_micros(2),
                max_rss: 3,
            },
        };
        let error = SpawnError::new(SpawnErrorKind::NotExecutable, Some(13), "no");
        for report in [
            Report::Hello {
                version: VERSION,
                landlock: 6,
            },
            Report::Started(start),
            Report::Failed { run: 1, error },
            Report::Ended(end),
        ] {
            assert_eq!(Report::decode(&report.encode()[4..]), Ok(report));
        }
    }
}
