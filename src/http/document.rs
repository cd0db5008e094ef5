//! A document between its text and its execution: parsed, measured, its operation chosen, and put into a form that
//! async-graphql executes as the specification says.
//!
//! Four things are put right here, since the executor does them otherwise:
//!
//! - A document may be small and yet, through fragments that spread fragments, exponentially large to walk; and one
//!   nested deeply enough overflows the stack of the parser or of validation. Both are refused first (`scan`,
//!   `census`).
//! - A variable that the client left out has its default value in `@include` and `@skip` too, and one that has none
//!   and may not be null is told before anything is executed.
//! - The stream of a subscription is made from the fields that stand directly in its operation: a fragment there is
//!   passed over, and nothing is ever delivered (`subscription`).
//! - Fields are listed as they come, not as they were asked for (`order`).

mod census;
mod kin;
mod order;
mod parsed;
mod scan;
mod subscription;
mod validated;

use std::sync::Arc;

use async_graphql::parser::types::{
    DocumentOperations, ExecutableDocument, OperationDefinition, OperationType,
};
use async_graphql::parser::{Error as ParseError, parse_query};
use async_graphql::{Name, Positioned, Request, ServerError, Value, Variables};

pub(super) use self::order::Order;
pub(super) use self::parsed::Documents;
use self::scan::{Fault, MAX_NESTING};
pub use self::validated::Validation;
use super::code::ErrorCode;
use super::config::TransportConfig;
use super::shared::Kin;

/// What the transports need to know of the operation that a request asks for.
#[derive(Debug, Clone)]
pub(super) struct Chosen {
    pub(super) kind: OperationType,
    pub(super) name: Option<Name>,
    /// The order in which its result is to list its fields.
    pub(super) order: Order,
    /// Of a subscription, what those have in common that are answered alike; none where it shares nothing.
    pub(super) kin: Option<Kin>,
    /// Where the result of its validation is kept; none where it is to be validated anew.
    pub(super) validation: Option<Validation>,
}

/// Parses the request's text, chooses its operation and leaves the document in the request, ready for execution. A
/// subscription shares its answers with those whose callers have the same rights, where these are given.
pub(super) fn prepare(
    request: &mut Request,
    config: &TransportConfig,
    documents: &Documents,
    rights: Option<&[u8]>,
) -> Result<Chosen, ServerError> {
    let (mut document, number) = documents.get(&request.query, || {
        let document = parse(&request.query, config.max_tokens)?;
        census::check(&document, config.max_selections)?;
        Ok::<_, ServerError>(document)
    })?;
    let is_alone = validated::is_alone(&document.operations);
    let (name, operation) = choose(&mut document.operations, request.operation_name.as_deref())?;
    let mut chosen = Chosen {
        kind: operation.ty,
        name,
        order: Order::of(operation, &document.fragments),
        kin: None,
        validation: None,
    };
    complete_variables(operation, &mut request.variables)?;
    if operation.ty == OperationType::Subscription {
        chosen.kin = rights.map(|rights| kin::of(request, operation, &document.fragments, rights));
        subscription::flatten(
            operation,
            &document.fragments,
            &request.variables,
            config.shape.subscription_type(),
        )?;
    } else if is_alone && let Some(number) = number {
        let results = Arc::clone(&documents.results);
        chosen.validation = Validation::of(results, number, operation, &request.variables);
    }
    request.set_parsed_query(document);
    Ok(chosen)
}

/// Parses a text that was prepared before, and finds the same operation in it.
pub(super) fn again(
    text: &str,
    operation: Option<&str>,
) -> Option<(ExecutableDocument, OperationDefinition)> {
    let mut document = parse_query(text).ok()?;
    let operation = choose(&mut document.operations, operation).ok()?.1.clone();
    Some((document, operation))
}

fn parse(text: &str, max_tokens: usize) -> Result<ExecutableDocument, ServerError> {
    scan::check(text, max_tokens).map_err(|fault| match fault {
        Fault::Tokens => limited(format!("The document has more than {max_tokens} tokens.")),
        Fault::Nesting => too_deep(),
        Fault::String => {
            ErrorCode::GraphqlParseFailed.server_error("The document has a string without an end.", None)
        }
    })?;
    parse_query(text).map_err(|error| match error {
        ParseError::RecursionLimitExceeded => too_deep(),
        error => {
            let mut error = ServerError::from(error);
            error.extensions = ErrorCode::GraphqlParseFailed.error("").extensions;
            error
        }
    })
}

fn too_deep() -> ServerError {
    limited(format!(
        "The document is nested more than {MAX_NESTING} levels deep, or its selections more than 64."
    ))
}

fn limited(message: String) -> ServerError {
    ErrorCode::LimitExceeded.server_error(message, None)
}

/// The operation that is to be executed.
fn choose<'a>(
    operations: &'a mut DocumentOperations,
    wanted: Option<&str>,
) -> Result<(Option<Name>, &'a mut OperationDefinition), ServerError> {
    let refused = |message: String| Err(ErrorCode::BadRequest.server_error(message, None));
    match (operations, wanted) {
        (DocumentOperations::Single(operation), None) => Ok((None, &mut operation.node)),
        (DocumentOperations::Multiple(operations), None) if operations.len() > 1 => {
            refused("The document has several operations, and no `operationName` chooses one.".to_owned())
        }
        (DocumentOperations::Multiple(operations), wanted) => {
            let found = operations
                .iter_mut()
                .find(|(name, _)| wanted.is_none_or(|wanted| wanted == name.as_str()));
            match found {
                Some((name, operation)) => Ok((Some(name.clone()), &mut operation.node)),
                None => refused(format!(
                    "The document has no operation `{}`.",
                    wanted.unwrap_or_default()
                )),
            }
        }
        (DocumentOperations::Single(_), Some(wanted)) => {
            refused(format!("The document has no operation `{wanted}`."))
        }
    }
}

/// Gives the variables that the client left out their default values, and refuses to go without those that have none.
fn complete_variables(operation: &OperationDefinition, variables: &mut Variables) -> Result<(), ServerError> {
    for Positioned {
        pos,
        node: definition,
    } in &operation.variable_definitions
    {
        let name = &definition.name.node;
        if let Some(default) = &definition.default_value {
            variables
                .entry(name.clone())
                .or_insert_with(|| default.node.clone());
        }
        if !definition.var_type.node.nullable && matches!(variables.get(name), None | Some(Value::Null)) {
            let message = format!(
                "The variable `${name}` of the type `{}` has no value.",
                definition.var_type.node
            );
            return Err(ErrorCode::BadUserInput.server_error(message, Some(*pos)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str, operation: Option<&str>) -> ErrorCode {
        let mut request = Request::new(text);
        request.operation_name = operation.map(str::to_owned);
        let error = prepare(
            &mut request,
            &TransportConfig::default(),
            &Documents::default(),
            None,
        )
        .unwrap_err();
        ErrorCode::of(&error).unwrap()
    }

    #[test]
    fn the_operation_is_chosen_by_its_name() {
        for (text, name, kind) in [
            ("{a}", None, OperationType::Query),
            ("query A {a} mutation B {b}", Some("B"), OperationType::Mutation),
            ("subscription S {s}", None, OperationType::Subscription),
        ] {
            let mut request = Request::new(text);
            request.operation_name = name.map(str::to_owned);
            let chosen = prepare(
                &mut request,
                &TransportConfig::default(),
                &Documents::default(),
                None,
            )
            .unwrap();
            assert_eq!(chosen.kind, kind, "{text}");
        }
        assert_eq!(code("query A {a} query B {b}", None), ErrorCode::BadRequest);
        assert_eq!(code("query A {a}", Some("B")), ErrorCode::BadRequest);
        assert_eq!(code("{a}", Some("A")), ErrorCode::BadRequest);
        assert_eq!(code("{", None), ErrorCode::GraphqlParseFailed);
        assert_eq!(code("", None), ErrorCode::GraphqlParseFailed);
        assert_eq!(code("query($x: Int!) {a(x: $x)}", None), ErrorCode::BadUserInput);
    }

    #[test]
    fn no_nesting_overflows_the_stack() {
        for open in [
            "{a",
            "{a(b:[",
            "{a(b:{c:",
            "query($a:[",
            "[",
            "(",
            "{a(b:\"\n[[",
            "{...{",
        ] {
            for count in [50, 100, 400_000] {
                let text = open.repeat(count);
                let error = parse(&text, usize::MAX).unwrap_err();
                assert!(ErrorCode::of(&error).is_some(), "{open}");
            }
        }
        let strings = [
            r#"{a(b:["""x""#,
            r#"{a(b:""","#,
            "{a(b:[\"\\",
            "{a(b:[\"x\n",
            "{a # \u{2028}",
        ];
        for start in strings {
            assert!(
                parse(&format!("{start}{}", "[".repeat(400_000)), usize::MAX).is_err(),
                "{start}"
            );
        }
        let deepest = format!(
            "{{a(b:{}{})}}",
            "[".repeat(MAX_NESTING - 2),
            "]".repeat(MAX_NESTING - 2)
        );
        assert!(parse(&deepest, 1_000).is_ok());
    }

    #[test]
    fn a_default_fills_only_what_is_missing() {
        let mut request = Request::new("query($x: Int = 1, $y: Int = 2, $z: Int) {a(x:$x,y:$y,z:$z)}");
        request.variables = Variables::from_json(serde_json::json!({ "y": 3 }));
        prepare(
            &mut request,
            &TransportConfig::default(),
            &Documents::default(),
            None,
        )
        .unwrap();
        assert_eq!(
            serde_json::to_value(&request.variables).unwrap(),
            serde_json::json!({ "x": 1, "y": 3 })
        );
    }
}
