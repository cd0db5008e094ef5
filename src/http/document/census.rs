//! How large a document is to walk: its selections and directives, counted as often as fragments repeat them, and
//! how deep they stand within each other through fragments.

use std::collections::HashMap;

use async_graphql::parser::types::{
    Directive, ExecutableDocument, FragmentDefinition, Selection, SelectionSet,
};
use async_graphql::{Name, Positioned, ServerError};

use super::super::code::ErrorCode;

/// Selections within each other, through fragments; validation descends as deep, on its thread's stack.
const MAX_HEIGHT: usize = 100;

/// Refuses a document that is too large to walk, or that has no end.
pub(super) fn check(document: &ExecutableDocument, max_selections: usize) -> Result<(), ServerError> {
    let mut census = Census {
        fragments: &document.fragments,
        known: HashMap::new(),
    };
    let mut total = 0_usize;
    for (_, operation) in document.operations.iter() {
        let own = operation.node.directives.len() + operation.node.variable_definitions.len();
        total = total.saturating_add(own);
        total = total.saturating_add(census.measure(&operation.node.selection_set.node, 0)?.selections);
    }
    // Fragments that no operation spreads are walked as well, by the rules that refuse them.
    for name in document.fragments.keys() {
        total = total.saturating_add(census.measure_fragment(name, 0)?.selections);
    }
    if total > max_selections {
        let message =
            format!("The document has {total} selections, fragments spread; the limit is {max_selections}.");
        return Err(ErrorCode::LimitExceeded.server_error(message, None));
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, Default)]
struct Size {
    selections: usize,
    height: usize,
}

struct Census<'a> {
    fragments: &'a HashMap<Name, Positioned<FragmentDefinition>>,
    /// The sizes of fragments; none while a fragment is being measured, which is how a cycle shows.
    known: HashMap<&'a Name, Option<Size>>,
}

impl<'a> Census<'a> {
    fn measure(&mut self, set: &'a SelectionSet, depth: usize) -> Result<Size, ServerError> {
        let mut size = Size::default();
        for selection in &set.items {
            let (own, inner) = match &selection.node {
                Selection::Field(field) => {
                    let inner = self.measure(&field.node.selection_set.node, checked(depth + 1)?)?;
                    (
                        schema_cost(&field.node.name.node) + cost(&field.node.directives),
                        inner,
                    )
                }
                Selection::InlineFragment(fragment) => {
                    let inner = self.measure(&fragment.node.selection_set.node, checked(depth + 1)?)?;
                    (cost(&fragment.node.directives), inner)
                }
                Selection::FragmentSpread(spread) => {
                    let inner =
                        self.measure_fragment(&spread.node.fragment_name.node, checked(depth + 1)?)?;
                    (cost(&spread.node.directives), inner)
                }
            };
            size.selections = size
                .selections
                .saturating_add(own)
                .saturating_add(inner.selections);
            size.height = size.height.max(checked(inner.height + 1)?);
        }
        Ok(size)
    }

    fn measure_fragment(&mut self, name: &Name, depth: usize) -> Result<Size, ServerError> {
        let Some((name, fragment)) = self.fragments.get_key_value(name) else {
            // Validation says so in better words.
            return Ok(Size::default());
        };
        match self.known.get(name) {
            Some(Some(size)) => Ok(*size),
            Some(None) => {
                let message = format!("The fragment `{name}` spreads itself.");
                Err(ErrorCode::GraphqlValidationFailed.server_error(message, Some(fragment.pos)))
            }
            None => {
                self.known.insert(name, None);
                let mut size = self.measure(&fragment.node.selection_set.node, depth)?;
                size.selections = size.selections.saturating_add(cost(&fragment.node.directives));
                self.known.insert(name, Some(size));
                Ok(size)
            }
        }
    }
}

/// What reading the schema costs beside what is selected of it: few words ask for all of it, and an alias for all of it
/// again.
fn schema_cost(name: &str) -> usize {
    if name == "__schema" || name == "__type" {
        200
    } else {
        0
    }
}

fn cost(directives: &[Positioned<Directive>]) -> usize {
    1 + directives.len()
}

fn checked(height: usize) -> Result<usize, ServerError> {
    if height > MAX_HEIGHT {
        let message =
            format!("Selections stand more than {MAX_HEIGHT} levels deep in each other, fragments spread.");
        return Err(ErrorCode::LimitExceeded.server_error(message, None));
    }
    Ok(height)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use async_graphql::parser::parse_query;

    use super::*;

    fn refused(text: &str) -> Option<ErrorCode> {
        let error = check(&parse_query(text).unwrap(), 1_000).err()?;
        ErrorCode::of(&error)
    }

    #[test]
    fn fragments_count_as_often_as_they_are_spread() {
        let mut bomb = "{...F0}".to_owned();
        for level in 0..60 {
            let next = level + 1;
            write!(bomb, " fragment F{level} on Q {{...F{next} ...F{next}}}").unwrap();
        }
        bomb.push_str(" fragment F60 on Q {a}");
        assert_eq!(refused(&bomb), Some(ErrorCode::LimitExceeded));
        assert_eq!(
            refused(&format!("{{{}}}", "a ".repeat(1_001))),
            Some(ErrorCode::LimitExceeded)
        );
        assert_eq!(refused(&format!("{{{}}}", "a ".repeat(1_000))), None);
        assert_eq!(
            refused(&format!("{{a {}}}", "@d ".repeat(1_000))),
            Some(ErrorCode::LimitExceeded)
        );
    }

    #[test]
    fn introspection_is_not_repeated_at_will() {
        assert_eq!(refused("{a: __schema b: __type}"), None);
        let repeated = "{a: __schema b: __schema c: __schema d: __type e: __type}";
        assert_eq!(refused(repeated), Some(ErrorCode::LimitExceeded));
    }

    #[test]
    fn a_chain_of_fragments_is_too_deep_from_whichever_end_it_is_measured() {
        for order in [0, 1] {
            let mut chain = "{a}".to_owned();
            for link in 0..300 {
                let link = if order == 0 { link } else { 299 - link };
                write!(chain, " fragment F{link} on Q {{...F{}}}", link + 1).unwrap();
            }
            chain.push_str(" fragment F300 on Q {a}");
            assert_eq!(refused(&chain), Some(ErrorCode::LimitExceeded));
        }
    }

    #[test]
    fn a_cycle_is_found_and_an_unknown_fragment_left_to_validation() {
        assert_eq!(
            refused("{a} fragment A on Q {...B} fragment B on Q {b {...A}}"),
            Some(ErrorCode::GraphqlValidationFailed)
        );
        assert_eq!(refused("{...Nowhere}"), None);
    }
}
