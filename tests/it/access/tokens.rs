//! A token's life: made, used, listed, rotated, revoked, expired.

use reqwest::StatusCode;
use serde_json::json;

use super::{ask, closed, code, data, runql, token};
use crate::support::app::Setup;
use crate::support::both_stores;
use crate::support::db::TestDb;
use crate::support::wait::until;

both_stores!(
    the_first_token_closes_the_server,
    a_token_is_listed_rotated_and_revoked_from_the_command_line,
    tokens_are_kept_over_the_api,
    a_token_expires,
    a_token_of_a_file_counts_until_it_is_taken_out,
    beyond_loopback_a_token_must_be_there,
    what_is_no_token_is_refused,
    what_stands_beside_the_api_needs_read,
);

const VIEWER: &str = "{ viewer { tokenName scopes } }";

async fn the_first_token_closes_the_server(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let (_, before) = ask(&app, None, VIEWER, json!({})).await;
    assert_eq!(
        before["data"]["viewer"],
        json!({ "tokenName": null, "scopes": ["READ", "RUN", "WORKER", "ADMIN"] })
    );
    let secret = token(&app, "ci", "read,run", &[]).await;
    // Who has the token need not wait until the server has heard of it.
    let viewer = data(&app, &secret, VIEWER, json!({})).await;
    let known = json!({ "viewer": { "tokenName": "ci", "scopes": ["READ", "RUN"] } });
    closed(&app).await;
    assert_eq!(
        data(&app, &secret, VIEWER, json!({})).await,
        known,
        "at first {viewer}"
    );
    let (status, answer) = ask(&app, None, VIEWER, json!({})).await;
    assert_eq!(
        (status, code(&answer)),
        (StatusCode::UNAUTHORIZED, "UNAUTHENTICATED")
    );
    // It stays closed when the last token is gone, also for the next start.
    let (code, _, complaint) = runql(&app, &["token", "revoke", "ci"]).await;
    assert_eq!(code, 0, "{complaint}");
    let mut app = app;
    app.signal("TERM");
    assert_eq!(app.exit().await, Some(0));
    app.restart().await;
    closed(&app).await;
    app.stop().await;
}

async fn a_token_is_listed_rotated_and_revoked_from_the_command_line(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let first = token(
        &app,
        "deploy",
        "run",
        &[
            "--expires",
            "90d",
            "--names",
            "deploy/*",
            "--kinds",
            "script",
            "--queues",
            "fast",
        ],
    )
    .await;
    assert!(first.starts_with("runql_") && first.len() == 70, "{first}");
    let (_, listed, _) = runql(&app, &["token", "list"]).await;
    let line = listed.lines().find(|line| line.starts_with("deploy ")).unwrap();
    for part in [" run ", "kind:script,name:deploy/*,queue:fast", "valid", "never"] {
        assert!(line.contains(part), "{listed}");
    }
    assert!(!listed.contains(&first[30..]), "a secret is listed");
    let (code, _, complaint) = runql(&app, &["token", "create", "--name", "deploy", "--scopes", "run"]).await;
    assert_eq!(code, 1);
    assert!(
        complaint.contains("there is a token `deploy` already"),
        "{complaint}"
    );

    let viewer = "{ viewer { tokenName } }";
    data(&app, &first, viewer, json!({})).await;
    let (_, second, _) = runql(&app, &["token", "rotate", "deploy"]).await;
    let second = second.trim();
    assert_ne!(second, first);
    data(&app, second, viewer, json!({})).await;
    until("the secret before is refused", async || {
        let (status, _) = ask(&app, Some(&first), viewer, json!({})).await;
        if status == StatusCode::UNAUTHORIZED {
            Ok(())
        } else {
            Err(status)
        }
    })
    .await;
    let (_, third, _) = runql(&app, &["token", "rotate", "deploy", "--keep", "1h"]).await;
    data(&app, third.trim(), viewer, json!({})).await;
    data(&app, second, viewer, json!({})).await;

    let (code, out, _) = runql(&app, &["token", "revoke", "deploy"]).await;
    assert!(code == 0 && out.starts_with("revoked deploy ("), "{out}");
    for secret in [second, third.trim()] {
        until("a revoked token is refused", async || {
            let (status, answer) = ask(&app, Some(secret), viewer, json!({})).await;
            if status == StatusCode::UNAUTHORIZED {
                Ok(())
            } else {
                Err(answer)
            }
        })
        .await;
    }
    let (_, listed, _) = runql(&app, &["token", "list"]).await;
    assert!(!listed.contains("deploy"), "{listed}");
    let (_, listed, _) = runql(&app, &["token", "list", "--all"]).await;
    assert!(listed.contains("revoked"), "{listed}");
    let (code, _, complaint) = runql(&app, &["token", "revoke", "nobody"]).await;
    assert!(
        code == 1 && complaint.contains("there is no token `nobody`"),
        "{complaint}"
    );
    // Its name is free again.
    token(&app, "deploy", "run", &[]).await;
    app.stop().await;
}

async fn tokens_are_kept_over_the_api(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let admin = token(&app, "root", "admin", &[]).await;
    let create = "mutation($input: CreateTokenInput!) { createToken(input: $input) {
        secret token { id name scopes kinds names queues createdBy expiresAt } errors { code path message }
    } }";
    let input = json!({
        "name": "bot", "scopes": ["RUN"], "kinds": ["SCRIPT"], "names": ["a*"], "queues": ["q"],
        "expiresAt": "2100-01-01T00:00:00Z",
    });
    let made = data(&app, &admin, create, json!({ "input": input })).await["createToken"].take();
    assert_eq!(made["errors"], json!([]), "{made:#}");
    let bot = &made["token"];
    assert_eq!(
        [
            &bot["name"],
            &bot["scopes"],
            &bot["kinds"],
            &bot["names"],
            &bot["queues"],
            &bot["createdBy"]
        ],
        [
            &json!("bot"),
            &json!(["RUN"]),
            &json!(["SCRIPT"]),
            &json!(["a*"]),
            &json!(["q"]),
            &json!("root")
        ]
    );
    let secret = made["secret"].as_str().unwrap();
    data(&app, secret, VIEWER, json!({})).await;

    for (input, expected) in [
        (json!({ "name": "bot", "scopes": ["RUN"] }), ("CONFLICT", "name")),
        (json!({ "name": "", "scopes": ["RUN"] }), ("INVALID", "name")),
        (json!({ "name": "x", "scopes": [] }), ("INVALID", "scopes")),
        (
            json!({ "name": "x", "scopes": ["READ"], "queues": ["q"] }),
            ("INVALID", "scopes"),
        ),
        (
            json!({ "name": "x", "scopes": ["RUN"], "names": [""] }),
            ("INVALID", "names"),
        ),
        (
            json!({ "name": "x", "scopes": ["RUN"], "expiresAt": "2001-01-01T00:00:00Z" }),
            ("INVALID", "expiresAt"),
        ),
    ] {
        let refused = data(&app, &admin, create, json!({ "input": input })).await["createToken"].take();
        let error = &refused["errors"][0];
        assert_eq!(
            (
                error["code"].as_str().unwrap(),
                error["path"][1].as_str().unwrap()
            ),
            expected,
            "{refused:#}"
        );
        assert_eq!(refused["secret"], json!(null));
    }

    let rotate = "mutation($id: ID!) { rotateToken(input: { id: $id }) { secret errors { code } } }";
    let id = &bot["id"];
    let rotated = data(&app, &admin, rotate, json!({ "id": id })).await["rotateToken"].take();
    // On this node it counts at once.
    assert_eq!(
        ask(&app, Some(secret), VIEWER, json!({})).await.0,
        StatusCode::UNAUTHORIZED
    );
    let secret = rotated["secret"].as_str().unwrap();
    data(&app, secret, VIEWER, json!({})).await;
    let revoke =
        "mutation($id: ID!) { revokeToken(input: { id: $id }) { token { revokedAt } errors { code } } }";
    let revoked = data(&app, &admin, revoke, json!({ "id": id })).await["revokeToken"].take();
    assert!(revoked["token"]["revokedAt"].is_string(), "{revoked:#}");
    let (status, answer) = ask(&app, Some(secret), VIEWER, json!({})).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(answer["errors"][0]["message"], "this token was revoked");
    let again = data(&app, &admin, revoke, json!({ "id": id })).await["revokeToken"].take();
    assert_eq!(again["errors"][0]["code"], "CONFLICT");
    let unknown = json!({ "id": "01990000-0000-7000-8000-000000000000" });
    let unknown = data(&app, &admin, revoke, unknown).await["revokeToken"].take();
    assert_eq!(unknown["errors"][0]["code"], "NOT_FOUND");

    let list = "query($all: Boolean!) { tokens(includeRevoked: $all) { name revokedAt lastUsedAt } }";
    let names = |listed: &serde_json::Value| -> Vec<String> {
        let tokens = listed["tokens"].as_array().unwrap();
        tokens
            .iter()
            .map(|token| token["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let listed = data(&app, &admin, list, json!({ "all": false })).await;
    assert_eq!(names(&listed), ["root"]);
    assert!(listed["tokens"][0]["lastUsedAt"].is_string(), "{listed:#}");
    let listed = data(&app, &admin, list, json!({ "all": true })).await;
    assert_eq!(names(&listed), ["bot", "root"]);
    app.stop().await;
}

async fn a_token_expires(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let secret = token(&app, "short", "read", &["--expires", "1s"]).await;
    until("the token has expired", async || {
        let (status, answer) = ask(&app, Some(&secret), VIEWER, json!({})).await;
        match (status, answer["errors"][0]["message"].as_str()) {
            (StatusCode::UNAUTHORIZED, Some("this token has expired: ask for a new one")) => Ok(()),
            _ => Err(answer),
        }
    })
    .await;
    app.stop().await;
}

async fn a_token_of_a_file_counts_until_it_is_taken_out(db: TestDb) {
    let app = Setup::new(&db)
        .file("tokens.toml", "")
        .flag("--tokens-file", "tokens.toml")
        .start()
        .await;
    let (status, _) = ask(&app, None, VIEWER, json!({})).await;
    assert_eq!(
        status,
        StatusCode::UNAUTHORIZED,
        "a file of tokens closes the server, whatever it holds"
    );
    let arguments = [
        "token",
        "create",
        "--entry",
        "--name",
        "file",
        "--scopes",
        "read",
        "--expires",
        "1d",
    ];
    let (code, entry, complaint) = runql(&app, &arguments).await;
    assert_eq!(code, 0, "{complaint}");
    let secret = entry
        .lines()
        .next()
        .unwrap()
        .rsplit(' ')
        .next()
        .unwrap()
        .to_owned();
    std::fs::write(app.folder().join("tokens.toml"), &entry).unwrap();
    until("the token of the file counts", async || {
        let (status, answer) = ask(&app, Some(&secret), VIEWER, json!({})).await;
        if status.is_success() { Ok(()) } else { Err(answer) }
    })
    .await;
    // What cannot be read changes nothing.
    std::fs::write(app.folder().join("tokens.toml"), "[[token]]\nname = 1").unwrap();
    until("the server complains", async || {
        let told = app.told();
        let complains = told
            .iter()
            .any(|line| line.contains("what the tokens file said before still counts"));
        if complains { Ok(()) } else { Err(told) }
    })
    .await;
    data(&app, &secret, VIEWER, json!({})).await;
    std::fs::write(app.folder().join("tokens.toml"), "").unwrap();
    until("the token does not count any more", async || {
        let (status, answer) = ask(&app, Some(&secret), VIEWER, json!({})).await;
        if status == StatusCode::UNAUTHORIZED {
            Ok(())
        } else {
            Err(answer)
        }
    })
    .await;
    app.stop().await;
}

async fn beyond_loopback_a_token_must_be_there(db: TestDb) {
    let mut app = Setup::new(&db).listen("0.0.0.0:0").launch().await;
    assert_eq!(app.exit().await, Some(1));
    let told = app.told().join("\n");
    assert!(
        told.contains("others can reach 0.0.0.0:") && told.contains("runql token create"),
        "{told}"
    );
    let secret = token(&app, "ops", "read", &[]).await;
    app.restart().await;
    data(&app, &secret, VIEWER, json!({})).await;
    let (status, _) = ask(&app, None, VIEWER, json!({})).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    app.stop().await;
}

async fn what_is_no_token_is_refused(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let secret = token(&app, "ci", "read", &[]).await;
    closed(&app).await;
    let mut other = secret.clone();
    other.replace_range(60..61, if &secret[60..61] == "A" { "B" } else { "A" });
    let unknown = format!("runql_{}", "A".repeat(64));
    for wrong in ["x", "runql_", &secret[..69], &other, &unknown, &"y".repeat(7_000)] {
        let (status, answer) = ask(&app, Some(wrong), VIEWER, json!({})).await;
        assert_eq!(
            (status, code(&answer)),
            (StatusCode::UNAUTHORIZED, "UNAUTHENTICATED"),
            "{wrong}"
        );
        assert_eq!(answer["errors"][0]["message"], "this token is not known here");
    }
    let basic = app
        .http()
        .post(format!("{}/graphql", app.url()))
        .basic_auth("ci", Some(&secret))
        .json(&json!({ "query": VIEWER }));
    let answer = basic.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(answer.headers()["www-authenticate"], "Bearer realm=\"runql\"");
    let told = app.told().join("\n");
    assert!(
        told.contains("somebody was not let in") && told.contains("127.0.0.1"),
        "{told}"
    );
    assert!(
        !told.contains(&secret[30..]) && !told.contains(&other[30..]),
        "a secret is in the log"
    );
    app.stop().await;
}

async fn what_stands_beside_the_api_needs_read(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let job = app
        .completed(json!({ "command": { "shell": { "command": "echo private" } } }))
        .await;
    let reader = token(&app, "reader", "read", &[]).await;
    let runner = token(&app, "runner", "run", &[]).await;
    closed(&app).await;
    let log = job["logUrl"].as_str().unwrap();
    let log = log.find("/jobs/").map(|at| &log[at..]).unwrap();
    for path in [log, "/metrics"] {
        let get = |token: Option<&str>| {
            let request = app.http().get(format!("{}{path}", app.url()));
            let request = match token {
                Some(token) => request.bearer_auth(token),
                None => request,
            };
            async move { request.send().await.unwrap() }
        };
        assert_eq!(get(None).await.status(), StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(get(Some(&runner)).await.status(), StatusCode::FORBIDDEN, "{path}");
        assert_eq!(get(Some(&reader)).await.status(), StatusCode::OK, "{path}");
    }
    app.stop().await;
}
