//! What plans do, said as simply as it can be: all rules again and again over all steps, until nothing changes.

use std::time::Duration;

use runql::domain::{
    Command, Dependency, JobId, JobStatus, NewJob, Plan, PlanRules, StepName, StepPlace, Strategy, links,
};

use super::super::fixture::{new_job, retried_job};

/// A plan as somebody asks for it.
#[derive(Debug, Clone)]
pub(super) struct PlanAsked {
    pub(super) strategy: Strategy,
    pub(super) steps: Vec<StepAsked>,
}

#[derive(Debug, Clone)]
pub(super) struct StepAsked {
    /// Places of other steps of the same plan.
    pub(super) waits_for: Vec<usize>,
    /// How often it may be tried.
    pub(super) attempts: u32,
    /// Whether it pauses between.
    pub(super) pauses: bool,
    /// A plan of its own instead.
    pub(super) below: Option<PlanAsked>,
}

/// A job of the tree: a plan or a step that runs something. Each plan comes before its steps.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) id: JobId,
    pub(super) parent: Option<usize>,
    /// What it waits for, and whether any end will do.
    pub(super) awaited: Vec<(usize, bool)>,
    pub(super) rules: Option<PlanRules>,
    most: u32,
    pauses: bool,
    pub(super) status: JobStatus,
    pub(super) attempt: u32,
    pub(super) cancel: bool,
    /// Whether its plan has let it in.
    admitted: bool,
    /// Whether it pauses before its next attempt.
    pub(super) waits: bool,
}

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) nodes: Vec<Node>,
}

const UNBOUNDED: Duration = Duration::from_secs(1 << 31);

impl Model {
    /// The model of a plan that was just asked for, and the jobs to store for it.
    pub(super) fn of(plan: &PlanAsked) -> (Self, Vec<NewJob>) {
        let mut model = Self::default();
        let mut jobs = Vec::new();
        model.add_plan(plan, new_job(0), None, Vec::new(), &mut jobs);
        model.settle();
        (model, jobs)
    }

    fn add(&mut self, new: &NewJob, parent: Option<usize>, awaited: Vec<(usize, bool)>) -> usize {
        self.nodes.push(Node {
            id: new.id,
            parent,
            awaited,
            rules: new.plan,
            most: new.retry.max_attempts,
            pauses: !new.retry.backoff.is_zero(),
            status: JobStatus::Pending,
            attempt: 0,
            cancel: false,
            admitted: parent.is_none(),
            waits: false,
        });
        self.nodes.len() - 1
    }

    fn add_plan(
        &mut self,
        plan: &PlanAsked,
        new: NewJob,
        parent: Option<usize>,
        awaited: Vec<(usize, bool)>,
        jobs: &mut Vec<NewJob>,
    ) -> usize {
        let (stop_on_error, max_concurrency) = match plan.strategy {
            Strategy::Serial { stop_on_error } => (stop_on_error, None),
            Strategy::Parallel { max_concurrency } => (false, max_concurrency),
            Strategy::DependencyGraph { continue_on_error } => (!continue_on_error, None),
        };
        let new = NewJob {
            command: Command::Plan(Plan {
                description: String::new(),
                strategy: plan.strategy.clone(),
            }),
            timeout: UNBOUNDED,
            plan: Some(PlanRules {
                steps: u32::try_from(plan.steps.len()).unwrap(),
                stop_on_error,
                max_concurrency,
            }),
            ..new
        };
        let own = self.add(&new, parent, awaited);
        let whole = new.id;
        jobs.push(new);
        // The places of the steps are known before they are added: each has its id and number from the start.
        let keys: Vec<String> = (0..plan.steps.len()).map(|index| format!("k{index}")).collect();
        let graph = matches!(plan.strategy, Strategy::DependencyGraph { .. });
        let named: Vec<Vec<String>> = plan
            .steps
            .iter()
            .map(|step| {
                step.waits_for
                    .iter()
                    .filter(|_| graph)
                    .map(|&at| keys[at].clone())
                    .collect()
            })
            .collect();
        let names: Vec<StepName<'_>> = keys
            .iter()
            .zip(&named)
            .map(|(key, depends_on)| StepName { key, depends_on })
            .collect();
        let links = links(&plan.strategy, &names).unwrap();
        let news: Vec<NewJob> = plan
            .steps
            .iter()
            .map(|step| {
                let pause = Duration::from_secs(if step.pauses { 60 } else { 0 });
                retried_job(0, if step.below.is_some() { 1 } else { step.attempts }, pause)
            })
            .collect();
        let ids: Vec<JobId> = news.iter().map(|new| new.id).collect();
        let mut numbers = Vec::with_capacity(news.len());
        for (index, (step, new)) in plan.steps.iter().zip(news).enumerate() {
            let new = NewJob {
                step: Some(StepPlace {
                    plan: whole,
                    key: keys[index].clone(),
                    index: u32::try_from(index).unwrap(),
                }),
                depends_on: links[index]
                    .iter()
                    .map(|link| Dependency {
                        job: ids[link.index],
                        on_end: link.on_end,
                    })
                    .collect(),
                ..new
            };
            numbers.push(match &step.below {
                Some(below) => self.add_plan(below, new, Some(own), Vec::new(), jobs),
                None => {
                    jobs.push(new.clone());
                    self.add(&new, Some(own), Vec::new())
                }
            });
        }
        for (index, links) in links.iter().enumerate() {
            self.nodes[numbers[index]].awaited = links
                .iter()
                .map(|link| (numbers[link.index], link.on_end))
                .collect();
        }
        own
    }

    pub(super) fn children(&self, plan: usize) -> impl Iterator<Item = usize> {
        (0..self.nodes.len()).filter(move |&at| self.nodes[at].parent == Some(plan))
    }

    /// All that is below a plan.
    fn below(&self, plan: usize) -> Vec<usize> {
        let mut found: Vec<usize> = self.children(plan).collect();
        let mut next = 0;
        while next < found.len() {
            found.extend(self.children(found[next]).collect::<Vec<_>>());
            next += 1;
        }
        found
    }

    fn is_ready(&self, at: usize) -> bool {
        let node = &self.nodes[at];
        let let_in = node
            .parent
            .is_none_or(|plan| self.nodes[plan].status == JobStatus::Running && node.admitted);
        node.status == JobStatus::Pending && let_in && self.is_unblocked(at)
    }

    fn is_unblocked(&self, at: usize) -> bool {
        self.nodes[at].awaited.iter().all(|&(awaited, on_end)| {
            let status = self.nodes[awaited].status;
            status == JobStatus::Completed || (on_end && status.is_final())
        })
    }

    /// The steps that workers may take now, the first in line first.
    pub(super) fn in_line(&self) -> Vec<usize> {
        let mut ready: Vec<usize> = (0..self.nodes.len())
            .filter(|&at| self.nodes[at].rules.is_none() && !self.nodes[at].waits && self.is_ready(at))
            .collect();
        ready.sort_by_key(|&at| self.nodes[at].id);
        ready
    }

    /// An attempt's end, before anybody looks what it means for others.
    pub(super) fn end(&mut self, at: usize, said: JobStatus) {
        let node = &mut self.nodes[at];
        let failed = matches!(said, JobStatus::Failed | JobStatus::Timeout);
        node.status = match failed && node.attempt < node.most {
            true if node.cancel => JobStatus::Cancelled,
            true => JobStatus::Pending,
            false => said,
        };
        node.waits = node.status == JobStatus::Pending && node.pauses;
    }

    /// A client cancels a plan or a step.
    pub(super) fn cancel(&mut self, at: usize) {
        match self.nodes[at].status {
            JobStatus::Pending => self.nodes[at].status = JobStatus::Cancelled,
            JobStatus::Running => {
                self.nodes[at].cancel = true;
                if self.nodes[at].rules.is_some() {
                    self.stop(at);
                }
            }
            _ => {}
        }
    }

    fn stop(&mut self, plan: usize) -> bool {
        let mut changed = false;
        for at in self.below(plan) {
            let node = &mut self.nodes[at];
            match node.status {
                JobStatus::Pending => node.status = JobStatus::Cancelled,
                JobStatus::Running if !node.cancel => node.cancel = true,
                _ => continue,
            }
            changed = true;
        }
        changed
    }

    /// Every rule, until none has anything to do.
    pub(super) fn settle(&mut self) {
        while self.give_up() || self.end_plans() || self.let_in() {}
    }

    /// What can run no more is cancelled.
    fn give_up(&mut self) -> bool {
        let mut changed = false;
        for at in 0..self.nodes.len() {
            let node = &self.nodes[at];
            let hopeless = node.awaited.iter().any(|&(awaited, on_end)| {
                let status = self.nodes[awaited].status;
                !on_end && status.is_final() && status != JobStatus::Completed
            });
            if node.status == JobStatus::Pending && hopeless {
                self.nodes[at].status = JobStatus::Cancelled;
                changed = true;
            }
            let node = &self.nodes[at];
            let Some(rules) = node.rules else { continue };
            let bad = |child: usize| {
                let status: JobStatus = self.nodes[child].status;
                status.is_final() && status != JobStatus::Completed
            };
            let stops =
                node.status == JobStatus::Running && rules.stop_on_error && self.children(at).any(bad);
            if stops || node.status.is_final() {
                changed |= self.stop(at);
            }
        }
        changed
    }

    /// Plans whose steps have all ended end together.
    fn end_plans(&mut self) -> bool {
        let over: Vec<usize> = (0..self.nodes.len())
            .filter(|&at| self.nodes[at].rules.is_some() && self.nodes[at].status == JobStatus::Running)
            .filter(|&at| self.children(at).all(|child| self.nodes[child].status.is_final()))
            .collect();
        for &at in &over {
            let completed = self
                .children(at)
                .all(|child| self.nodes[child].status == JobStatus::Completed);
            self.nodes[at].status = match completed {
                _ if self.nodes[at].cancel => JobStatus::Cancelled,
                true => JobStatus::Completed,
                false => JobStatus::Failed,
            };
        }
        !over.is_empty()
    }

    /// Plans let in what they may, and plans that may start do.
    fn let_in(&mut self) -> bool {
        let mut changed = false;
        for at in 0..self.nodes.len() {
            if self.nodes[at].rules.is_some() && self.is_ready(at) {
                self.nodes[at].status = JobStatus::Running;
                self.nodes[at].attempt = 1;
                changed = true;
            }
            if self.nodes[at].status != JobStatus::Running || self.nodes[at].rules.is_none() {
                continue;
            }
            for child in self.children(at).collect::<Vec<_>>() {
                let node = &self.nodes[child];
                let may = node.status == JobStatus::Pending && !node.admitted && self.is_unblocked(child);
                if may && self.under_way(at) < self.limit(at) {
                    self.nodes[child].admitted = true;
                    changed = true;
                }
            }
        }
        changed
    }

    /// The most steps of a plan that may be under way.
    pub(super) fn limit(&self, plan: usize) -> usize {
        let limit = self.nodes[plan].rules.and_then(|rules| rules.max_concurrency);
        limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap())
    }

    /// How many are: those that were let in and have not ended.
    pub(super) fn under_way(&self, plan: usize) -> usize {
        self.children(plan)
            .filter(|&child| self.nodes[child].admitted && !self.nodes[child].status.is_final())
            .count()
    }
}
