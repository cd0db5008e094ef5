//! The checks of a plan with its steps, and the order in which they are stored.

use std::io;

use super::expand::expand;
use super::request::{JobRequest, Refusal, RefusalCode, StepRequest};
use super::time::new_job_id;
use super::validate::{Checker, LONGEST_KEY, label};
use crate::domain::{
    Command, Dependency, JobId, NewJob, PlanFault, PlanRules, StepName, StepPlace, Strategy, links,
};

/// Plans within plans. Nobody was seen to need more, and each level is one more to follow when a step ends.
const DEEPEST: usize = 8;

/// The commands of all jobs of a request together, as JSON. A request is bounded by its own size, but pipelines put
/// one input into many steps.
const MOST_BYTES: usize = 64 << 20;

/// A job as it will be stored, and where in the request it stands.
#[derive(Debug)]
pub(super) struct CheckedJob {
    pub(super) job: NewJob,
    /// Below the request: empty, or `["command", "plan", "steps", "3", "run"]`.
    pub(super) place: Vec<String>,
}

/// What has been found so far.
struct Tree<'a> {
    checker: &'a Checker<'a>,
    jobs: Vec<CheckedJob>,
    refusals: Vec<Refusal>,
    steps: usize,
    bytes: usize,
}

impl Checker<'_> {
    /// The job as it will be stored, followed by its steps and theirs; or all that is wrong with the request.
    ///
    /// # Errors
    ///
    /// The outer error is the server's own: the scripts folder cannot be read.
    pub(super) fn check(
        &self,
        request: JobRequest,
    ) -> Result<Result<Vec<CheckedJob>, Vec<Refusal>>, io::Error> {
        let mut tree = Tree {
            checker: self,
            jobs: Vec::new(),
            refusals: Vec::new(),
            steps: 0,
            bytes: 0,
        };
        tree.add(request, &[], None)?;
        let Tree { jobs, refusals, .. } = tree;
        Ok(if refusals.is_empty() {
            Ok(jobs)
        } else {
            Err(refusals)
        })
    }
}

impl Tree<'_> {
    /// Takes a job in, and tells its id; none where it is refused.
    fn add(
        &mut self,
        mut request: JobRequest,
        place: &[String],
        step: Option<StepPlace>,
    ) -> Result<Option<JobId>, io::Error> {
        if self.steps > self.checker.options.max_plan_steps || self.bytes > MOST_BYTES {
            // That was refused before; a pipeline that runs itself would go on for long.
            return Ok(None);
        }
        let depth = place.iter().filter(|&name| name == "run").count();
        let (id, created_at) = new_job_id();
        let mut of_plan = Vec::new();
        let mut steps = std::mem::take(&mut request.steps);
        let mut strategy = None;
        request.command = match request.command {
            Command::Plan(plan) => {
                strategy = Some((plan.strategy.clone(), "plan"));
                Command::Plan(plan)
            }
            Command::Pipeline(target) => match expand(self.checker.pipelines, target)? {
                Ok(expanded) => {
                    steps = expanded.steps;
                    strategy = Some((expanded.strategy, "pipeline"));
                    Command::Pipeline(expanded.target)
                }
                // Without its steps there is nothing more to be said of it.
                Err(of_pipeline) => {
                    self.refuse(place, of_pipeline);
                    return Ok(None);
                }
            },
            other => other,
        };
        if strategy.is_none() && !steps.is_empty() {
            let message = "only a plan has steps";
            of_plan.push(Refusal::new(RefusalCode::Invalid, &["steps"], message));
        }
        check_roles(&request, step.is_some(), &mut of_plan);
        let mut new = match self.checker.check_one(request, id, created_at)? {
            Ok(new) => Some(new),
            Err(of_request) => {
                of_plan.extend(of_request);
                None
            }
        };
        if let (Some(new), Some((strategy, kind))) = (&mut new, &strategy) {
            self.check_size(&steps, depth, kind, &mut of_plan);
            new.plan = Some(rules(strategy, steps.len()));
        }
        let refused = !of_plan.is_empty();
        self.refuse(place, of_plan);
        let Some(mut new) = new else { return Ok(None) };
        self.bytes += serde_json::to_string(&new.command).map_or(0, |text| text.len());
        if self.bytes > MOST_BYTES {
            let message =
                format!("the commands of all steps together take at most {MOST_BYTES} bytes as JSON");
            self.refuse(
                place,
                [Refusal::new(RefusalCode::LimitExceeded, &["command"], message)],
            );
            return Ok(None);
        }
        new.step = step;
        self.jobs.push(CheckedJob {
            job: new,
            place: place.to_vec(),
        });
        if let Some((strategy, kind)) = strategy.filter(|_| !refused) {
            self.add_steps(id, &strategy, steps, place, kind)?;
        }
        Ok(Some(id))
    }

    fn refuse(&mut self, place: &[String], refusals: impl IntoIterator<Item = Refusal>) {
        let place: Vec<&str> = place.iter().map(String::as_str).collect();
        self.refusals
            .extend(refusals.into_iter().map(|refusal| refusal.below(&place)));
    }

    fn check_size(&mut self, steps: &[StepRequest], depth: usize, kind: &str, refusals: &mut Vec<Refusal>) {
        let path = ["command", kind, "steps"];
        let most = self.checker.options.max_plan_steps;
        self.steps += steps.len();
        if steps.is_empty() {
            refusals.push(Refusal::new(
                RefusalCode::Invalid,
                &path,
                "a plan has at least one step",
            ));
        } else if self.steps > most {
            let message = format!("a plan has at most {most} steps, those of plans within it included");
            refusals.push(Refusal::new(RefusalCode::LimitExceeded, &path, message));
        } else if depth >= DEEPEST {
            let message = format!("plans within plans are at most {DEEPEST} deep");
            refusals.push(Refusal::new(RefusalCode::LimitExceeded, &path, message));
        }
    }

    fn add_steps(
        &mut self,
        plan: JobId,
        strategy: &Strategy,
        steps: Vec<StepRequest>,
        place: &[String],
        kind: &str,
    ) -> Result<(), io::Error> {
        let below = |index: usize, rest: &[&str]| -> Vec<String> {
            let index = index.to_string();
            let own = ["command", kind, "steps", &index];
            place
                .iter()
                .cloned()
                .chain(own.iter().chain(rest).map(|&name| name.to_owned()))
                .collect()
        };
        let keys: Vec<String> = steps
            .iter()
            .enumerate()
            .map(|(index, step)| step.key.clone().unwrap_or_else(|| index.to_string()))
            .collect();
        for (index, key) in keys.iter().enumerate() {
            if let Err(message) = label(key, LONGEST_KEY) {
                self.refuse(
                    &below(index, &["key"]),
                    [Refusal::new(RefusalCode::Invalid, &[], message)],
                );
            }
        }
        let names: Vec<StepName<'_>> = keys
            .iter()
            .zip(&steps)
            .map(|(key, step)| StepName {
                key,
                depends_on: &step.depends_on,
            })
            .collect();
        let found = links(strategy, &names);
        let links = match found {
            Ok(links) => links,
            Err(faults) => {
                for fault in faults {
                    let path = match &fault {
                        PlanFault::DoubledKey { index, .. } => below(*index, &["key"]),
                        PlanFault::UnknownKey { index, place, .. } => {
                            below(*index, &["dependsOn", &place.to_string()])
                        }
                        PlanFault::NoGraph { index } | PlanFault::Cycle { index, .. } => {
                            below(*index, &["dependsOn"])
                        }
                    };
                    self.refuse(
                        &path,
                        [Refusal::new(RefusalCode::Invalid, &[], fault.to_string())],
                    );
                }
                vec![Vec::new(); steps.len()]
            }
        };
        // A step may wait for one that comes later in the list, so all have their ids before they are linked.
        let mut ids: Vec<Option<JobId>> = Vec::with_capacity(steps.len());
        let mut places = Vec::with_capacity(steps.len());
        for (index, (step, key)) in steps.into_iter().zip(keys).enumerate() {
            places.push(self.jobs.len());
            let at = StepPlace {
                plan,
                key,
                index: u32::try_from(index).unwrap_or(u32::MAX),
            };
            ids.push(self.add(step.run, &below(index, &["run"]), Some(at))?);
        }
        for ((links, place), id) in links.iter().zip(places).zip(&ids) {
            if id.is_some() {
                let awaited = links.iter().filter_map(|link| {
                    let job = ids[link.index]?;
                    Some(Dependency {
                        job,
                        on_end: link.on_end,
                    })
                });
                self.jobs[place].job.depends_on.extend(awaited);
            }
        }
        Ok(())
    }
}

/// What only a plan, or only a job of its own, can be asked for.
fn check_roles(request: &JobRequest, is_step: bool, refusals: &mut Vec<Refusal>) {
    let mut refuse = |field: &str, message: &str| {
        refusals.push(Refusal::new(RefusalCode::Invalid, &[field], message));
    };
    if is_step && request.idempotency_key.is_some() {
        refuse(
            "idempotencyKey",
            "a step has no idempotency key: give one to its plan",
        );
    }
    if request.command.kind().has_steps() {
        if request.max_attempts > 1 {
            refuse("maxAttempts", "a plan is tried once: give attempts to its steps");
        }
        if !request.env.is_empty() {
            refuse(
                "env",
                "a plan runs no process of its own: give variables to its steps",
            );
        }
        if request.working_dir.is_some() {
            refuse(
                "workingDir",
                "a plan runs no process of its own: give folders to its steps",
            );
        }
    }
}

fn rules(strategy: &Strategy, steps: usize) -> PlanRules {
    let (stop_on_error, max_concurrency) = match *strategy {
        Strategy::Serial { stop_on_error } => (stop_on_error, None),
        Strategy::Parallel { max_concurrency } => (false, max_concurrency),
        Strategy::DependencyGraph { continue_on_error } => (!continue_on_error, None),
    };
    PlanRules {
        steps: u32::try_from(steps).unwrap_or(u32::MAX),
        stop_on_error,
        max_concurrency,
    }
}
