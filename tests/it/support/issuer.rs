//! An OpenID Connect issuer on this machine: its discovery document, its keys, and tokens that are signed with them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PSS_SHA512, RsaKeyPair,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// The audience of the tokens that are meant for the server.
pub(crate) const AUDIENCE: &str = "runql";

/// A private key of an issuer.
pub(crate) struct SigningKey {
    kid: &'static str,
    algorithm: &'static str,
    pair: Pair,
}

enum Pair {
    Curve(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
    Rsa(Box<RsaKeyPair>),
}

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Seconds since 1970, some of them from now.
pub(crate) fn seconds(from_now: f64) -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs_f64()
        + from_now
}

impl SigningKey {
    /// A new key; of RSA always the same one, which takes long to make.
    pub(crate) fn new(kid: &'static str, algorithm: &'static str) -> Self {
        let random = SystemRandom::new();
        let pair = match algorithm {
            "ES256" | "ES384" => {
                let kind = if algorithm == "ES256" {
                    &ECDSA_P256_SHA256_FIXED_SIGNING
                } else {
                    &ECDSA_P384_SHA384_FIXED_SIGNING
                };
                let made = EcdsaKeyPair::generate_pkcs8(kind, &random).unwrap();
                Pair::Curve(EcdsaKeyPair::from_pkcs8(kind, made.as_ref(), &random).unwrap())
            }
            "EdDSA" => {
                let made = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
                Pair::Ed(Ed25519KeyPair::from_pkcs8(made.as_ref()).unwrap())
            }
            _ => {
                let text: String = include_str!("issuer.rsa").split_whitespace().collect();
                let key = STANDARD.decode(text).unwrap();
                Pair::Rsa(Box::new(RsaKeyPair::from_pkcs8(&key).unwrap()))
            }
        };
        Self { kid, algorithm, pair }
    }

    /// The public half, as its issuer shows it.
    pub(crate) fn public(&self) -> Value {
        let about = match &self.pair {
            Pair::Curve(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(pair.public_key().as_ref().len() / 2);
                let curve = if x.len() == 32 { "P-256" } else { "P-384" };
                json!({ "kty": "EC", "crv": curve, "x": encoded(x), "y": encoded(y), "use": "sig" })
            }
            Pair::Ed(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": encoded(pair.public_key()), "alg": "EdDSA" })
            }
            Pair::Rsa(pair) => {
                let PublicKeyComponents { n, e } = PublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({ "kty": "RSA", "n": encoded(n), "e": encoded(e), "use": "sig" })
            }
        };
        let mut key = about;
        key["kid"] = self.kid.into();
        key
    }

    /// The bytes that everybody has of the public half: what somebody would sign with who hopes for HS256.
    pub(crate) fn public_bytes(&self) -> Vec<u8> {
        match &self.pair {
            Pair::Curve(pair) => pair.public_key().as_ref().to_vec(),
            Pair::Ed(pair) => pair.public_key().as_ref().to_vec(),
            Pair::Rsa(pair) => pair.public().as_ref().to_vec(),
        }
    }

    /// A token with these claims.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.sign_with(
            &json!({ "alg": self.algorithm, "kid": self.kid, "typ": "JWT" }),
            claims,
        )
    }

    /// A token with a header of its own.
    pub(crate) fn sign_with(&self, header: &Value, claims: &Value) -> String {
        let message = message(header, claims);
        let random = SystemRandom::new();
        let signature = match &self.pair {
            Pair::Curve(pair) => pair.sign(&random, message.as_bytes()).unwrap().as_ref().to_vec(),
            Pair::Ed(pair) => pair.sign(message.as_bytes()).as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                let message = message.as_bytes();
                if self.algorithm == "RS256" {
                    pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                } else {
                    pair.sign(&RSA_PSS_SHA512, &random, message, &mut signature)
                }
                .unwrap();
                signature
            }
        };
        format!("{message}.{}", encoded(signature))
    }
}

/// What is signed of a token.
pub(crate) fn message(header: &Value, claims: &Value) -> String {
    format!("{}.{}", encoded(header.to_string()), encoded(claims.to_string()))
}

/// What the issuer serves, and how often it was asked.
#[derive(Debug, Default)]
struct Served {
    address: String,
    keys: Vec<Value>,
    fetches: usize,
}

/// An issuer that can be stopped, and comes back at the same address.
pub(crate) struct Issuer {
    address: SocketAddr,
    served: Arc<Mutex<Served>>,
    server: JoinSet<std::io::Result<()>>,
}

impl Issuer {
    /// One that is there.
    pub(crate) async fn start(keys: &[&SigningKey]) -> Self {
        let mut issuer = Self::away(keys).await;
        issuer.come().await;
        issuer
    }

    /// One that has an address and does not answer.
    pub(crate) async fn away(keys: &[&SigningKey]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = Served {
            address: format!("http://{address}"),
            ..Served::default()
        };
        let issuer = Self {
            address,
            served: Arc::new(Mutex::new(served)),
            server: JoinSet::new(),
        };
        issuer.show(keys);
        issuer
    }

    /// Answers from now on.
    pub(crate) async fn come(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        let routes = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/keys", get(keys))
            .with_state(Arc::clone(&self.served));
        self.server
            .spawn(async move { axum::serve(listener, routes).await });
    }

    /// Answers no more.
    pub(crate) async fn go(&mut self) {
        self.server.shutdown().await;
    }

    /// Shows these keys from now on.
    pub(crate) fn show(&self, keys: &[&SigningKey]) {
        let mut shown: Vec<Value> = keys.iter().map(|key| key.public()).collect();
        // What no signature can be checked with is in many sets.
        shown.push(json!({ "kty": "oct", "k": "c2VjcmV0", "kid": "shared" }));
        shown.push(json!({ "kty": "of-tomorrow", "kid": "odd", "alg": "X99" }));
        self.served.lock().unwrap().keys = shown;
    }

    /// Its address, which is its name.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How often its keys were asked for.
    pub(crate) fn fetches(&self) -> usize {
        self.served.lock().unwrap().fetches
    }

    /// The claims of a good token, with these laid over them; null takes one out.
    pub(crate) fn claims(&self, changes: Value) -> Value {
        let mut claims = json!({
            "iss": self.url(), "aud": AUDIENCE, "sub": "ada", "iat": seconds(0.0) as u64,
            "exp": seconds(600.0) as u64, "scope": "openid runql:read runql:run",
        });
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims
            .as_object_mut()
            .unwrap()
            .retain(|_, value| !value.is_null());
        claims
    }
}

async fn discovery(State(served): State<Arc<Mutex<Served>>>) -> Json<Value> {
    let address = served.lock().unwrap().address.clone();
    Json(json!({ "issuer": address, "jwks_uri": format!("{address}/keys"), "token_endpoint": "…" }))
}

async fn keys(State(served): State<Arc<Mutex<Served>>>) -> Json<Value> {
    let mut served = served.lock().unwrap();
    served.fetches += 1;
    Json(json!({ "keys": served.keys }))
}
