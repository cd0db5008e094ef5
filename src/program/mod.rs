//! What it takes to run a job's program, whoever runs it: a server's own worker, or one on another machine.
//!
//! | file | what |
//! | --- | --- |
//! | `programs` | where programs are, and what of this process's environment they get |
//! | `environment` | the variables of one attempt |
//! | `workspace` | the folders of one attempt |
//! | `spare` | those that one attempt hands on to the next |
//! | `folder` | folders whose content is hostile: made, read and removed without following a link |
//! | `lines`, `drain` | what a program prints, as lines, handed on without letting them pile up |
//! | `sandbox` | what is in force of what jobs are kept from |
//! | `outcome` | what its end means for the attempt |
//!
//! Not here: the store, and the API. A worker on another machine has no store.

mod drain;
mod environment;
mod folder;
mod lines;
mod outcome;
mod programs;
mod sandbox;
mod spare;
mod workspace;

pub(crate) use drain::{Sink, drain};
pub(crate) use environment::Variables;
pub(crate) use folder::remove_tree;
#[cfg(fuzzing)]
pub(crate) use lines::invariants;
pub(crate) use lines::{LONGEST_MASK, Line, Lines, Reading};
pub(crate) use outcome::{Runner, ending, remarks};
pub(crate) use programs::{Programs, SHELLS};
pub(crate) use sandbox::check_sandbox;
pub(crate) use spare::{Spare, remove_spares};
pub(crate) use workspace::{Workspace, check_name, left_behind};
