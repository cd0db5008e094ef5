//! Plans of any form, whose steps end in any order and in any way: what may run, what is not run, and the end are as
//! the model says; and there is always an end.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::join_all;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use runql::domain::{Job, JobId, JobStatus, Strategy as Order, Timestamp};
use runql::store::{CancelJob, EndResult, ExpireLeases, PromoteDue};

use super::super::fixture::{LEASE, at, claim, end_of, in_one_group, insert};
use super::plan_model::{Model, PlanAsked, StepAsked};
use super::{Case, check};
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(a_plan_does_what_the_model_says);

/// What happens while a plan runs.
#[derive(Debug, Clone)]
enum Act {
    /// So many workers ask for steps.
    Claim(usize),
    /// Some of the steps that run end, in one transaction.
    End(Vec<(Index, Said)>),
    /// A client cancels the plan or one of its steps.
    Cancel(Index),
    /// The servers that hold steps are gone, and another notices.
    Expire,
    /// The pauses before next attempts are over.
    Promote,
}

/// How a step ends; one that was asked to stop may obey.
#[derive(Debug, Clone, Copy)]
struct Said {
    status: JobStatus,
    obeys: bool,
}

fn said() -> impl Strategy<Value = Said> {
    let status = select(
        &[
            JobStatus::Completed,
            JobStatus::Completed,
            JobStatus::Completed,
            JobStatus::Failed,
            JobStatus::Timeout,
        ][..],
    );
    (status, any::<bool>()).prop_map(|(status, obeys)| Said { status, obeys })
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (1_usize..4).prop_map(Act::Claim),
        10 => proptest::collection::vec((any::<Index>(), said()), 1..3).prop_map(Act::End),
        1 => any::<Index>().prop_map(Act::Cancel),
        1 => Just(Act::Expire),
        2 => Just(Act::Promote),
    ]
}

fn order() -> impl Strategy<Value = Order> {
    prop_oneof![
        any::<bool>().prop_map(|stop_on_error| Order::Serial { stop_on_error }),
        proptest::option::of(1_u32..4).prop_map(|max_concurrency| Order::Parallel { max_concurrency }),
        any::<bool>().prop_map(|continue_on_error| Order::DependencyGraph { continue_on_error }),
        any::<bool>().prop_map(|continue_on_error| Order::DependencyGraph { continue_on_error }),
    ]
}

/// A plan, whose steps may be plans so many levels deep. A step waits only for such as come earlier in a shuffled
/// order: that makes every graph without a circle, and none with one.
fn plan(levels: u32) -> BoxedStrategy<PlanAsked> {
    let below = match levels {
        0 => Just(None).boxed(),
        _ => proptest::option::weighted(0.2, plan(levels - 1)).boxed(),
    };
    let step = (any::<u8>(), 1_u32..3, any::<bool>(), below);
    let steps = proptest::collection::vec(step, 1..=if levels == 0 { 3 } else { 7 });
    let shuffled = steps.prop_flat_map(|steps| {
        let places: Vec<usize> = (0..steps.len()).collect();
        (Just(steps), Just(places).prop_shuffle())
    });
    (order(), shuffled)
        .prop_map(|(strategy, (steps, rank))| {
            let steps = steps
                .into_iter()
                .enumerate()
                .map(|(index, (mask, attempts, pauses, below))| StepAsked {
                    waits_for: (0..rank.len())
                        .filter(|&other| rank[other] < rank[index] && mask >> (other % 8) & 1 == 1)
                        .collect(),
                    attempts,
                    pauses,
                    below,
                })
                .collect();
            PlanAsked { strategy, steps }
        })
        .boxed()
}

async fn a_plan_does_what_the_model_says(db: TestDb) {
    let cases = (
        plan(1),
        proptest::collection::vec(acts(), 0..30),
        proptest::collection::vec(said(), 1..8),
    );
    check(db, [80, 20], cases, async |case, (asked, acts, rest)| {
        let (model, jobs) = Model::of(&asked);
        insert(case.node, jobs).await;
        let mut world = World {
            case,
            model,
            held: Vec::new(),
            ms: 1,
        };
        world.is_as_modelled().await;
        for act in &acts {
            world.act(act).await;
            world.is_as_modelled().await;
        }
        world.ends(&rest).await;
    })
    .await;
}

struct World<'a> {
    case: Case<'a>,
    model: Model,
    /// The steps that run: their numbers in the model, and the jobs as they were claimed.
    held: Vec<(usize, Arc<Job>)>,
    /// The clock of all, in milliseconds.
    ms: i64,
}

impl World<'_> {
    fn now(&self) -> Timestamp {
        at(self.ms)
    }

    async fn act(&mut self, act: &Act) {
        self.ms += 1;
        let node = self.case.node;
        match act {
            Act::Claim(most) => {
                self.claim(*most).await;
            }
            Act::End(ends) => {
                let mut chosen = Vec::new();
                for (which, said) in ends {
                    if !self.held.is_empty() {
                        let (number, job) = self.held.remove(which.index(self.held.len()));
                        chosen.push((number, job, *said));
                    }
                }
                self.end(chosen).await;
            }
            Act::Cancel(which) => {
                let number = which.index(self.model.nodes.len());
                node.write(CancelJob {
                    id: self.model.nodes[number].id,
                    reason: None,
                    grace: None,
                    now: self.now(),
                })
                .await;
                self.model.cancel(number);
                self.model.settle();
            }
            Act::Expire => {
                self.ms += 2 * i64::try_from(LEASE.as_millis()).unwrap();
                let now = self.now();
                let expired = node
                    .write(ExpireLeases {
                        before: now,
                        whose: runql::store::Whose::All,
                        now,
                        jitter: 1.0,
                    })
                    .await;
                assert_eq!(expired.jobs.len(), self.held.len(), "each step that ran was lost");
                for (number, _) in std::mem::take(&mut self.held) {
                    let cancelled = self.model.nodes[number].cancel;
                    let said = if cancelled {
                        JobStatus::Cancelled
                    } else {
                        JobStatus::Failed
                    };
                    self.model.end(number, said);
                }
                self.model.settle();
            }
            Act::Promote => {
                self.ms += 120_000;
                node.write(PromoteDue { now: self.now() }).await;
                for step in &mut self.model.nodes {
                    step.waits = false;
                }
            }
        }
    }

    /// Ends attempts, all in one transaction.
    async fn end(&mut self, chosen: Vec<(usize, Arc<Job>, Said)>) {
        let mut ends = Vec::new();
        for (number, job, said) in &chosen {
            let status = match self.model.nodes[*number].cancel && said.obeys {
                true => JobStatus::Cancelled,
                false => said.status,
            };
            self.model.end(*number, status);
            ends.push(end_of(job, status, self.ms));
        }
        let results = in_one_group(
            self.case.node,
            join_all(ends.into_iter().map(|end| self.case.node.write(end))),
        )
        .await;
        for ((number, ..), result) in chosen.iter().zip(results) {
            // Whether it goes back into line may change within the same transaction.
            let ended = self.model.nodes[*number].status;
            match result {
                EndResult::Retried(_) => assert_eq!(ended, JobStatus::Pending),
                EndResult::Ended(status) => assert_eq!(status, ended),
                EndResult::Stale => panic!("it was the attempt that ran"),
            }
        }
        self.model.settle();
    }

    async fn claim(&mut self, most: usize) -> usize {
        let claimed = claim(self.case.node, most, self.ms).await;
        let line = self.model.in_line();
        let expected: Vec<JobId> = line
            .iter()
            .take(most)
            .map(|&number| self.model.nodes[number].id)
            .collect();
        let got: Vec<JobId> = claimed.iter().map(|job| job.id).collect();
        assert_eq!(got, expected, "which steps may start");
        for (&number, job) in line.iter().zip(claimed) {
            let step = &mut self.model.nodes[number];
            step.status = JobStatus::Running;
            step.attempt += 1;
            self.held.push((number, Arc::new(job)));
        }
        got.len()
    }

    async fn is_as_modelled(&self) {
        let ids: Vec<JobId> = self.model.nodes.iter().map(|node| node.id).collect();
        let stored: HashMap<JobId, Job> = self.case.node.reader().jobs(&ids).await.unwrap();
        for (number, node) in self.model.nodes.iter().enumerate() {
            let job = &stored[&node.id];
            assert_eq!(
                (job.status, job.attempt),
                (node.status, node.attempt),
                "number {number}"
            );
            if node.status == JobStatus::Running {
                assert_eq!(job.cancel.is_some(), node.cancel, "number {number}");
            }
            // Without the model: nothing runs before its time, nor beyond the limit.
            if node.attempt > 0 {
                for &(awaited, on_end) in &node.awaited {
                    let status = stored[&self.model.nodes[awaited].id].status;
                    assert!(status == JobStatus::Completed || (on_end && status.is_final()));
                }
            }
            if node.rules.is_none() {
                continue;
            }
            let steps: Vec<&Job> = self
                .model
                .children(number)
                .map(|child| &stored[&self.model.nodes[child].id])
                .collect();
            let running = steps.iter().filter(|step| step.status == JobStatus::Running);
            assert!(running.count() <= self.model.limit(number));
            assert!(self.model.under_way(number) <= self.model.limit(number));
            let ended = steps.iter().filter(|step| step.status.is_final()).count();
            let progress = job.progress.as_ref().unwrap();
            if node.attempt > 0 {
                assert_eq!(
                    progress.current,
                    i32::try_from(ended).unwrap(),
                    "steps of {number} that have ended"
                );
            }
            assert_eq!(progress.total, Some(i32::try_from(steps.len()).unwrap()));
        }
        self.case.counters_are_right().await;
    }

    /// Workers that take what there is and end it bring every plan to its end.
    async fn ends(&mut self, rest: &[Said]) {
        let tries = self.model.nodes.len() * 3 + 3;
        let mut rest = rest.iter().cycle();
        for _ in 0..tries {
            if self.model.nodes[0].status.is_final() {
                break;
            }
            self.act(&Act::Promote).await;
            self.claim(2).await;
            let held = std::mem::take(&mut self.held);
            let chosen = held
                .into_iter()
                .zip(rest.by_ref())
                .map(|((number, job), said)| (number, job, *said))
                .collect();
            self.end(chosen).await;
            self.is_as_modelled().await;
        }
        assert!(
            self.model.nodes.iter().all(|node| node.status.is_final()),
            "the plan is stuck"
        );
        assert_eq!(self.claim(9).await, 0);
    }
}
