//! The environment variables in which a script finds its parameters.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// The most that Linux takes for one `NAME=value`, its closing zero included (`MAX_ARG_STRLEN`).
const LONGEST_VARIABLE: usize = 128 * 1024;

/// The variable for the parameter `param`: `PARAM_` and its name in capitals, with `_` for whatever is no ASCII
/// letter or digit; `my-param` is found in `PARAM_MY_PARAM`.
///
/// None where the name has no ASCII letter or digit to make a variable of. Different parameters can have one
/// variable (`my-param` and `my_param`): a header that declares both is refused, and [`parameter_variables`] sets
/// neither.
#[must_use]
pub fn variable_name(param: &str) -> Option<String> {
    if !param.bytes().any(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let name = param.chars().map(|c| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_uppercase()
        } else {
            '_'
        }
    });
    Some("PARAM_".chars().chain(name).collect())
}

/// The variables of all parameters that are a string, a number or a boolean, by name.
///
/// Left out, and to be read from the JSON document alone: values of other types, values that hold a zero byte or
/// are longer than a variable may be, and those whose variable another parameter has too, as either value would be
/// a guess.
#[must_use]
pub fn parameter_variables(parameters: &Map<String, Value>) -> BTreeMap<String, String> {
    let mut takers: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for (param, value) in parameters {
        if let Some(name) = variable_name(param) {
            takers.entry(name).or_default().push(value);
        }
    }
    takers
        .into_iter()
        .filter_map(|(name, values)| {
            let [value] = values.as_slice() else { return None };
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                Value::Bool(truth) => truth.to_string(),
                Value::Null | Value::Array(_) | Value::Object(_) => return None,
            };
            let fits = name.len() + text.len() + 2 <= LONGEST_VARIABLE;
            (fits && !text.contains('\0')).then_some((name, text))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_become_capitals_with_underscores() {
        for (param, name) in [
            ("name", "PARAM_NAME"),
            ("my-param", "PARAM_MY_PARAM"),
            ("my.param 2", "PARAM_MY_PARAM_2"),
            ("a=b\0c", "PARAM_A_B_C"),
            ("größe", "PARAM_GR__E"),
            ("_x", "PARAM__X"),
            ("9", "PARAM_9"),
        ] {
            assert_eq!(variable_name(param).as_deref(), Some(name), "{param:?}");
        }
        for param in ["", "-", "名前", "___", "=", "\0"] {
            assert_eq!(variable_name(param), None, "{param:?}");
        }
    }

    #[test]
    fn every_name_that_comes_out_is_a_valid_variable() {
        for code in 0..0x2000_u32 {
            let Some(c) = char::from_u32(code) else { continue };
            for param in [format!("{c}"), format!("a{c}"), format!("{c}1{c}")] {
                if let Some(name) = variable_name(&param) {
                    assert!(name.starts_with("PARAM_"), "{param:?}");
                    assert!(
                        name.bytes()
                            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_'),
                        "{param:?} became {name}"
                    );
                }
            }
        }
    }

    #[test]
    fn scalars_become_variables_and_the_rest_does_not() {
        let parameters = json!({
            "text": "a b", "count": 3, "ratio": 0.5, "on": true, "none": null, "list": [1], "map": {"a": 1},
            "zero": "a\0b", "long": "x".repeat(200_000), "名": "x", "same-name": 1, "same_name": 2,
        });
        let variables = parameter_variables(parameters.as_object().unwrap());
        let expected = [
            ("PARAM_COUNT", "3"),
            ("PARAM_ON", "true"),
            ("PARAM_RATIO", "0.5"),
            ("PARAM_TEXT", "a b"),
        ];
        assert_eq!(
            variables
                .iter()
                .map(|(k, v)| (k.as_str(), v.as_str()))
                .collect::<Vec<_>>(),
            expected
        );
    }
}
