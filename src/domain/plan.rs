//! What the steps of a plan wait for.

use std::collections::HashMap;

use super::Strategy;

/// A step as the plan names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepName<'a> {
    /// Unique within the plan.
    pub key: &'a str,
    /// The keys of the steps that it waits for.
    pub depends_on: &'a [String],
}

/// Another step of the same plan that has to end first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepLink {
    /// Its place in the plan, from 0.
    pub index: usize,
    /// Whether any end will do; otherwise it must be COMPLETED.
    pub on_end: bool,
}

/// Why steps make no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanFault {
    /// Two steps have one key.
    #[error("the key `{key}` is given twice: step {first} has it too")]
    DoubledKey {
        /// The second of them.
        index: usize,
        /// The first of them.
        first: usize,
        /// The key of both.
        key: String,
    },
    /// A step waits for one that is not there.
    #[error("there is no step `{key}` in this plan")]
    UnknownKey {
        /// The step that waits.
        index: usize,
        /// The place in its list.
        place: usize,
        /// What it names.
        key: String,
    },
    /// A step names what it waits for, and the strategy says that already.
    #[error("only the steps of a dependencyGraph say what they wait for")]
    NoGraph {
        /// The step.
        index: usize,
    },
    /// Steps wait for each other.
    #[error("the steps wait for each other in a circle: {}", circle(keys))]
    Cycle {
        /// One of the steps.
        index: usize,
        /// Each waits for the one that follows, and the last for the first.
        keys: Vec<String>,
    },
}

/// Keys that a message shows of a long circle.
const SHOWN: usize = 10;

fn circle(keys: &[String]) -> String {
    let mut shown: Vec<String> = keys.iter().take(SHOWN).map(|key| format!("`{key}`")).collect();
    if keys.len() > SHOWN {
        shown.push(format!("… {} more", keys.len() - SHOWN));
    }
    shown.extend(keys.first().map(|key| format!("`{key}`")));
    shown.join(" → ")
}

/// What each step waits for, in the order of the steps.
///
/// The steps of a serial plan wait for the one before; where errors do not stop it, for its end of any kind. Those of
/// a parallel plan wait for none.
///
/// # Errors
///
/// Every [`PlanFault`] that was found.
pub fn links(strategy: &Strategy, steps: &[StepName<'_>]) -> Result<Vec<Vec<StepLink>>, Vec<PlanFault>> {
    let mut faults = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::with_capacity(steps.len());
    for (index, step) in steps.iter().enumerate() {
        let first = *places.entry(step.key).or_insert(index);
        if first != index {
            let key = step.key.to_owned();
            faults.push(PlanFault::DoubledKey { index, first, key });
        }
    }
    if !matches!(strategy, Strategy::DependencyGraph { .. }) {
        let named = steps
            .iter()
            .enumerate()
            .filter(|(_, step)| !step.depends_on.is_empty());
        faults.extend(named.map(|(index, _)| PlanFault::NoGraph { index }));
    }
    let mut links: Vec<Vec<StepLink>> = Vec::with_capacity(steps.len());
    for (index, step) in steps.iter().enumerate() {
        links.push(match *strategy {
            Strategy::Parallel { .. } => Vec::new(),
            Strategy::Serial { stop_on_error } => {
                let before = index.checked_sub(1).map(|index| StepLink {
                    index,
                    on_end: !stop_on_error,
                });
                before.into_iter().collect()
            }
            Strategy::DependencyGraph { .. } => named(index, step, &places, &mut faults),
        });
    }
    if faults.is_empty()
        && let Some(keys) = cycle(steps, &links)
    {
        let index = places[keys[0].as_str()];
        faults.push(PlanFault::Cycle { index, keys });
    }
    if faults.is_empty() { Ok(links) } else { Err(faults) }
}

fn named(
    index: usize,
    step: &StepName<'_>,
    places: &HashMap<&str, usize>,
    faults: &mut Vec<PlanFault>,
) -> Vec<StepLink> {
    let mut links: Vec<StepLink> = Vec::with_capacity(step.depends_on.len());
    for (place, key) in step.depends_on.iter().enumerate() {
        match places.get(key.as_str()) {
            // Named twice is waited for once.
            Some(&awaited) if links.iter().any(|link| link.index == awaited) => {}
            Some(&awaited) => links.push(StepLink {
                index: awaited,
                on_end: false,
            }),
            None => faults.push(PlanFault::UnknownKey {
                index,
                place,
                key: key.clone(),
            }),
        }
    }
    links
}

/// The keys of a circle, where there is one.
fn cycle(steps: &[StepName<'_>], links: &[Vec<StepLink>]) -> Option<Vec<String>> {
    // Steps that wait for none are taken away until none is left, or only those that lead into a circle.
    let mut waiting: Vec<usize> = links.iter().map(Vec::len).collect();
    let mut followers: Vec<Vec<usize>> = vec![Vec::new(); steps.len()];
    for (index, awaited) in links.iter().enumerate() {
        for link in awaited {
            followers[link.index].push(index);
        }
    }
    let mut free: Vec<usize> = (0..steps.len()).filter(|&index| waiting[index] == 0).collect();
    while let Some(index) = free.pop() {
        for &follower in &followers[index] {
            waiting[follower] -= 1;
            if waiting[follower] == 0 {
                free.push(follower);
            }
        }
    }
    let mut at = waiting.iter().position(|&left| left > 0)?;
    // Each step that is left waits for another that is left, so this walk comes back to where it was.
    let mut seen: Vec<usize> = Vec::new();
    loop {
        if let Some(start) = seen.iter().position(|&index| index == at) {
            let keys = seen[start..].iter().map(|&index| steps[index].key.to_owned());
            return Some(keys.collect());
        }
        seen.push(at);
        at = links[at]
            .iter()
            .map(|link| link.index)
            .find(|&index| waiting[index] > 0)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRAPH: Strategy = Strategy::DependencyGraph {
        continue_on_error: true,
    };

    fn find(strategy: &Strategy, steps: &[(&str, &[&str])]) -> Result<Vec<Vec<usize>>, Vec<PlanFault>> {
        let lists: Vec<Vec<String>> = steps
            .iter()
            .map(|(_, depends_on)| depends_on.iter().map(|&key| key.to_owned()).collect())
            .collect();
        let names: Vec<StepName<'_>> = steps
            .iter()
            .zip(&lists)
            .map(|((key, _), depends_on)| StepName { key, depends_on })
            .collect();
        let links = links(strategy, &names)?;
        Ok(links
            .into_iter()
            .map(|links| links.into_iter().map(|link| link.index).collect())
            .collect())
    }

    #[test]
    fn each_strategy_has_its_own_links() {
        let steps: &[(&str, &[&str])] = &[("a", &[]), ("b", &[]), ("c", &[])];
        let serial = Strategy::Serial { stop_on_error: true };
        assert_eq!(find(&serial, steps).unwrap(), [vec![], vec![0], vec![1]]);
        let parallel = Strategy::Parallel {
            max_concurrency: None,
        };
        assert_eq!(find(&parallel, steps).unwrap(), [vec![], vec![], vec![0; 0]]);
        let diamond: &[(&str, &[&str])] =
            &[("d", &["b", "c"]), ("b", &["a"]), ("c", &["a", "a"]), ("a", &[])];
        assert_eq!(
            find(&GRAPH, diamond).unwrap(),
            [vec![1, 2], vec![3], vec![3], vec![]]
        );
    }

    #[test]
    fn a_serial_plan_that_goes_on_waits_for_any_end() {
        let names = ["a", "b"].map(|key| StepName { key, depends_on: &[] });
        for stop_on_error in [true, false] {
            let links = links(&Strategy::Serial { stop_on_error }, &names).unwrap();
            let expected = StepLink {
                index: 0,
                on_end: !stop_on_error,
            };
            assert_eq!(links[1], [expected]);
        }
    }

    #[test]
    fn circles_are_found_and_named() {
        let faults = |steps: &[(&str, &[&str])]| {
            let faults = find(&GRAPH, steps).unwrap_err();
            faults.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            faults(&[("a", &["a"])]),
            ["the steps wait for each other in a circle: `a` → `a`"]
        );
        assert_eq!(
            faults(&[
                ("leads in", &["x"]),
                ("x", &["y", "free"]),
                ("y", &["z"]),
                ("z", &["x"]),
                ("free", &[])
            ]),
            ["the steps wait for each other in a circle: `x` → `y` → `z` → `x`"]
        );
    }

    #[test]
    fn every_wrong_key_is_named() {
        let faults = find(&GRAPH, &[("a", &["nowhere"]), ("a", &[]), ("b", &["a", "gone"])]).unwrap_err();
        let messages: Vec<_> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(
            messages,
            [
                "the key `a` is given twice: step 0 has it too",
                "there is no step `nowhere` in this plan",
                "there is no step `gone` in this plan",
            ]
        );
        let parallel = Strategy::Parallel {
            max_concurrency: None,
        };
        let faults = find(&parallel, &[("a", &[]), ("b", &["a"])]).unwrap_err();
        assert_eq!(faults, [PlanFault::NoGraph { index: 1 }]);
    }

    /// Whatever the graph, either an order exists in which each step comes after those it waits for, or what is
    /// named is a circle indeed.
    #[test]
    fn any_graph_has_an_order_or_a_circle() {
        let mut dice = fastrand::Rng::with_seed(7);
        for _ in 0..500 {
            let count = dice.usize(1..12);
            let keys: Vec<String> = (0..count).map(|index| format!("k{index}")).collect();
            let lists: Vec<Vec<String>> = (0..count)
                .map(|_| {
                    (0..dice.usize(0..3))
                        .map(|_| keys[dice.usize(0..count)].clone())
                        .collect()
                })
                .collect();
            let names: Vec<StepName<'_>> = keys
                .iter()
                .zip(&lists)
                .map(|(key, depends_on)| StepName { key, depends_on })
                .collect();
            match links(&GRAPH, &names) {
                Ok(links) => {
                    let mut done = vec![false; count];
                    for _ in 0..count {
                        let next = (0..count)
                            .find(|&index| !done[index] && links[index].iter().all(|link| done[link.index]));
                        done[next.expect("one that waits for none")] = true;
                    }
                }
                Err(faults) => {
                    let [PlanFault::Cycle { keys: circle, .. }] = &faults[..] else {
                        panic!("{faults:?}");
                    };
                    for (at, key) in circle.iter().enumerate() {
                        let place = keys.iter().position(|other| other == key).expect("a step");
                        assert!(lists[place].contains(&circle[(at + 1) % circle.len()]));
                    }
                }
            }
        }
    }
}
