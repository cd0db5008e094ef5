//! Files as authors write them, right and wrong, and runs of them.

mod bounds;
mod examples;
mod problems;

use serde_json::json;

use super::definition::Definition;
use super::text::Form;
use super::*;
use crate::domain::EnvValue;

fn read(yaml: &str) -> Result<Definition, Problem> {
    Definition::read(yaml, Form::Yaml)
}

fn problem(yaml: &str) -> String {
    read(yaml).unwrap_err().to_string()
}

fn fill(yaml: &str, inputs: Value, config: Value) -> Result<Filled, Vec<Fault>> {
    let (inputs, config) = (inputs.as_object().unwrap(), config.as_object().unwrap());
    read(yaml).unwrap().fill(inputs.clone(), config)
}

/// The faults, each as `path: message`.
fn faults(yaml: &str, inputs: Value, config: Value) -> Vec<String> {
    let faults = fill(yaml, inputs, config).unwrap_err();
    faults
        .into_iter()
        .map(|fault| format!("{}: {}", fault.path.join("."), fault.message))
        .collect()
}

const WHOLE: &str = r#"
description: Builds and deploys
inputs:
  version: { type: string, required: true, pattern: "^[0-9.]+$" }
  count:
    type: integer
    default: 3
    description: How many
  tags: { type: array, items: { type: string }, default: [a, b] }
  options: { type: object, default: { fast: true } }
strategy:
  dependencyGraph: { continueOnError: false }
steps:
  - key: build
    run:
      command:
        script:
          name: tools/build.sh
          args: ["--version=${{ inputs.version }}", "${{ inputs.count }}", "${{ config.target }}"]
          parameters:
            count: ${{ inputs.count }}
            label: v${{ inputs.version }}-${{ inputs.count }}
            options: ${{ inputs.options }}
            fast: ${{ inputs.options.fast }}
            no: 1.10
      env:
        - { name: VERSION, value: "${{ inputs.version }}" }
        - { name: COUNT, value: "${{ inputs.count }}" }
      priority: ${{ inputs.count }}
      timeoutMs: 60000
      maxAttempts: 2
      backoffMs: 10
      queue: ${{ config.queue }}
      workingDir: builds/${{ inputs.version }}
      metadata:
        source: pipeline
        conversationId: c-1
        tags: [{ key: version, value: "${{ inputs.version }}" }]
  - key: all
    dependsOn: [build]
    run:
      command:
        plan:
          description: Both
          strategy: { parallel: { maxConcurrency: 2 } }
          steps:
            - run: { command: { task: { problemId: "bench-${{ inputs.count }}", parameters: { tags: "${{ inputs.tags }}" } } } }
            - run: { command: { agent: { target: coder, inputs: "${{ inputs.options }}" } } }
  - dependsOn: [all]
    run: { command: { shell: { command: 'echo "$VERSION"', shell: sh } } }
"#;

#[test]
fn a_whole_file_becomes_steps() {
    let filled = fill(
        WHOLE,
        json!({ "version": "1.2" }),
        json!({ "target": "eu", "queue": "slow" }),
    )
    .unwrap();
    assert_eq!(
        Value::Object(filled.inputs),
        json!({ "version": "1.2", "count": 3, "tags": ["a", "b"], "options": { "fast": true } })
    );
    assert_eq!(
        filled.strategy,
        Strategy::DependencyGraph {
            continue_on_error: false
        }
    );
    let [build, all, last] = filled.steps.as_slice() else {
        panic!("{:?}", filled.steps)
    };
    assert_eq!((build.key.as_deref(), build.depends_on.len()), (Some("build"), 0));
    let Command::Script(script) = &build.run.command else {
        panic!("{build:?}")
    };
    assert_eq!(
        (script.script.as_str(), script.args.as_slice()),
        (
            "tools/build.sh",
            ["--version=1.2", "3", "eu"].map(str::to_owned).as_slice()
        )
    );
    assert_eq!(
        Value::Object(script.parameters.clone()),
        json!({ "count": 3, "label": "v1.2-3", "options": { "fast": true }, "fast": true, "no": 1.1 })
    );
    let env: Vec<_> = build
        .run
        .env
        .iter()
        .map(|it| (it.name.as_str(), it.value.clone()))
        .collect();
    let value = |text: &str| EnvValue::Value(text.to_owned());
    assert_eq!(env, [("VERSION", value("1.2")), ("COUNT", value("3"))]);
    let run = &build.run;
    assert_eq!(
        (run.priority, run.timeout, run.max_attempts, run.backoff),
        (
            Some(3),
            Some(Duration::from_secs(60)),
            Some(2),
            Some(Duration::from_millis(10))
        )
    );
    assert_eq!(
        (run.queue.as_deref(), run.working_dir.as_deref()),
        (Some("slow"), Some("builds/1.2"))
    );
    assert_eq!(run.metadata.source.as_deref(), Some("pipeline"));
    assert_eq!(run.metadata.tags[0].value, "1.2");
    assert_eq!(
        (all.key.as_deref(), all.depends_on.as_slice()),
        (Some("all"), ["build".to_owned()].as_slice())
    );
    let Command::Plan(plan) = &all.run.command else {
        panic!("{all:?}")
    };
    assert_eq!(
        plan.strategy,
        Strategy::Parallel {
            max_concurrency: Some(2)
        }
    );
    let Command::Task(task) = &all.run.steps[0].run.command else {
        panic!("{all:?}")
    };
    assert_eq!(
        (task.problem_id.as_str(), &task.parameters["tags"]),
        ("bench-3", &json!(["a", "b"]))
    );
    let Command::Agent(agent) = &all.run.steps[1].run.command else {
        panic!("{all:?}")
    };
    assert_eq!(agent.inputs["fast"], true);
    assert_eq!(
        last.run.command,
        Command::Shell(crate::domain::Shell {
            command: "echo \"$VERSION\"".to_owned(),
            shell: "sh".to_owned(),
        })
    );
}

#[test]
fn a_sketch_shows_the_steps_as_they_are_written() {
    let definition = read(WHOLE).unwrap();
    let sketch: Vec<(&str, &str, JobKind)> = definition
        .sketch
        .iter()
        .map(|step| (step.key.as_str(), step.name.as_str(), step.kind))
        .collect();
    assert_eq!(
        sketch,
        [
            ("build", "tools/build.sh", JobKind::Script),
            ("all", "Both", JobKind::Plan),
            ("2", "sh", JobKind::Shell)
        ]
    );
    let named = read(
        "inputs: {who: {type: string}}\nsteps:\n- run: {command: {script: {name: '${{ inputs.who }}.sh'}}}",
    )
    .unwrap();
    assert_eq!(named.sketch[0].name, "${{ inputs.who }}.sh");
}

#[test]
fn json_says_the_same() {
    let json = json!({
        "inputs": { "n": { "type": "number", "default": 1 } },
        "steps": [{ "run": { "command": { "task": { "problemId": "a\u{1f600}", "parameters": { "n": "${{ inputs.n }}" } } } } }],
    });
    for text in [json.to_string(), serde_json::to_string_pretty(&json).unwrap()] {
        let definition = Definition::read(&text, Form::Json).unwrap();
        let filled = definition.fill(Map::new(), &Map::new()).unwrap();
        let Command::Task(task) = &filled.steps[0].run.command else {
            panic!("{filled:?}")
        };
        assert_eq!(
            (task.problem_id.as_str(), &task.parameters["n"]),
            ("a😀", &json!(1))
        );
    }
    let wrong = Definition::read("{\n\"steps\": [\n{\"rin\": 1}]}", Form::Json).unwrap_err();
    assert_eq!(
        wrong.to_string(),
        "line 3: unknown field `rin`, expected one of `key`, `dependsOn`, `run`"
    );
    let undeclared = json.to_string().replace("inputs.n", "inputs.m");
    let undeclared = Definition::read(&undeclared, Form::Json).unwrap_err();
    assert!(
        undeclared
            .to_string()
            .starts_with("the input `m` is not declared"),
        "{undeclared}"
    );
}

#[test]
fn the_strategy_is_what_the_steps_need() {
    let strategy = |rest: &str| {
        let steps = format!("steps:\n- run: {{command: {{task: {{problemId: x}}}}}}\n{rest}");
        read(&steps).unwrap().strategy
    };
    let serial = |stop_on_error| Strategy::Serial { stop_on_error };
    assert_eq!(strategy(""), serial(true));
    assert_eq!(strategy("strategy: {serial: {}}"), serial(true));
    assert_eq!(
        strategy("strategy: {serial: {stopOnError: false}}"),
        serial(false)
    );
    assert_eq!(
        strategy("strategy: {parallel: {}}"),
        Strategy::Parallel {
            max_concurrency: None
        }
    );
    assert_eq!(
        strategy("- dependsOn: ['0']\n  run: {command: {task: {problemId: y}}}"),
        Strategy::DependencyGraph {
            continue_on_error: true
        }
    );
}

#[test]
fn inputs_are_checked_and_all_faults_are_told() {
    let yaml = "inputs: {a: {type: integer, required: true}, b: {type: string}}\nsteps:\n- run: {command: {task: {problemId: 'x${{ inputs.b }}'}}, priority: '${{ config.p }}', queue: '${{ config.q.r }}'}\n- run: {command: {plan: {steps: [{run: {command: {task: {problemId: '${{ config.q.r }}'}}, maxAttempts: '${{ config.s }}'}}]}}}";
    assert_eq!(
        faults(yaml, json!({ "a": "x", "c": 1 }), json!({})),
        [
            "inputs.a: `a` must be a whole number, not a string",
            "inputs.c: unknown input `c`: the pipeline takes `a`, `b`",
        ]
    );
    assert_eq!(
        faults(yaml, json!({}), json!({})),
        ["inputs.a: `a` is required: it is missing"]
    );
    assert_eq!(
        faults(yaml, json!({ "a": 1 }), json!({ "p": "high", "s": 1.5 })),
        [
            "inputs.b: the pipeline uses `inputs.b`: it is missing",
            "config.q: the pipeline uses `config.q`: it is missing",
            "steps.0.run.priority: takes a whole number, and `${{ config.p }}` is none here",
            "steps.1.run.command.plan.steps.0.run.maxAttempts: takes a whole number, and `${{ config.s }}` is none here",
        ]
    );
    let none = "steps:\n- run: {command: {task: {problemId: x}}}";
    assert_eq!(
        faults(none, json!({ "a": 1 }), json!({})),
        ["inputs.a: unknown input `a`: the pipeline takes none"]
    );
    // What nobody asks for in a configuration does no harm: it may be meant for other pipelines.
    assert!(fill(none, json!({}), json!({ "any": 1 })).is_ok());
}
