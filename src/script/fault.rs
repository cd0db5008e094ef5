//! Says in sentences what a JSON Schema validator finds wrong.
//!
//! No sentence repeats the value that was sent: it may be a secret, and these sentences are logged and shown.

use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use jsonschema::paths::Location;
use serde_json::Value;

use super::declaration::Terms;
use super::parameters::ParameterFault;
use super::{nearest, quoted_list};

/// The most options or names that a sentence lists.
const MOST_LISTED: usize = 20;

/// The segments of a place within a document.
pub(super) fn path(location: &Location) -> Vec<String> {
    location.segments().map(|segment| segment.to_string()).collect()
}

/// What is wrong with the values of a request; one fault for each name that is unknown.
pub(super) fn sentences(error: &ValidationError<'_>, names: &[String], terms: Terms) -> Vec<ParameterFault> {
    let at = path(error.instance_path());
    let inside = |name: &str| at.iter().cloned().chain([name.to_owned()]).collect::<Vec<_>>();
    match error.kind() {
        Kind::AdditionalProperties { unexpected } => unexpected
            .iter()
            .map(|name| ParameterFault {
                message: unknown(&at, name, names, terms),
                path: inside(name),
            })
            .collect(),
        Kind::Required { property } => {
            let path = inside(property.as_str().unwrap_or_default());
            vec![ParameterFault {
                message: format!("`{}` is required: it is missing", path.join(".")),
                path,
            }]
        }
        _ => {
            let message = if at.is_empty() {
                format!("the {}s {}", terms.value, demand(error, terms))
            } else {
                format!("`{}` {}", at.join("."), demand(error, terms))
            };
            vec![ParameterFault { path: at, message }]
        }
    }
}

/// What is wrong with a keyword of a schema.
pub(super) fn keyword_sentence(error: &ValidationError<'_>, terms: Terms) -> String {
    demand(error, terms)
}

fn unknown(at: &[String], name: &str, names: &[String], terms: Terms) -> String {
    let Terms { value, owner } = terms;
    if !at.is_empty() {
        return format!("`{}` has no field `{name}`: leave it out", at.join("."));
    }
    if names.is_empty() {
        return format!("unknown {value} `{name}`: the {owner} takes none");
    }
    match nearest(name, names.iter().map(String::as_str)) {
        Some(meant) => format!("unknown {value} `{name}`: did you mean `{meant}`?"),
        None => {
            let takes = quoted_list(names.iter().map(String::as_str), MOST_LISTED);
            format!("unknown {value} `{name}`: the {owner} takes {takes}")
        }
    }
}

/// The second half of a sentence: what the value must be.
fn demand(error: &ValidationError<'_>, terms: Terms) -> String {
    match error.kind() {
        Kind::Type { kind } => {
            let (wanted, found) = (wanted(kind), kind_of(error.instance()));
            // A fraction where a whole number is wanted is a number too: "not a number" would be untrue.
            let fraction = error.instance().is_number() && wanted.contains("number");
            if fraction {
                format!("must be {wanted}")
            } else {
                format!("must be {wanted}, not {found}")
            }
        }
        Kind::Enum { options } => format!("must be one of {}", listed(options)),
        Kind::Constant { expected_value } => format!("must be {expected_value}"),
        Kind::Minimum { limit } => format!("must be at least {limit}"),
        Kind::Maximum { limit } => format!("must be at most {limit}"),
        Kind::ExclusiveMinimum { limit } => format!("must be more than {limit}"),
        Kind::ExclusiveMaximum { limit } => format!("must be less than {limit}"),
        Kind::MultipleOf { multiple_of } => format!("must be a multiple of {multiple_of}"),
        Kind::MinLength { limit: 1 } => "must not be empty".to_owned(),
        Kind::MinLength { limit } => format!("must be at least {} long", count(*limit, "character")),
        Kind::MaxLength { limit } => format!("must be at most {} long", count(*limit, "character")),
        Kind::Pattern { pattern } => format!("must match the pattern `{pattern}`"),
        Kind::Format { format } => format!("must have the format `{format}`"),
        Kind::MinItems { limit } => format!("must have at least {}", count(*limit, "item")),
        Kind::MaxItems { limit } => format!("must have at most {}", count(*limit, "item")),
        Kind::UniqueItems => "must not have the same item twice".to_owned(),
        Kind::MinProperties { limit } => format!("must have at least {}", count(*limit, "field")),
        Kind::MaxProperties { limit } => format!("must have at most {}", count(*limit, "field")),
        Kind::RegexEngineFailure { .. } | Kind::BacktrackLimitExceeded { .. } => {
            "could not be compared with its pattern".to_owned()
        }
        other => format!(
            "does not fit what the {}'s schema says with `{}`",
            terms.owner,
            other.keyword()
        ),
    }
}

fn count(number: u64, thing: &str) -> String {
    if number == 1 {
        format!("1 {thing}")
    } else {
        format!("{number} {thing}s")
    }
}

fn wanted(kind: &TypeKind) -> String {
    match kind {
        TypeKind::Single(one) => article(&one.to_string()),
        TypeKind::Multiple(many) => many
            .iter()
            .map(|one| article(&one.to_string()))
            .collect::<Vec<_>>()
            .join(" or "),
    }
}

fn article(kind: &str) -> String {
    match kind {
        "null" => "null".to_owned(),
        "integer" => "a whole number".to_owned(),
        "array" | "object" => format!("an {kind}"),
        _ => format!("a {kind}"),
    }
}

/// What kind of value this is, as the second half of "must be …, not …".
fn kind_of(value: &Value) -> String {
    article(match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    })
}

fn listed(options: &Value) -> String {
    let options = options.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut words: Vec<String> = options.iter().take(MOST_LISTED).map(Value::to_string).collect();
    if options.len() > MOST_LISTED {
        words.push(format!("and {} more", options.len() - MOST_LISTED));
    }
    words.join(", ")
}
