//! Gives a result with errors the shape that the specification asks for.
//!
//! Since 7.1 async-graphql leaves a field that failed out of its object, be it nullable or not, and makes an object
//! without any field null. Clients that know the schema trip over both: a nullable field that failed is null, and one
//! that is not makes its nearest nullable ancestor null. That is put right here, along the paths of the errors, so a
//! result without errors costs nothing. The types come from the schema's SDL.

use std::collections::HashMap;

use async_graphql::indexmap::map::Entry;
use async_graphql::parser::types::{
    BaseType, ExecutableDocument, Field, FieldDefinition, OperationDefinition, OperationType, Selection,
    SelectionSet, Type, TypeKind, TypeSystemDefinition,
};
use async_graphql::parser::{Error as ParseError, parse_schema};
use async_graphql::{PathSegment, Positioned, ServerError, Value};

/// The types of a schema's fields, and the names of its root types. The default knows the usual root names and no
/// field, so that each counts as nullable.
#[derive(Debug, Clone)]
pub struct SchemaShape {
    query: String,
    mutation: String,
    subscription: String,
    fields: HashMap<String, HashMap<String, Type>>,
}

impl Default for SchemaShape {
    fn default() -> Self {
        Self {
            query: "Query".to_owned(),
            mutation: "Mutation".to_owned(),
            subscription: "Subscription".to_owned(),
            fields: HashMap::new(),
        }
    }
}

impl SchemaShape {
    /// Reads the shape of a schema from its SDL, as `Schema::sdl` prints it.
    pub fn from_sdl(sdl: &str) -> Result<Self, ParseError> {
        let mut shape = Self::default();
        for definition in parse_schema(sdl)?.definitions {
            match definition {
                TypeSystemDefinition::Schema(schema) => {
                    let roots = [
                        (&mut shape.query, schema.node.query),
                        (&mut shape.mutation, schema.node.mutation),
                        (&mut shape.subscription, schema.node.subscription),
                    ];
                    for (slot, name) in roots {
                        if let Some(name) = name {
                            *slot = name.node.to_string();
                        }
                    }
                }
                TypeSystemDefinition::Type(definition) => match definition.node.kind {
                    TypeKind::Object(object) => shape.add(definition.node.name.node.as_str(), object.fields),
                    TypeKind::Interface(interface) => {
                        shape.add(definition.node.name.node.as_str(), interface.fields)
                    }
                    _ => {}
                },
                TypeSystemDefinition::Directive(_) => {}
            }
        }
        Ok(shape)
    }

    fn add(&mut self, name: &str, fields: Vec<Positioned<FieldDefinition>>) {
        let types = fields
            .into_iter()
            .map(|field| (field.node.name.node.to_string(), field.node.ty.node));
        self.fields.entry(name.to_owned()).or_default().extend(types);
    }

    pub(super) fn subscription_type(&self) -> &str {
        &self.subscription
    }

    /// Puts the data of an executed operation into shape.
    pub(super) fn complete(
        &self,
        data: &mut Value,
        errors: &[ServerError],
        document: &ExecutableDocument,
        operation: &OperationDefinition,
    ) {
        let root = match operation.ty {
            OperationType::Query => &self.query,
            OperationType::Mutation => &self.mutation,
            OperationType::Subscription => &self.subscription,
        };
        let walk = Walk {
            shape: self,
            document,
        };
        let root = vec![Scope {
            parent: root,
            set: &operation.selection_set.node,
        }];
        let paths = || {
            errors
                .iter()
                .map(|error| &error.path[..])
                .filter(|path| !path.is_empty())
        };
        // First each failed field gets its null, then the nulls move up: an object that async-graphql made null has
        // to be told from one that became null for a field of its own.
        for path in paths() {
            fill(data, path);
        }
        for path in paths() {
            if walk.must_be_null(data, None, &root, path) {
                *data = Value::Null;
            }
        }
    }
}

/// Puts a null where a path leads to nothing.
fn fill(value: &mut Value, path: &[PathSegment]) {
    match (path, value) {
        ([PathSegment::Field(name), rest @ ..], value @ (Value::Null | Value::Object(_))) => {
            if *value == Value::Null {
                *value = Value::Object(Default::default());
            }
            if let Value::Object(object) = value {
                let field = object.entry(async_graphql::Name::new(name));
                // What is missing failed as a whole: an error deeper in it has no place of its own.
                match field {
                    Entry::Vacant(entry) => {
                        entry.insert(Value::Null);
                    }
                    Entry::Occupied(mut entry) => fill(entry.get_mut(), rest),
                }
            }
        }
        ([PathSegment::Index(index), rest @ ..], Value::List(items)) => {
            if let Some(item) = items.get_mut(*index) {
                fill(item, rest);
            }
        }
        _ => {}
    }
}

/// A selection set, and the type that it selects from as far as the document tells: for an abstract type, the type
/// condition that is nearest.
#[derive(Clone, Copy)]
struct Scope<'a> {
    parent: &'a str,
    set: &'a SelectionSet,
}

struct Walk<'a> {
    shape: &'a SchemaShape,
    document: &'a ExecutableDocument,
}

impl<'a> Walk<'a> {
    /// Whether a value has to be null because of what is null at the end of the path within it.
    fn must_be_null(
        &self,
        value: &mut Value,
        ty: Option<&'a Type>,
        scopes: &[Scope<'a>],
        path: &[PathSegment],
    ) -> bool {
        let (Some((segment, rest)), true) = (path.split_first(), *value != Value::Null) else {
            return *value == Value::Null;
        };
        let (inner, inner_type, inner_scopes) = match (segment, value) {
            (PathSegment::Field(key), Value::Object(object)) => {
                let mut fields = Vec::new();
                for scope in scopes {
                    self.fields(*scope, key, &mut fields);
                }
                let ty = fields
                    .iter()
                    .find_map(|(parent, field)| self.field_type(parent, field));
                let named = ty.map_or("", named);
                let scopes = fields.iter().map(|(_, field)| Scope {
                    parent: named,
                    set: &field.selection_set.node,
                });
                match object.get_mut(key.as_str()) {
                    Some(inner) => (inner, ty, scopes.collect()),
                    None => return false,
                }
            }
            (PathSegment::Index(index), Value::List(items)) => {
                let ty = match ty.map(|ty| &ty.base) {
                    Some(BaseType::List(item)) => Some(&**item),
                    _ => None,
                };
                match items.get_mut(*index) {
                    Some(inner) => (inner, ty, scopes.to_vec()),
                    None => return false,
                }
            }
            _ => return false,
        };
        if !self.must_be_null(inner, inner_type, &inner_scopes, rest) {
            return false;
        }
        *inner = Value::Null;
        inner_type.is_some_and(|ty| !ty.nullable)
    }

    /// The fields of a response key, each with the type it belongs to.
    fn fields(&self, scope: Scope<'a>, key: &str, found: &mut Vec<(&'a str, &'a Field)>) {
        for selection in &scope.set.items {
            match &selection.node {
                Selection::Field(field) if field.node.response_key().node == key => {
                    found.push((scope.parent, &field.node));
                }
                Selection::Field(_) => {}
                Selection::InlineFragment(fragment) => {
                    let condition = fragment.node.type_condition.as_ref();
                    let parent = condition.map_or(scope.parent, |condition| condition.node.on.node.as_str());
                    self.fields(
                        Scope {
                            parent,
                            set: &fragment.node.selection_set.node,
                        },
                        key,
                        found,
                    );
                }
                Selection::FragmentSpread(spread) => {
                    if let Some(fragment) = self.document.fragments.get(&spread.node.fragment_name.node) {
                        let parent = fragment.node.type_condition.node.on.node.as_str();
                        self.fields(
                            Scope {
                                parent,
                                set: &fragment.node.selection_set.node,
                            },
                            key,
                            found,
                        );
                    }
                }
            }
        }
    }

    fn field_type(&self, parent: &str, field: &Field) -> Option<&'a Type> {
        self.shape.fields.get(parent)?.get(field.name.node.as_str())
    }
}

fn named(ty: &Type) -> &str {
    match &ty.base {
        BaseType::Named(name) => name.as_str(),
        BaseType::List(item) => named(item),
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::parse_query;
    use serde_json::json;

    use super::*;

    const SDL: &str = "
        type Query { maybe: Int, sure: Int!, node: Node, box: Box, sureBox: Box!, boxes: [Box!], holes: [Box] }
        type Box { maybe: Int, sure: Int!, inner: Box, sureInner: Box! }
        interface Node { id: Int }
        type Thing implements Node { id: Int!, weight: Int! }
    ";

    fn completed(text: &str, data: serde_json::Value, paths: &[serde_json::Value]) -> serde_json::Value {
        let shape = SchemaShape::from_sdl(SDL).unwrap();
        let document = parse_query(text).unwrap();
        let error = |path: &serde_json::Value| {
            ServerError::new("failed", None).with_path(serde_json::from_value(path.clone()).unwrap())
        };
        let errors: Vec<ServerError> = paths.iter().map(error).collect();
        let mut data = Value::from_json(data).unwrap();
        let (_, operation) = document.operations.iter().next().unwrap();
        shape.complete(&mut data, &errors, &document, &operation.node);
        data.into_json().unwrap()
    }

    #[test]
    fn a_nullable_field_that_failed_is_null() {
        let text = "{maybe a: maybe box {maybe}}";
        assert_eq!(
            completed(text, json!({ "a": 1 }), &[json!(["maybe"])]),
            json!({ "a": 1, "maybe": null })
        );
        // An object all of whose fields failed, which came as null.
        let nested = completed(
            "{box {maybe}}",
            json!({ "box": null }),
            &[json!(["box", "maybe"])],
        );
        assert_eq!(nested, json!({ "box": { "maybe": null } }));
        assert_eq!(
            completed("{maybe}", json!(null), &[json!(["maybe"])]),
            json!({ "maybe": null })
        );
    }

    #[test]
    fn a_null_moves_up_to_what_may_be_null() {
        let one =
            |text: &str, data: serde_json::Value, path: serde_json::Value| completed(text, data, &[path]);
        assert_eq!(
            one("{sure maybe}", json!({ "maybe": 1 }), json!(["sure"])),
            json!(null)
        );
        assert_eq!(
            one(
                "{box {maybe sure} maybe}",
                json!({ "box": { "maybe": 1 }, "maybe": 1 }),
                json!(["box", "sure"])
            ),
            json!({ "box": null, "maybe": 1 })
        );
        let deep = "{box {inner {sureInner {sure}}}}";
        let data = json!({ "box": { "inner": { "sureInner": null } } });
        assert_eq!(
            one(deep, data, json!(["box", "inner", "sureInner", "sure"])),
            json!({ "box": { "inner": null } })
        );
        let data = json!({ "boxes": [{ "maybe": 1, "sure": 1 }, { "maybe": 1 }] });
        assert_eq!(
            one("{boxes {maybe sure}}", data, json!(["boxes", 1, "sure"])),
            json!({ "boxes": null })
        );
        let data = json!({ "holes": [{ "maybe": 1, "sure": 1 }, { "maybe": 1 }] });
        let expected = json!({ "holes": [{ "maybe": 1, "sure": 1 }, null] });
        assert_eq!(
            one("{holes {maybe sure}}", data, json!(["holes", 1, "sure"])),
            expected
        );
        // A list one of whose items failed as a whole.
        assert_eq!(
            one(
                "{boxes {maybe} maybe}",
                json!({ "maybe": 1 }),
                json!(["boxes", 0])
            ),
            json!({ "maybe": 1, "boxes": null })
        );
    }

    #[test]
    fn types_are_found_through_fragments_and_aliases() {
        let data = json!({ "n": { "id": 1 } });
        let text = "{n: node {id ...T}} fragment T on Thing {w: weight}";
        assert_eq!(
            completed(text, data.clone(), &[json!(["n", "w"])]),
            json!({ "n": null })
        );
        // An error that concerns what is there, or nothing, changes nothing.
        assert_eq!(
            completed(text, data.clone(), &[json!(["n", "id"]), json!([])]),
            data
        );
    }

    #[test]
    fn several_errors_are_each_accounted_for() {
        let paths = [json!(["box", "maybe"]), json!(["box", "sure"]), json!(["maybe"])];
        assert_eq!(
            completed("{box {maybe sure} maybe}", json!(null), &paths),
            json!({ "box": null, "maybe": null })
        );
    }
}
