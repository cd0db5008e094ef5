//! The text of a pipeline's file, as YAML or as JSON, within bounds and with plain sentences about what is wrong.

use serde::de::DeserializeOwned;
use serde_saphyr::Error;

use super::Problem;

/// Bounds of one file as YAML. An alias counts as often as it stands for something, so that a few lines cannot become
/// gigabytes.
const MOST_NODES: usize = 200_000;
const MOST_TEXT: usize = 4 << 20;
const MOST_DEPTH: usize = 64;

/// The form of a file's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Yaml,
    Json,
}

/// Reads a text of that form.
pub(super) fn parse<T: DeserializeOwned>(text: &str, form: Form) -> Result<T, Problem> {
    match form {
        Form::Yaml => yaml(text),
        Form::Json => serde_json::from_str(text).map_err(|error| {
            let line = u64::try_from(error.line()).unwrap_or(0);
            Problem::at(line, without_place(&error.to_string()))
        }),
    }
}

fn yaml<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: MOST_NODES,
            max_total_scalar_bytes: MOST_TEXT,
            max_depth: MOST_DEPTH,
        },
        // `no` is a word, not a boolean.
        strict_booleans: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let line = error.location().map_or(0, |location| location.line());
        Problem::at(line, sentence(&error))
    })
}

/// What is wrong, for somebody who writes the file and knows no parser.
fn sentence(error: &Error) -> String {
    match error {
        Error::AliasError { error, .. } => sentence(error),
        Error::Unexpected {
            expected: "mapping start",
            ..
        }
        | Error::ExternallyTaggedEnumExpectedScalarOrMapping { .. } => {
            "takes fields, as in `name: value`".to_owned()
        }
        Error::Unexpected {
            expected: "sequence start",
            ..
        } => "takes a list, as in `- item`".to_owned(),
        Error::Unexpected {
            expected: "string scalar",
            ..
        } => "takes a string".to_owned(),
        Error::NonFiniteFloat { .. } => "a number must be finite".to_owned(),
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("`{key}` stands there twice: leave one out")
        }
        Error::ExpectedMappingEndAfterEnumVariantValue { .. } => {
            "takes exactly one of its fields, and has more".to_owned()
        }
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. } => format!(
            "the file holds too much: {MOST_NODES} values, {MOST_DEPTH} levels and {} MiB of text at most, with each \
             alias counted as what it stands for",
            MOST_TEXT >> 20
        ),
        Error::RecursiveReferencesRequireWeakTypes { .. } => "an anchor cannot hold itself".to_owned(),
        Error::MultipleDocuments { .. } => {
            "a file holds one document: leave out `---` and what follows".to_owned()
        }
        Error::Eof { .. } => "the file ends too early".to_owned(),
        other => without_place(&other.to_string()).to_owned(),
    }
}

/// A parser's sentence without the place that it ends with, which the problem tells in its own way.
fn without_place(sentence: &str) -> &str {
    let end = sentence.find(" at line ");
    &sentence[..end.unwrap_or(sentence.len())]
}
