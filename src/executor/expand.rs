//! From a pipeline's target to the steps that a run of it has.

use std::io;

use super::request::{JobRequest, Refusal, RefusalCode, StepRequest};
use crate::domain::{Strategy, Target};
use crate::pipeline::{self, Fault, FaultKind, LookupError};

/// A pipeline with what a run hands over.
#[derive(Debug)]
pub(super) struct Expanded {
    /// With the defaults that the pipeline declares filled in.
    pub(super) target: Target,
    pub(super) strategy: Strategy,
    pub(super) steps: Vec<StepRequest>,
}

/// The steps of a pipeline's run, or all that is wrong with what it was given. Nothing is said yet about whether the
/// steps may run.
///
/// # Errors
///
/// The outer error is the server's own: the pipelines folder cannot be read.
pub(super) fn expand(
    pipelines: &pipeline::Catalog,
    target: Target,
) -> Result<Result<Expanded, Vec<Refusal>>, io::Error> {
    let refused = |code, message: String| {
        let refusal = Refusal::new(code, &["command", "pipeline", "target"], message);
        Ok(Err(vec![refusal]))
    };
    let found = match pipelines.find(&target.target) {
        Ok(found) => found,
        Err(LookupError::Unreadable(error)) => return Err(error),
        Err(error) => {
            let code = match error {
                LookupError::NotFound { .. } => RefusalCode::NotFound,
                LookupError::Outside => RefusalCode::NotAllowed,
                LookupError::Invalid(_) | LookupError::Unreadable(_) => RefusalCode::Invalid,
            };
            return refused(code, error.to_string());
        }
    };
    if let Some(problem) = &found.problem {
        return refused(
            RefusalCode::Invalid,
            format!("the pipeline cannot run: {problem}"),
        );
    }
    Ok(match found.fill(target.inputs, &target.config) {
        Ok(filled) => Ok(Expanded {
            target: Target {
                inputs: filled.inputs,
                ..target
            },
            strategy: filled.strategy,
            steps: filled.steps.into_iter().map(StepRequest::from).collect(),
        }),
        Err(faults) => Err(faults.into_iter().map(refusal).collect()),
    })
}

fn refusal(fault: Fault) -> Refusal {
    let code = match fault.kind {
        FaultKind::Invalid => RefusalCode::Invalid,
        FaultKind::TooLarge => RefusalCode::LimitExceeded,
    };
    let refusal = Refusal {
        code,
        message: fault.message,
        path: fault.path,
    };
    refusal.below(&["command", "pipeline"])
}

impl From<pipeline::Step> for StepRequest {
    fn from(step: pipeline::Step) -> Self {
        Self {
            key: step.key,
            depends_on: step.depends_on,
            run: step.run.into(),
        }
    }
}

impl From<pipeline::Run> for JobRequest {
    fn from(run: pipeline::Run) -> Self {
        let usual = Self::new(run.command);
        Self {
            queue: run.queue.unwrap_or(usual.queue),
            priority: run.priority.unwrap_or(usual.priority),
            timeout: run.timeout,
            max_attempts: run.max_attempts.unwrap_or(usual.max_attempts),
            backoff: run.backoff.unwrap_or(usual.backoff),
            env: run.env,
            working_dir: run.working_dir,
            metadata: run.metadata,
            steps: run.steps.into_iter().map(StepRequest::from).collect(),
            ..usual
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Map, Value, json};

    use super::*;
    use crate::domain::Command;

    const FILE: &str = "
inputs: { count: { type: integer, default: 2 }, name: { type: string } }
steps:
  - key: a
    run:
      command: { task: { problemId: 'x-${{ inputs.count }}' } }
      priority: ${{ config.priority }}
      timeoutMs: 50
  - key: b
    dependsOn: [a]
    run: { command: { plan: { steps: [{ run: { command: { task: { problemId: y } }, queue: q } }] } } }
";

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn expanded(target: &str, inputs: Value, config: Value) -> Result<Expanded, Vec<(RefusalCode, String)>> {
        let folder = tempfile::TempDir::new().unwrap();
        std::fs::write(folder.path().join("good.yaml"), FILE).unwrap();
        std::fs::write(folder.path().join("bad.yaml"), "steps: 1").unwrap();
        let link = folder.path().join("out.yaml");
        std::os::unix::fs::symlink(
            concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines/report.yaml"),
            link,
        )
        .unwrap();
        let target = Target {
            target: target.to_owned(),
            inputs: object(inputs),
            config: object(config),
        };
        let expanded = expand(&pipeline::Catalog::new(folder.path().to_owned()), target).unwrap();
        expanded.map_err(|refusals| {
            let told = |refusal: Refusal| (refusal.code, refusal.path.join("."));
            refusals.into_iter().map(told).collect()
        })
    }

    #[test]
    fn a_pipeline_becomes_requests() {
        let Expanded {
            target,
            strategy,
            steps,
        } = expanded("good", json!({}), json!({ "priority": -3 })).unwrap();
        assert_eq!(target.inputs, object(json!({ "count": 2 })));
        assert!(matches!(strategy, Strategy::DependencyGraph { .. }));
        let [a, b] = steps.as_slice() else {
            panic!("{steps:?}")
        };
        assert_eq!(a.run.command.name(), "x-2");
        assert_eq!(
            (
                a.run.priority,
                a.run.timeout,
                a.run.max_attempts,
                a.run.queue.as_str()
            ),
            (-3, Some(Duration::from_millis(50)), 1, "default")
        );
        assert_eq!(
            (b.key.as_deref(), b.depends_on.as_slice()),
            (Some("b"), ["a".to_owned()].as_slice())
        );
        assert!(matches!(b.run.command, Command::Plan(_)));
        assert_eq!(b.run.steps[0].run.queue, "q");
    }

    #[test]
    fn each_refusal_names_the_input_at_fault() {
        use RefusalCode::{Invalid, LimitExceeded, NotAllowed, NotFound};
        let fits = || json!({ "priority": 1 });
        for (target, inputs, config, code, path) in [
            ("none", json!({}), fits(), NotFound, "target"),
            ("../good", json!({}), fits(), Invalid, "target"),
            ("out", json!({}), fits(), NotAllowed, "target"),
            ("bad", json!({}), fits(), Invalid, "target"),
            ("good", json!({ "count": "2" }), fits(), Invalid, "inputs.count"),
            ("good", json!({ "cuont": 2 }), fits(), Invalid, "inputs.cuont"),
            ("good", json!({}), json!({}), Invalid, "config.priority"),
            (
                "good",
                json!({}),
                json!({ "priority": "high" }),
                Invalid,
                "steps.0.run.priority",
            ),
        ] {
            let refused = expanded(target, inputs, config).unwrap_err();
            assert_eq!(refused, [(code, format!("command.pipeline.{path}"))], "{target}");
        }
        let large = json!({ "priority": "x".repeat(17 << 20) });
        let refused = expanded("good", json!({}), large).unwrap_err();
        assert_eq!(refused, [(LimitExceeded, "command.pipeline".to_owned())]);
    }
}
