//! The one function that decides which move of a job is legal.

use super::event::JobEventType;
use super::word::words;

words!(
    /// The six states of a job.
    JobStatus, "status of a job" {
        /// Stored, not started.
        Pending = "PENDING",
        /// Held by a worker under a lease.
        Running = "RUNNING",
        /// Ended well.
        Completed = "COMPLETED",
        /// Ended badly.
        Failed = "FAILED",
        /// Ended by its own time limit.
        Timeout = "TIMEOUT",
        /// Ended because somebody asked, or because what it waits for did not complete.
        Cancelled = "CANCELLED",
    }
);

impl JobStatus {
    /// Whether a job in this state never changes again.
    #[must_use]
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }
}

/// What can happen to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// A worker takes it.
    Claim,
    /// Its attempt came to this end; where attempts are left, a failure goes back to the queue.
    End(JobStatus),
    /// It is cancelled before it started, or while it waits for its next attempt.
    Cancel,
    /// The server goes down in order and gives it back before its process started: no attempt is used up.
    Release,
}

/// A legal move, with all that must be written for it: the guard, the new state and the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The status that the row must have for the move to count.
    pub from: JobStatus,
    /// The status afterwards.
    pub to: JobStatus,
    /// The attempt afterwards.
    pub attempt: u32,
    /// What listeners are told.
    pub event: JobEventType,
}

/// A move that the state machine refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a job that is {from} cannot make the move {refused:?}")]
pub struct IllegalMove {
    /// The status that it has.
    pub from: JobStatus,
    /// The move that was refused.
    pub refused: Move,
}

/// Decides one move of a job that is in `status`, at `attempt` of `max_attempts`.
///
/// Only a failure, a timeout or a lost worker is tried again; what completed or was cancelled never is.
///
/// # Errors
///
/// [`IllegalMove`] for every pair that the state machine does not have.
pub fn transition(
    status: JobStatus,
    attempt: u32,
    max_attempts: u32,
    wanted: Move,
) -> Result<Step, IllegalMove> {
    use JobStatus::{Cancelled, Completed, Failed, Pending, Running, Timeout};
    let step = |to, attempt, event| Step {
        from: status,
        to,
        attempt,
        event,
    };
    Ok(match (status, wanted) {
        (Pending, Move::Claim) => step(Running, attempt + 1, JobEventType::Started),
        (Pending, Move::Cancel) => step(Cancelled, attempt, JobEventType::Cancelled),
        (Running, Move::End(Completed)) => step(Completed, attempt, JobEventType::Completed),
        (Running, Move::End(Cancelled)) => step(Cancelled, attempt, JobEventType::Cancelled),
        (Running, Move::End(Failed | Timeout)) if attempt < max_attempts => {
            step(Pending, attempt, JobEventType::RetryScheduled)
        }
        (Running, Move::End(Failed)) => step(Failed, attempt, JobEventType::Failed),
        (Running, Move::End(Timeout)) => step(Timeout, attempt, JobEventType::TimedOut),
        (Running, Move::Release) => step(Pending, attempt.saturating_sub(1), JobEventType::RetryScheduled),
        _ => {
            return Err(IllegalMove {
                from: status,
                refused: wanted,
            });
        }
    })
}

#[cfg(test)]
mod tests {
    use super::JobStatus::{Cancelled, Completed, Failed, Pending, Running, Timeout};
    use super::*;

    /// Every pair of status and move, with attempts left and without: nothing is legal that is not in this table.
    #[test]
    fn every_pair_is_decided() {
        let moves = [
            Move::Claim,
            Move::Cancel,
            Move::Release,
            Move::End(Pending),
            Move::End(Running),
            Move::End(Completed),
            Move::End(Failed),
            Move::End(Timeout),
            Move::End(Cancelled),
        ];
        let expected = |status, last: bool, wanted| match (status, wanted) {
            (Pending, Move::Claim) => Some((Running, JobEventType::Started)),
            (Pending, Move::Cancel) => Some((Cancelled, JobEventType::Cancelled)),
            (Running, Move::Release) => Some((Pending, JobEventType::RetryScheduled)),
            (Running, Move::End(Completed)) => Some((Completed, JobEventType::Completed)),
            (Running, Move::End(Cancelled)) => Some((Cancelled, JobEventType::Cancelled)),
            (Running, Move::End(Failed)) if last => Some((Failed, JobEventType::Failed)),
            (Running, Move::End(Timeout)) if last => Some((Timeout, JobEventType::TimedOut)),
            (Running, Move::End(Failed | Timeout)) => Some((Pending, JobEventType::RetryScheduled)),
            _ => None,
        };
        for &status in JobStatus::ALL {
            for wanted in moves {
                for (attempt, max_attempts) in [(1, 1), (1, 3), (3, 3)] {
                    let got = transition(status, attempt, max_attempts, wanted).ok();
                    assert_eq!(
                        got.map(|step| (step.to, step.event)),
                        expected(status, attempt == max_attempts, wanted),
                        "{status} {wanted:?} at {attempt} of {max_attempts}"
                    );
                    if let Some(step) = got {
                        assert_eq!(step.from, status);
                        let released = u32::from(wanted == Move::Release);
                        let claimed = u32::from(wanted == Move::Claim);
                        assert_eq!(step.attempt + released, attempt + claimed);
                    }
                }
            }
        }
    }

    #[test]
    fn a_final_status_has_no_way_out() {
        for status in [Completed, Failed, Timeout, Cancelled] {
            assert!(status.is_final());
            assert!(transition(status, 1, 9, Move::Claim).is_err());
            assert!(transition(status, 1, 9, Move::Cancel).is_err());
        }
        assert!(!Pending.is_final() && !Running.is_final());
    }
}
