//! Resolves objects whose fields are at hand, without a future, a task and a turn of the extensions for each.
//!
//! async-graphql resolves all fields of an object side by side, which pays where they have to ask somebody. Most of a
//! job's are parts of a value that was read already: there it costs many times what the answer does. So those are
//! resolved in place, one after the other, and only what asks is resolved side by side.

use std::collections::HashMap;

use async_graphql::indexmap::IndexMap;
use async_graphql::parser::types::{Field, FragmentDefinition, Selection, SelectionSet};
use async_graphql::resolver_utils::{ContainerType, resolve_container};
use async_graphql::{Context, ContextSelectionSet, Name, Positioned, ServerResult, Value};
use futures_util::FutureExt as _;
use futures_util::future::join_all;

/// An object with fields that are at hand.
pub(super) trait AtHand: ContainerType {
    /// The part of it that has those fields.
    type AtHand: ContainerType;

    /// That part. Its fields are answered without waiting for anybody, and never with a fault.
    fn at_hand(&self) -> &Self::AtHand;
}

/// Resolves an object.
pub(super) async fn object<T: AtHand>(ctx: &ContextSelectionSet<'_>, object: &T) -> ServerResult<Value> {
    let Some(selected) = selected(ctx) else {
        return resolve_container(ctx, object).await;
    };
    let mut answer = IndexMap::with_capacity(selected.len());
    let mut asking = Vec::new();
    for field in selected {
        let key = field.node.response_key().node.clone();
        if let Some(value) = at_hand(object, &ctx.with_field(field)).await? {
            answer.insert(key, value);
        } else {
            // Keeps its place.
            answer.insert(key.clone(), Value::Null);
            let answered = async move {
                let ctx = ctx.with_field(field);
                (key, object.resolve_field(&ctx).await)
            };
            asking.push(answered.boxed());
        }
    }
    for (key, value) in join_all(asking).await {
        match value {
            Ok(value) => {
                answer.insert(key, value.unwrap_or_default());
            }
            Err(error) => ctx.add_error(error),
        }
    }
    Ok(Value::Object(answer))
}

/// Resolves a list of objects, looking at the selection once for all. None where something that is selected of them is not
/// at hand.
pub(super) async fn list<T: AtHand>(
    ctx: &ContextSelectionSet<'_>,
    objects: &[T],
) -> ServerResult<Option<Value>> {
    let Some(selected) = selected(ctx) else {
        return Ok(None);
    };
    let fields: Vec<Context<'_>> = selected.into_iter().map(|field| ctx.with_field(field)).collect();
    let mut answers = Vec::with_capacity(objects.len());
    for object in objects {
        let mut answer = IndexMap::with_capacity(fields.len());
        for field in &fields {
            let Some(value) = at_hand(object, field).await? else {
                return Ok(None);
            };
            answer.insert(field.item.node.response_key().node.clone(), value);
        }
        answers.push(Value::Object(answer));
    }
    Ok(Some(Value::List(answers)))
}

/// What a field answers; none where it is not at hand.
async fn at_hand<T: AtHand>(object: &T, field: &Context<'_>) -> ServerResult<Option<Value>> {
    if field.item.node.name.node == "__typename" {
        return Ok(Some(Value::String(object.introspection_type_name().into_owned())));
    }
    object.at_hand().resolve_field(field).await
}

type Fragments = HashMap<Name, Positioned<FragmentDefinition>>;

/// The fields that are selected of an object, each response key once. None where it takes more than that: a field with
/// a directive that is left, or one that is selected twice with selections of its own, to be put together.
fn selected<'a>(ctx: &ContextSelectionSet<'a>) -> Option<Vec<&'a Positioned<Field>>> {
    let mut fields = Vec::with_capacity(ctx.item.node.items.len());
    gather(&ctx.item.node, &ctx.query_env.fragments, &mut fields)?;
    Some(fields)
}

/// Fragments need not be asked for their types: of an object, validation lets no other be selected than those that it
/// has.
fn gather<'a>(
    set: &'a SelectionSet,
    fragments: &'a Fragments,
    fields: &mut Vec<&'a Positioned<Field>>,
) -> Option<()> {
    for selection in &set.items {
        if !selection.node.directives().is_empty() {
            return None;
        }
        match &selection.node {
            Selection::Field(field) => {
                let key = &field.node.response_key().node;
                let known = fields.iter().any(|known| known.node.response_key().node == *key);
                if known && !field.node.selection_set.node.items.is_empty() {
                    return None;
                }
                if !known {
                    fields.push(field);
                }
            }
            Selection::InlineFragment(fragment) => {
                gather(&fragment.node.selection_set.node, fragments, fields)?;
            }
            Selection::FragmentSpread(spread) => {
                let fragment = fragments.get(&spread.node.fragment_name.node)?;
                gather(&fragment.node.selection_set.node, fragments, fields)?;
            }
        }
    }
    Some(())
}
