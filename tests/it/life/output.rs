//! What a job prints, byte for byte: in order, whole, also what is no text, and in ranges.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{shell, shell_with};
use crate::support::app::{Setup, TestApp};
use crate::support::both_stores;
use crate::support::db::TestDb;

both_stores!(
    five_thousand_lines_come_in_order,
    bytes_that_are_no_text_are_kept,
    a_log_is_read_in_ranges,
    a_log_that_is_not_there_is_told_so,
    tails_are_the_ends_of_streams,
);

async fn five_thousand_lines_come_in_order(db: TestDb) {
    let app = Setup::new(&db).start().await;
    // One stream is one pipe, so the order within a stream is the order of its writes.
    let line = "for n in $(seq 5000); do echo out $n; echo err $n >&2; done";
    let job = app.completed(shell(line)).await;
    let id = job["id"].as_str().unwrap();
    for (stream, word) in [("stdout", "out"), ("stderr", "err")] {
        let expected: String = (1..=5_000).map(|n| format!("{word} {n}\n")).collect();
        assert_eq!(String::from_utf8(app.bytes(id, stream).await).unwrap(), expected);
        let filter = json!({ "streams": [stream.to_uppercase()] });
        let lines = pages(&app, id, &filter).await;
        let messages: Vec<String> = lines
            .iter()
            .map(|line| line["message"].as_str().unwrap().to_owned())
            .collect();
        let expected: Vec<String> = (1..=5_000).map(|n| format!("{word} {n}")).collect();
        assert_eq!(messages, expected);
    }
    let all = pages(&app, id, &json!({})).await;
    let numbers: Vec<i64> = all.iter().map(|line| line["number"].as_i64().unwrap()).collect();
    assert_eq!(numbers, (1..=10_002).collect::<Vec<_>>());
    assert_eq!(all[0]["stream"], "SYSTEM");
    assert_eq!(all[10_001]["message"], "completed");
    assert!(all.is_sorted_by_key(|line| line["timestamp"].as_str().unwrap().to_owned()));
    app.stop().await;
}

/// All lines that match, page by page.
async fn pages(app: &TestApp, id: &str, filter: &Value) -> Vec<Value> {
    let query = "query($id: ID!, $filter: LogFilter, $after: String) { job(id: $id) {
        logs(filter: $filter, first: 1000, after: $after) {
            nodes { number timestamp stream message } pageInfo { hasNextPage endCursor }
        }
    } }";
    let mut all = Vec::new();
    let mut after = Value::Null;
    loop {
        let variables = json!({ "id": id, "filter": filter, "after": after });
        let logs = app.data(query, variables).await["job"]["logs"].take();
        all.extend(logs["nodes"].as_array().unwrap().iter().cloned());
        if logs["pageInfo"]["hasNextPage"] == false {
            return all;
        }
        after = logs["pageInfo"]["endCursor"].clone();
    }
}

/// Prints the two files that the test wrote.
async fn print_files(app: &TestApp, out: &[u8], err: &[u8]) -> String {
    std::fs::write(app.folder().join("out"), out).unwrap();
    std::fs::write(app.folder().join("err"), err).unwrap();
    let env = json!({ "env": [{ "name": "FROM", "value": app.folder() }] });
    let job = app
        .completed(shell_with(r#"cat "$FROM/out"; cat "$FROM/err" >&2"#, env))
        .await;
    job["id"].as_str().unwrap().to_owned()
}

/// Bytes of any kind, with line feeds among them.
fn any_bytes(length: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..length).map(|_| fastrand::u8(..)).collect();
    for _ in 0..length / 80 {
        let place = fastrand::usize(..length);
        bytes[place] = b'\n';
    }
    bytes
}

async fn bytes_that_are_no_text_are_kept(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let (out, err) = (any_bytes(300_001), any_bytes(70_000));
    let id = print_files(&app, &out, &err).await;
    assert!(app.bytes(&id, "stdout").await == out, "standard output differs");
    assert!(app.bytes(&id, "stderr").await == err, "standard error differs");
    // As text, it is readable as far as it is text.
    let id = print_files(&app, b"before \xff\xfe after\nna\xc3\xafve\n\0nul\n", b"").await;
    let job = app.job(&id).await;
    assert_eq!(job["stdout"], "before \u{fffd}\u{fffd} after\nnaïve\n\0nul\n");
    let lines = super::lines(&app, &id, json!({ "streams": ["STDOUT"] })).await;
    let messages: Vec<&str> = lines
        .iter()
        .map(|line| line["message"].as_str().unwrap())
        .collect();
    assert_eq!(messages, ["before \u{fffd}\u{fffd} after", "naïve", "\0nul"]);
    app.stop().await;
}

/// A request for the log, with one header or two.
async fn ask(app: &TestApp, method: Method, url: &str, headers: &[(&str, &str)]) -> reqwest::Response {
    let mut request = app.http().request(method, format!("{}{url}", app.url()));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap()
}

fn header<'a>(answer: &'a reqwest::Response, name: &str) -> &'a str {
    answer.headers()[name].to_str().unwrap()
}

async fn a_log_is_read_in_ranges(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let bytes = any_bytes(600_000);
    let id = print_files(&app, &bytes, b"").await;
    let size = bytes.len();
    let url = format!("/jobs/{id}/log?stream=stdout");

    let whole = ask(&app, Method::GET, &url, &[]).await;
    assert_eq!(whole.status(), StatusCode::OK);
    assert_eq!(header(&whole, "accept-ranges"), "bytes");
    assert_eq!(header(&whole, "content-length"), size.to_string());
    assert!(header(&whole, "content-type").starts_with("text/plain"));
    assert_eq!(header(&whole, "x-content-type-options"), "nosniff");
    let tag = header(&whole, "etag").to_owned();

    let head = ask(&app, Method::HEAD, &url, &[]).await;
    assert_eq!(head.status(), StatusCode::OK);
    assert_eq!(header(&head, "content-length"), size.to_string());
    assert_eq!(header(&head, "etag"), tag);
    assert!(head.bytes().await.unwrap().is_empty());

    let last = size - 1;
    let mut ranges = vec![
        ("0-0".to_owned(), 0, 0),
        (format!("0-{last}"), 0, last),
        (format!("{last}-"), last, last),
        (format!("10-{}", size * 2), 10, last),
        ("-1".to_owned(), last, last),
        ("-5000".to_owned(), size - 5_000, last),
        (format!("-{}", size + 1), 0, last),
        ("0-".to_owned(), 0, last),
    ];
    for _ in 0..60 {
        let first = fastrand::usize(..size);
        let to = fastrand::usize(first..size);
        ranges.push((format!("{first}-{to}"), first, to));
    }
    for (wanted, first, to) in ranges {
        let range = format!("bytes={wanted}");
        let part = ask(&app, Method::GET, &url, &[("range", &range)]).await;
        assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT, "{range}");
        assert_eq!(
            header(&part, "content-range"),
            format!("bytes {first}-{to}/{size}"),
            "{range}"
        );
        assert_eq!(
            header(&part, "content-length"),
            (to + 1 - first).to_string(),
            "{range}"
        );
        assert!(part.bytes().await.unwrap() == bytes[first..=to], "{range}");
    }

    let beyond = ask(&app, Method::GET, &url, &[("range", &format!("bytes={size}-"))]).await;
    assert_eq!(beyond.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(header(&beyond, "content-range"), format!("bytes */{size}"));

    let same = [("range", "bytes=5-9"), ("if-range", tag.as_str())];
    let part = ask(&app, Method::GET, &url, &same).await;
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    let other = [("range", "bytes=5-9"), ("if-range", "\"another\"")];
    assert_eq!(
        ask(&app, Method::GET, &url, &other).await.status(),
        StatusCode::OK
    );
    // What cannot be read, or is several, is answered with the whole.
    for odd in [
        "lines=1-2",
        "bytes=9-5",
        "bytes=1-2,5-6",
        "bytes=0-9,5-6",
        "bytes=x",
    ] {
        let answer = ask(&app, Method::GET, &url, &[("range", odd)]).await;
        assert_eq!(answer.status(), StatusCode::OK, "{odd}");
    }
    // All streams together hold each line of each.
    let all = ask(&app, Method::GET, &format!("/jobs/{id}/log"), &[])
        .await
        .bytes()
        .await
        .unwrap();
    // What the server says comes before and after it, also where the last line has no end.
    assert!(memchr::memmem::find(&all, &bytes).is_some());
    assert!(memchr::memmem::find(&all, b"attempt 1 started").is_some());
    let part = ask(
        &app,
        Method::GET,
        &format!("/jobs/{id}/log"),
        &[("range", "bytes=7-400000")],
    )
    .await;
    assert!(part.bytes().await.unwrap() == all[7..=400_000]);
    app.stop().await;
}

async fn a_log_that_is_not_there_is_told_so(db: TestDb) {
    let app = Setup::new(&db).start().await;
    for id in ["01980000-0000-7000-8000-000000000000", "nonsense"] {
        let answer = ask(&app, Method::GET, &format!("/jobs/{id}/log"), &[]).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    }
    let job = app.completed(shell("true")).await;
    let url = format!("/jobs/{}/log", job["id"].as_str().unwrap());
    for query in ["?stream=sideways", "?attempt=x", "?unknown=1"] {
        let answer = ask(&app, Method::GET, &format!("{url}{query}"), &[]).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{query}");
    }
    // Nothing was printed: that is an empty log, and no range of it can be had.
    let empty = ask(&app, Method::GET, &format!("{url}?stream=stdout"), &[]).await;
    assert_eq!(
        (empty.status(), header(&empty, "content-length")),
        (StatusCode::OK, "0")
    );
    let range = [("range", "bytes=0-")];
    let beyond = ask(&app, Method::GET, &format!("{url}?stream=stdout"), &range).await;
    assert_eq!(beyond.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    app.stop().await;
}

async fn tails_are_the_ends_of_streams(db: TestDb) {
    let app = Setup::new(&db).start().await;
    let job = app.completed(shell("seq 100000; echo naïve >&2")).await;
    let query = "query($id: ID!, $n: Int) { job(id: $id) { stdout(lastBytes: $n) stderr(lastBytes: $n) } }";
    let whole: String = (1..=100_000).map(|n| format!("{n}\n")).collect();
    for wanted in [1, 7, 1_000, 65_536, 200_000, 1 << 20] {
        let data = app.data(query, json!({ "id": job["id"], "n": wanted })).await;
        let expected = &whole[whole.len().saturating_sub(wanted)..];
        assert!(data["job"]["stdout"] == expected, "the last {wanted} bytes");
    }
    assert_eq!(job["stdout"], whole[whole.len() - 65_536..]);
    // The fourth byte from the end is the second one of ï: half a character is not shown as one.
    let data = app.data(query, json!({ "id": job["id"], "n": 4 })).await;
    let tail = data["job"]["stderr"]
        .as_str()
        .unwrap()
        .trim_start_matches('\u{fffd}')
        .to_owned();
    assert_eq!(tail, "ve\n");
    app.stop().await;
}
