//! What is wrong with files, and how they are told.

use super::*;

/// A file of one step, whose command begins in line 3.
fn with_run(run: &str) -> String {
    format!("inputs: {{name: {{type: string}}, n: {{type: integer}}}}\nsteps:\n- run: {run}")
}

#[test]
fn each_problem_names_its_line_and_what_to_do() {
    let task = "{command: {task: {problemId: x}}}";
    let cases = [
        (String::new(), "line 1: "),
        ("steps: []".to_owned(), "line 1: there must be one step at least"),
        ("description: x".to_owned(), "missing field `steps`"),
        (
            "description: x\nstesp: []".to_owned(),
            "line 2: unknown field `stesp`, expected one of description, inputs, strategy, steps",
        ),
        (
            "steps:\n- - x".to_owned(),
            "line 2: takes fields, as in `name: value`",
        ),
        ("steps: x".to_owned(), "line 1: takes a list, as in `- item`"),
        (format!("steps:\n- rum: {task}"), "line 2: unknown field `rum`"),
        (
            format!("steps:\n- run: {task}\n  run: {task}"),
            "line 3: `run` stands there twice",
        ),
        (
            format!("strategy: {{serial: {{}}, parallel: {{}}}}\nsteps:\n- run: {task}"),
            "line 1: ",
        ),
        (
            format!("strategy: {{parallel: {{maxConcurrency: 0}}}}\nsteps:\n- run: {task}"),
            "line 1: takes a whole number from 1",
        ),
        (
            format!("strategy: {{sequential: {{}}}}\nsteps:\n- run: {task}"),
            "line 1: unknown variant `sequential`, expected one of serial, parallel, dependencyGraph",
        ),
        (
            with_run("{command: {script: {name: a}, shell: {command: b}}}"),
            "line 3: takes exactly one of its fields",
        ),
        (
            with_run("{command: {scripts: {name: a}}}"),
            "line 3: unknown variant `scripts`, expected one of script, exec, shell",
        ),
        (
            with_run("{command: {script: {nam: a}}}"),
            "line 3: unknown field `nam`",
        ),
        (with_run("{command: {script: {}}}"), "missing field `name`"),
        (
            with_run("{command: {script: {name: 5}}}"),
            "line 3: takes a string",
        ),
        (
            with_run("{command: {script: {name: [a]}}}"),
            "line 3: takes a string",
        ),
        (
            with_run("{command: {script: {name: a, args: [1.10]}}}"),
            "line 3: takes a list of strings",
        ),
        (
            with_run("{command: {script: {name: a, parameters: [x]}}}"),
            "line 3: takes an object",
        ),
        (
            with_run("{command: {task: {problemId: a}}, timeoutMs: soon}"),
            "line 3: takes a whole number of milliseconds",
        ),
        (
            with_run("{command: {task: {problemId: a}}, timeoutMs: -1}"),
            "line 3: takes a whole number of milliseconds",
        ),
        (
            with_run("{command: {task: {problemId: a}}, priority: 'p${{ inputs.n }}'}"),
            "line 3: takes a whole number",
        ),
        (
            with_run("{command: {task: {problemId: a}}, runAt: x}"),
            "line 3: unknown field `runAt`",
        ),
        (
            with_run("{command: {task: {problemId: '${{ inputs.nmae }}'}}}"),
            "line 3: the input `nmae` is not declared: did you mean `name`?",
        ),
        (
            with_run("{command: {task: {problemId: a, parameters: {deep: ['${{ inputs.zzz }}']}}}}"),
            "line 3: the input `zzz` is not declared: declare it below `inputs`",
        ),
        (
            with_run("{command: {task: {problemId: '${{ env.HOME }}'}}}"),
            "line 3: `${{ env.HOME }}` is no expression",
        ),
        (
            with_run("{command: {shell: {command: 'echo ${{ inputs.name }}'}}}"),
            "line 3: an expression in a shell's command would run what it stands for as code: put it into `env`",
        ),
        (
            with_run("{command: {plan: {steps: [{run: {command: {shell: {command: '${{ config.x }}'}}}}]}}}"),
            "line 3: an expression in a shell's command",
        ),
        (
            with_run("{command: {task: {problemId: a}}, env: [{name: '${{ inputs.name }}', value: x}]}"),
            "line 3: keys and the names of variables are the same in every run",
        ),
        (
            format!("steps:\n- key: ${{{{ config.x }}}}\n  run: {task}"),
            "line 2: keys and the names of variables",
        ),
        (
            format!("inputs:\n  a: {{type: text}}\nsteps:\n- run: {task}"),
            "line 2: input `a.type`: must be one of `string`",
        ),
        (
            format!("inputs:\n  a: {{default: 1}}\nsteps:\n- run: {task}"),
            "line 2: input `a`: has no `type`",
        ),
        (
            format!(
                "inputs:\n  a: {{type: string}}\n  b: {{type: integer, default: x}}\nsteps:\n- run: {task}"
            ),
            "line 3: input `b.default`: the default does not fit: `b` must be a whole number, not a string",
        ),
        (
            format!("inputs:\n  a: {{type: integer, minimun: 1}}\nsteps:\n- run: {task}"),
            "line 2: input `a.minimun`: unknown keyword `minimun`: did you mean `minimum`?",
        ),
        (
            format!("inputs:\n  a.b: {{type: string}}\nsteps:\n- run: {task}"),
            "line 2: an input's name has letters, digits, _ and -",
        ),
        (
            format!("inputs:\n  a: {{type: array, items: {{$ref: '#'}}}}\nsteps:\n- run: {task}"),
            "line 2: input `a.items`: may not use keywords that begin with `$`",
        ),
        (
            format!("steps:\n- run: {task}\n---\nsteps: []"),
            "line 4: a file holds one document",
        ),
        (
            format!("steps:\n- key: a\n  run: {task}\n- key: a\n  run: {task}"),
            "line 4: the key `a` is given twice: step 0 has it too",
        ),
        (
            format!("steps:\n- run: {task}\n- dependsOn: [b]\n  run: {task}"),
            "line 3: there is no step `b` in this plan",
        ),
        (
            format!(
                "strategy: {{serial: {{}}}}\nsteps:\n- key: a\n  run: {task}\n- dependsOn: [a]\n  run: {task}"
            ),
            "line 5: only the steps of a dependencyGraph say what they wait for",
        ),
        (
            format!("steps:\n- dependsOn: ['1']\n  run: {task}\n- dependsOn: ['0']\n  run: {task}"),
            "in a circle: `0` → `1` → `0`",
        ),
        (
            with_run(&format!(
                "{{command: {{plan: {{steps: [{{dependsOn: [x], run: {task}}}]}}}}}}"
            )),
            "line 3: there is no step `x`",
        ),
        (
            with_run("{command: {plan: {steps: []}}}"),
            "line 3: there must be one step at least",
        ),
        ("a: [".to_owned(), "line 1: "),
        ("\"".to_owned(), "line 1: unclosed quote"),
        (
            with_run("{command: {task: {problemId: x, parameters: {a: .inf}}}}"),
            "line 3: a number must be finite",
        ),
        ("description: [a]".to_owned(), "line 1: takes a string"),
    ];
    for (yaml, expected) in cases {
        let problem = problem(&yaml);
        assert!(problem.contains(expected), "{yaml}\n{problem}");
        assert!(problem.starts_with("line "), "{yaml}\n{problem}");
        for jargon in [
            "Options",
            "Policy",
            "from_str",
            " at line ",
            "\n",
            "mapping start",
        ] {
            assert!(!problem.contains(jargon), "{yaml}\n{problem}");
        }
    }
}
