//! One named value as its author declares it: a type, a default and bounds, in the words of JSON Schema.

use serde_json::{Map, Value};

use super::{nearest, quoted_list};

const TYPES: [&str; 6] = ["string", "number", "integer", "boolean", "array", "object"];

/// The keywords of a declaration, and the types on which each has an effect; none listed means all.
const KEYWORDS: [(&str, &[&str]); 23] = [
    ("type", &[]),
    ("default", &[]),
    ("required", &[]),
    ("enum", &[]),
    ("description", &[]),
    ("examples", &[]),
    ("minimum", &["number", "integer"]),
    ("maximum", &["number", "integer"]),
    ("exclusiveMinimum", &["number", "integer"]),
    ("exclusiveMaximum", &["number", "integer"]),
    ("multipleOf", &["number", "integer"]),
    ("minLength", &["string"]),
    ("maxLength", &["string"]),
    ("pattern", &["string"]),
    ("format", &["string"]),
    ("items", &["array"]),
    ("minItems", &["array"]),
    ("maxItems", &["array"]),
    ("uniqueItems", &["array"]),
    ("properties", &["object"]),
    ("additionalProperties", &["object"]),
    ("minProperties", &["object"]),
    ("maxProperties", &["object"]),
];

/// What the sentences about declared values call them and who declares them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    /// One value: "parameter".
    pub(crate) value: &'static str,
    /// Its author: "script".
    pub(crate) owner: &'static str,
}

/// One value as its author declares it.
#[derive(Debug)]
pub(crate) struct Declaration {
    pub(super) name: String,
    pub(super) required: bool,
    /// Its JSON Schema, with the default in it.
    pub(super) schema: Map<String, Value>,
}

/// Why declarations make no schema.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DeclarationFault {
    /// Where, from all values down: the name, the keyword, and whatever lies below it.
    pub(crate) path: Vec<String>,
    /// What is wrong there.
    pub(crate) message: String,
}

impl DeclarationFault {
    /// The sentence, with the place in it.
    pub(crate) fn sentence(&self, terms: Terms) -> String {
        match self.path.as_slice() {
            [] => self.message.clone(),
            path => format!("{} `{}`: {}", terms.value, path.join("."), self.message),
        }
    }
}

impl Declaration {
    /// The declaration of `name` by these keywords. What is not understood is a fault, never passed over: a bound
    /// that is misspelt and silently gone would let through what its author believes is refused.
    pub(crate) fn read(name: &str, keywords: Map<String, Value>) -> Result<Self, DeclarationFault> {
        let fault = |keyword: Option<&str>, message: String| DeclarationFault {
            path: [name].into_iter().chain(keyword).map(str::to_owned).collect(),
            message,
        };
        let types = || quoted_list(TYPES.into_iter(), TYPES.len());
        let kind = match keywords.get("type") {
            None => return Err(fault(None, format!("has no `type`: one of {}", types()))),
            Some(Value::String(kind)) if TYPES.contains(&kind.as_str()) => kind.clone(),
            Some(_) => return Err(fault(Some("type"), format!("must be one of {}", types()))),
        };
        let mut required = false;
        let mut schema = Map::new();
        for (keyword, value) in keywords {
            let at = Some(keyword.as_str());
            let Some((_, effective)) = KEYWORDS.iter().find(|(known, _)| *known == keyword) else {
                let known = KEYWORDS.map(|(known, _)| known);
                return Err(fault(at, unknown("keyword", &keyword, &known)));
            };
            if !effective.is_empty() && !effective.contains(&kind.as_str()) {
                return Err(fault(at, format!("has no effect on the type {kind}")));
            }
            match keyword.as_str() {
                "required" => {
                    required = value
                        .as_bool()
                        .ok_or_else(|| fault(at, "must be true or false".to_owned()))?;
                    continue;
                }
                "items" | "properties" | "additionalProperties" if has_reference(&value) => {
                    return Err(fault(at, "may not use keywords that begin with `$`".to_owned()));
                }
                "enum"
                    if !value
                        .as_array()
                        .is_some_and(|all| all.iter().all(|one| fits(one, &kind))) =>
                {
                    return Err(fault(at, format!("must be a list of values of the type {kind}")));
                }
                _ => {}
            }
            schema.insert(keyword, value);
        }
        Ok(Self {
            name: name.to_owned(),
            required,
            schema,
        })
    }
}

/// A sentence about a word that nobody knows.
pub(super) fn unknown(what: &str, word: &str, known: &[&str]) -> String {
    match nearest(word, known.iter().copied()) {
        Some(meant) => format!("unknown {what} `{word}`: did you mean `{meant}`?"),
        None => format!(
            "unknown {what} `{word}`: there are {}",
            quoted_list(known.iter().copied(), known.len())
        ),
    }
}

/// Whether a schema refers to another. References are refused as they could go in circles, and a validator that
/// follows one without end would take the server with it.
fn has_reference(schema: &Value) -> bool {
    match schema {
        Value::Object(fields) => fields
            .iter()
            .any(|(key, value)| key.starts_with('$') || has_reference(value)),
        Value::Array(items) => items.iter().any(has_reference),
        _ => false,
    }
}

fn fits(value: &Value, kind: &str) -> bool {
    match kind {
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        _ => value.is_object(),
    }
}
