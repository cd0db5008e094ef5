//! Sockets and streams are opened with a token, and are cut off when it ends.

use serde_json::{Value, json};

use super::{closed, runql, token};
use crate::support::app::{Setup, TestApp};
use crate::support::both_stores;
use crate::support::db::TestDb;
use crate::support::socket::{Said, Socket};
use crate::support::wait::within;

both_stores!(
    a_socket_shows_its_token_first,
    a_socket_is_cut_off_with_its_token,
    a_stream_is_cut_off_with_its_token,
    an_expired_token_cuts_off_by_itself,
    the_first_token_cuts_off_who_has_none,
);

const EVENTS: &str = "subscription { jobEvents { cursor } }";

fn init(payload: Value) -> Value {
    json!({ "type": "connection_init", "payload": payload })
}

async fn until_closed(socket: &mut Socket) -> Option<u16> {
    within("the socket's end", async {
        loop {
            if let Said::Closed(code) = socket.said().await {
                return code;
            }
        }
    })
    .await
}

async fn a_socket_shows_its_token_first(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let secret = token(&app, "ui", "read", &[]).await;
    closed(&app).await;
    let bearer = format!("Bearer {secret}");
    for payload in [
        json!({ "authorization": bearer }),
        json!({ "Authorization": secret }),
        json!({ "headers": { "authorization": bearer } }),
    ] {
        let mut socket = Socket::open(&app, init(payload), None).await.unwrap();
        socket
            .subscribe("query { viewer { tokenName } }", json!({}))
            .await;
        assert_eq!(socket.next("viewer").await["tokenName"], "ui");
    }
    Socket::open(&app, init(json!({})), Some(&secret)).await.unwrap();
    for payload in [
        json!({}),
        json!({ "authorization": "Bearer x" }),
        json!({ "token": secret }),
    ] {
        let refused = Socket::open(&app, init(payload), None).await;
        assert_eq!(refused.err(), Some(Some(4403)));
    }
    let mut socket = Socket::open(&app, init(json!({ "authorization": secret })), None)
        .await
        .unwrap();
    socket
        .subscribe("mutation { startWorkers { errors { code } } }", json!({}))
        .await;
    assert_eq!(socket.refusal().await, "FORBIDDEN");
    app.stop().await;
}

async fn listening(app: &TestApp, secret: &str) -> Socket {
    let mut socket = Socket::open(app, init(json!({ "authorization": secret })), None)
        .await
        .unwrap();
    socket.subscribe(EVENTS, json!({})).await;
    socket
}

async fn a_socket_is_cut_off_with_its_token(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let stays = token(&app, "stays", "read", &[]).await;
    let goes = token(&app, "goes", "read", &[]).await;
    let mut kept = listening(&app, &stays).await;
    let mut cut = [listening(&app, &goes).await, listening(&app, &goes).await];
    let (code, _, complaint) = runql(&app, &["token", "revoke", "goes"]).await;
    assert_eq!(code, 0, "{complaint}");
    for socket in &mut cut {
        assert_eq!(until_closed(socket).await, Some(4403));
    }
    // A new secret ends what the old one opened, once that does not count any more.
    runql(&app, &["token", "rotate", "stays"]).await;
    assert_eq!(until_closed(&mut kept).await, Some(4403));
    app.stop().await;
}

async fn a_stream_is_cut_off_with_its_token(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let secret = token(&app, "stream", "read", &[]).await;
    let request = app
        .http()
        .post(format!("{}/graphql", app.url()))
        .header("accept", "text/event-stream")
        .bearer_auth(&secret)
        .json(&json!({ "query": EVENTS }));
    let answer = request.send().await.unwrap();
    assert!(answer.status().is_success());
    runql(&app, &["token", "revoke", "stream"]).await;
    let text = within("the stream's end", answer.text()).await.unwrap();
    assert!(
        text.contains("UNAUTHENTICATED") && text.contains("event: complete"),
        "{text}"
    );
    app.stop().await;
}

async fn an_expired_token_cuts_off_by_itself(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let secret = token(&app, "short", "read", &["--expires", "3s"]).await;
    let mut socket = listening(&app, &secret).await;
    assert_eq!(until_closed(&mut socket).await, Some(4403));
    app.stop().await;
}

async fn the_first_token_cuts_off_who_has_none(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let mut socket = Socket::listen(&app, EVENTS, json!({})).await;
    socket.settled().await;
    token(&app, "first", "read", &[]).await;
    assert_eq!(until_closed(&mut socket).await, Some(4403));
    app.stop().await;
}
