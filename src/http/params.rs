//! The parameters of a GraphQL request, read strictly from whatever carries them: a body, a query string, a message.

use async_graphql::{Request, Value, Variables};
use serde::Deserialize;
use std::collections::HashMap;

/// One request as the client sent it. Each parameter may be absent or null; one of another type is an error.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Params {
    pub(super) query: Option<String>,
    /// Names a document that the server has, in the place of its text.
    pub(super) document_id: Option<String>,
    pub(super) operation_name: Option<String>,
    variables: Option<Variables>,
    extensions: Option<HashMap<String, Value>>,
}

/// A body: one request, or several.
#[derive(Debug)]
pub(super) enum Body {
    Single(Params),
    Batch(Vec<Params>),
}

/// Why parameters are not accepted, in words for the client.
#[derive(Debug, thiserror::Error)]
pub(super) enum ParamsError {
    #[error("The body is empty; a GraphQL request is a JSON object with the key `query`.")]
    Empty,
    #[error("The body is not a GraphQL request: {0}.")]
    Body(serde_json::Error),
    #[error("The parameter `{name}` is not a JSON object: {fault}.")]
    Object {
        name: &'static str,
        fault: serde_json::Error,
    },
    #[error("The parameter `{0}` is there more than once.")]
    Repeated(String),
    #[error("A batch of no operations is no request.")]
    EmptyBatch,
    #[error("A batch of {0} operations is above the limit of {1}.")]
    LongBatch(usize, usize),
}

impl Body {
    pub(super) fn from_json(bytes: &[u8], max_batch: usize) -> Result<Self, ParamsError> {
        match bytes.trim_ascii_start().first() {
            None => Err(ParamsError::Empty),
            Some(b'[') => {
                // Counting comes before reading, so that a long batch costs no more than a walk over its bytes.
                let raw: Vec<&serde_json::value::RawValue> =
                    serde_json::from_slice(bytes).map_err(ParamsError::Body)?;
                if raw.is_empty() {
                    return Err(ParamsError::EmptyBatch);
                }
                if raw.len() > max_batch {
                    return Err(ParamsError::LongBatch(raw.len(), max_batch));
                }
                let each = raw
                    .into_iter()
                    .map(|one| Params::from_object(one.get().as_bytes()));
                each.collect::<Result<_, _>>()
                    .map(Self::Batch)
                    .map_err(ParamsError::Body)
            }
            Some(_) => Params::from_object(bytes)
                .map(Self::Single)
                .map_err(ParamsError::Body),
        }
    }
}

impl Params {
    /// Serde would also read a struct from an array; a request is an object.
    fn from_object(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        if bytes.trim_ascii_start().first() == Some(&b'[') {
            return Err(serde::de::Error::custom("expected an object"));
        }
        serde_json::from_slice(bytes)
    }

    /// Reads the parameters of a GET request; other parameters are none of our business.
    pub(super) fn from_pairs(pairs: Vec<(String, String)>) -> Result<Self, ParamsError> {
        fn set<T>(slot: &mut Option<T>, name: String, value: T) -> Result<(), ParamsError> {
            match slot.replace(value) {
                None => Ok(()),
                Some(_) => Err(ParamsError::Repeated(name)),
            }
        }

        fn object<T: serde::de::DeserializeOwned>(
            name: &'static str,
            text: &str,
        ) -> Result<Option<T>, ParamsError> {
            serde_json::from_str(text).map_err(|fault| ParamsError::Object { name, fault })
        }

        let mut params = Self::default();
        for (name, value) in pairs {
            match name.as_str() {
                "query" => set(&mut params.query, name, value)?,
                "documentId" => set(&mut params.document_id, name, value)?,
                "operationName" => set(&mut params.operation_name, name, value)?,
                "variables" => {
                    if let Some(variables) = object("variables", &value)? {
                        set(&mut params.variables, name, variables)?;
                    }
                }
                "extensions" => {
                    if let Some(extensions) = object("extensions", &value)? {
                        set(&mut params.extensions, name, extensions)?;
                    }
                }
                _ => {}
            }
        }
        Ok(params)
    }

    /// What the client says about a persisted query, if anything.
    pub(super) fn persisted_query(&self) -> Option<&Value> {
        self.extensions
            .as_ref()?
            .get("persistedQuery")
            .filter(|value| **value != Value::Null)
    }

    /// Whether the request names a document, by its text or otherwise.
    pub(super) fn names_document(&self) -> bool {
        self.query.is_some() || self.document_id.is_some() || self.persisted_query().is_some()
    }

    /// Whether the client wants to know what the operation costs.
    pub(super) fn asks_for_cost(&self) -> bool {
        let asked = self.extensions.as_ref().and_then(|all| all.get("cost"));
        asked == Some(&Value::Boolean(true))
    }

    /// The request to execute, with `query` as its text.
    pub(super) fn into_request(self, query: String) -> Request {
        let mut request = Request::new(query);
        request.operation_name = self.operation_name;
        request.variables = self.variables.unwrap_or_default();
        request.extensions.0 = self.extensions.unwrap_or_default();
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_an_object_or_a_short_list_of_objects() {
        assert!(matches!(
            Body::from_json(br#"{"query":"{a}","variables":null}"#, 2),
            Ok(Body::Single(_))
        ));
        assert!(
            matches!(Body::from_json(br#" [{"query":"{a}"}]"#, 2), Ok(Body::Batch(list)) if list.len() == 1)
        );
        assert!(matches!(Body::from_json(b" ", 2), Err(ParamsError::Empty)));
        assert!(matches!(Body::from_json(b"[]", 2), Err(ParamsError::EmptyBatch)));
        assert!(matches!(
            Body::from_json(b"[{},{},{}]", 2),
            Err(ParamsError::LongBatch(3, 2))
        ));
        for refused in [
            &br#"[["{a}"]]"#[..],
            br#""{a}""#,
            b"{\"query\":\"\xff\"}",
            br#"{"query":1}"#,
            br#"{"query":"{a}","variables":[1]}"#,
            br#"{"query":"{a}","extensions":"x"}"#,
            br#"{"query":"{a}"} {}"#,
        ] {
            assert!(
                matches!(Body::from_json(refused, 2), Err(ParamsError::Body(_))),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn a_query_string_names_each_parameter_once() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let params = Params::from_pairs(vec![
            pair("query", "{a}"),
            pair("variables", r#"{"x":1}"#),
            pair("z", ""),
        ]);
        assert_eq!(params.unwrap().variables.unwrap().len(), 1);
        let twice = Params::from_pairs(vec![pair("query", "{a}"), pair("query", "{b}")]);
        assert!(matches!(twice, Err(ParamsError::Repeated(name)) if name == "query"));
        let list = Params::from_pairs(vec![pair("extensions", "[1]")]);
        assert!(matches!(
            list,
            Err(ParamsError::Object {
                name: "extensions",
                ..
            })
        ));
    }
}
