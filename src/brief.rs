//! Work that blocks for some microseconds: less than it takes to wake another thread. It looks at a file or asks SQLite for
//! a row by its key, and only a disk that takes its time makes it long.

use std::sync::{Mutex, TryLockError};

use tokio::runtime::{Handle, RuntimeFlavor};

/// Held by the one piece of work that may hold up a thread of the runtime.
static ALONE: Mutex<()> = Mutex::new(());

/// Does it on this thread of the runtime. Where another one does so already, the thread passes on whatever else it has to
/// do: so a slow disk never holds up all of them.
pub(crate) fn briefly<T>(work: impl FnOnce() -> T) -> T {
    let runtime = Handle::current();
    let alone = match ALONE.try_lock() {
        Ok(alone) => Some(alone),
        // It protects nothing that could be left half done.
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    };
    let others_go_on = alone.is_some() && runtime.metrics().num_workers() > 1;
    if others_go_on || runtime.runtime_flavor() == RuntimeFlavor::CurrentThread {
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
                briefly(|| barrier.wait());
            });
        }
        tasks.spawn(async move {
            spawn_blocking(move || barrier.wait()).await.unwrap();
        });
        assert_eq!(tasks.join_all().await.len(), 4);
    }

    #[tokio::test]
    async fn one_thread_is_enough() {
        assert_eq!(briefly(|| briefly(|| 1)), 1);
    }
}
