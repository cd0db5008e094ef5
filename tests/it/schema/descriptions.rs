//! Everything in the schema is explained: people read it in GraphiQL, and nowhere else.

use std::collections::BTreeMap;

use async_graphql::Positioned;
use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{FieldDefinition, InputValueDefinition, TypeKind, TypeSystemDefinition};

type Description = Option<Positioned<String>>;

#[test]
fn everything_is_explained() {
    let document = parse_schema(runql::graphql::sdl()).unwrap();
    let mut bare = Vec::new();
    let mut of_types = BTreeMap::new();
    let mut look = |place: String, description: &Description| match description {
        None => bare.push(place),
        Some(text) => assert!(
            !text.node.trim().is_empty() && text.node.trim() == text.node,
            "{place}: `{}`",
            text.node
        ),
    };
    for definition in &document.definitions {
        let TypeSystemDefinition::Type(definition) = definition else {
            continue;
        };
        let (name, definition) = (&definition.node.name.node, &definition.node);
        look(name.to_string(), &definition.description);
        if let Some(text) = &definition.description
            && let Some(other) = of_types.insert(&text.node, name)
        {
            panic!("{name} and {other} are explained alike: {}", text.node);
        }
        match &definition.kind {
            TypeKind::Object(object) => fields(name, &object.fields, &mut look),
            TypeKind::Interface(interface) => fields(name, &interface.fields, &mut look),
            TypeKind::InputObject(input) => values(name, &input.fields, &mut look),
            TypeKind::Enum(words) => {
                for word in &words.values {
                    look(format!("{name}.{}", word.node.value), &word.node.description);
                }
            }
            TypeKind::Scalar | TypeKind::Union(_) => {}
        }
    }
    assert!(bare.is_empty(), "without a description: {}", bare.join(", "));
}

fn fields(of: &str, all: &[Positioned<FieldDefinition>], look: &mut impl FnMut(String, &Description)) {
    for field in all {
        let place = format!("{of}.{}", field.node.name.node);
        values(&place, &field.node.arguments, look);
        look(place, &field.node.description);
    }
}

fn values(of: &str, all: &[Positioned<InputValueDefinition>], look: &mut impl FnMut(String, &Description)) {
    for value in all {
        look(format!("{of}.{}", value.node.name.node), &value.node.description);
    }
}
