//! One question for all who ask for a job by its id at about the same time.
//!
//! A question to Postgres takes a round trip and wakes two processes, whatever it asks for. So only few are under way at
//! once, and who comes meanwhile is asked for by the next one. Whoever's turn it is asks for the others too, in its own
//! task; the others ask anew where it goes away. A question begins after all who share it have come, so nobody is told
//! less than what was committed before.

use std::collections::{HashMap, VecDeque};
use std::mem::take;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sea_orm::DbErr;
use sea_orm::error::ConnAcquireErr;
use tokio::sync::oneshot;

use super::error::StoreError;
use crate::domain::{Job, JobId};

/// Questions under way at once: while the answer of one is read, the database sees to another.
const QUESTIONS: usize = 2;

/// Jobs that one question asks for at most.
const JOBS: usize = 256;

/// Those who ask. Cheap to clone; all clones share the turns.
#[derive(Debug, Clone)]
pub(super) struct Together(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// How long to wait for a turn.
    patience: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    under_way: usize,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    id: JobId,
    reply: oneshot::Sender<Reply>,
}

#[derive(Debug)]
enum Reply {
    Found(Box<Result<Option<Job>, StoreError>>),
    /// To ask, for itself and for others.
    Turn(Turn),
}

/// The right to ask. It passes to the next when it is dropped, wherever that happens.
#[derive(Debug)]
struct Turn {
    shared: Arc<Shared>,
    others: Vec<Waiting>,
}

impl Together {
    pub(super) fn new(patience: Duration) -> Self {
        Self(Arc::new(Shared {
            patience,
            state: Mutex::default(),
        }))
    }

    /// The job of this id, which `ask` is to find among others.
    pub(super) async fn job<A>(
        &self,
        id: JobId,
        ask: impl Fn(Vec<JobId>) -> A,
    ) -> Result<Option<Job>, StoreError>
    where
        A: Future<Output = Result<HashMap<JobId, Job>, StoreError>>,
    {
        loop {
            let mut turn = match self.enter(id) {
                Ok(turn) => turn,
                Err(answer) => match tokio::time::timeout(self.0.patience, answer).await {
                    Ok(Ok(Reply::Found(found))) => return *found,
                    Ok(Ok(Reply::Turn(turn))) => turn,
                    // Who asked for this one too went away.
                    Ok(Err(_)) => continue,
                    Err(_) => return Err(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout).into()),
                },
            };
            let mut ids: Vec<JobId> = turn.others.iter().map(|other| other.id).collect();
            ids.push(id);
            ids.sort_unstable();
            ids.dedup();
            let found = ask(ids).await;
            let of = |id| match &found {
                Ok(jobs) => Ok(jobs.get(&id).cloned()),
                Err(error) => Err(error.again()),
            };
            for Waiting { id, reply } in take(&mut turn.others) {
                // Who went away needs no answer.
                let _ = reply.send(Reply::Found(Box::new(of(id))));
            }
            drop(turn);
            return match found {
                Ok(mut jobs) => Ok(jobs.remove(&id)),
                Err(error) => Err(error),
            };
        }
    }

    /// A turn, or what it is to be waited for.
    fn enter(&self, id: JobId) -> Result<Turn, oneshot::Receiver<Reply>> {
        let mut state = self.0.state();
        if state.under_way < QUESTIONS {
            state.under_way += 1;
            return Ok(Turn {
                shared: Arc::clone(&self.0),
                others: Vec::new(),
            });
        }
        let (reply, answer) = oneshot::channel();
        state.waiting.push_back(Waiting { id, reply });
        Err(answer)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        let next = loop {
            match state.waiting.pop_front() {
                Some(gone) if gone.reply.is_closed() => {}
                next => break next,
            }
        };
        let Some(next) = next else {
            state.under_way -= 1;
            return;
        };
        let more = state.waiting.len().min(JOBS - 1);
        let others = state.waiting.drain(..more).collect();
        drop(state);
        let turn = Turn {
            shared: Arc::clone(&self.shared),
            others,
        };
        // Where that one has just gone, the turn passes on from here.
        let _ = next.reply.send(Reply::Turn(turn));
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;
    use tokio::task::{AbortHandle, JoinSet, yield_now};
    use uuid::Uuid;

    use super::*;

    type Found = Result<Option<Job>, StoreError>;

    /// A database that finds nobody, and answers only when it is let.
    struct Database {
        together: Together,
        /// How many jobs each question asked for, in the order in which they came.
        asked: Arc<Mutex<Vec<usize>>>,
        go: Arc<Semaphore>,
    }

    impl Database {
        fn new(patience: Duration) -> Self {
            Self {
                together: Together::new(patience),
                asked: Arc::default(),
                go: Arc::new(Semaphore::new(0)),
            }
        }

        /// Asks for a job.
        fn ask(&self, tasks: &mut JoinSet<Found>, number: u128) -> AbortHandle {
            let (together, asked, go) = (self.together.clone(), self.asked.clone(), self.go.clone());
            let id = JobId::from_uuid(Uuid::from_u128(number));
            tasks.spawn(async move {
                together
                    .job(id, |ids| {
                        asked.lock().unwrap().push(ids.len());
                        let go = go.clone();
                        async move {
                            let _ = go.acquire().await.unwrap();
                            Ok(HashMap::new())
                        }
                    })
                    .await
            })
        }

        /// Waits until so many questions were asked, and so many wait for their turn.
        async fn until(&self, asked: usize, waiting: usize) {
            while self.asked.lock().unwrap().len() < asked || self.together.0.state().waiting.len() != waiting
            {
                yield_now().await;
            }
        }

        /// Lets it answer all, and counts who got an answer.
        async fn answer(&self, tasks: JoinSet<Found>) -> usize {
            self.go.add_permits(1);
            let found = tasks.join_all().await;
            assert_eq!(self.together.0.state().under_way, 0);
            found.iter().filter(|found| matches!(found, Ok(None))).count()
        }
    }

    #[tokio::test]
    async fn who_comes_meanwhile_shares_the_next_question() {
        let database = Database::new(Duration::from_secs(60));
        let mut tasks = JoinSet::new();
        for number in 0..20 {
            // Two for each job.
            database.ask(&mut tasks, number / 2);
        }
        database.until(2, 18).await;
        assert_eq!(database.answer(tasks).await, 20);
        // The first two by themselves, all others at once.
        assert_eq!(*database.asked.lock().unwrap(), [1, 1, 9]);
    }

    #[tokio::test]
    async fn who_goes_away_leaves_the_turn_to_the_others() {
        let database = Database::new(Duration::from_secs(60));
        let mut tasks = JoinSet::new();
        let asking: Vec<_> = (0..10).map(|number| database.ask(&mut tasks, number)).collect();
        database.until(2, 8).await;
        // One who waits, then both who ask: the next asks for all that are left.
        for gone in [5, 0, 1] {
            asking[gone].abort();
            while !asking[gone].is_finished() {
                yield_now().await;
            }
        }
        database.until(3, 0).await;
        // And that one, too: its turn is over, and the others ask anew.
        asking[2].abort();
        while tasks.len() > 6 {
            assert!(tasks.join_next().await.unwrap().is_err());
        }
        database.until(5, 4).await;
        assert_eq!(database.answer(tasks).await, 6);
    }

    #[tokio::test]
    async fn who_gets_no_turn_is_told_in_time() {
        let database = Database::new(Duration::from_millis(1));
        let mut tasks = JoinSet::new();
        for number in 0..2 {
            database.ask(&mut tasks, number);
        }
        database.until(2, 0).await;
        let mut late = JoinSet::new();
        database.ask(&mut late, 2);
        let refused = late.join_next().await.unwrap().unwrap();
        assert!(refused.unwrap_err().is_unavailable());
        assert_eq!(database.answer(tasks).await, 2);
    }
}
