//! Tokens that an OpenID Connect issuer signed: which are taken, what they allow, and how its keys are kept up to date.

use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::StatusCode;
use ring::hmac;
use serde_json::{Value, json};

use super::{ask, code, data, token};
use crate::support::app::{Setup, TestApp};
use crate::support::both_stores;
use crate::support::db::TestDb;
use crate::support::issuer::{AUDIENCE, Issuer, SigningKey, message, seconds};
use crate::support::socket::{Said, Socket};
use crate::support::wait::{until, within};

both_stores!(
    whom_the_issuer_vouches_for_is_let_in,
    what_the_issuer_did_not_sign_for_this_server_is_refused,
    words_of_a_claim_give_scopes,
    new_keys_count_once_a_token_names_them,
    unknown_keys_do_not_flood_the_issuer,
    an_issuer_that_is_away_stops_nobody_else,
    a_socket_ends_with_the_signed_token,
);

const VIEWER: &str = "{ viewer { tokenName scopes } }";

fn setup(db: &TestDb, issuer: &Issuer) -> Setup {
    Setup::new(db)
        .flag("--oidc-issuer", issuer.url())
        .flag("--oidc-audience", AUDIENCE)
        // Each refusal makes the next one from its address slower, so each comes from its own.
        .flag("--trusted-proxies", "127.0.0.1")
}

/// Asks from an address that nobody asked from before.
async fn ask_from_afar(app: &TestApp, token: &str) -> (StatusCode, Value) {
    static LAST: AtomicU16 = AtomicU16::new(0);
    let [high, low] = LAST.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let request = app
        .http()
        .post(format!("{}/graphql", app.url()))
        .header("x-forwarded-for", format!("10.0.{high}.{low}"))
        .header("accept", "application/graphql-response+json")
        .bearer_auth(token)
        .json(&json!({ "query": VIEWER }));
    let answer = request.send().await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}

async fn whom_the_issuer_vouches_for_is_let_in(db: TestDb) {
    let keys =
        ["ES256", "ES384", "EdDSA", "RS256", "PS512"].map(|algorithm| SigningKey::new(algorithm, algorithm));
    let issuer = Issuer::start(&keys.each_ref()).await;
    let mut app = setup(&db, &issuer).listen("0.0.0.0:0").start().await;
    let known = json!({ "viewer": { "tokenName": "oidc:127.0.0.1/ada", "scopes": ["READ", "RUN"] } });
    for key in &keys {
        let signed = key.sign(&issuer.claims(json!({})));
        assert_eq!(data(&app, &signed, VIEWER, json!({})).await, known, "{signed}");
    }
    // An audience among several, and an end within a second.
    let signed = keys[0].sign(&issuer.claims(json!({ "aud": ["other", AUDIENCE], "exp": seconds(600.5) })));
    assert_eq!(data(&app, &signed, VIEWER, json!({})).await, known);
    let (status, answer) = ask(&app, None, VIEWER, json!({})).await;
    assert_eq!(
        (status, code(&answer)),
        (StatusCode::UNAUTHORIZED, "UNAUTHENTICATED")
    );
    let run =
        r#"mutation { run(input: { command: { shell: { command: "true" } } }) { errors { message } } }"#;
    assert_eq!(
        data(&app, &signed, run, json!({})).await["run"]["errors"],
        json!([])
    );
    let (_, refused) = ask(
        &app,
        Some(&signed),
        "mutation { startWorkers { errors { code } } }",
        json!({}),
    )
    .await;
    assert_eq!(code(&refused), "FORBIDDEN");

    // Tokens of its own count beside them, and see who did what. None can pass for somebody of the issuer's.
    let root = token(&app, "root", "read,admin", &[]).await;
    let log = data(
        &app,
        &root,
        "{ auditLog { nodes { action actor tokenId } } }",
        json!({}),
    )
    .await;
    let nodes = log["auditLog"]["nodes"].as_array().unwrap();
    let ran = nodes.iter().find(|node| node["action"] == "RUN").unwrap();
    assert_eq!(
        (&ran["actor"], &ran["tokenId"]),
        (&json!("oidc:127.0.0.1/ada"), &json!(null))
    );
    let create =
        "mutation($input: CreateTokenInput!) { createToken(input: $input) { errors { code path } } }";
    let input = json!({ "input": { "name": "oidc:127.0.0.1/ada", "scopes": ["READ"] } });
    let refused = data(&app, &root, create, input).await["createToken"].take();
    assert_eq!(refused["errors"][0]["code"], "INVALID", "{refused:#}");
    app.signal("TERM");
    assert_eq!(app.exit().await, Some(0));
    app.restart().await;
    data(&app, &signed, VIEWER, json!({})).await;
    app.stop().await;
}

async fn what_the_issuer_did_not_sign_for_this_server_is_refused(db: TestDb) {
    let (curve, rsa) = (SigningKey::new("curve", "ES256"), SigningKey::new("rsa", "RS256"));
    let issuer = Issuer::start(&[&curve, &rsa]).await;
    let app = setup(&db, &issuer).start().await;
    let good = issuer.claims(json!({}));
    let changed = |changes: Value| curve.sign(&issuer.claims(changes));
    // Somebody else's key under the name of the issuer's.
    let forged = SigningKey::new("curve", "ES256").sign(&good);
    let unsigned =
        |algorithm: &str| format!("{}.", message(&json!({ "alg": algorithm, "kid": "rsa" }), &good));
    let shared = |secret: &[u8], kid: &str| {
        let message = message(&json!({ "alg": "HS256", "kid": kid }), &good);
        let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
        let signature = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, signature);
        format!("{message}.{signature}")
    };
    let mut other_claims = changed(json!({}));
    let signature = other_claims.split_off(other_claims.rfind('.').unwrap());
    let admin = issuer.claims(json!({ "scope": "runql:admin" }));
    let other_claims = message(&json!({ "alg": "ES256", "kid": "curve" }), &admin) + &signature;

    for (what, shown, why) in [
        (
            "another audience",
            changed(json!({ "aud": "other" })),
            "another audience",
        ),
        (
            "no audience",
            changed(json!({ "aud": null })),
            "lacks one of the claims",
        ),
        (
            "another issuer",
            changed(json!({ "iss": "https://id.test" })),
            "another issuer",
        ),
        (
            "an issuer with a slash",
            changed(json!({ "iss": format!("{}/", issuer.url()) })),
            "another issuer",
        ),
        (
            "no issuer",
            changed(json!({ "iss": null })),
            "lacks one of the claims",
        ),
        ("expired", changed(json!({ "exp": seconds(-1.0) })), "has expired"),
        (
            "long expired",
            changed(json!({ "exp": 1_000_000_000 })),
            "has expired",
        ),
        (
            "no end",
            changed(json!({ "exp": null })),
            "lacks one of the claims",
        ),
        (
            "an end as text",
            changed(json!({ "exp": "never" })),
            "lacks one of the claims",
        ),
        (
            "not yet",
            changed(json!({ "nbf": seconds(300.0) as u64 })),
            "not valid yet",
        ),
        (
            "a beginning as text",
            changed(json!({ "nbf": "now" })),
            "cannot be read",
        ),
        (
            "no subject",
            changed(json!({ "sub": null })),
            "lacks one of the claims",
        ),
        ("an empty subject", changed(json!({ "sub": "" })), "subject"),
        (
            "a subject of two lines",
            changed(json!({ "sub": "a\nb" })),
            "subject",
        ),
        ("somebody else's key", forged, "signature is wrong"),
        ("somebody else's claims", other_claims, "signature is wrong"),
        ("no signature", unsigned("ES256"), "no such key"),
        ("alg: none", unsigned("none"), "not known here"),
        ("alg: None", unsigned("None"), "not known here"),
        (
            "the public key as a secret",
            shared(&rsa.public_bytes(), "rsa"),
            "private key",
        ),
        (
            "the public point as a secret",
            shared(&curve.public_bytes(), "curve"),
            "private key",
        ),
        (
            "a secret in the key set",
            shared(b"secret", "shared"),
            "private key",
        ),
        (
            "the key of another algorithm",
            curve.sign_with(&json!({ "alg": "RS256", "kid": "curve" }), &good),
            "no such key",
        ),
        (
            "an extension that must be understood",
            curve.sign_with(
                &json!({ "alg": "ES256", "kid": "curve", "crit": ["x"], "x": 1 }),
                &good,
            ),
            "an extension",
        ),
        (
            "two parts",
            message(&json!({ "alg": "ES256" }), &good),
            "not known here",
        ),
        ("anything", "x".to_owned(), "not known here"),
    ] {
        let (status, answer) = ask_from_afar(&app, &shown).await;
        assert_eq!(
            (status, code(&answer)),
            (StatusCode::UNAUTHORIZED, "UNAUTHENTICATED"),
            "{what}"
        );
        let message = answer["errors"][0]["message"].as_str().unwrap();
        assert!(message.contains(why), "{what}: {message}");
    }
    // Clocks may differ a little about when it begins, and a token need not name its key.
    for good in [
        changed(json!({ "nbf": seconds(30.0) as u64 })),
        curve.sign_with(&json!({ "alg": "ES256" }), &good),
    ] {
        let (status, answer) = ask_from_afar(&app, &good).await;
        assert_eq!(status, StatusCode::OK, "{answer:#}");
    }
    let told = app.told().join("\n");
    assert!(!told.contains(&signature[1..]), "a token is in the log");
    app.stop().await;
}

async fn words_of_a_claim_give_scopes(db: TestDb) {
    let key = SigningKey::new("k", "EdDSA");
    let issuer = Issuer::start(&[&key]).await;
    let app = setup(&db, &issuer)
        .flag("--oidc-scope-claim", "realm_access.roles")
        .flag("--oidc-scope-map", "dev=read,dev=run,ops=admin")
        .start()
        .await;
    for (roles, expected) in [
        (json!(["dev", "other"]), json!(["READ", "RUN"])),
        (json!(["ops"]), json!(["ADMIN"])),
        (json!("dev ops"), json!(["READ", "RUN", "ADMIN"])),
        // Once there is a map, words mean what it says and nothing else.
        (json!(["runql:worker", "development", 1]), json!([])),
        (json!(null), json!([])),
    ] {
        let signed = key.sign(&issuer.claims(json!({ "realm_access": { "roles": roles } })));
        let viewer = data(&app, &signed, VIEWER, json!({})).await;
        assert_eq!(viewer["viewer"]["scopes"], expected, "{roles}");
        let (_, answer) = ask(&app, Some(&signed), "{ stats { counts { total } } }", json!({})).await;
        let reads = expected.as_array().unwrap().contains(&json!("READ"));
        assert_eq!(code(&answer) == "FORBIDDEN", !reads, "{answer:#}");
    }
    app.stop().await;
}

async fn new_keys_count_once_a_token_names_them(db: TestDb) {
    let (old, new) = (SigningKey::new("1", "ES256"), SigningKey::new("2", "ES256"));
    let issuer = Issuer::start(&[&old]).await;
    let app = setup(&db, &issuer).start().await;
    let (by_old, by_new) = (
        old.sign(&issuer.claims(json!({}))),
        new.sign(&issuer.claims(json!({}))),
    );
    assert_eq!(ask_from_afar(&app, &by_old).await.0, StatusCode::OK);
    issuer.show(&[&new]);
    assert_eq!(
        ask_from_afar(&app, &by_old).await.0,
        StatusCode::OK,
        "nobody had to ask for the keys again"
    );
    until("the new key counts", async || {
        let (status, answer) = ask_from_afar(&app, &by_new).await;
        if status.is_success() { Ok(()) } else { Err(answer) }
    })
    .await;
    let (status, answer) = ask_from_afar(&app, &by_old).await;
    assert_eq!(
        status,
        StatusCode::UNAUTHORIZED,
        "a key that was withdrawn: {answer:#}"
    );
    app.stop().await;
}

async fn unknown_keys_do_not_flood_the_issuer(db: TestDb) {
    let key = SigningKey::new("k", "ES256");
    let issuer = Issuer::start(&[&key]).await;
    let app = setup(&db, &issuer).start().await;
    let good = key.sign(&issuer.claims(json!({})));
    assert_eq!(ask_from_afar(&app, &good).await.0, StatusCode::OK);
    let (before, start) = (issuer.fetches(), Instant::now());
    let claims = issuer.claims(json!({}));
    // Until the issuer was asked again by them, which happens once its pause is over.
    until("the issuer is asked once more", async || {
        let forged: Vec<String> = (0..20)
            .map(|n| key.sign_with(&json!({ "alg": "ES256", "kid": format!("unknown-{n}") }), &claims))
            .collect();
        let answers = join_all(forged.iter().map(|forged| ask_from_afar(&app, forged))).await;
        for (status, answer) in answers {
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{answer:#}");
        }
        assert_eq!(ask_from_afar(&app, &good).await.0, StatusCode::OK);
        let fetches = issuer.fetches() - before;
        if fetches > 0 { Ok(()) } else { Err(fetches) }
    })
    .await;
    let fetches = issuer.fetches() - before;
    let pauses = start.elapsed().as_secs() / Duration::from_secs(5).as_secs();
    assert!(
        fetches as u64 <= 1 + pauses,
        "{fetches} fetches in {:?}",
        start.elapsed()
    );
    app.stop().await;
}

async fn an_issuer_that_is_away_stops_nobody_else(db: TestDb) {
    let key = SigningKey::new("k", "ES256");
    let mut issuer = Issuer::away(&[&key]).await;
    let app = setup(&db, &issuer).start().await;
    let own = token(&app, "own", "read", &[]).await;
    data(&app, &own, VIEWER, json!({})).await;
    let good = key.sign(&issuer.claims(json!({})));
    let (status, answer) = ask_from_afar(&app, &good).await;
    assert_eq!(
        (status, code(&answer)),
        (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE")
    );
    let told = app.told().join("\n");
    assert!(told.contains("the issuer's keys cannot be fetched"), "{told}");
    issuer.come().await;
    until("the issuer's token counts", async || {
        let (status, answer) = ask_from_afar(&app, &good).await;
        if status.is_success() { Ok(()) } else { Err(answer) }
    })
    .await;
    // Once known, the keys count while it is away, also after it was asked in vain.
    issuer.go().await;
    let forged = SigningKey::new("unknown", "ES256").sign(&issuer.claims(json!({})));
    until("the server asks in vain", async || {
        let (status, _) = ask_from_afar(&app, &forged).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        assert_eq!(ask_from_afar(&app, &good).await.0, StatusCode::OK);
        let told = app.told();
        let vain = told.iter().any(|line| line.contains("\"known\":1"));
        if vain { Ok(()) } else { Err(told) }
    })
    .await;
    assert_eq!(ask_from_afar(&app, &good).await.0, StatusCode::OK);
    app.stop().await;
}

async fn a_socket_ends_with_the_signed_token(db: TestDb) {
    let key = SigningKey::new("k", "ES256");
    let issuer = Issuer::start(&[&key]).await;
    let app = setup(&db, &issuer).start().await;
    // The keys are there before the short life begins.
    let long = key.sign(&issuer.claims(json!({})));
    data(&app, &long, VIEWER, json!({})).await;
    let signed = key.sign(&issuer.claims(json!({ "exp": seconds(3.0) })));
    let init =
        json!({ "type": "connection_init", "payload": { "authorization": format!("Bearer {signed}") } });
    let mut socket = Socket::open(&app, init, None).await.unwrap();
    socket
        .subscribe("subscription { jobEvents { cursor } }", json!({}))
        .await;
    let code = within("the socket's end", async {
        loop {
            if let Said::Closed(code) = socket.said().await {
                return code;
            }
        }
    })
    .await;
    assert_eq!(code, Some(4403));
    let (status, answer) = ask_from_afar(&app, &signed).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        answer["errors"][0]["message"],
        "this token has expired: ask for a new one"
    );
    app.stop().await;
}
