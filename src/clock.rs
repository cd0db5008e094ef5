//! The one clock, and the one source of chance.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::domain::Timestamp;

/// This moment.
pub(crate) fn now() -> Timestamp {
    timestamp(SystemTime::now())
}

/// The instant in the form that the store keeps.
pub(crate) fn timestamp(time: SystemTime) -> Timestamp {
    let micros = time
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros());
    Timestamp::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
}

/// A number from 0 to 1.
pub(crate) fn chance() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 11;
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    let chance = bits as f64 / (1_u64 << 53) as f64;
    chance
}
