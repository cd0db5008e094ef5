//! What a script or a pipeline takes: the JSON Schema that clients see, and the check of what they send.
//!
//! The validator is compiled once, when a file is read. Patterns run on an engine whose time grows linearly with
//! the text, since the text comes from clients; a pattern that needs backtracking is refused in the file.

use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::{Map, Value, json};

use super::declaration::{Declaration, DeclarationFault, Terms};
use super::fault;

/// The most faults that one check reports.
const MOST_FAULTS: usize = 32;

/// The terms of a script's parameters.
pub(super) const PARAMETERS: Terms = Terms {
    value: "parameter",
    owner: "script",
};

/// What parameters a script takes, or which inputs a pipeline.
#[derive(Debug)]
pub struct Parameters {
    terms: Terms,
    schema: Value,
    names: Vec<String>,
    defaults: Map<String, Value>,
    validator: Validator,
}

/// One thing that is wrong with the parameters of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterFault {
    /// Where, from the parameters down: the parameter's name first.
    pub path: Vec<String>,
    /// What to do about it, as a sentence that names the parameter.
    pub message: String,
}

impl Parameters {
    /// Compiles the schema. A default that does not fit its own declaration is a fault.
    pub(crate) fn compile(terms: Terms, declarations: Vec<Declaration>) -> Result<Self, DeclarationFault> {
        let mut properties = Map::new();
        let mut defaults = Map::new();
        let mut required = Vec::new();
        let mut names = Vec::new();
        for Declaration {
            name,
            required: needed,
            schema,
        } in declarations
        {
            match schema.get("default") {
                Some(default) => {
                    defaults.insert(name.clone(), default.clone());
                }
                // One with a default is never missing, so clients may always leave it out.
                None if needed => required.push(name.clone()),
                None => {}
            }
            properties.insert(name.clone(), Value::Object(schema));
            names.push(name);
        }
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": false,
        });
        let validator = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .with_pattern_options(PatternOptions::regex())
            .should_validate_formats(true)
            .should_ignore_unknown_formats(false)
            .build(&schema)
            .map_err(|error| DeclarationFault {
                // The first segment is the schema's own: `properties`.
                path: fault::path(error.instance_path()).into_iter().skip(1).collect(),
                message: fault::keyword_sentence(&error, terms),
            })?;
        let parameters = Self {
            terms,
            schema,
            names,
            defaults,
            validator,
        };
        parameters.check_defaults()?;
        Ok(parameters)
    }

    fn check_defaults(&self) -> Result<(), DeclarationFault> {
        let defaults = Value::Object(self.defaults.clone());
        let wrong = self
            .validator
            .iter_errors(&defaults)
            .find(|error| !error.instance_path().is_empty());
        wrong.map_or(Ok(()), |error| {
            let at = fault::path(error.instance_path());
            let name = at.first().cloned().unwrap_or_default();
            let sentence = fault::sentences(&error, &self.names, self.terms)
                .pop()
                .map(|fault| fault.message);
            Err(DeclarationFault {
                path: vec![name, "default".to_owned()],
                message: format!("the default does not fit: {}", sentence.unwrap_or_default()),
            })
        })
    }

    /// The JSON Schema (2020-12) of the parameters: an object that allows no others.
    #[must_use]
    pub const fn schema(&self) -> &Value {
        &self.schema
    }

    /// The names, in the order in which they are declared.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The parameters of a request with the defaults filled in, or all that is wrong with them.
    ///
    /// A default stands in where a parameter is absent; null is a value like any other.
    pub fn validate(&self, given: Map<String, Value>) -> Result<Map<String, Value>, Vec<ParameterFault>> {
        let mut all = given;
        for (name, default) in &self.defaults {
            if !all.contains_key(name) {
                all.insert(name.clone(), default.clone());
            }
        }
        let all = Value::Object(all);
        let faults: Vec<ParameterFault> = self
            .validator
            .iter_errors(&all)
            .flat_map(|error| fault::sentences(&error, &self.names, self.terms))
            .take(MOST_FAULTS)
            .collect();
        match all {
            Value::Object(all) if faults.is_empty() => Ok(all),
            _ => Err(faults),
        }
    }
}

#[cfg(test)]
mod tests;
