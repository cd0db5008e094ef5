//! What clients send, and what they are told.

use serde_json::json;

use super::*;

fn compiled(declarations: &[(&str, bool, Value)]) -> Parameters {
    let declarations = declarations.iter().map(|(name, required, schema)| Declaration {
        name: (*name).to_owned(),
        required: *required,
        schema: schema.as_object().unwrap().clone(),
    });
    Parameters::compile(PARAMETERS, declarations.collect()).unwrap()
}

fn example() -> Parameters {
    compiled(&[
        ("mode", true, json!({"type": "string", "enum": ["fast", "slow"]})),
        (
            "steps",
            false,
            json!({"type": "integer", "minimum": 1, "maximum": 9, "default": 5}),
        ),
        (
            "ratio",
            false,
            json!({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1, "multipleOf": 0.25}),
        ),
        ("verbose", false, json!({"type": "boolean"})),
        (
            "label",
            false,
            json!({"type": "string", "minLength": 1, "maxLength": 3, "pattern": "^[a-z]*$"}),
        ),
        ("day", false, json!({"type": "string", "format": "date"})),
        (
            "list",
            false,
            json!({"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2, "uniqueItems": true}),
        ),
        (
            "box",
            false,
            json!({"type": "object", "properties": {"width": {"type": "number"}}, "additionalProperties": false, "minProperties": 1}),
        ),
    ])
}

/// The faults in `example`, with a mode that is right unless `given` has one.
fn faults(mut given: Value) -> Vec<(String, String)> {
    let given = given.as_object_mut().unwrap();
    given.entry("mode").or_insert(json!("fast"));
    let faults = example().validate(given.clone()).unwrap_err();
    faults
        .into_iter()
        .map(|fault| (fault.path.join("/"), fault.message))
        .collect()
}

fn one(given: Value) -> (String, String) {
    let mut faults = faults(given);
    assert_eq!(faults.len(), 1, "{faults:?}");
    faults.remove(0)
}

#[test]
fn defaults_are_filled_in_and_the_rest_is_kept() {
    let given = json!({"mode": "slow", "list": ["a"], "box": {"width": 1.5}});
    let all = example().validate(given.as_object().unwrap().clone()).unwrap();
    assert_eq!(
        Value::Object(all),
        json!({"mode": "slow", "steps": 5, "list": ["a"], "box": {"width": 1.5}})
    );
    let given = json!({"mode": "slow", "steps": 9.0});
    assert_eq!(
        example().validate(given.as_object().unwrap().clone()).unwrap()["steps"],
        9.0
    );
}

#[test]
fn each_sentence_says_what_to_do() {
    let cases = [
        (
            json!({"mode": "medium"}),
            "mode",
            "`mode` must be one of \"fast\", \"slow\"",
        ),
        (
            json!({"steps": "3"}),
            "steps",
            "`steps` must be a whole number, not a string",
        ),
        (json!({"steps": 1.5}), "steps", "`steps` must be a whole number"),
        (
            json!({"steps": null}),
            "steps",
            "`steps` must be a whole number, not null",
        ),
        (json!({"steps": 0}), "steps", "`steps` must be at least 1"),
        (json!({"steps": 10}), "steps", "`steps` must be at most 9"),
        (json!({"ratio": -0.25}), "ratio", "`ratio` must be more than 0"),
        (json!({"ratio": 1}), "ratio", "`ratio` must be less than 1"),
        (
            json!({"ratio": 0.3}),
            "ratio",
            "`ratio` must be a multiple of 0.25",
        ),
        (
            json!({"verbose": 1}),
            "verbose",
            "`verbose` must be a boolean, not a number",
        ),
        (json!({"label": ""}), "label", "`label` must not be empty"),
        (
            json!({"label": "abcd"}),
            "label",
            "`label` must be at most 3 characters long",
        ),
        (
            json!({"label": "A"}),
            "label",
            "`label` must match the pattern `^[a-z]*$`",
        ),
        (
            json!({"day": "tomorrow"}),
            "day",
            "`day` must have the format `date`",
        ),
        (
            json!({"list": {}}),
            "list",
            "`list` must be an array, not an object",
        ),
        (json!({"list": []}), "list", "`list` must have at least 1 item"),
        (
            json!({"list": ["a", "b", "c"]}),
            "list",
            "`list` must have at most 2 items",
        ),
        (
            json!({"list": ["a", "a"]}),
            "list",
            "`list` must not have the same item twice",
        ),
        (
            json!({"list": ["a", true]}),
            "list/1",
            "`list.1` must be a string, not a boolean",
        ),
        (json!({"box": {}}), "box", "`box` must have at least 1 field"),
        (
            json!({"box": {"width": "w"}}),
            "box/width",
            "`box.width` must be a number, not a string",
        ),
        (
            json!({"box": {"height": 1}}),
            "box/height",
            "`box` has no field `height`: leave it out",
        ),
        (
            json!({"Step": 1}),
            "Step",
            "unknown parameter `Step`: did you mean `steps`?",
        ),
        (
            json!({"q": 1}),
            "q",
            "unknown parameter `q`: the script takes `mode`, `steps`, `ratio`, `verbose`, `label`, `day`, `list`, `box`",
        ),
    ];
    for (given, path, message) in cases {
        assert_eq!(
            one(given.clone()),
            (path.to_owned(), message.to_owned()),
            "{given}"
        );
    }
}

#[test]
fn what_is_missing_is_named() {
    let faults = example().validate(Map::new()).unwrap_err();
    let expected = ParameterFault {
        path: vec!["mode".to_owned()],
        message: "`mode` is required: it is missing".to_owned(),
    };
    assert_eq!(faults, [expected]);
}

#[test]
fn all_faults_come_at_once_within_a_bound() {
    let found = faults(json!({"mode": "x", "steps": 0, "a1": 1, "b2": 2}));
    let mut paths: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["a1", "b2", "mode", "steps"]);
    let many: Map<String, Value> = (0..10_000).map(|n| (format!("p{n}"), json!(1))).collect();
    assert_eq!(example().validate(many).unwrap_err().len(), MOST_FAULTS);
}

#[test]
fn no_sentence_repeats_a_value() {
    let secret = "hunter2-Z";
    for name in ["mode", "steps", "ratio", "verbose", "label", "day", "list", "box"] {
        for value in [json!(secret), json!([secret, secret]), json!({"width": secret})] {
            let mut given = Map::new();
            given.insert(name.to_owned(), value);
            for fault in example().validate(given).err().into_iter().flatten() {
                assert!(!fault.message.contains(secret), "{}", fault.message);
            }
        }
    }
}

#[test]
fn a_script_without_parameters_takes_none() {
    let none = compiled(&[]);
    assert!(none.validate(Map::new()).unwrap().is_empty());
    let given = json!({"a": 1});
    let faults = none.validate(given.as_object().unwrap().clone()).unwrap_err();
    assert_eq!(faults[0].message, "unknown parameter `a`: the script takes none");
}

#[test]
fn names_with_the_signs_of_json_pointers_keep_their_path() {
    let odd = compiled(&[("a/b~c", false, json!({"type": "string"}))]);
    let given = json!({"a/b~c": 1});
    let faults = odd.validate(given.as_object().unwrap().clone()).unwrap_err();
    assert_eq!(faults[0].path, ["a/b~c"]);
}

#[test]
fn a_pattern_cannot_be_made_to_run_for_ever() {
    let slow = compiled(&[("a", false, json!({"type": "string", "pattern": "^(a+)+$"}))]);
    let mut given = Map::new();
    given.insert("a".to_owned(), json!(format!("{}!", "a".repeat(100_000))));
    assert_eq!(slow.validate(given).unwrap_err().len(), 1);
}
