//! From how a process ended to how the attempt did.

use crate::domain::Job;
use crate::process::Outcome;
use crate::program::{Runner, ending};
use crate::store::AttemptEnd;

/// How the attempt ended; none where the server went down before a process was started.
pub(super) fn attempt_end(outcome: &Outcome, job: &Job) -> Option<AttemptEnd> {
    let ending = ending(outcome, job.timeout, Runner::Server)?;
    Some(AttemptEnd {
        status: ending.status,
        end: ending.end,
        output: None,
        fault: ending.fault,
    })
}
