//! Running one program for real, supervised, with nothing left behind. Linux only.
//!
//! A [`Slot`] is a place where one program runs at a time. Behind it stands a *spawner*: a small process of its own, the same executable started anew, which has itself made the parent of every orphan below it
//! (a subreaper). The spawner starts the program, waits for it, kills what has to be killed and reports; the output
//! goes through pipes straight from the program to this process. Four things follow:
//!
//! - A server of a gigabyte never forks: the spawner that starts programs stays small.
//! - "Nothing is left" is not an estimate. Whatever descends from a program becomes the spawner's own child in the
//!   end, whichever session or environment it fled to, so the kernel's word that there are no children is the proof.
//! - What a program must not reach is kept from it by the spawner (see [`Sandbox`]), not by the server, and without a
//!   fork: see `spawner/confine.rs`.
//! - A server that dies, by `kill -9` too, closes the socket; the spawner then kills everything below it and ends.
//!
//! [`Slot::run`] feeds standard input, hands on the output with back-pressure and carries stops and the timeout to
//! the spawner, all in the caller's own task. What it runs is told by a [`Spec`], what came of it by an [`Outcome`].
//!
//! Not here: jobs, attempts, logs, the store. This module is the only one that starts processes and the only one
//! with unsafe code, which is kept to `spawner/system.rs`.
//!
//! An executable whose slots start from [`own_executable`] calls [`run_spawner_if_asked`] first in its `main`.

mod cgroup;
mod codec;
mod control;
mod lost;
mod open_files;
mod outcome;
mod output;
mod procfs;
mod protocol;
mod run;
mod sandbox;
mod slot;
mod spawner;
mod spec;
mod stdin;

pub use cgroup::Cgroup;
pub use control::{Controls, Started, StopCause, StopHandle, controls};
pub use open_files::raise_open_files;
pub use outcome::{Ended, Exit, Outcome, SpawnError, SpawnErrorKind, Usage, signal_name};
pub use output::{OUTPUT_BOUND, OutputChunk, Stream};
pub use sandbox::{LANDLOCK_COMPLETE, Limits, RunAs, Sandbox, SandboxMode};
pub use slot::{Slot, own_executable};
pub use spawner::run_spawner_if_asked;
pub use spec::Spec;
