//! Validations that need not be done again: the result for one document depends on nothing but its variables.
//!
//! Of most variables the value counts: an enumeration has it or not, and the size of a page counts into the cost. Of a
//! string whose variable is declared as one only the kind does, so a document that asks for one job by its id is
//! validated once for all ids. Refusals are not kept: they name what was sent.

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use async_graphql::parser::types::{BaseType, DocumentOperations, OperationDefinition};
use async_graphql::{ValidationResult, Value, Variables};
use lru::LruCache;

/// Results that are kept, of all documents: the least recently used is forgotten first.
const MOST: usize = 2_048;

/// The longest text of what counts in the variables, in bytes, for which a result is kept.
const LONGEST: usize = 256;

/// Stands for any string. No value is written like it.
const STRING: char = '\0';

/// The results of an endpoint, by the number of the document and what counts in the variables.
#[derive(Debug)]
pub(super) struct Results(Mutex<LruCache<Key, ValidationResult>>);

type Key = (u64, Box<str>);

impl Default for Results {
    fn default() -> Self {
        Self(Mutex::new(LruCache::unbounded()))
    }
}

impl Results {
    fn with<T>(&self, run: impl FnOnce(&mut LruCache<Key, ValidationResult>) -> T) -> T {
        run(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Where the result of an operation's validation is kept. The transport puts one into the data of each operation for which
/// that can be done.
#[derive(Debug, Clone)]
pub struct Validation {
    results: Arc<Results>,
    key: Key,
}

impl Validation {
    /// For an operation of the document of this number as it is executed, its variables completed.
    pub(super) fn of(
        results: Arc<Results>,
        document: u64,
        operation: &OperationDefinition,
        variables: &Variables,
    ) -> Option<Self> {
        let mut key = Short::default();
        // Only what is declared: others' names can be anything, and count for nothing.
        for definition in &operation.variable_definitions {
            let definition = &definition.node;
            let name = &definition.name.node;
            let written = match variables.get(name) {
                None => continue,
                Some(Value::String(_)) if is_string(&definition.var_type.node.base) => {
                    write!(key, "{name}={STRING};")
                }
                Some(value) => write!(key, "{name}={value};"),
            };
            written.ok()?;
        }
        Some(Self {
            results,
            key: (document, key.0.into()),
        })
    }

    /// The result, where the same was validated before and found right.
    #[must_use]
    pub fn result(&self) -> Option<ValidationResult> {
        self.results.with(|kept| kept.get(&self.key).copied())
    }

    /// Keeps the result of a validation that found everything right.
    pub fn keep(&self, result: ValidationResult) {
        self.results.with(|kept| {
            kept.put(self.key.clone(), result);
            if kept.len() > MOST {
                kept.pop_lru();
            }
        });
    }
}

/// Whether a document has nothing but this one operation: each is validated with the others' variables, too.
pub(super) fn is_alone(operations: &DocumentOperations) -> bool {
    match operations {
        DocumentOperations::Single(_) => true,
        DocumentOperations::Multiple(operations) => operations.len() == 1,
    }
}

/// Whether any string is as good as any other for a variable.
fn is_string(declared: &BaseType) -> bool {
    match declared {
        BaseType::Named(name) => matches!(name.as_str(), "ID" | "String"),
        BaseType::List(_) => false,
    }
}

/// A text that refuses to become longer than [`LONGEST`].
#[derive(Default)]
struct Short(String);

impl fmt::Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > LONGEST {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::CacheControl;
    use serde_json::json;

    use super::super::{Documents, TransportConfig, prepare};
    use super::*;

    /// Whether the first request's result holds for the second.
    fn shares(text: &str, first: serde_json::Value, second: serde_json::Value) -> bool {
        let documents = Documents::default();
        let validation = |variables| {
            let mut request = async_graphql::Request::new(text).variables(Variables::from_json(variables));
            prepare(&mut request, &TransportConfig::default(), &documents, None)
                .unwrap()
                .validation
        };
        let (Some(first), Some(second)) = (validation(first), validation(second)) else {
            return false;
        };
        assert!(first.result().is_none() && second.result().is_none());
        first.keep(ValidationResult {
            cache_control: CacheControl::default(),
            complexity: 7,
            depth: 2,
        });
        assert_eq!(first.result().unwrap().complexity, 7);
        second.result().is_some()
    }

    #[test]
    fn of_a_declared_string_only_the_kind_counts() {
        let id = "query($id: ID!) { job(id: $id) { id } }";
        assert!(shares(id, json!({"id": "a"}), json!({"id": "b"})));
        assert!(!shares(id, json!({"id": "a"}), json!({"id": 1})));
        assert!(!shares(id, json!({"id": "a"}), json!({"id": ["a"]})));
        let text = "query($x: String) { a(x: $x) }";
        assert!(shares(text, json!({"x": "a"}), json!({"x": ""})));
        assert!(!shares(text, json!({"x": "a"}), json!({"x": null})));
        assert!(!shares(text, json!({"x": "a"}), json!({})));
    }

    #[test]
    fn of_all_other_variables_the_value_counts() {
        let size = "query($first: Int = 5) { jobs(first: $first) { id } }";
        assert!(shares(size, json!({"first": 5}), json!({})));
        assert!(!shares(size, json!({"first": 5}), json!({"first": 6})));
        let word = "query($x: Status) { a(x: $x) }";
        assert!(shares(word, json!({"x": "DONE"}), json!({"x": "DONE"})));
        assert!(!shares(word, json!({"x": "DONE"}), json!({"x": "OPEN"})));
        let list = "query($x: [ID!]) { a(x: $x) }";
        assert!(!shares(list, json!({"x": ["a"]}), json!({"x": ["b"]})));
        let input = "mutation($x: Input!) { a(x: $x) }";
        assert!(!shares(input, json!({"x": {"y": 1}}), json!({"x": {"y": 2}})));
    }

    #[test]
    fn no_name_and_no_text_passes_for_another() {
        let two = "query($a: Status, $b: Status) { x(a: $a, b: $b) }";
        assert!(!shares(
            two,
            json!({"a": "x\";b=\"y"}),
            json!({"a": "x", "b": "y"})
        ));
        assert!(!shares(two, json!({"a": "\0"}), json!({"a": "x"})));
        let id = "query($id: ID, $n: Int) { x(id: $id, n: $n) }";
        assert!(shares(id, json!({"n": 1, "id=x;": 2}), json!({"n": 1})));
        assert!(!shares(id, json!({"id": "\0;n=1"}), json!({"id": "x", "n": 1})));
    }

    #[test]
    fn what_is_long_or_has_other_operations_is_validated_each_time() {
        let long = json!({"x": "y".repeat(LONGEST)});
        assert!(!shares(
            "query($x: Status) { a(x: $x) }",
            long.clone(),
            long.clone()
        ));
        assert!(shares("query($x: String) { a(x: $x) }", long.clone(), long));
        let documents = Documents::default();
        let mut request = async_graphql::Request::new("query A { a } query B { b }").operation_name("A");
        let chosen = prepare(&mut request, &TransportConfig::default(), &documents, None).unwrap();
        assert!(chosen.validation.is_none());
    }

    #[test]
    fn so_many_results_are_kept_and_none_of_another_document() {
        let documents = Documents::default();
        let validation = |field: &str, first: usize| {
            let text = format!("query($first: Int) {{ {field}(first: $first) {{ id }} }}");
            let mut request =
                async_graphql::Request::new(text).variables(Variables::from_json(json!({ "first": first })));
            let chosen = prepare(&mut request, &TransportConfig::default(), &documents, None).unwrap();
            chosen.validation.unwrap()
        };
        for first in 0..=MOST {
            validation("jobs", first).keep(ValidationResult {
                cache_control: CacheControl::default(),
                complexity: first,
                depth: 2,
            });
        }
        assert!(validation("jobs", 0).result().is_none());
        for first in 1..=MOST {
            assert_eq!(validation("jobs", first).result().unwrap().complexity, first);
        }
        assert!(validation("scripts", MOST).result().is_none());
    }
}
