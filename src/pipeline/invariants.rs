//! What holds for every text that claims to be a pipeline: tried with random texts by the tests here and by `fuzz/`.

use serde_json::Map;

use super::definition::Definition;
use super::text::Form;

/// Reads a text as a pipeline's file, in both forms, and insists on what always holds.
pub(crate) fn hold_for(text: &str) {
    for form in [Form::Yaml, Form::Json] {
        match Definition::read(text, form) {
            Ok(definition) => {
                assert!(!definition.sketch.is_empty(), "a plan has steps");
                if let Ok(filled) = definition.fill(Map::new(), &Map::new()) {
                    assert_eq!(filled.steps.len(), definition.sketch.len());
                }
            }
            Err(problem) => {
                // YAML ends a line at a lone carriage return, too.
                let breaks = text.chars().filter(|c| matches!(c, '\n' | '\r')).count();
                let lines = u64::try_from(breaks + 1).unwrap_or(u64::MAX);
                assert!(
                    problem.line.is_none_or(|line| (1..=lines).contains(&line)),
                    "{problem}"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::Config;

    use super::*;

    /// Lines of which pipelines are made, well or nearly so.
    fn text() -> impl Strategy<Value = String> {
        let value = prop_oneof![
            "[a-z]{0,4}",
            "-?[0-9]{1,20}",
            "(true|no|~|\\[a\\]|\\{a: 1\\}|'\\$\\{\\{ inputs.a \\}\\}'|\\$\\{\\{ config.b|&a 1|\\*a)",
        ];
        let key = "(description|type|default|key|dependsOn|priority|maxAttempts|timeoutMs|x)";
        let line = prop_oneof![
            2 => ("( {0,4})", key, value).prop_map(|(indent, key, value)| format!("{indent}{key}: {value}")),
            1 => Just("inputs:\n  a: { type: integer, default: 1 }".to_owned()),
            1 => Just("steps:".to_owned()),
            2 => Just("  - run: { command: { task: { problemId: 'p-${{ inputs.a }}' } } }".to_owned()),
            1 => Just("strategy: { serial: {} }".to_owned()),
            1 => "\\PC{0,20}",
        ];
        proptest::collection::vec(line, 0..8).prop_map(|lines| lines.join("\n"))
    }

    #[test]
    fn lines_that_end_in_a_carriage_return_are_lines() {
        hold_for("\r\r||");
    }

    proptest! {
        #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

        #[test]
        fn whatever_a_file_says(text in text()) {
            hold_for(&text);
        }
    }
}
