//! Which subscriptions are answered alike.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::convert::Infallible;

use async_graphql::parser::types::{
    Directive, FragmentDefinition, OperationDefinition, Selection, SelectionSet,
};
use async_graphql::{Name, Positioned, Request, Value};
use sha2::{Digest as _, Sha256};

use super::super::shared::Kin;

type Fragments = HashMap<Name, Positioned<FragmentDefinition>>;

/// What all that are answered alike have in common: these rights, the text, the operation, and the variables that are
/// used beyond the arguments of the root field. Those arguments choose the items and where to begin, and listeners that
/// came at different times have different ones; what is told of an item does not depend on them.
pub(super) fn of(
    request: &Request,
    operation: &OperationDefinition,
    fragments: &Fragments,
    rights: &[u8],
) -> Kin {
    let mut used = Used {
        fragments,
        names: BTreeSet::new(),
        seen: HashSet::new(),
    };
    used.directives(&operation.directives);
    used.selections(&operation.selection_set.node, true);
    let mut hash = Sha256::new();
    let mut add = |part: &[u8]| {
        // With its length, so that no two lists of parts run together.
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    };
    add(rights);
    add(request.query.as_bytes());
    add(request.operation_name.as_deref().unwrap_or_default().as_bytes());
    for name in used.names {
        if let Some(value) = request.variables.get(&name) {
            add(name.as_bytes());
            add(value.to_string().as_bytes());
        }
    }
    hash.finalize().into()
}

/// The variables that are used, but for the arguments of root fields.
struct Used<'a> {
    fragments: &'a Fragments,
    names: BTreeSet<Name>,
    seen: HashSet<&'a Name>,
}

impl<'a> Used<'a> {
    /// The recursion ends, and stays shallow, since the document was measured before.
    fn selections(&mut self, set: &'a SelectionSet, is_root: bool) {
        for selection in &set.items {
            self.directives(selection.node.directives());
            match &selection.node {
                Selection::Field(field) => {
                    if !is_root {
                        for (_, value) in &field.node.arguments {
                            let _ = value.node.clone().into_const_with(note(&mut self.names));
                        }
                    }
                    self.selections(&field.node.selection_set.node, false);
                }
                Selection::InlineFragment(fragment) => {
                    self.selections(&fragment.node.selection_set.node, is_root);
                }
                Selection::FragmentSpread(spread) => {
                    // Its type says whether it stands at the root, so once is enough.
                    let name = &spread.node.fragment_name.node;
                    if let Some((name, fragment)) = self.fragments.get_key_value(name)
                        && self.seen.insert(name)
                    {
                        self.directives(&fragment.node.directives);
                        self.selections(&fragment.node.selection_set.node, is_root);
                    }
                }
            }
        }
    }

    fn directives(&mut self, directives: &[Positioned<Directive>]) {
        for directive in directives {
            for (_, value) in &directive.node.arguments {
                let _ = value.node.clone().into_const_with(note(&mut self.names));
            }
        }
    }
}

/// Takes note of each variable that it is asked for the value of.
fn note(names: &mut BTreeSet<Name>) -> impl FnMut(Name) -> Result<Value, Infallible> {
    |name| {
        names.insert(name);
        Ok(Value::Null)
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::Variables;
    use async_graphql::parser::parse_query;
    use serde_json::json;

    use super::*;

    fn kin(text: &str, variables: serde_json::Value, rights: &str) -> Kin {
        let request = Request::new(text).variables(Variables::from_json(variables));
        let document = parse_query(text).unwrap();
        let (_, operation) = document.operations.iter().next().unwrap();
        of(&request, &operation.node, &document.fragments, rights.as_bytes())
    }

    #[test]
    fn only_the_arguments_of_the_root_field_may_differ() {
        let text = "subscription($r: Int, $n: Int, $s: Boolean!, $f: Int, $d: Boolean!) {
                s(after: $r) { x(n: [{ n: $n }]) ...F } ... @skip(if: $d) { s { y } }
            } fragment F on T { ... @include(if: $s) { y(f: $f) } }";
        let all = json!({ "r": 1, "n": 1, "s": true, "f": 1, "d": true });
        let one = kin(text, all.clone(), "r");
        for (name, same) in [
            ("r", true),
            ("n", false),
            ("s", false),
            ("f", false),
            ("d", false),
        ] {
            let mut other = all.clone();
            other[name] = json!(2);
            assert_eq!(kin(text, other, "r") == one, same, "{name}");
        }
        assert_ne!(kin(text, all.clone(), "other rights"), one);
        assert_ne!(kin(&format!("{text} "), all, "r"), one);
    }
}
