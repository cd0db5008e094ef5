//! Thousands of hostile requests, made by chance from a seed that is printed: whatever they are, each is answered in
//! bounded time and with a code, and the server's memory stays as it was. RUNQL_TEST_LONG=1 sends 10,000 of them;
//! RUNQL_TEST_SEED repeats a run.

use std::time::{Duration, Instant};

use fastrand::Rng;
use runql::store::Backend;
use serde_json::{Value, json};

use crate::support::app::{Setup, TestApp};
use crate::support::db::{TestDb, with_db};
use crate::support::machine::Memory;
use crate::support::wait::until;

/// On SQLite alone: hardly one of them reaches the store.
#[tokio::test(flavor = "multi_thread")]
async fn sqlite() {
    with_db(Backend::Sqlite, hostile_requests_are_answered_and_leave_nothing).await;
}

/// How long one answer may take, which guards against one that never comes.
const ANSWER: Duration = Duration::from_secs(20);

/// The largest body that the server reads, in bytes.
const LARGEST: usize = 2 << 20;

/// Requests under way at once.
const AT_ONCE: usize = 4;

/// What the server's memory may grow by once it has met every kind of request, in KiB.
const GROWTH: u64 = 48 * 1_024;

type Maker = fn(&mut Rng) -> Value;

/// A request body, and what it is made of.
fn request(rng: &mut Rng) -> (&'static str, Vec<u8>) {
    let kinds: [(&str, Maker); 17] = [
        ("deep fields", deep_fields),
        ("deep values", deep_values),
        ("aliases", aliases),
        ("fragment circle", fragment_circle),
        ("fragment fan", fragment_fan),
        ("fragment chain", fragment_chain),
        ("long list", long_list),
        ("long string", long_string),
        ("directives", directives),
        ("wrong variables", wrong_variables),
        ("introspection", introspection),
        ("unicode", unicode),
        ("many operations", many_operations),
        ("pages", pages),
        ("batch", batch),
        ("conflicts", conflicts),
        ("many variables", many_variables),
    ];
    let (kind, make) = rng.choice(kinds).unwrap();
    let mut body = serde_json::to_vec(&make(rng)).unwrap();
    match rng.u8(..20) {
        // Cut off, or with a byte that does not belong.
        0 => body.truncate(rng.usize(..body.len())),
        1 => {
            let at = rng.usize(..body.len());
            body[at] = rng.u8(..);
        }
        _ => {}
    }
    (kind, body)
}

fn query(text: String) -> Value {
    json!({ "query": text })
}

/// Mostly few, sometimes very many.
fn many(rng: &mut Rng, most: usize) -> usize {
    let most = [most / 100, most / 10, most][rng.usize(..3)];
    rng.usize(1..=most.max(1))
}

fn deep_fields(rng: &mut Rng) -> Value {
    let levels = many(rng, 5_000);
    let field = rng
        .choice([
            "jobs{nodes{children{nodes",
            "job(id:\"x\"){parent{parent",
            "a",
            "...{",
            "...on Query{x",
        ])
        .unwrap();
    let open: String = std::iter::repeat_n(format!("{{{field}"), levels).collect();
    let close = if rng.bool() {
        "}".repeat(levels)
    } else {
        String::new()
    };
    query(format!("{open}{{id}}{close}"))
}

fn deep_values(rng: &mut Rng) -> Value {
    let levels = many(rng, 20_000);
    if rng.bool() {
        let (open, close) = rng.choice([("[", "]"), ("{a:", "}")]).unwrap();
        return query(format!(
            "{{job(id:{}1{}){{id}}}}",
            open.repeat(levels),
            close.repeat(levels)
        ));
    }
    // Values of JSON nest no deeper than its reader lets them.
    let mut value = json!(1);
    for _ in 0..levels.min(120) {
        value = if rng.bool() {
            json!([value])
        } else {
            json!({ "a": value })
        };
    }
    json!({ "query": "mutation($p: RunInput!){run(input:$p){errors{code}}}", "variables": { "p": value } })
}

fn aliases(rng: &mut Rng) -> Value {
    let field = rng
        .choice([
            "__typename",
            "jobs(first:1000){nodes{id}}",
            "stats{counts{failed}}",
            "workers{currentJobs{id}}",
        ])
        .unwrap();
    let all: String = (0..many(rng, 10_000)).map(|n| format!("a{n}:{field} ")).collect();
    query(format!("{{{all}}}"))
}

fn fragment_circle(rng: &mut Rng) -> Value {
    let length = many(rng, 1_000);
    let all: String = (0..length)
        .map(|n| format!(" fragment F{n} on Query{{...F{}}}", (n + 1) % length))
        .collect();
    query(format!("{{...F0}}{all}"))
}

fn fragment_fan(rng: &mut Rng) -> Value {
    let (levels, wide) = (rng.usize(2..60), rng.usize(2..6));
    let all: String = (0..levels)
        .map(|n| {
            format!(
                " fragment F{n} on Query{{{}}}",
                format!("...F{} ", n + 1).repeat(wide)
            )
        })
        .collect();
    query(format!(
        "{{...F0}}{all} fragment F{levels} on Query{{__typename}}"
    ))
}

fn fragment_chain(rng: &mut Rng) -> Value {
    let length = many(rng, 3_000);
    let all: String = (0..length)
        .map(|n| format!(" fragment F{n} on Query{{...F{}}}", n + 1))
        .collect();
    query(format!(
        "{{...F0}}{all} fragment F{length} on Query{{__typename}}"
    ))
}

fn long_list(rng: &mut Rng) -> Value {
    let ids = vec!["x"; many(rng, 100_000)];
    match rng.u8(..5) {
        0 => {
            json!({ "query": "query($ids:[ID!]){jobs(filter:{ids:$ids}){nodes{id}}}", "variables": { "ids": ids } })
        }
        // Good values, of which the database is asked for all.
        1 => {
            let ids: Vec<String> = (0..ids.len().min(50_000))
                .map(|_| format!("01980000-0000-7000-8000-{:012x}", rng.u64(..1 << 48)))
                .collect();
            json!({ "query": "query($ids:[ID!]){jobs(filter:{ids:$ids}){totalCount nodes{id}}}", "variables": { "ids": ids } })
        }
        2 => {
            let all: Vec<String> = ids.iter().map(|_| format!("q{}", rng.u16(..))).collect();
            let tags: Vec<Value> = all
                .iter()
                .take(rng.usize(..100))
                .map(|tag| json!({ "key": tag, "value": tag }))
                .collect();
            json!({
                "query": "query($q:[String!],$t:[TagInput!]){jobs(filter:{queues:$q,tags:$t}){totalCount nodes{id}}}",
                "variables": { "q": all, "t": tags },
            })
        }
        3 => query(format!(
            "{{jobs(filter:{{statuses:[{}]}}){{nodes{{id}}}}}}",
            "FAILED ".repeat(ids.len())
        )),
        _ => json!({
            "query": "mutation($i:[RunInput!]!){runMany(inputs:$i){errors{code}}}",
            "variables": { "i": vec![json!({ "command": { "exec": {} } }); ids.len().min(10_000)] },
        }),
    }
}

fn long_string(rng: &mut Rng) -> Value {
    let text = rng
        .choice(["x", "\\\"", "\u{1f4a9}", "\\u0000"])
        .unwrap()
        .repeat(many(rng, 300_000));
    match rng.u8(..3) {
        0 => query(format!("{{job(id:\"{text}\"){{id}}}}")),
        1 => query(format!("{{job(id:\"\"\"{text}\"\"\"){{id}}}}")),
        _ => {
            json!({ "query": "query($id:ID!){job(id:$id){id}}", "variables": { "id": text }, "operationName": text })
        }
    }
}

fn directives(rng: &mut Rng) -> Value {
    let one = rng
        .choice([
            "@include(if:true)",
            "@skip(if:false)",
            "@x",
            "@include(if:$v)",
            "@include(if:[[1]])",
        ])
        .unwrap();
    let all = one.repeat(many(rng, 10_000));
    query(
        rng.choice([
            format!("{{__typename {all}}}"),
            format!("query {all} {{__typename}}"),
            format!("{{...{all}{{__typename}}}}"),
        ])
        .unwrap(),
    )
}

fn wrong_variables(rng: &mut Rng) -> Value {
    let values = [
        json!(null),
        json!(-1),
        json!(1e300),
        json!("x"),
        json!([[]]),
        json!({ "a": { "b": [] } }),
        json!(true),
        json!(u64::MAX),
    ];
    let mut any = || rng.choice(&values).unwrap().clone();
    let variables = json!({ "a": any(), "b": any(), "c": any(), "d": any() });
    let text = rng.choice([
        "query($a:Int,$b:String){jobs(first:$a,after:$b){nodes{id}}}",
        "query($a:Int!,$b:JobFilter){jobs(last:$a,filter:$b){nodes{id}}}",
        "mutation($a:RunInput!){run(input:$a){errors{code}}}",
        "mutation($a:ID!,$b:SafeInt){cancel(input:{id:$a,graceMs:$b}){errors{code}}}",
        "query($a:Nothing,$b:[[[[Int!]!]!]!]!){__typename}",
        "query($a:Boolean!){__typename @skip(if:$a)}",
        "query($d:[JobStatus!]){jobs(filter:{statuses:$d}){nodes{id}}}",
    ]);
    json!({ "query": text, "variables": variables })
}

fn introspection(rng: &mut Rng) -> Value {
    let mut text = "{name}".to_owned();
    for _ in 0..rng.usize(1..14) {
        let field = rng
            .choice([
                "fields{type",
                "ofType",
                "interfaces",
                "possibleTypes",
                "inputFields{type",
                "fields{args{type",
            ])
            .unwrap();
        text = format!("{{{field}{text}{}}}", "}".repeat(field.matches('{').count()));
    }
    let root = rng
        .choice(["__schema{types", "__type(name:\"Job\")", "__schema{queryType"])
        .unwrap();
    let one = format!("{root}{text}{}", "}".repeat(root.matches('{').count()));
    let all: String = (0..rng.usize(1..8)).map(|n| format!("a{n}:{one} ")).collect();
    query(format!("{{{all}}}"))
}

fn unicode(rng: &mut Rng) -> Value {
    let text: String = (0..many(rng, 20_000))
        .map(|_| {
            if rng.bool() {
                rng.char(..)
            } else {
                rng.choice([
                    '{', '}', '(', ')', '[', ']', '"', '$', '@', '!', ':', '.', '#', '\n', '\u{feff}',
                    '\u{202e}',
                ])
                .unwrap()
            }
        })
        .collect();
    json!({ "query": text, "operationName": text.chars().take(50).collect::<String>() })
}

fn many_operations(rng: &mut Rng) -> Value {
    let all: String = (0..many(rng, 3_000))
        .map(|n| format!("query Q{n}{{jobs{{nodes{{id}}}}}} "))
        .collect();
    json!({ "query": all, "operationName": if rng.bool() { json!("Q0") } else { json!(null) } })
}

fn pages(rng: &mut Rng) -> Value {
    let mut size = || {
        rng.choice([
            -1_i64,
            0,
            1,
            50,
            1_000,
            1_001,
            2_147_483_647,
            2_147_483_648,
            i64::MIN,
        ])
        .unwrap()
    };
    let (a, b, c) = (size(), size(), size());
    query(rng.choice([
        format!("{{jobs(first:{a}){{nodes{{children(first:{b}){{nodes{{logs(first:{c}){{nodes{{message}}}}}}}}}}}}}}"),
        format!("{{jobs(last:{a}){{edges{{node{{attempts{{number}} children(last:{b}){{totalCount}}}}}}}}}}"),
        format!("{{jobs(first:{a},last:{b}){{nodes{{id}}}}}}"),
        format!("{{jobs(first:{a}){{nodes{{stdout(lastBytes:{b}) stderr(lastBytes:{c})}}}}}}"),
    ]).unwrap())
}

fn batch(rng: &mut Rng) -> Value {
    let one = [aliases, fragment_fan, wrong_variables, pages, introspection][rng.usize(..5)];
    Value::Array((0..many(rng, 100)).map(|_| one(rng)).collect())
}

fn conflicts(rng: &mut Rng) -> Value {
    let all: String = (0..many(rng, 4_000))
        .map(|n| format!("job(id:\"{}\"){{id}} ...{{job{{name}}}} ", n % 7))
        .collect();
    query(format!("{{{all}}}"))
}

fn many_variables(rng: &mut Rng) -> Value {
    let count = many(rng, 5_000);
    let all: String = (0..count).map(|n| format!("$v{n}:Int={n} ")).collect();
    let variables: serde_json::Map<String, Value> = (0..count).map(|n| (format!("v{n}"), json!(n))).collect();
    json!({ "query": format!("query({all}){{__typename}}"), "variables": variables })
}

/// Sends a request, and gives how long its answer took and whether anything was executed.
async fn send(app: &TestApp, kind: &str, body: Vec<u8>) -> Duration {
    let start = Instant::now();
    let length = body.len();
    let shown = String::from_utf8_lossy(&body[..body.len().min(2_000)]).into_owned();
    let request = app
        .http()
        .post(format!("{}/graphql", app.url()))
        .header("content-type", "application/json")
        .header("accept", "application/graphql-response+json")
        .body(body);
    let answered = async {
        let answer = request.send().await?;
        Ok::<_, reqwest::Error>((answer.status(), answer.bytes().await?))
    };
    let Ok(answered) = tokio::time::timeout(ANSWER, answered).await else {
        panic!("{kind}: no answer within {ANSWER:?} to {shown}");
    };
    let took = start.elapsed();
    let (status, bytes) = match answered {
        Ok(answered) => answered,
        // The server refuses it unread and closes the connection, which may come before the answer is looked at.
        Err(_) if length > LARGEST => return took,
        Err(error) => panic!("{kind}: {error:?} to {shown}"),
    };
    let answer: Value =
        serde_json::from_slice(&bytes).unwrap_or_else(|_| panic!("{kind}: {status} to {shown}"));
    assert!(!status.is_server_error(), "{kind}: {status} {answer} to {shown}");
    let answers = match &answer {
        Value::Array(answers) => answers.as_slice(),
        answer => std::slice::from_ref(answer),
    };
    for answer in answers {
        for error in answer["errors"].as_array().into_iter().flatten() {
            let code = error["extensions"]["code"].as_str();
            assert!(
                code.is_some_and(|code| code != "INTERNAL"),
                "{kind}: {answer} to {shown}"
            );
        }
    }
    took
}

async fn hostile_requests_are_answered_and_leave_nothing(db: TestDb) {
    let long = std::env::var_os("RUNQL_TEST_LONG").is_some();
    let seed =
        std::env::var("RUNQL_TEST_SEED").map_or_else(|_| fastrand::u64(..), |text| text.parse().unwrap());
    let count = if long { 10_000 } else { 400 };
    eprintln!("{count} hostile requests; RUNQL_TEST_SEED={seed}");
    let app = Setup::new(&db).start().await;
    app.completed(json!({ "command": { "shell": { "command": "seq 1000" } } }))
        .await;
    let mut rng = Rng::with_seed(seed);
    let mut slowest = (Duration::ZERO, "");
    let mut settled = None;
    for sent in 0..count / AT_ONCE {
        let wave: Vec<_> = (0..AT_ONCE).map(|_| request(&mut rng)).collect();
        let wave = wave
            .into_iter()
            .map(async |(kind, body)| (send(&app, kind, body).await, kind));
        for one in futures_util::future::join_all(wave).await {
            slowest = slowest.max(one);
        }
        // By then every kind has come many times, and what is kept for good is there.
        if sent == count / AT_ONCE / 4 {
            settled = Some(Memory::of(&app));
        }
    }
    let (before, after) = (settled.unwrap(), Memory::of(&app));
    eprintln!(
        "slowest answer: {} in {:?}; memory {} KiB, then {} KiB, peak {} KiB",
        slowest.1, slowest.0, before.anon, after.anon, after.peak
    );
    // What was freed a moment ago goes back to the system with what is asked for next.
    until("the memory of the requests is given back", async || {
        send(
            &app,
            "many operations",
            serde_json::to_vec(&many_operations(&mut Rng::with_seed(seed))).unwrap(),
        )
        .await;
        let now = Memory::of(&app);
        if now.anon <= before.anon + GROWTH {
            Ok(())
        } else {
            Err(format!("seed {seed}: {before:?}, then {now:?}"))
        }
    })
    .await;
    // It still works.
    app.completed(json!({ "command": { "shell": { "command": "true" } } }))
        .await;
    app.stop().await;
}
