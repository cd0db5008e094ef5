//! Files and runs that would be too much.

use super::*;

#[test]
fn many_faults_and_large_values_are_bounded() {
    let many: String = (0..100)
        .map(|n| format!("- run: {{command: {{task: {{problemId: '${{{{ config.c{n} }}}}'}}}}}}\n"))
        .collect();
    assert_eq!(faults(&format!("steps:\n{many}"), json!({}), json!({})).len(), 32);
    let same = "- run: {command: {task: {problemId: x, parameters: {a: '${{ config.a }}'}}}}\n".repeat(5_000);
    let faults = fill(
        &format!("steps:\n{same}"),
        json!({}),
        json!({ "a": "x".repeat(100_000) }),
    )
    .unwrap_err();
    assert_eq!((faults.len(), faults[0].kind), (1, FaultKind::TooLarge));
}

#[test]
fn bombs_are_refused_at_once() {
    let mut laughs = "description: &z0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..12 {
        let again = vec![format!("*z{}", n - 1); 10].join(", ");
        laughs.push_str(&format!("a{n}: &z{n} [{again}]\n"));
    }
    let inside = |parameters: &str| {
        format!(
            "steps:\n- run:\n    command:\n      task:\n        problemId: x\n        parameters:\n{parameters}"
        )
    };
    let mut layers = "          a0: &z0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..12 {
        let again = vec![format!("*z{}", n - 1); 10].join(", ");
        layers.push_str(&format!("          a{n}: &z{n} [{again}]\n"));
    }
    let long = format!(
        "          a: [&long {}, {}]\n",
        "x".repeat(500_000),
        vec!["*long"; 50_000].join(", ")
    );
    let deep = format!("          a: {}1{}\n", "[".repeat(5_000), "]".repeat(5_000));
    let wide = format!("          a: [{}]\n", "1, ".repeat(300_000));
    for bomb in [
        laughs,
        inside(&layers),
        inside(&long),
        inside(&deep),
        inside(&wide),
        inside("          a: &a [*a]\n"),
    ] {
        let problem = problem(&bomb);
        assert!(
            problem.starts_with("line "),
            "{}",
            &problem[..problem.len().min(200)]
        );
    }
    // Aliases as people use them are fine.
    let yaml = inside("          a: &a {x: 1}\n          b: *a\n          c: {<<: *a, y: 2}\n");
    let Command::Task(task) = fill(&yaml, json!({}), json!({})).unwrap().steps[0]
        .run
        .command
        .clone()
    else {
        panic!("no task")
    };
    assert_eq!(
        Value::Object(task.parameters),
        json!({ "a": { "x": 1 }, "b": { "x": 1 }, "c": { "x": 1, "y": 2 } })
    );
    let deep = format!(
        "{{\"steps\": [{{\"run\": {{\"command\": {{\"task\": {{\"problemId\": \"x\", \"parameters\": {{\"a\": {}1{}}}}}}}}}}}]}}",
        "[".repeat(20_000),
        "]".repeat(20_000)
    );
    assert!(Definition::read(&deep, Form::Json).is_err());
}

#[test]
fn no_prefix_of_a_file_and_no_flipped_byte_panics() {
    for end in (0..WHOLE.len())
        .filter(|&end| WHOLE.is_char_boundary(end))
        .step_by(3)
    {
        let _ = read(&WHOLE[..end]);
    }
    for at in (0..WHOLE.len()).step_by(7) {
        for byte in [0, b'"', b'\n', b'[', b'{', b'&', b'*', b':', 0xff] {
            let mut bytes = WHOLE.as_bytes().to_vec();
            bytes[at] = byte;
            let _ = read(&String::from_utf8_lossy(&bytes));
        }
    }
}
