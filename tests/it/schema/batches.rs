//! What the objects of a page ask for one by one goes to the store as one question.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use async_graphql::{Request, Variables};
use runql::graphql::Limits;
use serde_json::json;
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use super::support::Local;
use crate::support::wait::until;

/// How many keys each question had, by the edge that it was asked for.
#[derive(Clone, Default)]
struct Questions(Arc<Mutex<BTreeMap<String, Vec<u64>>>>);

#[derive(Default)]
struct Question {
    edge: Option<String>,
    keys: u64,
}

impl Visit for Question {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "keys" {
            self.keys = value;
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "edge" {
            self.edge = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}

impl<S: tracing::Subscriber> Layer<S> for Questions {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() != "runql::graphql::loader" {
            return;
        }
        let mut question = Question::default();
        event.record(&mut question);
        if let Some(edge) = question.edge {
            self.0
                .lock()
                .unwrap()
                .entry(edge)
                .or_default()
                .push(question.keys);
        }
    }
}

impl Questions {
    fn taken(&self) -> BTreeMap<String, Vec<u64>> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_jobs_asks_in_batches_for_each_edge() {
    let questions = Questions::default();
    // Each test is a process of its own, so the subscriber of all threads is this one's.
    tracing_subscriber::registry().with(questions.clone()).init();
    let local = Local::start(Limits::default()).await;
    let input = json!({"command": {"exec": {"program": "false"}}, "maxAttempts": 2, "backoffMs": 1});
    let run =
        Request::new("mutation($inputs: [RunInput!]!) { runMany(inputs: $inputs) { errors { message } } }")
            .variables(Variables::from_json(json!({"inputs": vec![input; 40]})));
    let answer = local.data(run).await;
    assert_eq!(answer["runMany"]["errors"], json!([]));
    until("all jobs have failed twice", async || {
        let counts = local.data("{ stats { counts { failed } } }").await;
        let failed = counts["stats"]["counts"]["failed"].as_i64();
        if failed == Some(40) { Ok(()) } else { Err(counts) }
    })
    .await;

    questions.taken();
    let page = "{ jobs(first: 40) { nodes { worker { name } attempts { number status } parent { id } childStats { total } } } }";
    let answer = local.data(page).await;
    let jobs = answer["jobs"]["nodes"].as_array().unwrap();
    assert_eq!(jobs.len(), 40);
    for job in jobs {
        assert!(job["worker"]["name"].is_string(), "{job}");
        assert_eq!(job["attempts"].as_array().unwrap().len(), 2, "{job}");
    }
    let asked = questions.taken();
    // A batch gathers for a moment; on a busy machine that moment may end before all have asked. What counts is that
    // nothing is asked twice, and that the questions are few where one by one they would be 40 for each edge.
    assert_eq!(asked["attempts"].iter().sum::<u64>(), 40, "{asked:?}");
    assert!(
        asked["attempts"].len() <= 8 && asked["workers"].len() <= 8,
        "{asked:?}"
    );
    // No job is a step, and none of this kind has steps: there is nothing to ask for.
    assert_eq!(asked.len(), 2, "{asked:?}");
    local.stop().await;
}
