//! Who a request is from: its token, its address, and what it may reach with that.
//!
//! ```text
//!   HTTP ──── Authorization: Bearer … ────▶ Doorman::admit ─▶ the caller, in the request's data
//!   socket ── the same, or `connection_init` with { "authorization": "Bearer …" } ─▶ Doorman::on_connect
//! ```

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request};
use axum::http::header::{AUTHORIZATION, RETRY_AFTER, UPGRADE, WWW_AUTHENTICATE};
use axum::http::{Extensions, HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use ipnet::IpNet;
use serde_json::{Map, Value};

use crate::auth::{Admitted, Authenticator, Denied};
use crate::domain::Caller;
use crate::http::{
    ConnectionHook, ConnectionInit, ConnectionRefused, ErrorCode, OperationData, Payer, error_response,
};
use crate::telemetry::chain;

/// Lets requests in. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Doorman {
    authenticator: Authenticator,
    /// Whose word about where a request came from is taken.
    trusted_proxies: Arc<[IpNet]>,
}

/// Where a request came from.
#[derive(Debug, Clone, Copy)]
struct ClientAddress(Option<IpAddr>);

impl Doorman {
    pub(super) fn new(authenticator: Authenticator, trusted_proxies: &[IpNet]) -> Self {
        Self {
            authenticator,
            trusted_proxies: trusted_proxies.into(),
        }
    }

    /// Whether anybody is asked who they are.
    pub(super) fn is_required(&self) -> bool {
        self.authenticator.is_required()
    }

    /// Finds out who a request is from, and leaves that in it for whoever answers; or answers it with a refusal. A
    /// socket may be opened without a token, and shows it in its first message.
    pub(super) async fn admit(&self, request: &mut Request) -> Result<Option<Arc<Caller>>, Response> {
        let address = self.address(request);
        request.extensions_mut().insert(ClientAddress(address));
        let shown = bearer(request.headers());
        if shown.is_err() && self.is_required() {
            return Err(unsigned(
                "this server takes `Authorization: Bearer …` and nothing else",
            ));
        }
        let admitted = self.authenticator.admit(shown.unwrap_or_default(), address).await;
        let admitted = match admitted.map_err(|denied| refusal(&denied))? {
            Some(admitted) => admitted,
            None if opens_socket(request.headers()) => return Ok(None),
            None => {
                return Err(unsigned(
                    "this server asks for a token: send `Authorization: Bearer …`",
                ));
            }
        };
        let caller = Arc::clone(&admitted.caller);
        let data = fill(OperationData::default(), admitted);
        request.extensions_mut().insert(data);
        request.extensions_mut().insert(Arc::clone(&caller));
        Ok(Some(caller))
    }

    /// Decides from its first message who opens a socket.
    pub(super) fn on_connect(&self) -> ConnectionHook {
        let doorman = self.clone();
        ConnectionHook::new(move |init| {
            let doorman = doorman.clone();
            async move { doorman.decide(init).await }
        })
    }

    async fn decide(&self, init: ConnectionInit) -> Result<OperationData, ConnectionRefused> {
        let shown = init.payload.as_ref().and_then(bearer_in);
        if shown.is_none() && init.extensions.get::<Arc<Caller>>().is_some() {
            return Ok(init.data);
        }
        match self
            .authenticator
            .admit(shown, address_in(&init.extensions))
            .await
        {
            Ok(Some(admitted)) => Ok(fill(OperationData::default(), admitted)),
            Ok(None) => Err(ConnectionRefused("no token was shown".to_owned())),
            Err(denied) => Err(ConnectionRefused(chain(&denied).to_string())),
        }
    }

    /// Where a request came from: the nearest address that is no trusted proxy.
    fn address(&self, request: &Request) -> Option<IpAddr> {
        let ConnectInfo(peer) = request.extensions().get::<ConnectInfo<SocketAddr>>()?;
        let peer = peer.ip().to_canonical();
        let trusts = |address: &IpAddr| self.trusted_proxies.iter().any(|net| net.contains(address));
        if !trusts(&peer) {
            return Some(peer);
        }
        let told = request.headers().get_all("x-forwarded-for").iter();
        let told = told
            .filter_map(|value| value.to_str().ok())
            .flat_map(|list| list.split(','));
        let mut nearest = peer;
        for text in told.collect::<Vec<_>>().into_iter().rev() {
            // What is not an address was not written by a proxy that can be trusted.
            let Ok(address) = text.trim().parse::<IpAddr>() else {
                break;
            };
            nearest = address.to_canonical();
            if !trusts(&nearest) {
                break;
            }
        }
        Some(nearest)
    }
}

fn fill(data: OperationData, admitted: Admitted) -> OperationData {
    let Admitted { caller, lifetime } = admitted;
    let payer = payer(&caller);
    let rights = caller.rights().into_bytes();
    data.with(caller)
        .paid_by(payer)
        .with_rights(rights)
        .until(async move { lifetime.over().await })
}

/// Whom the operations of a caller are charged to.
fn payer(caller: &Caller) -> Payer {
    match caller.actor.token {
        Some(token) => Payer::Token(token.uuid().as_u128()),
        None if caller.authenticated => Payer::named(&caller.actor.name),
        None => Payer::at(caller.actor.address),
    }
}

fn address_in(extensions: &Extensions) -> Option<IpAddr> {
    extensions.get::<ClientAddress>().and_then(|address| address.0)
}

fn opens_socket(headers: &HeaderMap) -> bool {
    headers
        .get(UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// An Authorization header of another kind, or several.
struct NotBearer;

fn bearer(headers: &HeaderMap) -> Result<Option<&str>, NotBearer> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => match value.to_str() {
            Ok(text) => without_scheme(text).map(Some).ok_or(NotBearer),
            Err(_) => Err(NotBearer),
        },
        _ => Err(NotBearer),
    }
}

fn without_scheme(text: &str) -> Option<&str> {
    let (scheme, token) = text.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The token in the first message of a socket: under `authorization`, in any case, or in an object `headers` as clients
/// write it that also speak HTTP.
fn bearer_in(payload: &Map<String, Value>) -> Option<&str> {
    let find = |members: &'_ Map<String, Value>, name: &str| {
        let found = members.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(key, _)| key.clone())
    };
    if let Some(key) = find(payload, "authorization") {
        let text = payload.get(&key)?.as_str()?;
        return Some(without_scheme(text).unwrap_or(text));
    }
    match payload.get("headers")? {
        Value::Object(headers) => bearer_in(headers),
        _ => None,
    }
}

/// Answers a request that shows no token.
fn unsigned(message: &str) -> Response {
    let mut response = error_response(StatusCode::UNAUTHORIZED, ErrorCode::Unauthenticated, message);
    response.headers_mut().insert(
        WWW_AUTHENTICATE,
        HeaderValue::from_static("Bearer realm=\"runql\""),
    );
    response
}

fn refusal(denied: &Denied) -> Response {
    match denied {
        Denied::Unknown | Denied::Expired | Denied::Revoked | Denied::Untrusted(_) => {
            let mut response = unsigned(&denied.to_string());
            let value = HeaderValue::from_static("Bearer realm=\"runql\", error=\"invalid_token\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, value);
            response
        }
        Denied::Busy => {
            let code = ErrorCode::LimitExceeded;
            let mut response = error_response(StatusCode::TOO_MANY_REQUESTS, code, denied.to_string());
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from_static("5"));
            response
        }
        Denied::Store(_) | Denied::NoKeys => {
            tracing::warn!(error = %chain(denied), "tokens cannot be looked up");
            let code = ErrorCode::Unavailable;
            let mut response = error_response(StatusCode::SERVICE_UNAVAILABLE, code, denied.to_string());
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from_static("1"));
            response
        }
    }
}

/// Answers whoever may not read.
pub(super) fn may_not_read() -> Response {
    let message = "this needs the scope READ, which the token does not have";
    error_response(StatusCode::FORBIDDEN, ErrorCode::Forbidden, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_where_clients_put_it() {
        let found = |payload: Value| {
            let Value::Object(payload) = payload else { panic!() };
            bearer_in(&payload).map(str::to_owned)
        };
        for payload in [
            serde_json::json!({ "authorization": "Bearer abc" }),
            serde_json::json!({ "Authorization": "bearer abc" }),
            serde_json::json!({ "authorization": "abc" }),
            serde_json::json!({ "headers": { "Authorization": "Bearer abc" } }),
        ] {
            assert_eq!(found(payload.clone()).as_deref(), Some("abc"), "{payload}");
        }
        for payload in [
            serde_json::json!({}),
            serde_json::json!({ "authorization": 1 }),
            serde_json::json!({ "headers": "Bearer abc" }),
        ] {
            assert_eq!(found(payload), None);
        }
    }

    #[test]
    fn a_header_says_bearer_once() {
        let read = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            }
            bearer(&headers)
                .map(|token| token.map(str::to_owned))
                .map_err(|_| ())
        };
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&["Bearer abc"]), Ok(Some("abc".to_owned())));
        assert_eq!(read(&["bearer  abc "]), Ok(Some("abc".to_owned())));
        for values in [&["Basic abc"][..], &["abc"], &["Bearer a", "Bearer a"]] {
            assert_eq!(read(values), Err(()), "{values:?}");
        }
    }
}
