//! Puts the root of a subscription into the form that async-graphql makes a stream from: one plain field.
//!
//! Its streams are made from the fields that are items of the operation's own selection set; fragments among the items
//! are skipped without a word. So what the root selects is collected here, as `CollectFields` of the specification
//! does, and put behind the root as it was, which is kept as one inline fragment: validation still sees every word
//! that the client wrote, and the executor passes over it. The price is that such a root counts twice for the cost of
//! the operation.
//!
//! The specification allows a subscription one root field, and the executor any number; so that is checked here too.

use std::collections::HashMap;

use async_graphql::parser::types::{
    Directive, Field, FragmentDefinition, InlineFragment, OperationDefinition, Selection, SelectionSet,
    TypeCondition,
};
use async_graphql::{Name, Positioned, ServerError, Value, Variables};

use super::super::code::ErrorCode;

type Fragments = HashMap<Name, Positioned<FragmentDefinition>>;

/// Replaces the root's items where they are not already one plain field.
pub(super) fn flatten(
    operation: &mut OperationDefinition,
    fragments: &Fragments,
    variables: &Variables,
    root_type: &str,
) -> Result<(), ServerError> {
    let root = &mut operation.selection_set;
    let mut roots = Roots {
        fragments,
        variables,
        root_type,
        fields: Vec::new(),
        foreign: false,
        conflict: false,
    };
    roots.collect(&root.node);
    let mut fields = roots.fields;
    let refused =
        |message: &str| Err(ErrorCode::GraphqlValidationFailed.server_error(message, Some(root.pos)));
    let field = match (fields.pop(), fields.len()) {
        // Validation refuses the fragments that were left out, in better words.
        (None, _) if roots.foreign => return Ok(()),
        (None, _) => return refused("The subscription selects nothing."),
        (Some(_), 1..) => return refused("A subscription has one root field only."),
        (Some(_), 0) if roots.conflict => {
            return refused("The root field is asked for twice, with different arguments.");
        }
        (Some(field), 0) => field,
    };
    if field.node.name.node.starts_with("__") {
        return refused("The root field of a subscription cannot be an introspection field.");
    }
    if !matches!(&root.node.items[..], [only] if matches!(only.node, Selection::Field(_))) {
        let pos = root.pos;
        let as_written = InlineFragment {
            type_condition: None,
            directives: Vec::new(),
            selection_set: std::mem::replace(root, Positioned::new(SelectionSet::default(), pos)),
        };
        root.node.items = vec![
            Positioned::new(Selection::InlineFragment(Positioned::new(as_written, pos)), pos),
            Positioned::new(Selection::Field(field), pos),
        ];
    }
    Ok(())
}

/// The fields that the root selects, those of one response key merged.
struct Roots<'a> {
    fragments: &'a Fragments,
    variables: &'a Variables,
    root_type: &'a str,
    fields: Vec<Positioned<Field>>,
    /// Whether a fragment was left out because it is unknown or on another type.
    foreign: bool,
    /// Whether two fields of one response key are not the same call, which validation does not notice across
    /// fragments.
    conflict: bool,
}

impl<'a> Roots<'a> {
    /// The recursion ends, and stays shallow, since the document was measured before.
    fn collect(&mut self, set: &'a SelectionSet) {
        for selection in &set.items {
            if self.skips(selection.node.directives()) {
                continue;
            }
            match &selection.node {
                Selection::Field(field) => self.add(field),
                Selection::InlineFragment(fragment) => {
                    let condition = fragment.node.type_condition.as_ref();
                    self.collect_fragment(condition, &fragment.node.selection_set.node);
                }
                Selection::FragmentSpread(spread) => {
                    match self.fragments.get(&spread.node.fragment_name.node) {
                        Some(fragment) => {
                            let condition = Some(&fragment.node.type_condition);
                            self.collect_fragment(condition, &fragment.node.selection_set.node);
                        }
                        None => self.foreign = true,
                    }
                }
            }
        }
    }

    fn collect_fragment(&mut self, condition: Option<&Positioned<TypeCondition>>, set: &'a SelectionSet) {
        if condition.is_none_or(|condition| condition.node.on.node == self.root_type) {
            self.collect(set);
        } else {
            self.foreign = true;
        }
    }

    fn add(&mut self, field: &Positioned<Field>) {
        let key = &field.node.response_key().node;
        match self
            .fields
            .iter_mut()
            .find(|known| known.node.response_key().node == *key)
        {
            Some(known) => {
                self.conflict |= !is_same(&known.node, &field.node);
                let more = field.node.selection_set.node.items.iter().cloned();
                known.node.selection_set.node.items.extend(more);
            }
            None => {
                let mut field = field.clone();
                field
                    .node
                    .directives
                    .retain(|directive| !is_condition(&directive.node));
                self.fields.push(field);
            }
        }
    }

    fn skips(&self, directives: &[Positioned<Directive>]) -> bool {
        directives
            .iter()
            .filter(|directive| is_condition(&directive.node))
            .any(|directive| {
                let Some(condition) = directive.node.get_argument("if") else {
                    return false;
                };
                let value = condition
                    .node
                    .clone()
                    .into_const_with(|name| self.variables.get(&name).cloned().ok_or(()));
                // What is no boolean is refused by validation.
                let include = directive.node.name.node == "include";
                value == Ok(Value::Boolean(!include))
            })
    }
}

fn is_same(one: &Field, other: &Field) -> bool {
    let all_in = |these: &Field, those: &Field| {
        these.arguments.iter().all(|(name, value)| {
            those
                .get_argument(&name.node)
                .is_some_and(|other| other.node == value.node)
        })
    };
    one.name.node == other.name.node && all_in(one, other) && all_in(other, one)
}

fn is_condition(directive: &Directive) -> bool {
    directive.name.node == "skip" || directive.name.node == "include"
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::parse_query;
    use async_graphql::parser::types::DocumentOperations;

    use super::*;

    /// The keys of the root's plain fields after flattening, with those of their own selections.
    fn flattened(text: &str, variables: serde_json::Value) -> Result<Vec<(String, usize)>, String> {
        let mut document = parse_query(text).unwrap();
        let DocumentOperations::Single(operation) = &mut document.operations else {
            panic!("named")
        };
        let variables = Variables::from_json(variables);
        flatten(
            &mut operation.node,
            &document.fragments,
            &variables,
            "Subscription",
        )
        .map_err(|error| error.message)?;
        let items = &operation.node.selection_set.node.items;
        let fields = items.iter().filter_map(|item| match &item.node {
            Selection::Field(field) => Some(field),
            _ => None,
        });
        Ok(fields
            .map(|field| {
                (
                    field.node.response_key().node.to_string(),
                    field.node.selection_set.node.items.len(),
                )
            })
            .collect())
    }

    #[test]
    fn a_root_in_fragments_becomes_one_field() {
        let none = || serde_json::json!({});
        let one = |key: &str, inner: usize| Ok(vec![(key.to_owned(), inner)]);
        assert_eq!(flattened("subscription {a {x}}", none()), one("a", 1));
        assert_eq!(
            flattened(
                "subscription {...F} fragment F on Subscription {b: a {x y}}",
                none()
            ),
            one("b", 2)
        );
        assert_eq!(
            flattened("subscription {... {... on Subscription {a}}}", none()),
            one("a", 0)
        );
        assert_eq!(
            flattened(
                "subscription {a {x} ...F} fragment F on Subscription {a {y z}}",
                none()
            ),
            one("a", 3)
        );
        let conditional = "subscription($v: Boolean) {...F @include(if: $v) b @skip(if: $v)} fragment F on Subscription {a}";
        assert_eq!(
            flattened(conditional, serde_json::json!({ "v": true })),
            one("a", 0)
        );
        assert_eq!(
            flattened(conditional, serde_json::json!({ "v": false })),
            one("b", 0)
        );
    }

    #[test]
    fn more_or_less_than_one_field_is_refused() {
        for text in [
            "subscription {a b}",
            "subscription {a(x: 1) ...{a(x: 2)}}",
            "subscription {a: b ...{a}}",
            "subscription {a ...{b}}",
            "subscription {a @skip(if: true)}",
            "subscription {__typename}",
            "subscription {...{t: __typename}}",
        ] {
            assert!(flattened(text, serde_json::json!({})).is_err(), "{text}");
        }
        // Left to validation.
        assert_eq!(
            flattened(
                "subscription {...F} fragment F on Query {a}",
                serde_json::json!({})
            ),
            Ok(vec![])
        );
        assert_eq!(
            flattened("subscription {...Nowhere}", serde_json::json!({})),
            Ok(vec![])
        );
    }
}
