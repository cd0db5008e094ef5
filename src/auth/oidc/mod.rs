//! People and programs that an identity provider vouches for: signed tokens (JWT) of one configured issuer.
//!
//! `jsonwebtoken` checks signatures and claims. The keys are fetched here: the crates that fetch and rotate them bring a
//! second HTTP client and start tasks of their own, and none asks anew, with a bound, when a token names an unknown key.
//!
//! What must hold: an asymmetric algorithm, a key of the issuer's set, `iss`, `aud`, `exp` and `sub`; `nbf` where it is
//! there. `exp` counts to the second, so that sockets end when the token does. A clock that goes after the issuer's is
//! borne with at `nbf`.

mod keys;
mod verify;

use std::net::IpAddr;
use std::sync::Arc;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode, decode_header};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{Admitted, Denied, Lifetime};
use crate::clock::now;
use crate::config::OidcConfig;
use crate::domain::{Actor, Caller, RunLimits, Scope, Scopes, Timestamp};
use keys::{Key, Keys};

/// What the names begin with of those whom an issuer vouches for: no token is called so.
pub const NAME_PREFIX: &str = "oidc:";

/// By how many seconds this machine's clock may differ from the issuer's.
const LEEWAY: u64 = 60;

/// The longest subject, in bytes: as OpenID Connect has it.
const LONGEST_SUBJECT: usize = 255;

/// One issuer. Cheap to clone; every clone is the same.
#[derive(Debug, Clone)]
pub struct Oidc(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    keys: Keys,
    validation: Validation,
    /// In the names of those that it vouches for.
    host: String,
    scope_claim: String,
    scopes: Vec<(String, Scope)>,
}

impl Oidc {
    /// The issuer of these settings; none where they name none.
    ///
    /// # Errors
    ///
    /// Where there can be no HTTP client: the system's certificates cannot be read.
    pub fn new(config: &OidcConfig) -> Result<Option<Self>, reqwest::Error> {
        let (Some(issuer), Some(audience)) = (&config.issuer, &config.audience) else {
            return Ok(None);
        };
        verify::install();
        let mut validation = Validation {
            leeway: LEEWAY,
            validate_nbf: true,
            ..Validation::default()
        };
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let url = Url::parse(issuer).ok();
        let host = url
            .as_ref()
            .and_then(Url::host_str)
            .unwrap_or_default()
            .to_owned();
        Ok(Some(Self(Arc::new(Shared {
            keys: Keys::new(issuer.clone())?,
            validation,
            host,
            scope_claim: config.scope_claim.clone(),
            scopes: config.scopes(),
        }))))
    }

    /// Keeps the issuer's keys up to date until `stop`.
    pub async fn keep(self, stop: CancellationToken) {
        self.0.keys.keep(stop).await;
    }

    /// Finds out whom the issuer vouches for with this token.
    pub(super) async fn admit(&self, bearer: &str, address: Option<IpAddr>) -> Result<Admitted, Denied> {
        let header = decode_header(bearer).map_err(|_| Denied::Unknown)?;
        if !verify::is_accepted(header.alg) {
            return Err(Denied::Untrusted("it is not signed with a private key"));
        }
        if header.crit.is_some() {
            return Err(Denied::Untrusted("it wants an extension that is not known here"));
        }
        let keys = self.0.keys.find(&header).await.map_err(|_| Denied::NoKeys)?;
        let mut validation = self.0.validation.clone();
        validation.algorithms = vec![header.alg];
        let mut denied = Denied::Untrusted("its issuer has no such key");
        // One key, but where neither the token nor the set tells them apart.
        for key in Key::fitting(&keys, &header) {
            match decode::<Map<String, Value>>(bearer, &key.key, &validation) {
                Ok(found) => return self.admitted(&found.claims, address),
                Err(error) => denied = reason(error.kind()),
            }
        }
        Err(denied)
    }

    fn admitted(&self, claims: &Map<String, Value>, address: Option<IpAddr>) -> Result<Admitted, Denied> {
        let until = claims
            .get("exp")
            .and_then(moment)
            .ok_or(Denied::Untrusted("its end is no moment"))?;
        if until <= now() {
            return Err(Denied::Expired);
        }
        let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
        if subject.is_empty() || subject.len() > LONGEST_SUBJECT || subject.chars().any(char::is_control) {
            return Err(Denied::Untrusted("its subject is no name"));
        }
        let caller = Caller {
            actor: Actor {
                name: format!("{NAME_PREFIX}{}/{subject}", self.0.host),
                token: None,
                address,
            },
            scopes: self.scopes(claims),
            limits: RunLimits::default(),
            authenticated: true,
        };
        Ok(Admitted {
            caller: Arc::new(caller),
            lifetime: Lifetime {
                ended: CancellationToken::new(),
                until: Some(until),
            },
        })
    }

    /// What a token allows: none of the words that are known here is nothing.
    fn scopes(&self, claims: &Map<String, Value>) -> Scopes {
        let words: Vec<&str> = match find(claims, &self.0.scope_claim) {
            Some(Value::String(text)) => text.split_ascii_whitespace().collect(),
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let given = |word: &str| words.contains(&word);
        let scopes = self.0.scopes.iter().filter(|(word, _)| given(word));
        scopes.map(|(_, scope)| *scope).collect()
    }
}

/// A claim by its name, or by the names that lead to it, joined by dots. Names of claims may be addresses with dots.
fn find<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if let Some(found) = claims.get(path) {
        return Some(found);
    }
    path.match_indices('.')
        .find_map(|(at, _)| match claims.get(&path[..at])? {
            Value::Object(inner) => find(inner, &path[at + 1..]),
            _ => None,
        })
}

/// Seconds since 1970, which may have a fraction.
fn moment(value: &Value) -> Option<Timestamp> {
    // Beyond this a token outlives the clock.
    const LATEST: f64 = 253_402_300_799.0;
    let seconds = value
        .as_f64()
        .filter(|seconds| (0.0..=LATEST).contains(seconds))?;
    #[expect(clippy::cast_possible_truncation, reason = "its bounds were checked")]
    Some(Timestamp::from_micros((seconds * 1e6) as i64))
}

fn reason(kind: &ErrorKind) -> Denied {
    Denied::Untrusted(match kind {
        ErrorKind::ExpiredSignature => return Denied::Expired,
        ErrorKind::InvalidSignature => "its signature is wrong",
        ErrorKind::InvalidIssuer => "it is from another issuer",
        ErrorKind::InvalidAudience => "it is for another audience",
        ErrorKind::ImmatureSignature => "it is not valid yet",
        ErrorKind::MissingRequiredClaim(_) => "it lacks one of the claims exp, iss, aud and sub",
        _ => "it cannot be read",
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_claim_is_found_by_its_name_or_its_way() {
        let Value::Object(claims) = json!({
            "scope": "a b", "realm_access": { "roles": ["x"] }, "https://id.test/roles": ["y"],
            "a.b": { "c": "z" }, "a": { "b": 1 },
        }) else {
            panic!()
        };
        for (path, expected) in [
            ("scope", json!("a b")),
            ("realm_access.roles", json!(["x"])),
            ("https://id.test/roles", json!(["y"])),
            ("a.b.c", json!("z")),
            ("a.b", json!({ "c": "z" })),
        ] {
            assert_eq!(find(&claims, path), Some(&expected), "{path}");
        }
        for path in ["", "roles", "realm_access.", "scope.a", "realm_access.roles.x"] {
            assert_eq!(find(&claims, path), None, "{path}");
        }
    }

    #[test]
    fn an_end_is_a_moment_that_a_clock_can_show() {
        assert_eq!(moment(&json!(2)), Some(Timestamp::from_micros(2_000_000)));
        assert_eq!(moment(&json!(2.5)), Some(Timestamp::from_micros(2_500_000)));
        for wrong in [json!(-1), json!("2"), json!(1e300), json!(null)] {
            assert_eq!(moment(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn nothing_is_signed_with_a_shared_secret() {
        use jsonwebtoken::Algorithm as A;
        for algorithm in [A::HS256, A::HS384, A::HS512] {
            assert!(!verify::is_accepted(algorithm));
        }
        for algorithm in [
            A::RS256,
            A::RS384,
            A::RS512,
            A::PS256,
            A::PS384,
            A::PS512,
            A::ES256,
            A::ES384,
            A::EdDSA,
        ] {
            assert!(verify::is_accepted(algorithm));
        }
    }
}
