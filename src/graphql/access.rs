//! Which right each field of the API needs: one table, looked at before anything is executed.
//!
//! Whoever executes the schema puts an [`Arc<Caller>`] into the request's data. A request without one has no rights at
//! all, so that a transport which forgets it lets nobody in.

use std::any::TypeId;
use std::collections::HashSet;
use std::sync::Arc;

use async_graphql::extensions::{Extension, ExtensionContext, ExtensionFactory, NextPrepareRequest};
use async_graphql::parser::types::{
    ExecutableDocument, OperationDefinition, OperationType, Selection, SelectionSet,
};
use async_graphql::{Data, Name, Pos, Request, ServerError, ServerResult};

use crate::domain::{Caller, Scope};
use crate::http::ErrorCode;

/// The right that a root field needs; none where it is enough to be known. What is not listed here is for ADMIN, so
/// that a new mutation is closed until it is opened.
fn needed(kind: OperationType, field: &str) -> Option<Scope> {
    match (kind, field) {
        (_, "__typename") | (OperationType::Query, "__schema" | "__type" | "viewer") => None,
        (OperationType::Query, "tokens" | "auditLog") => Some(Scope::Admin),
        (OperationType::Query | OperationType::Subscription, _) => Some(Scope::Read),
        (OperationType::Mutation, "run" | "runMany" | "cancel" | "rerun") => Some(Scope::Run),
        (OperationType::Mutation, "registerWorker" | "heartbeat" | "claim" | "report") => Some(Scope::Worker),
        (OperationType::Mutation, _) => Some(Scope::Admin),
    }
}

/// The check, as an extension of the schema.
pub(super) struct AccessExtension;

impl ExtensionFactory for AccessExtension {
    fn create(&self) -> Arc<dyn Extension> {
        Arc::new(Check)
    }
}

struct Check;

#[async_graphql::async_trait::async_trait]
impl Extension for Check {
    async fn prepare_request(
        &self,
        ctx: &ExtensionContext<'_>,
        request: Request,
        next: NextPrepareRequest<'_>,
    ) -> ServerResult<Request> {
        let mut request = next.run(ctx, request).await?;
        let caller = caller_in(&request.data)
            .or_else(|| caller_in(ctx.session_data))
            .cloned();
        let wanted = request.operation_name.clone();
        let document = request.parsed_query()?;
        check(caller.as_deref(), document, wanted.as_deref())?;
        Ok(request)
    }
}

fn caller_in(data: &Data) -> Option<&Arc<Caller>> {
    data.get(&TypeId::of::<Arc<Caller>>())?.downcast_ref()
}

fn check(caller: Option<&Caller>, document: &ExecutableDocument, wanted: Option<&str>) -> ServerResult<()> {
    let Some(caller) = caller else {
        return Err(refused(
            ErrorCode::Unauthenticated,
            "Nobody has signed this request.",
            None,
        ));
    };
    let chosen = |name: Option<&Name>| wanted.is_none_or(|wanted| name.is_some_and(|name| name == wanted));
    for (name, operation) in document.operations.iter() {
        if chosen(name) {
            check_operation(caller, document, &operation.node)?;
        }
    }
    Ok(())
}

fn check_operation(
    caller: &Caller,
    document: &ExecutableDocument,
    operation: &OperationDefinition,
) -> ServerResult<()> {
    let mut roots = Roots {
        document,
        fields: Vec::new(),
        seen: HashSet::new(),
    };
    roots.gather(&operation.selection_set.node);
    for (field, position) in roots.fields {
        if let Some(scope) = needed(operation.ty, field)
            && !caller.scopes.has(scope)
        {
            let message = format!(
                "`{field}` needs the scope {scope}, which `{}` does not have.",
                caller.actor.name
            );
            return Err(refused(ErrorCode::Forbidden, &message, Some(position)));
        }
    }
    Ok(())
}

fn refused(code: ErrorCode, message: &str, position: Option<Pos>) -> ServerError {
    let mut error = ServerError::new(message, position);
    error.extensions = code.error("").extensions;
    error
}

/// The fields that stand at the root of an operation, through whatever fragments.
struct Roots<'a> {
    document: &'a ExecutableDocument,
    fields: Vec<(&'a str, Pos)>,
    /// Fragments may spread each other in circles, which only the validation refuses.
    seen: HashSet<&'a str>,
}

impl<'a> Roots<'a> {
    fn gather(&mut self, set: &'a SelectionSet) {
        for selection in &set.items {
            match &selection.node {
                Selection::Field(field) => self.fields.push((field.node.name.node.as_str(), selection.pos)),
                Selection::InlineFragment(fragment) => self.gather(&fragment.node.selection_set.node),
                Selection::FragmentSpread(spread) => {
                    let name = spread.node.fragment_name.node.as_str();
                    if self.seen.insert(name)
                        && let Some(fragment) = self.document.fragments.get(name)
                    {
                        self.gather(&fragment.node.selection_set.node);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::parse_query;

    use super::*;
    use crate::domain::{RunLimits, Scopes};

    fn refusal(scopes: &[Scope], text: &str, operation: Option<&str>) -> Option<String> {
        let caller = Caller {
            scopes: scopes.iter().copied().collect::<Scopes>(),
            limits: RunLimits::default(),
            ..Caller::anybody("ci", None)
        };
        let error = check(Some(&caller), &parse_query(text).unwrap(), operation).err()?;
        Some(error.message)
    }

    #[test]
    fn each_field_needs_its_scope_wherever_it_hides() {
        use Scope::{Admin, Read, Run, Worker};
        let table: [(&str, Option<Scope>); 14] = [
            (
                "{ viewer { tokenName } __typename __schema { types { name } } }",
                None,
            ),
            ("{ jobs { nodes { id } } }", Some(Read)),
            ("{ a: tokens { id } }", Some(Admin)),
            ("{ auditLog { nodes { id } } }", Some(Admin)),
            ("subscription { jobEvents { cursor } }", Some(Read)),
            ("mutation { run(input: {}) { job { id } } }", Some(Run)),
            ("mutation { ... { cancel(input: {}) { job { id } } } }", Some(Run)),
            (
                "mutation { ...F } fragment F on Mutation { rerun { job { id } } ...F }",
                Some(Run),
            ),
            ("mutation { viewer: runMany { jobs { id } } }", Some(Run)),
            ("mutation { claim { jobs { id } } }", Some(Worker)),
            (
                "mutation { report { job { id } } heartbeat { errors { code } } }",
                Some(Worker),
            ),
            ("mutation { cleanup { deletedCount } }", Some(Admin)),
            ("mutation { createToken { secret } }", Some(Admin)),
            ("mutation { somethingNew }", Some(Admin)),
        ];
        for (text, scope) in table {
            let all = [Read, Run, Worker, Admin];
            let others: Vec<Scope> = all.into_iter().filter(|other| Some(*other) != scope).collect();
            match scope {
                None => assert_eq!(refusal(&[], text, None), None, "{text}"),
                Some(scope) => {
                    let refused = refusal(&others, text, None).unwrap();
                    assert!(refused.contains(&format!("needs the scope {scope}")), "{refused}");
                    assert_eq!(refusal(&[scope], text, None), None, "{text}");
                }
            }
        }
    }

    #[test]
    fn only_the_operation_that_is_executed_counts() {
        let text = "query A { jobs { nodes { id } } } mutation B { run { job { id } } }";
        assert_eq!(refusal(&[Scope::Read], text, Some("A")), None);
        assert!(refusal(&[Scope::Read], text, Some("B")).is_some());
        assert!(refusal(&[Scope::Read], text, None).is_some());
    }

    #[test]
    fn without_a_caller_nothing_is_allowed() {
        let document = parse_query("{ viewer { tokenName } }").unwrap();
        let error = check(None, &document, None).unwrap_err();
        assert_eq!(error.message, "Nobody has signed this request.");
    }
}
