//! What equal operations are answered alike: resolved once, and only for those who may see the same.

use super::sockets::Client;
use super::*;

/// Lets in whoever says a name, with the rights that they say they have, if any.
fn by_word() -> TransportConfig {
    let on_connect = ConnectionHook::new(async |init: ConnectionInit| {
        let payload = init.payload.unwrap_or_default();
        let word = |key: &str| payload.get(key)?.as_str().map(str::to_owned);
        let data = OperationData::default().with(Principal(word("name").unwrap_or_default()));
        Ok(match word("rights") {
            Some(rights) => data.with_rights(rights.into_bytes()),
            None => data,
        })
    });
    TransportConfig {
        on_connect,
        ..TransportConfig::default()
    }
}

/// All that one operation is told, until its end.
async fn told(
    client: &mut Client,
    id: &str,
    query: &str,
    variables: serde_json::Value,
) -> Vec<serde_json::Value> {
    client
        .ask(id, json!({ "query": query, "variables": variables }))
        .await;
    let mut told = Vec::new();
    loop {
        let mut message = client.hear().await;
        assert_eq!(message["id"], id);
        match message["type"].as_str().unwrap() {
            "next" => told.push(message["payload"].take()),
            "complete" => return told,
            _ => panic!("{message}"),
        }
    }
}

#[tokio::test]
async fn an_item_is_resolved_once_for_all_of_the_same_rights() {
    let server = Server::start(by_word()).await;
    let query =
        "subscription($to: Int!, $by: Int!) { shared(to: $to) { resolved principal times(by: $by) } }";
    let ask = async |name: &str, rights: Option<&str>, id: &str, to: i32, by: i32| {
        let init = json!({ "name": name, "rights": rights });
        let mut client = Client::connect_as(&server, init).await;
        let told = told(&mut client, id, query, json!({ "to": to, "by": by })).await;
        let told = told.into_iter().map(|mut payload| {
            assert_eq!(payload.as_object().unwrap().len(), 1, "{payload}");
            payload["data"]["shared"].take()
        });
        told.collect::<Vec<_>>()
    };
    let item = |resolved: i32, principal: &str, times: i32| json!({ "resolved": resolved, "principal": principal, "times": times });
    let ada = [item(0, "ada", 1), item(1, "ada", 2)];
    assert_eq!(ask("ada", Some("all"), "1", 2, 1).await, ada);
    // The same for somebody else who may see the same, under another id; and what is beyond it for the first time.
    let eve = [ada[0].clone(), ada[1].clone(), item(2, "eve", 3)];
    assert_eq!(ask("eve", Some("all"), "\"two\"", 3, 1).await, eve);
    // Whoever may see something else, or asks for something else, or of whom it is not known, is told for themselves.
    assert_eq!(ask("bob", Some("few"), "1", 1, 1).await, [item(3, "bob", 1)]);
    assert_eq!(ask("ada", Some("all"), "1", 1, 2).await, [item(4, "ada", 2)]);
    assert_eq!(ask("joe", None, "1", 1, 1).await, [item(5, "joe", 1)]);
    assert_eq!(ask("joe", None, "1", 1, 1).await, [item(6, "joe", 1)]);
    server.until_idle().await;
}

#[tokio::test]
async fn what_fails_is_nobody_elses() {
    let server = Server::start(by_word()).await;
    let mut requests = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let mut client = Client::connect_as(&server, json!({ "rights": "all" })).await;
        let query = "subscription { shared(to: 3) { n odd } }";
        let told = told(&mut client, "1", query, json!({})).await;
        assert_eq!(told.len(), 3);
        for (answer, n) in told.iter().zip(1..) {
            assert_eq!(answer["data"]["shared"]["n"], n);
            assert_eq!(answer.get("errors").is_some(), n == 2, "{answer}");
        }
        let id = told[1]["errors"][0]["extensions"]["requestId"].as_str().unwrap();
        assert!(requests.insert(id.to_owned()), "{id}");

        // A fault is the last item, whoever else was told of it.
        client
            .subscribe("2", "subscription { shared(to: -1) { n } }")
            .await;
        assert_eq!(client.hear().await["payload"]["data"]["shared"]["n"], 1);
        let last = client.hear().await;
        assert_eq!((&last["type"], &last["id"]), (&json!("error"), &json!("2")));
        client
            .subscribe("3", "subscription { shared(to: -2) { n } }")
            .await;
        assert_eq!(client.hear().await["payload"]["data"]["shared"]["n"], 1);
        let last = client.hear().await;
        assert_eq!(last["payload"][0]["extensions"]["code"], "INTERNAL", "{last}");
        assert!(!last.to_string().contains("1234"), "{last}");
    }
    server.until_idle().await;
}
