//! What holds for every text that claims to be a script: tried with random texts by the tests here and by `fuzz/`.

use serde_json::Map;

use super::header::Header;

/// Reads a text as the head of a script, and insists on what always holds.
pub(crate) fn hold_for(head: &str) {
    for cut in [false, true] {
        match Header::parse(head, cut) {
            Ok(None) => {}
            Ok(Some(header)) => {
                if let Some(parameters) = header.parameters {
                    assert!(parameters.schema().is_object());
                    // What it declares can be asked for: with nothing, it names what is missing or fills in defaults.
                    if let Ok(filled) = parameters.validate(Map::new()) {
                        let again = parameters.validate(filled.clone());
                        assert_eq!(again.ok(), Some(filled), "its own defaults are refused");
                    }
                }
            }
            Err(error) => {
                let lines = head.lines().count().max(1);
                assert!((1..=lines).contains(&error.line()), "{error} of {lines} lines");
            }
        }
    }
    // Most random texts have no block: the same as what a block holds.
    if !head.contains("///") {
        let block: String = head.lines().map(|line| format!("# {line}\n")).collect();
        hold_for(&format!("# /// runql\n{block}# ///\n"));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::Config;

    use super::*;

    /// Lines of which headers are made, well or nearly so.
    fn head() -> impl Strategy<Value = String> {
        let value = prop_oneof![
            "\"[a-z]{0,4}\"",
            "-?[0-9]{1,20}",
            "[0-9]{1,3}\\.[0-9]{1,2}e[0-9]{1,3}",
            "(true|false|nan|inf|-inf|1979-05-27|\\[\\]|\\[1, \"a\"\\]|\\{a = 1\\}|\"10m\"|\"1e9999d\")",
        ];
        let key = "(description|timeout|type|default|required|enum|minimum|maximum|pattern|minLength|x|\"\")";
        let line = prop_oneof![
            2 => (key, value).prop_map(|(key, value)| format!("# {key} = {value}")),
            1 => Just("# [parameters.a]".to_owned()),
            1 => "# \\[parameters\\.[a-bA-B\"_-]{1,3}\\]",
            1 => "# type = \"(string|integer|number|boolean|array|object|none)\"",
            1 => "(#|//|--|;|%) ?///( runql)? ?",
            1 => "\\PC{0,20}",
        ];
        proptest::collection::vec(line, 0..12).prop_map(|lines| lines.join("\n"))
    }

    proptest! {
        #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

        #[test]
        fn whatever_a_script_says(head in head()) {
            hold_for(&head);
            hold_for(&format!("#!/bin/sh\n# /// runql\n{head}\n# ///\n"));
        }
    }
}
