//! The schema holds everything that `tests/contract.graphql` promises, under the same names, with the same types and
//! defaults.

use std::collections::BTreeMap;
use std::fmt::Debug;

use async_graphql::Positioned;
use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{
    ConstDirective, FieldDefinition, InputValueDefinition, ServiceDocument, TypeDefinition, TypeKind,
    TypeSystemDefinition,
};

const CONTRACT: &str = include_str!("../../contract.graphql");

#[test]
fn the_schema_keeps_the_contract() {
    let broken = broken_promises(CONTRACT, &runql::graphql::sdl());
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// The comparison itself finds what is missing or different: without this, the test above might never fail.
#[test]
fn a_broken_promise_is_found() {
    let table = [
        ("type A { x: Int }", "type B { x: Int }", "A: is missing"),
        ("type A { x: Int }", "input A { x: Int }", "A: is of another kind"),
        ("type A { x: Int }", "type A { y: Int }", "A.x: is missing"),
        ("type A { x: Int }", "type A { x: Int! }", "A.x: is Int!, not Int"),
        (
            "type A { x(a: Int = 1): Int }",
            "type A { x(a: Int): Int }",
            "A.x(a): has the default none, not 1",
        ),
        (
            "type A { x: Int }",
            "type A { x(a: Int!): Int }",
            "A.x(a): is required, and not promised",
        ),
        (
            "input A { x: [S!] = [] }",
            "input A { x: [S!] = [B] }",
            "A.x: has the default [B], not []",
        ),
        (
            "input A { x: Int }",
            "input A { x: Int y: Int! }",
            "A.y: is required, and not promised",
        ),
        ("enum A { X Y }", "enum A { X }", "A.Y: is missing"),
        ("union A = X | Y", "union A = X", "A.Y: is missing"),
        (
            "type A implements N { x: Int }",
            "type A { x: Int }",
            "A.N: is missing",
        ),
        (
            "input A @oneOf { x: Int }",
            "input A { x: Int }",
            "A.@oneOf: is missing",
        ),
        (
            "scalar A @specifiedBy(url: \"x\")",
            "scalar A @specifiedBy(url: \"y\")",
            "A.@specifiedBy(url: \"x\"): is missing",
        ),
        (
            "schema { query: A } type A { x: Int }",
            "schema { query: B } type A { x: Int }",
            "schema: has other roots",
        ),
    ];
    for (contract, schema, expected) in table {
        assert_eq!(
            broken_promises(contract, schema),
            [expected],
            "{contract} by {schema}"
        );
        assert!(broken_promises(contract, contract).is_empty(), "{contract}");
    }
}

fn broken_promises(contract: &str, schema: &str) -> Vec<String> {
    let (contract, schema) = (parse_schema(contract).unwrap(), parse_schema(schema).unwrap());
    let mut broken = Broken::default();
    if let Some(promised) = roots(&contract)
        && roots(&schema).as_ref() != Some(&promised)
    {
        broken.say("schema", "has other roots");
    }
    let has = types(&schema);
    for (name, promised) in types(&contract) {
        match has.get(name) {
            None => broken.say(name, "is missing"),
            Some(found) => broken.compare_types(name, promised, found),
        }
    }
    broken.0
}

fn types(document: &ServiceDocument) -> BTreeMap<&str, &TypeDefinition> {
    let definitions = document.definitions.iter();
    let types = definitions.filter_map(|definition| match definition {
        TypeSystemDefinition::Type(definition) => Some(&definition.node),
        _ => None,
    });
    types
        .map(|definition| (definition.name.node.as_str(), definition))
        .collect()
}

fn roots(document: &ServiceDocument) -> Option<[Option<String>; 3]> {
    document
        .definitions
        .iter()
        .find_map(|definition| match definition {
            TypeSystemDefinition::Schema(schema) => {
                let schema = &schema.node;
                Some(
                    [&schema.query, &schema.mutation, &schema.subscription]
                        .map(|root| root.as_ref().map(|root| root.node.to_string())),
                )
            }
            _ => None,
        })
}

#[derive(Default)]
struct Broken(Vec<String>);

impl Broken {
    fn say(&mut self, place: &str, what: &str) {
        self.0.push(format!("{place}: {what}"));
    }

    fn compare_types(&mut self, name: &str, promised: &TypeDefinition, found: &TypeDefinition) {
        let directives = |all: &[Positioned<ConstDirective>]| all.iter().map(written).collect::<Vec<_>>();
        self.holds_all(
            name,
            &directives(&promised.directives),
            &directives(&found.directives),
        );
        match (&promised.kind, &found.kind) {
            (TypeKind::Scalar, TypeKind::Scalar) => {}
            (TypeKind::Object(promised), TypeKind::Object(found)) => {
                self.holds_all(name, &names(&promised.implements), &names(&found.implements));
                self.compare_fields(name, &promised.fields, &found.fields);
            }
            (TypeKind::Interface(promised), TypeKind::Interface(found)) => {
                self.compare_fields(name, &promised.fields, &found.fields);
            }
            (TypeKind::Union(promised), TypeKind::Union(found)) => {
                self.holds_all(name, &names(&promised.members), &names(&found.members));
            }
            (TypeKind::Enum(promised), TypeKind::Enum(found)) => {
                let promised: Vec<_> = promised
                    .values
                    .iter()
                    .map(|it| it.node.value.to_string())
                    .collect();
                let found: Vec<_> = found.values.iter().map(|it| it.node.value.to_string()).collect();
                self.holds_all(name, &promised, &found);
            }
            (TypeKind::InputObject(promised), TypeKind::InputObject(found)) => {
                self.compare_inputs(|field| format!("{name}.{field}"), &promised.fields, &found.fields);
            }
            _ => self.say(name, "is of another kind"),
        }
    }

    fn holds_all<T: PartialEq + Debug + ToString>(&mut self, name: &str, promised: &[T], found: &[T]) {
        for one in promised.iter().filter(|one| !found.contains(one)) {
            self.say(&format!("{name}.{}", one.to_string()), "is missing");
        }
    }

    fn compare_fields(
        &mut self,
        name: &str,
        promised: &[Positioned<FieldDefinition>],
        found: &[Positioned<FieldDefinition>],
    ) {
        for promised in promised {
            let promised = &promised.node;
            let place = format!("{name}.{}", promised.name.node);
            let Some(found) = found.iter().find(|it| it.node.name.node == promised.name.node) else {
                self.say(&place, "is missing");
                continue;
            };
            self.compare(
                &place,
                "is",
                &promised.ty.node.to_string(),
                &found.node.ty.node.to_string(),
            );
            self.compare_inputs(
                |argument| format!("{place}({argument})"),
                &promised.arguments,
                &found.node.arguments,
            );
        }
    }

    /// Fields of inputs, and arguments. What is there beyond the promise must not be required: nobody gives it.
    fn compare_inputs(
        &mut self,
        place: impl Fn(&str) -> String,
        promised: &[Positioned<InputValueDefinition>],
        found: &[Positioned<InputValueDefinition>],
    ) {
        for one in promised {
            let one = &one.node;
            let place = place(&one.name.node);
            let Some(found) = found.iter().find(|it| it.node.name.node == one.name.node) else {
                self.say(&place, "is missing");
                continue;
            };
            self.compare(
                &place,
                "is",
                &one.ty.node.to_string(),
                &found.node.ty.node.to_string(),
            );
            let default = |value: &InputValueDefinition| {
                value
                    .default_value
                    .as_ref()
                    .map_or("none".to_owned(), |it| it.node.to_string())
            };
            // What clients had to give and may now leave out breaks none of them.
            if one.default_value.is_some() || one.ty.node.nullable {
                self.compare(&place, "has the default", &default(one), &default(&found.node));
            }
        }
        for found in found {
            let found = &found.node;
            let known = promised.iter().any(|it| it.node.name.node == found.name.node);
            if !known && !found.ty.node.nullable && found.default_value.is_none() {
                self.say(&place(&found.name.node), "is required, and not promised");
            }
        }
    }

    fn compare(&mut self, place: &str, verb: &str, promised: &str, found: &str) {
        if promised != found {
            self.say(place, &format!("{verb} {found}, not {promised}"));
        }
    }
}

fn names(all: &[Positioned<async_graphql::Name>]) -> Vec<String> {
    all.iter().map(|name| name.node.to_string()).collect()
}

/// A directive as it stands in a schema.
fn written(directive: &Positioned<ConstDirective>) -> String {
    let directive = &directive.node;
    let arguments = directive.arguments.iter();
    let arguments: Vec<String> = arguments
        .map(|(name, value)| format!("{}: {}", name.node, value.node))
        .collect();
    if arguments.is_empty() {
        format!("@{}", directive.name.node)
    } else {
        format!("@{}({})", directive.name.node, arguments.join(", "))
    }
}
