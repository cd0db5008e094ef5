//! Expressions as authors write them, and values that would be expressions if they could.

use serde_json::json;

use super::*;

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn filled(template: Value, inputs: Value, config: Value) -> Result<Value, Unfilled> {
    let template = Template::read(template).unwrap();
    template.fill(&Values::new(&object(inputs), &object(config)))
}

fn refusal(template: &str) -> String {
    Template::read(json!(template)).unwrap_err()
}

#[test]
fn an_expression_alone_keeps_its_type() {
    let inputs = json!({
        "text": "a", "count": 3, "ratio": 0.5, "on": true, "none": null, "list": [1, "b"], "map": { "a": { "b": 7 } },
    });
    for (name, value) in object(inputs.clone()) {
        for form in [
            format!("${{{{ inputs.{name} }}}}"),
            format!("${{{{inputs.{name}}}}}"),
            format!("${{{{\tinputs.{name}\n}}}}"),
        ] {
            assert_eq!(
                filled(json!(form), inputs.clone(), json!({})).unwrap(),
                value,
                "{form}"
            );
        }
    }
    assert_eq!(
        filled(json!("${{ inputs.map.a.b }}"), inputs.clone(), json!({})).unwrap(),
        json!(7)
    );
    let nested =
        json!({ "list": ["${{ inputs.list }}", 1], "map": { "deep": "${{ config.x }}" }, "null": null });
    assert_eq!(
        filled(nested, inputs, json!({ "x": { "y": 1 } })).unwrap(),
        json!({ "list": [[1, "b"], 1], "map": { "deep": { "y": 1 } }, "null": null })
    );
}

#[test]
fn within_a_text_scalars_become_text() {
    let text = "<${{ inputs.a }}|${{inputs.b}}|${{ config.c }}>${{ inputs.a }}";
    let inputs = json!({ "a": "x y", "b": 1.5 });
    assert_eq!(
        filled(json!(text), inputs, json!({ "c": false })).unwrap(),
        "<x y|1.5|false>x y"
    );
    // A space beside it makes it a text.
    assert_eq!(
        filled(json!("${{ inputs.a }} "), json!({ "a": 1 }), json!({})).unwrap(),
        "1 "
    );
    for value in [json!(null), json!([1]), json!({})] {
        let refused = filled(json!("is ${{ inputs.a }}"), json!({ "a": value }), json!({})).unwrap_err();
        let Unfilled::At { path, message } = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(path, ["inputs", "a"]);
        assert!(message.contains("a string, a number or a boolean"), "{message}");
    }
}

#[test]
fn a_value_is_never_read_as_an_expression() {
    let hostile = [
        "${{ config.secret }}",
        "${{ inputs.x }}",
        "${{",
        "}}",
        "$${{{{ config.secret }}",
        "${{ nonsense",
    ];
    for value in hostile {
        let inputs = json!({ "x": value, "y": { "z": value } });
        let config = json!({ "secret": "hidden" });
        for (template, expected) in [
            ("${{ inputs.x }}", value.to_owned()),
            ("${{ inputs.y.z }}", value.to_owned()),
            ("a ${{ inputs.x }} b", format!("a {value} b")),
            // Two halves that make an expression when they are side by side.
            ("${{ inputs.x }}${{ inputs.x }}", format!("{value}{value}")),
            ("$${{ inputs.x }}", format!("${value}")),
        ] {
            let filled = filled(json!(template), inputs.clone(), config.clone()).unwrap();
            assert_eq!(filled, expected, "{template} with {value}");
        }
    }
    let halves = json!({ "a": "${", "b": "{ config.secret }}" });
    assert_eq!(
        filled(
            json!("${{ inputs.a }}${{ inputs.b }}"),
            halves,
            json!({ "secret": 1 })
        )
        .unwrap(),
        "${{ config.secret }}"
    );
}

#[test]
fn what_is_missing_is_named_as_far_as_it_is_there() {
    for (template, inputs, path, words) in [
        ("${{ inputs.a }}", json!({}), "inputs/a", "missing"),
        ("x ${{ inputs.a }}", json!({ "b": 1 }), "inputs/a", "missing"),
        ("${{ inputs.a.b.c }}", json!({ "a": {} }), "inputs/a/b", "missing"),
        (
            "${{ inputs.a.b }}",
            json!({ "a": "text" }),
            "inputs/a",
            "must be an object",
        ),
        (
            "${{ inputs.a.length }}",
            json!({ "a": [1] }),
            "inputs/a",
            "must be an object",
        ),
        ("${{ config.a-b._c }}", json!({}), "config/a-b", "missing"),
    ] {
        let refused = filled(json!(template), inputs, json!({})).unwrap_err();
        let Unfilled::At { path: at, message } = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(at.join("/"), path, "{template}");
        assert!(message.contains(words), "{template}: {message}");
    }
}

#[test]
fn what_is_no_expression_is_refused() {
    for text in [
        "${{ }}",
        "${{}}",
        "${{ inputs }}",
        "${{ inputs. }}",
        "${{ inputs..a }}",
        "${{ inputs.a. }}",
        "${{ env.HOME }}",
        "${{ secrets.x }}",
        "${{ inputs.a || 'b' }}",
        "${{ inputs['a'] }}",
        "${{ inputs.a b }}",
        "${{ inputs.ü }}",
        "${{ inputs.1 }}",
        "${{ Inputs.a }}",
        "${{ inputs . a }}",
        "${{ ${{ inputs.a }} }}",
    ] {
        let refused = refusal(text);
        assert!(
            refused.contains("is no expression: there are `${{ inputs.NAME }}` and `${{ config.NAME }}`"),
            "{text}: {refused}"
        );
    }
    assert!(refusal("a ${{ inputs.a").contains("end it with `}}`"));
    assert!(refusal("${{ inputs.a }} ${{").contains("not closed"));
    let in_a_name = Template::read(json!({ "${{ inputs.a }}": 1 })).unwrap_err();
    assert!(in_a_name.contains("names take no expressions"), "{in_a_name}");
    // Signs of shells and of other templates mean nothing here.
    for text in ["$HOME ${HOME} {{ inputs.a }} $(x) }} %{x}", "$ {{ inputs.a }}"] {
        assert_eq!(
            Template::read(json!(text)).unwrap(),
            Template::Constant(json!(text))
        );
    }
}

#[test]
fn what_is_read_is_written_the_same() {
    let written = json!({ "a": ["x${{ inputs.b }}y", "${{ config.c.d }}", 5, null], "e": { "f": true } });
    assert_eq!(Template::read(written.clone()).unwrap().as_written(), written);
}

#[test]
fn what_is_filled_in_is_bounded() {
    let many = Value::String("${{ inputs.a }}".repeat(100_000));
    let large = json!({ "a": "x".repeat(1_000) });
    assert_eq!(
        filled(many.clone(), large.clone(), json!({})),
        Err(Unfilled::TooLarge)
    );
    let list = Value::Array(vec![json!("${{ inputs.a }}"); 100_000]);
    assert_eq!(filled(list, large, json!({})), Err(Unfilled::TooLarge));
    let small = filled(many, json!({ "a": "xy" }), json!({})).unwrap();
    assert_eq!(small.as_str().map(str::len), Some(200_000));
}
