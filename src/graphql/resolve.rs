//! Resolves objects whose fields are at hand, without a future, a task and a turn of the extensions for each.
//!
//! async-graphql resolves all fields of an object side by side, which pays where they have to ask somebody. Most of a
//! job's are parts of a value that was read already: there it costs many times what the answer does. So those are
//! resolved in place, one after the other, and only what asks is resolved side by side.

use std::collections::HashMap;

use async_graphql::indexmap::IndexMap;
use async_graphql::parser::types::{Field, FragmentDefinition, Selection, SelectionSet};
use async_graphql::resolver_utils::{ContainerType, resolve_container, resolve_list};
use async_graphql::{Context, ContextSelectionSet, Name, Positioned, ServerResult, Value};
use futures_util::FutureExt as _;
use futures_util::future::join_all;

/// An object with fields that are at hand.
pub(super) trait AtHand: ContainerType {
    /// Whether a field is answered without waiting for anybody, and never with a fault.
    fn is_at_hand(field: &str) -> bool;
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
        // Boxed, since objects hold each other.
        if let Some(value) = at_hand(object, &ctx.with_field(field)).boxed().await? {
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

/// Resolves a list of objects. Where all that is selected of them is at hand, the selection is looked at once for all.
pub(super) async fn list<T: AtHand>(
    ctx: &ContextSelectionSet<'_>,
    field: &Positioned<Field>,
    objects: &[T],
) -> ServerResult<Value> {
    let all_at_hand = |fields: &Vec<&Positioned<Field>>| fields.iter().all(|field| is_at_hand::<T>(field));
    let Some(selected) = selected(ctx).filter(all_at_hand) else {
        return resolve_list(ctx, field, objects, Some(objects.len())).await;
    };
    let fields: Vec<Context<'_>> = selected.into_iter().map(|field| ctx.with_field(field)).collect();
    let mut answers = Vec::with_capacity(objects.len());
    for object in objects {
        let mut answer = IndexMap::with_capacity(fields.len());
        for field in &fields {
            let value = at_hand(object, field).await?.unwrap_or_default();
            answer.insert(field.item.node.response_key().node.clone(), value);
        }
        answers.push(Value::Object(answer));
    }
    Ok(Value::List(answers))
}

const TYPE_NAME: &str = "__typename";

fn is_at_hand<T: AtHand>(field: &Positioned<Field>) -> bool {
    let name = field.node.name.node.as_str();
    name == TYPE_NAME || T::is_at_hand(name)
}

/// What a field answers that is at hand.
async fn at_hand<T: AtHand>(object: &T, field: &Context<'_>) -> ServerResult<Option<Value>> {
    if field.item.node.name.node == TYPE_NAME {
        return Ok(Some(Value::String(object.introspection_type_name().into_owned())));
    }
    if !is_at_hand::<T>(field.item) {
        return Ok(None);
    }
    Ok(Some(object.resolve_field(field).await?.unwrap_or_default()))
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
