//! Operations that are too large are refused with LIMIT_EXCEEDED and the limit; those of the usual tools are not.

use runql::graphql::Limits;
use serde_json::Value;

use super::support::Local;

/// What GraphiQL and its kin ask a server first, at its deepest.
const INTROSPECTION: &str = "
    query IntrospectionQuery {
      __schema {
        description
        queryType { name } mutationType { name } subscriptionType { name }
        types { ...FullType }
        directives { name description isRepeatable locations args(includeDeprecated: true) { ...InputValue } }
      }
    }
    fragment FullType on __Type {
      kind name description specifiedByURL isOneOf
      fields(includeDeprecated: true) {
        name description isDeprecated deprecationReason
        args(includeDeprecated: true) { ...InputValue }
        type { ...TypeRef }
      }
      inputFields(includeDeprecated: true) { ...InputValue }
      interfaces { ...TypeRef }
      enumValues(includeDeprecated: true) { name description isDeprecated deprecationReason }
      possibleTypes { ...TypeRef }
    }
    fragment InputValue on __InputValue {
      name description defaultValue isDeprecated deprecationReason type { ...TypeRef }
    }
    fragment TypeRef on __Type {
      kind name
      ofType { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name
      ofType { kind name ofType { kind name ofType { kind name ofType { kind name } } } } } } } } }
    }";

#[tokio::test(flavor = "multi_thread")]
async fn introspection_is_within_the_limits() {
    let local = Local::start(Limits::default()).await;
    let answer = local.data(INTROSPECTION).await;
    let types = answer["__schema"]["types"].as_array().unwrap();
    let named = |name: &str| types.iter().find(|it| it["name"] == name).unwrap();
    assert_eq!(named("CommandInput")["isOneOf"], true);
    assert_eq!(
        named("JSON")["specifiedByURL"],
        "https://www.rfc-editor.org/rfc/rfc8259"
    );
    assert!(
        types
            .iter()
            .all(|it| { it["name"].as_str().unwrap().starts_with("__") || it["description"] != Value::Null })
    );
    local.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_limit_says_what_it_is() {
    let limits = Limits {
        max_depth: 6,
        max_cost: 250,
        max_aliases: 3,
        max_page_size: 100,
        introspection: true,
    };
    let local = Local::start(limits).await;
    let table = [
        (
            "{ jobs(first: 1) { nodes { parent { parent { parent { parent { id } } } } } } }",
            "nests fields 7 levels deep; the limit is 6",
        ),
        (
            "{ jobs(first: 100) { nodes { id name } } }",
            "costs 301; the limit is 250",
        ),
        (
            "{ jobs(first: 3) { nodes { children(first: 50) { nodes { id } } } } }",
            "costs 307; the limit is 250",
        ),
        (
            "query($first: Int = 100) { jobs(first: $first) { nodes { id name } } }",
            "costs 301; the limit is 250",
        ),
        (
            "fragment F on Job { logs(first: 100) { nodes { number message } } } { jobs(first: 1) { nodes { ...F } } }",
            "costs 303; the limit is 250",
        ),
        (
            "{ job(id: \"x\") { stdout(lastBytes: 1048576) } }",
            "costs 258; the limit is 250",
        ),
        (
            "{ a: __typename b: __typename c: __typename d: __typename }",
            "has 4 aliases; the limit is 3",
        ),
        (
            "{ jobs(first: 101) { pageInfo { hasNextPage } } }",
            "a page of this server has at most 100 entries",
        ),
        (
            "{ __schema { types { fields { type { fields { type { fields { name } } } } } } } }",
            "nests lists 3 levels deep; the limit is 2",
        ),
    ];
    for (operation, expected) in table {
        let (code, message) = local.refusal(operation).await;
        assert_eq!(code, "LIMIT_EXCEEDED", "{operation}: {message}");
        assert!(message.contains(expected), "{operation}: {message}");
    }
    let directives = format!("{{ __typename{} }}", " @include(if: true)".repeat(11));
    let (code, message) = local.refusal(directives).await;
    assert_eq!(code, "LIMIT_EXCEEDED");
    assert!(message.contains("11 directives; the limit is 10"), "{message}");
    // Just within all of them.
    local
        .data("{ jobs(first: 99) { nodes { id } } a: __typename b: __typename c: __typename }")
        .await;
    local.stop().await;
}
