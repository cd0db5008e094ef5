//! Operations that are too large are refused before any of their fields is resolved.
//!
//! What a document itself shows (aliases, directives, nested introspection) is checked once it is parsed; depth and
//! cost are checked with the validation, which measures them. async-graphql's own limits say neither their bound nor
//! a code, hence these.
//!
//! # The formula of the cost
//!
//! Each field costs 1, and what is selected of it besides; fragments cost what is in them, wherever they are spread.
//!
//! * A page: 1, and what is selected below it times `first` or `last`, or 50 where neither is given.
//! * A list without pages (`workers`, `attempts`, …): 1, and what is selected below it times 10.
//! * A log's text in one piece (`stdout`, `stderr`): 1, and 1 more for each 4 KiB of `lastBytes`.
//!
//! It is known before anything is executed: variables and defaults count with their values, and what `@skip` and
//! `@include` leave out counts as if it were there. A client that sends the extension `cost: true` is told it, and it is
//! what the limit on a client's rate is counted in.

use std::collections::HashMap;
use std::sync::Arc;

use async_graphql::extensions::{
    Extension, ExtensionContext, ExtensionFactory, NextParseQuery, NextValidation,
};
use async_graphql::parser::types::{ExecutableDocument, FragmentDefinition, Selection, SelectionSet};
use async_graphql::{Name, Positioned, ServerError, ServerResult, ValidationResult, Variables};

use super::schema::Limits;
use crate::http::{Cost, ErrorCode, Meter, Validation};

/// Directives on one field; none of ours makes sense twice.
const MAX_DIRECTIVES: usize = 10;

/// Lists within lists of the introspection types. Types have fields, which have types, which have fields again: each
/// further level multiplies the answer by the size of the schema. The usual tools need one level.
const MAX_INTROSPECTED_LISTS: usize = 2;

/// The limits of a schema, as its extension.
pub(super) struct LimitsExtension(pub(super) Limits);

impl ExtensionFactory for LimitsExtension {
    fn create(&self) -> Arc<dyn Extension> {
        Arc::new(Checks(self.0))
    }
}

struct Checks(Limits);

#[async_graphql::async_trait::async_trait]
impl Extension for Checks {
    async fn parse_query(
        &self,
        ctx: &ExtensionContext<'_>,
        query: &str,
        variables: &Variables,
        next: NextParseQuery<'_>,
    ) -> ServerResult<ExecutableDocument> {
        let document = next.run(ctx, query, variables).await?;
        if known(ctx).is_none() {
            check_document(&document, &self.0)?;
        }
        Ok(document)
    }

    async fn validation(
        &self,
        ctx: &ExtensionContext<'_>,
        next: NextValidation<'_>,
    ) -> Result<ValidationResult, Vec<ServerError>> {
        let measured = match known(ctx) {
            Some(known) => known,
            None => {
                let measured = next.run(ctx).await?;
                if let Some(validation) = ctx.data_opt::<Validation>() {
                    validation.keep(measured);
                }
                measured
            }
        };
        let meter = ctx.data_opt::<Arc<Meter>>();
        if let Some(meter) = meter {
            meter.note(Cost {
                requested: measured.complexity,
                limit: self.0.max_cost,
                depth: measured.depth,
            });
        }
        check_measures(&measured, &self.0).map_err(|error| vec![error])?;
        // Last, so that only what is about to be executed is charged in full.
        if let Some(meter) = meter {
            meter.pay().map_err(|error| vec![error])?;
        }
        Ok(measured)
    }
}

/// The result of an earlier validation. Before that the document itself had been found within its limits.
fn known(ctx: &ExtensionContext<'_>) -> Option<ValidationResult> {
    ctx.data_opt::<Validation>()?.result()
}

fn check_measures(measured: &ValidationResult, limits: &Limits) -> ServerResult<()> {
    let (depth, cost) = (measured.depth, measured.complexity);
    if depth > limits.max_depth {
        return Err(exceeded(format!(
            "The operation nests fields {depth} levels deep; the limit is {}.",
            limits.max_depth
        )));
    }
    if cost > limits.max_cost {
        return Err(exceeded(format!(
            "The operation costs {cost}; the limit is {}. Each field costs 1, once for every entry of the pages that \
             it is in: ask for smaller pages or for fewer fields.",
            limits.max_cost
        )));
    }
    Ok(())
}

fn check_document(document: &ExecutableDocument, limits: &Limits) -> ServerResult<()> {
    let mut survey = Survey {
        fragments: &document.fragments,
        introspected: HashMap::new(),
        aliases: 0,
        directives: 0,
    };
    let mut lists = 0;
    for (_, operation) in document.operations.iter() {
        lists = lists.max(survey.look_at(&operation.node.selection_set.node));
    }
    for name in document.fragments.keys() {
        lists = lists.max(survey.look_at_fragment(name));
    }
    let Survey {
        aliases, directives, ..
    } = survey;
    if aliases > limits.max_aliases {
        return Err(exceeded(format!(
            "The document has {aliases} aliases; the limit is {}.",
            limits.max_aliases
        )));
    }
    if directives > MAX_DIRECTIVES {
        return Err(exceeded(format!(
            "A selection has {directives} directives; the limit is {MAX_DIRECTIVES}."
        )));
    }
    if lists > MAX_INTROSPECTED_LISTS {
        return Err(exceeded(format!(
            "The introspection nests lists {lists} levels deep; the limit is {MAX_INTROSPECTED_LISTS}."
        )));
    }
    Ok(())
}

struct Survey<'a> {
    fragments: &'a HashMap<Name, Positioned<FragmentDefinition>>,
    /// How deep each fragment nests lists; 0 while that is being found out, since a cycle is for validation to refuse.
    introspected: HashMap<&'a Name, usize>,
    /// In all. What a fragment repeats is for the cost to bound.
    aliases: usize,
    /// The most on one selection.
    directives: usize,
}

impl<'a> Survey<'a> {
    /// How deep a selection nests lists of the introspection types.
    fn look_at(&mut self, set: &'a SelectionSet) -> usize {
        let mut deepest = 0;
        for selection in &set.items {
            let (directives, lists) = match &selection.node {
                Selection::Field(field) => {
                    let field = &field.node;
                    self.aliases += usize::from(field.alias.is_some());
                    let own = usize::from(is_introspected_list(&field.name.node));
                    (
                        field.directives.len(),
                        own + self.look_at(&field.selection_set.node),
                    )
                }
                Selection::InlineFragment(fragment) => {
                    let fragment = &fragment.node;
                    (
                        fragment.directives.len(),
                        self.look_at(&fragment.selection_set.node),
                    )
                }
                Selection::FragmentSpread(spread) => {
                    let spread = &spread.node;
                    (
                        spread.directives.len(),
                        self.look_at_fragment(&spread.fragment_name.node),
                    )
                }
            };
            self.directives = self.directives.max(directives);
            deepest = deepest.max(lists);
        }
        deepest
    }

    fn look_at_fragment(&mut self, name: &Name) -> usize {
        // The key is the document's own, which outlives the spread's copy of the name.
        let Some((name, fragment)) = self.fragments.get_key_value(name) else {
            return 0;
        };
        if let Some(&known) = self.introspected.get(name) {
            return known;
        }
        self.introspected.insert(name, 0);
        let lists = self.look_at(&fragment.node.selection_set.node);
        self.introspected.insert(name, lists);
        lists
    }
}

/// The lists of `__Type` that lead to further types.
fn is_introspected_list(field: &str) -> bool {
    matches!(field, "fields" | "inputFields" | "interfaces" | "possibleTypes")
}

fn exceeded(message: String) -> ServerError {
    let mut error = ServerError::new(message, None);
    error.extensions = ErrorCode::LimitExceeded.error("").extensions;
    error
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::parse_query;

    use super::*;

    const LIMITS: Limits = Limits {
        max_depth: 3,
        max_cost: 10,
        max_aliases: 2,
        max_page_size: 5,
        introspection: true,
    };

    fn refusal(document: &str) -> Option<String> {
        let document = parse_query(document).unwrap();
        check_document(&document, &LIMITS).err().map(|error| {
            let code = error.extensions.as_ref().and_then(|all| all.get("code")).cloned();
            assert_eq!(code, Some("LIMIT_EXCEEDED".into()));
            error.message
        })
    }

    #[test]
    fn aliases_are_counted_in_operations_and_fragments() {
        assert_eq!(refusal("{ a: x b: y c d }"), None);
        assert_eq!(
            refusal("{ a: x ...F ... on Q { c: z } } fragment F on Q { b: y }").unwrap(),
            "The document has 3 aliases; the limit is 2."
        );
    }

    #[test]
    fn directives_are_counted_for_each_selection() {
        let field = |times: usize| {
            format!(
                "{{ x{} y @skip(if: false) }}",
                " @include(if: true)".repeat(times)
            )
        };
        assert_eq!(refusal(&field(MAX_DIRECTIVES)), None);
        assert_eq!(
            refusal(&field(MAX_DIRECTIVES + 1)).unwrap(),
            "A selection has 11 directives; the limit is 10."
        );
    }

    #[test]
    fn introspection_cannot_go_round_in_circles() {
        assert_eq!(
            refusal("{ __schema { types { fields { type { interfaces { name } } } } } }"),
            None
        );
        let round = "{ __schema { types { fields { type { fields { type { fields { name } } } } } } } }";
        assert_eq!(
            refusal(round).unwrap(),
            "The introspection nests lists 3 levels deep; the limit is 2."
        );
        let through_fragments = "{ __schema { types { ...F } } } fragment F on __Type { fields { type { ...G } } }
            fragment G on __Type { interfaces { ... on __Type { ...H } } } fragment H on __Type { fields { name } }";
        assert!(refusal(through_fragments).unwrap().contains("3 levels"));
        let cycle = "{ __schema { types { ...F } } } fragment F on __Type { fields { type { ...F } } }";
        assert_eq!(refusal(cycle), None, "cycles are refused by the validation");
    }

    #[test]
    fn depth_and_cost_are_bounded() {
        let measured = |depth, complexity| ValidationResult {
            cache_control: async_graphql::CacheControl::default(),
            complexity,
            depth,
        };
        assert!(check_measures(&measured(3, 10), &LIMITS).is_ok());
        let message = |depth, cost| {
            check_measures(&measured(depth, cost), &LIMITS)
                .unwrap_err()
                .message
        };
        assert_eq!(
            message(4, 1),
            "The operation nests fields 4 levels deep; the limit is 3."
        );
        assert!(message(1, 11).starts_with("The operation costs 11; the limit is 10. "));
    }
}
