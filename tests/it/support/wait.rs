//! Waiting for a condition, with a bound. No test sleeps for a time that somebody guessed.

use std::fmt::Debug;
use std::time::Duration;

/// How long any condition may take on a busy machine before it counts as never.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Between two looks: short at first, since most conditions hold almost at once.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Looks again and again until `look` says `Ok`; an `Err` is the state that was seen instead. Panics with the last of
/// those when the deadline has passed, even while a look hangs.
pub(crate) async fn until<T, S: Debug>(what: &str, look: impl AsyncFnMut() -> Result<T, S>) -> T {
    until_for(DEADLINE, what, look).await
}

/// As [`until`], with a deadline of its own: where more is to be waited for, or where the time is what is promised.
pub(crate) async fn until_for<T, S: Debug>(
    deadline: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Result<T, S>,
) -> T {
    let mut last = None;
    let mut pause = FIRST_PAUSE;
    let found = tokio::time::timeout(deadline, async {
        loop {
            match look().await {
                Ok(found) => return found,
                Err(state) => last = Some(state),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    })
    .await;
    match found {
        Ok(found) => found,
        Err(_) => panic!("{what}: not within {deadline:?}; last seen: {last:#?}"),
    }
}

/// Waits for one thing that must come by itself.
pub(crate) async fn within<T>(what: &str, thing: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, thing).await {
        Ok(thing) => thing,
        Err(_) => panic!("{what}: not within {DEADLINE:?}"),
    }
}
