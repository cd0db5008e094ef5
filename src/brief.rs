//! Work that blocks for some microseconds: less than it takes to wake another thread. It looks at a file or asks SQLite for
//! a row by its key, and only a disk that takes its time makes it long.

use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Had by the one piece of work that may hold up a thread of the runtime.
static ALONE: Semaphore = Semaphore::const_new(1);

/// How long to wait for that one: far longer than it takes, unless a disk has it.
const PATIENCE: Duration = Duration::from_millis(10);

/// Does it on a thread of the runtime, one piece after the other. Where one takes its time, the thread of the next passes
/// on whatever else it has to do to a new one: so a slow disk never holds up all of them. That is the exception, since each
/// such thread keeps memory of its own.
pub(crate) async fn briefly<T>(work: impl FnOnce() -> T) -> T {
    let runtime = Handle::current();
    if runtime.runtime_flavor() == RuntimeFlavor::CurrentThread {
        return work();
    }
    let alone = match ALONE.try_acquire() {
        Ok(alone) => Some(alone),
        Err(_) => timeout(PATIENCE, ALONE.acquire()).await.ok().and_then(Result::ok),
    };
    if alone.is_some() && runtime.metrics().num_workers() > 1 {
        return work();
    }
    tokio::task::block_in_place(work)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Barrier};

    use tokio::task::{JoinSet, spawn_blocking};

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn more_work_than_threads_holds_up_nobody() {
        let barrier = Arc::new(Barrier::new(4));
        let mut tasks = JoinSet::new();
        // Three on two threads, all of which wait for a fourth: so somebody must be left who runs that.
        for _ in 0..3 {
            let barrier = Arc::clone(&barrier);
            tasks.spawn(async move {
                briefly(|| barrier.wait()).await;
            });
        }
        tasks.spawn(async move {
            spawn_blocking(move || barrier.wait()).await.unwrap();
        });
        assert_eq!(tasks.join_all().await.len(), 4);
    }

    #[tokio::test]
    async fn one_thread_is_enough() {
        assert_eq!(briefly(|| 1).await, 1);
    }
}
