//! The clock of the executor, and the ids that are made by it.

use crate::domain::{JobId, Timestamp};

pub(super) use crate::clock::{chance, now, timestamp};

/// A new job's id and the moment of its creation. The moment is the id's own, so that a range of time is a range of
/// ids, and ids of one process sort in the order in which they were made.
pub(super) fn new_job_id() -> (JobId, Timestamp) {
    let id = uuid::Uuid::now_v7();
    let millis = id.as_u128() >> 80;
    (
        JobId::from_uuid(id),
        Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX)),
    )
}
