//! Puts the fields of a result into the order in which the document asks for them.
//!
//! async-graphql resolves the fields of an object at the same time and lists them as they come. The specification
//! wants them in the order of the document, and so does the person who reads them.

use std::collections::HashMap;

use async_graphql::indexmap::IndexMap;
use async_graphql::parser::types::{FragmentDefinition, OperationDefinition, Selection, SelectionSet};
use async_graphql::{Name, Positioned, Value};

type Fragments = HashMap<Name, Positioned<FragmentDefinition>>;

/// The response keys of a selection in order, each with those below it. What is a leaf has none: a scalar that is an
/// object is left as it is.
#[derive(Debug, Clone, Default)]
pub(in crate::http) struct Order(IndexMap<Name, Order>);

impl Order {
    /// Of an operation whose fragments do not go round in circles.
    pub(super) fn of(operation: &OperationDefinition, fragments: &Fragments) -> Self {
        let mut order = Self::default();
        order.add(&operation.selection_set.node, fragments);
        order
    }

    fn add(&mut self, set: &SelectionSet, fragments: &Fragments) {
        for selection in &set.items {
            match &selection.node {
                Selection::Field(field) => {
                    let key = field.node.response_key().node.clone();
                    self.0
                        .entry(key)
                        .or_default()
                        .add(&field.node.selection_set.node, fragments);
                }
                Selection::InlineFragment(fragment) => self.add(&fragment.node.selection_set.node, fragments),
                Selection::FragmentSpread(spread) => {
                    if let Some(fragment) = fragments.get(&spread.node.fragment_name.node) {
                        self.add(&fragment.node.selection_set.node, fragments);
                    }
                }
            }
        }
    }

    /// Sorts a result and all that is in it.
    pub(in crate::http) fn apply(&self, value: &mut Value) {
        if self.0.is_empty() {
            return;
        }
        match value {
            Value::List(items) => items.iter_mut().for_each(|item| self.apply(item)),
            Value::Object(fields) if fields.keys().eq(self.0.keys()) => {
                for (value, below) in fields.values_mut().zip(self.0.values()) {
                    below.apply(value);
                }
            }
            Value::Object(fields) => {
                let mut found = std::mem::take(fields);
                fields.reserve(found.len());
                for (key, below) in &self.0 {
                    if let Some(mut value) = found.swap_remove(key) {
                        below.apply(&mut value);
                        fields.insert(key.clone(), value);
                    }
                }
                fields.extend(found);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::parse_query;
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_come_in_the_order_of_the_document() {
        let text = "{ b { z y } ...F a ... on Q { c } b { x } } fragment F on Q { d list { two one } }";
        let document = parse_query(text).unwrap();
        let (_, operation) = document.operations.iter().next().unwrap();
        let order = Order::of(&operation.node, &document.fragments);
        let mut value = Value::from_json(json!({
            "a": { "scalar": 1, "as": 2, "it": 3 }, "c": 1, "d": null,
            "list": [{ "one": 1, "two": 2 }, null], "b": { "x": 1, "y": 2, "z": 3 },
        }))
        .unwrap();
        order.apply(&mut value);
        assert_eq!(
            serde_json::to_string(&value).unwrap(),
            r#"{"b":{"z":3,"y":2,"x":1},"d":null,"list":[{"two":2,"one":1},null],"a":{"scalar":1,"as":2,"it":3},"c":1}"#
        );
        // What is in order outside may not be within.
        let text = r#"{"b":{"x":1,"y":2,"z":3},"d":1,"list":[{"one":1,"two":2}],"a":2,"c":3}"#;
        let mut value: Value = serde_json::from_str(text).unwrap();
        order.apply(&mut value);
        assert_eq!(
            serde_json::to_string(&value).unwrap(),
            r#"{"b":{"z":3,"y":2,"x":1},"d":1,"list":[{"two":2,"one":1}],"a":2,"c":3}"#
        );
    }
}
