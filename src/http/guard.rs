//! Who may talk to the server from a browser: the Host and Origin of requests, and CORS.
//!
//! A server on loopback that asks for no token trusts whoever runs programs on the machine. A web page that the user
//! happens to open is not of those, though the browser would send its requests: so a request is refused that names a
//! foreign host (a name that was made to resolve to this machine), or that comes from a foreign page. Upgrades to
//! WebSocket, to which browsers apply no rule of their own, pass through here as well.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, ORIGIN};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, request};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use tower_http::cors::{AllowOrigin, AllowPrivateNetwork, CorsLayer};

use super::code::ErrorCode;
use super::reply::error_response;
use super::request_id::{X_REQUEST_ID, identify};

/// The names of this machine to itself.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Which requests of browsers are let in.
#[derive(Clone)]
pub struct GuardConfig {
    /// Whether requests with a foreign Host or Origin are refused: as long as the server asks for no token. A page that
    /// has no token of its own can do nothing with a server that does.
    pub check_host_and_origin: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Hosts beside the loopback names, with or without a port; without one, any port fits.
    pub allowed_hosts: Vec<String>,
    /// Origins beside the server's own, as `scheme://host[:port]`; they get CORS headers. `*` is any.
    pub allowed_origins: Vec<String>,
}

impl Default for GuardConfig {
    fn default() -> Self {
        Self {
            check_host_and_origin: Arc::new(|| false),
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
        }
    }
}

impl std::fmt::Debug for GuardConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuardConfig")
            .field("allowed_hosts", &self.allowed_hosts)
            .field("allowed_origins", &self.allowed_origins)
            .finish_non_exhaustive()
    }
}

/// Puts around `router` what every request passes: its id, the guard, CORS. Nothing else may be put around it later
/// that answers requests by itself.
pub fn with_outer_layers(router: Router, config: GuardConfig) -> Router {
    let config = Arc::new(config);
    let cors = cors(Arc::clone(&config));
    router
        .layer(cors)
        .layer(from_fn_with_state(config, guard))
        .layer(from_fn(identify))
}

fn cors(config: Arc<GuardConfig>) -> CorsLayer {
    let allowed = move |origin: &HeaderValue, _: &request::Parts| {
        origin.to_str().is_ok_and(|origin| config.allows_origin(origin))
    };
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(allowed))
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([
            ACCEPT,
            AUTHORIZATION,
            CONTENT_TYPE,
            X_REQUEST_ID,
            HeaderName::from_static("last-event-id"),
        ])
        .allow_private_network(AllowPrivateNetwork::yes())
        .expose_headers([X_REQUEST_ID])
        .max_age(Duration::from_secs(3600))
}

async fn guard(State(config): State<Arc<GuardConfig>>, request: Request, next: Next) -> Response {
    if (config.check_host_and_origin)()
        && let Err(refusal) = config.check(&request)
    {
        return refusal.into_response();
    }
    next.run(request).await
}

/// Why a request is not let in.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("The request names no host, or several.")]
    NoHost,
    #[error("The host `{0}` is not one that this server answers for; the setting allowed-hosts adds hosts.")]
    Host(String),
    #[error("The origin `{0}` may not use this server; the setting allowed-origins adds origins.")]
    Origin(String),
    #[error("A page of another site may not use this server; the setting allowed-origins adds origins.")]
    Site,
}

impl Refusal {
    fn into_response(self) -> Response {
        let (status, code) = match self {
            Self::NoHost => (StatusCode::BAD_REQUEST, ErrorCode::BadRequest),
            Self::Host(_) | Self::Origin(_) | Self::Site => (StatusCode::FORBIDDEN, ErrorCode::Forbidden),
        };
        error_response(status, code, self.to_string())
    }
}

impl GuardConfig {
    fn check(&self, request: &Request) -> Result<(), Refusal> {
        let headers = request.headers();
        // Over HTTP/2 the host is the authority of the URI.
        let host = match request.uri().authority() {
            Some(authority) => authority.as_str(),
            None => only(headers, &HOST).ok_or(Refusal::NoHost)?,
        };
        if !self.allows_host(host) {
            return Err(Refusal::Host(host.to_owned()));
        }
        if !headers.contains_key(ORIGIN) {
            return Self::check_site(headers);
        }
        let origin = only(headers, &ORIGIN).ok_or_else(|| Refusal::Origin("?".to_owned()))?;
        if is_own(origin, host) || self.allows_origin(origin) {
            Ok(())
        } else {
            Err(Refusal::Origin(origin.to_owned()))
        }
    }

    /// Browsers send no Origin with what a page merely embeds, such as an image; but they do tell where the page is
    /// from. Following a link to the server is no use of it by the page.
    fn check_site(headers: &HeaderMap) -> Result<(), Refusal> {
        let foreign = headers
            .get(SEC_FETCH_SITE)
            .is_some_and(|site| site != "same-origin" && site != "none");
        let followed = headers.get(SEC_FETCH_MODE).is_some_and(|mode| mode == "navigate");
        if foreign && !followed {
            Err(Refusal::Site)
        } else {
            Ok(())
        }
    }

    fn allows_host(&self, host: &str) -> bool {
        let name = without_port(host);
        LOOPBACK
            .iter()
            .any(|loopback| loopback.eq_ignore_ascii_case(name))
            || self.allowed_hosts.iter().any(|allowed| {
                let fits = if without_port(allowed) == allowed {
                    name
                } else {
                    host
                };
                allowed.eq_ignore_ascii_case(fits)
            })
    }

    fn allows_origin(&self, origin: &str) -> bool {
        self.allowed_origins
            .iter()
            .any(|allowed| allowed == "*" || allowed.trim_end_matches('/').eq_ignore_ascii_case(origin))
    }
}

/// The value of a header that is there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// Whether a page of `origin` was served under `host`, which is known to be the server's.
fn is_own(origin: &str, host: &str) -> bool {
    let own = |(scheme, port): (&str, &str)| {
        origin
            .get(..scheme.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
            && origin.get(scheme.len()..).is_some_and(|rest| {
                // A browser leaves out the port that is the scheme's own; a Host may name it all the same.
                rest.eq_ignore_ascii_case(host.strip_suffix(port).unwrap_or(host))
            })
    };
    [("http://", ":80"), ("https://", ":443")].into_iter().any(own)
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_fit_with_any_port_unless_one_is_named() {
        let config = GuardConfig {
            allowed_hosts: vec!["runql.test".to_owned(), "proxy.test:8443".to_owned()],
            ..GuardConfig::default()
        };
        for host in [
            "localhost",
            "LOCALHOST:1",
            "127.0.0.1:8000",
            "[::1]",
            "[::1]:8000",
            "runql.test:1",
            "proxy.test:8443",
        ] {
            assert!(config.allows_host(host), "{host}");
        }
        for host in [
            "",
            "127.0.0.2",
            "localhost.evil.test",
            "evil.test",
            "proxy.test",
            "proxy.test:1",
            "::1",
            "localhost:x",
        ] {
            assert!(!config.allows_host(host), "{host}");
        }
    }

    #[test]
    fn an_origin_is_the_servers_own_by_host_and_port() {
        for (origin, host) in [
            ("http://localhost:8000", "localhost:8000"),
            ("http://localhost", "localhost:80"),
            ("https://runql.test", "runql.test"),
            ("https://runql.test", "runql.test:443"),
        ] {
            assert!(is_own(origin, host), "{origin} {host}");
        }
        for (origin, host) in [
            ("http://localhost:3000", "localhost:8000"),
            ("http://localhost", "localhost:8000"),
            ("null", "localhost"),
            ("", ""),
            ("http://localhost.evil.test", "localhost"),
            ("file://localhost", "localhost"),
        ] {
            assert!(!is_own(origin, host), "{origin} {host}");
        }
    }
}
