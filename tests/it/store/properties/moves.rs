//! The state machine: whoever moves a job, in whatever order and with whatever attempt, it goes the ways of the model.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use runql::domain::{Job, JobEventType, JobId, JobStatus, Progress, Timestamp};
use runql::store::{CancelJob, Cancelled, EndResult, ExpireLeases, PromoteDue, RecordProgress, ReleaseJob};

use super::super::fixture::{LEASE, all_events, at, claim, end_of, insert, retried_job, stored};
use super::{Case, check};
use crate::support::both_stores;
use crate::support::db::{TestDb, rows_of};

both_stores!(whoever_moves_it_a_job_goes_the_ways_of_the_model);

/// What a job may be asked for with: how often it is tried, and the pause.
type Asked = (u32, Duration);

/// What somebody does.
#[derive(Debug, Clone)]
enum Act {
    /// Free workers ask for jobs.
    Claim(usize),
    /// Whoever once held a job says how it ended, of the attempt that he held or of another.
    End(Index, JobStatus, Option<u32>),
    /// Whoever once held a job gives it back.
    Release(Index),
    /// Whoever once held a job tells how far it is.
    Tell(Index),
    /// A client cancels.
    Cancel(Index),
    /// All leases run out, and some node notices.
    Expire,
    /// The moment comes for all that waits for one.
    Promote,
}

fn acts() -> impl Strategy<Value = Act> {
    let ends = select(JobStatus::ALL);
    prop_oneof![
        6 => (1_usize..4).prop_map(Act::Claim),
        8 => (any::<Index>(), ends, proptest::option::weighted(0.2, 0_u32..5))
            .prop_map(|(held, status, attempt)| Act::End(held, status, attempt)),
        2 => any::<Index>().prop_map(Act::Release),
        2 => any::<Index>().prop_map(Act::Tell),
        2 => any::<Index>().prop_map(Act::Cancel),
        1 => Just(Act::Expire),
        3 => Just(Act::Promote),
    ]
}

fn asked() -> impl Strategy<Value = Asked> {
    let pause = any::<bool>().prop_map(|pauses| Duration::from_secs(if pauses { 60 } else { 0 }));
    (1_u32..4, pause)
}

async fn whoever_moves_it_a_job_goes_the_ways_of_the_model(db: TestDb) {
    let cases = (
        proptest::collection::vec(asked(), 1..4),
        proptest::collection::vec(acts(), 0..40),
    );
    check(db, [60, 20], cases, async |case, (asked, acts)| {
        let mut world = World::new(case, &asked).await;
        for act in &acts {
            world.act(act).await;
            world.is_as_modelled().await;
        }
        world.ends().await;
    })
    .await;
}

/// What the model knows of a job.
#[derive(Debug, Clone)]
struct Model {
    id: JobId,
    most: u32,
    backoff: Duration,
    status: JobStatus,
    attempt: u32,
    /// Whether it may be claimed now, where it is PENDING.
    in_line: bool,
    cancel: bool,
    /// The statuses that its events must tell of, in their order.
    history: Vec<JobStatus>,
    /// Its row since it ended.
    sealed: Option<String>,
}

impl Model {
    fn go(&mut self, status: JobStatus) {
        assert!(!self.status.is_final(), "the model itself must obey");
        self.status = status;
        self.history.push(status);
    }

    /// The end of an attempt; none where it is not the attempt that runs, or no end at all.
    fn end(&mut self, attempt: u32, said: JobStatus) -> Option<JobStatus> {
        if self.status != JobStatus::Running || self.attempt != attempt || !said.is_final() {
            return None;
        }
        let failed = matches!(said, JobStatus::Failed | JobStatus::Timeout);
        let to = match failed && self.attempt < self.most {
            true if self.cancel => JobStatus::Cancelled,
            true => JobStatus::Pending,
            false => said,
        };
        self.in_line = self.backoff.is_zero();
        self.go(to);
        Some(to)
    }
}

struct World<'a> {
    case: Case<'a>,
    models: Vec<Model>,
    /// Jobs as somebody once held them.
    held: Vec<Arc<Job>>,
    /// The clock of all, in milliseconds.
    ms: i64,
}

impl<'a> World<'a> {
    async fn new(case: Case<'a>, asked: &[Asked]) -> Self {
        let new: Vec<_> = asked
            .iter()
            .map(|&(most, backoff)| retried_job(0, most, backoff))
            .collect();
        let models = new.iter().map(|job| Model {
            id: job.id,
            most: job.retry.max_attempts,
            backoff: job.retry.backoff,
            status: JobStatus::Pending,
            attempt: 0,
            in_line: true,
            cancel: false,
            history: vec![JobStatus::Pending],
            sealed: None,
        });
        let models = models.collect();
        insert(case.node, new).await;
        Self {
            case,
            models,
            held: Vec::new(),
            ms: 1,
        }
    }

    fn model(&mut self, id: JobId) -> &mut Model {
        self.models.iter_mut().find(|model| model.id == id).unwrap()
    }

    fn some_held(&self, which: &Index) -> Option<Arc<Job>> {
        (!self.held.is_empty()).then(|| Arc::clone(which.get(&self.held)))
    }

    fn now(&self) -> Timestamp {
        at(self.ms)
    }

    async fn act(&mut self, act: &Act) {
        self.ms += 1;
        let node = self.case.node;
        match act {
            Act::Claim(most) => self.claim(*most).await,
            Act::End(which, said, attempt) => {
                let Some(held) = self.some_held(which) else { return };
                let said_of = match attempt {
                    Some(attempt) => Arc::new(Job {
                        attempt: *attempt,
                        ..Job::clone(&held)
                    }),
                    None => held,
                };
                let got = node.write(end_of(&said_of, *said, self.ms)).await;
                let expected = self.model(said_of.id).end(said_of.attempt, *said);
                match (got, expected) {
                    (EndResult::Stale, None) | (EndResult::Retried(_), Some(JobStatus::Pending)) => {}
                    (EndResult::Ended(got), Some(expected)) if got == expected => {}
                    other => panic!("the store and the model: {other:?}"),
                }
            }
            Act::Release(which) => {
                let Some(held) = self.some_held(which) else { return };
                let now = self.now();
                let job = Arc::clone(&held);
                let released = node.write(ReleaseJob { job, now }).await;
                let model = self.model(held.id);
                let expected =
                    model.status == JobStatus::Running && model.attempt == held.attempt && !model.cancel;
                if expected {
                    model.attempt -= 1;
                    model.in_line = true;
                    model.go(JobStatus::Pending);
                    // Who gave an attempt back knows that it is no longer his: the number will be somebody else's.
                    self.held
                        .retain(|job| (job.id, job.attempt) != (held.id, held.attempt));
                }
                assert_eq!(released, expected);
            }
            Act::Tell(which) => {
                let Some(held) = self.some_held(which) else { return };
                let progress = Progress {
                    current: 1,
                    total: None,
                    step: None,
                    updated_at: self.now(),
                };
                let (job, attempt) = (held.id, held.attempt);
                let told = node
                    .write(RecordProgress {
                        job,
                        attempt,
                        progress,
                    })
                    .await;
                let model = self.model(job);
                let expected = model.status == JobStatus::Running && model.attempt == attempt;
                if expected {
                    model.history.push(JobStatus::Running);
                }
                assert_eq!(told, expected);
            }
            Act::Cancel(which) => {
                let id = which.get(&self.models).id;
                let cancel = CancelJob {
                    id,
                    reason: None,
                    grace: None,
                    now: self.now(),
                };
                let got = node.write(cancel).await;
                let model = self.model(id);
                match got {
                    Cancelled::Done(_) => {
                        assert_eq!(model.status, JobStatus::Pending);
                        model.go(JobStatus::Cancelled);
                    }
                    Cancelled::Requested(_) => {
                        assert_eq!(model.status, JobStatus::Running);
                        model.cancel = true;
                    }
                    Cancelled::AlreadyEnded(_) => assert!(model.status.is_final()),
                    Cancelled::NotFound => panic!("it is there"),
                }
            }
            Act::Expire => {
                self.ms += 2 * i64::try_from(LEASE.as_millis()).unwrap();
                let expired = node
                    .write(ExpireLeases {
                        before: self.now(),
                        whose: runql::store::Whose::All,
                        now: self.now(),
                        jitter: 1.0,
                    })
                    .await;
                let mut ended = 0;
                for model in &mut self.models {
                    let cancelled = model.cancel;
                    let said = if cancelled {
                        JobStatus::Cancelled
                    } else {
                        JobStatus::Failed
                    };
                    ended += usize::from(model.end(model.attempt, said).is_some());
                }
                assert_eq!(expired.jobs.len(), ended);
            }
            Act::Promote => {
                self.ms += 3_600_000;
                node.write(PromoteDue { now: self.now() }).await;
                for model in &mut self.models {
                    model.in_line |= model.status == JobStatus::Pending;
                }
            }
        }
    }

    async fn claim(&mut self, most: usize) {
        let claimed = claim(self.case.node, most, self.ms).await;
        let ready = self
            .models
            .iter_mut()
            .filter(|model| model.status == JobStatus::Pending && model.in_line);
        let mut expected = Vec::new();
        for model in ready.take(most) {
            model.attempt += 1;
            model.go(JobStatus::Running);
            expected.push((model.id, model.attempt));
        }
        let got: Vec<_> = claimed.iter().map(|job| (job.id, job.attempt)).collect();
        assert_eq!(got, expected, "who is next in line");
        self.held.extend(claimed.into_iter().map(Arc::new));
    }

    async fn is_as_modelled(&mut self) {
        let rows = rows_of(self.case.raw, "job").await;
        for model in &mut self.models {
            let job = stored(self.case.node, model.id).await;
            assert_eq!((job.status, job.attempt), (model.status, model.attempt));
            assert!(job.attempt <= model.most, "more attempts than were asked for");
            assert_eq!(job.cancel.is_some(), model.cancel || job.cancel.is_some());
            if !model.status.is_final() {
                continue;
            }
            let id = model.id.to_string().replace('-', "");
            let row = rows.iter().find(|row| {
                let row = row.to_lowercase().replace('-', "");
                row.contains(&id)
            });
            let row = row.expect("a job that ended is there").clone();
            let sealed = model.sealed.get_or_insert_with(|| row.clone());
            assert_eq!(*sealed, row, "a job that ended has changed");
        }
        self.case.counters_are_right().await;
    }

    /// Whatever happened so far, workers that do nothing but fail bring every job to its end.
    async fn ends(&mut self) {
        let most: u32 = self.models.iter().map(|model| model.most).sum();
        for _ in 0..=most {
            self.act(&Act::Expire).await;
            self.act(&Act::Promote).await;
            self.claim(self.models.len()).await;
        }
        self.act(&Act::Expire).await;
        self.is_as_modelled().await;
        assert!(self.models.iter().all(|model| model.status.is_final()));
        let events = all_events(self.case.node.reader()).await;
        for model in &self.models {
            let own: Vec<_> = events.iter().filter(|event| event.job == model.id).collect();
            let told: Vec<JobStatus> = own.iter().map(|event| event.status).collect();
            assert_eq!(told, model.history, "what listeners were told");
            assert_eq!(own[0].kind, JobEventType::Created);
            for pair in own.windows(2) {
                assert_eq!(pair[1].previous, Some(pair[0].status));
            }
            let attempts = self
                .case
                .node
                .reader()
                .earlier_attempts(&[model.id])
                .await
                .unwrap();
            let attempts = attempts.get(&model.id).map_or(0, Vec::len);
            assert!(u32::try_from(attempts).unwrap() <= model.attempt);
        }
    }
}
