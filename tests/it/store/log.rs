//! Logs: pages of lines and ranges of bytes, against the same lines in memory.

use std::sync::Arc;

use runql::domain::{Job, JobStatus, LogLevel, LogStream, Timestamp};
use runql::store::{AppendLog, EndJob, EndResult, LogEncoder, LogFilter, LogSize, PageRequest};

use super::fixture::{at, ending, new_job, running};
use crate::support::both_stores;
use crate::support::db::{Node, TestDb};

both_stores!(
    every_range_of_bytes,
    pages_forwards_and_backwards,
    pieces_from_any_line_on,
    long_ranges_come_in_pieces,
    attempts_have_logs_of_their_own
);

#[derive(Debug, Clone)]
struct Line {
    stream: LogStream,
    level: LogLevel,
    at: Timestamp,
    bytes: Vec<u8>,
}

/// Lines with repeating words, some empty, some without an end, some invalid UTF-8.
fn random_lines(dice: &mut fastrand::Rng, count: usize) -> Vec<Line> {
    let texts: [&[u8]; 7] = [
        b"one\n",
        b"Two words\n",
        b"\n",
        b"three\r\n",
        b"t\xffwo\n",
        b"piece",
        "GR\u{d6}SSE\n".as_bytes(),
    ];
    (0..count)
        .map(|n| Line {
            stream: LogStream::ALL[dice.usize(..3)],
            level: LogLevel::ALL[dice.usize(..5)],
            at: at(1_000 + i64::try_from(n).unwrap()),
            bytes: texts[dice.usize(..texts.len())].to_vec(),
        })
        .collect()
}

/// Lines of a chunk that is stored as it is, or of one that is compressed.
fn some_or_many(dice: &mut fastrand::Rng) -> usize {
    if dice.bool() {
        dice.usize(1..6)
    } else {
        dice.usize(200..400)
    }
}

/// Stores lines in chunks of these lengths in turn, the last with the end of the job.
async fn print(node: &Node, job: &Arc<Job>, lines: &[Line], mut length: impl FnMut() -> usize) -> LogSize {
    let mut encoder = LogEncoder::default();
    let mut left = lines;
    while left.len() > 3 {
        let (now, later) = left.split_at(length().min(left.len()));
        left = later;
        for line in now {
            encoder.push(line.stream, line.level, line.at, &line.bytes);
        }
        let Some(chunk) = encoder.take() else { continue };
        let append = AppendLog {
            job: job.id,
            attempt: job.attempt,
            chunks: [chunk].into(),
        };
        assert!(node.write(append).await);
    }
    for line in left {
        encoder.push(line.stream, line.level, line.at, &line.bytes);
    }
    let last = EndJob {
        job: Arc::clone(job),
        end: ending(JobStatus::Completed),
        log: encoder.take().into_iter().collect(),
        now: at(9_000),
        jitter: 0.0,
    };
    assert_eq!(node.write(last).await, EndResult::Ended(JobStatus::Completed));
    encoder.size()
}

/// A job that has printed so many lines, in chunks of all kinds.
async fn printed(node: &Node, dice: &mut fastrand::Rng, count: usize) -> (Arc<Job>, Vec<Line>) {
    let lines = random_lines(dice, count);
    let job = running(node, new_job(0), 1).await;
    print(node, &job, &lines, || some_or_many(dice)).await;
    (job, lines)
}

fn bytes_of(lines: &[Line], stream: Option<LogStream>) -> Vec<u8> {
    let wanted = lines
        .iter()
        .filter(|line| stream.is_none_or(|stream| line.stream == stream));
    wanted.flat_map(|line| line.bytes.clone()).collect()
}

const STREAMS: [Option<LogStream>; 4] = [
    None,
    Some(LogStream::Stdout),
    Some(LogStream::Stderr),
    Some(LogStream::System),
];

async fn every_range_of_bytes(db: TestDb) {
    let node = db.node().await;
    let mut dice = fastrand::Rng::with_seed(5);
    let lines = random_lines(&mut dice, 9);
    let job = running(&node, new_job(0), 1).await;
    let size = print(&node, &job, &lines, || 2).await;
    let reader = node.reader();
    assert_eq!(reader.log_size(job.id, 1).await.unwrap(), size);
    for stream in STREAMS {
        let whole = bytes_of(&lines, stream);
        let end = i64::try_from(whole.len()).unwrap();
        assert_eq!(size.of(stream), end);
        for from in 0..=end {
            for to in from..=end + 1 {
                let got = reader.log_bytes(job.id, 1, stream, from, to).await.unwrap();
                let expected = &whole[usize::try_from(from).unwrap()..usize::try_from(to.min(end)).unwrap()];
                assert_eq!(got, expected, "{stream:?} {from}..{to}");
            }
            if let Some(stream) = stream {
                let tail = reader.log_tail(job.id, 1, stream, from).await.unwrap();
                assert_eq!(
                    tail,
                    whole[usize::try_from(end - from).unwrap()..],
                    "{stream:?} last {from}"
                );
            }
        }
        assert!(
            reader
                .log_bytes(job.id, 1, stream, end + 5, end + 9)
                .await
                .unwrap()
                .is_empty()
        );
    }
    assert_eq!(reader.log_size(job.id, 2).await.unwrap(), LogSize::default());
    assert!(reader.log_bytes(job.id, 2, None, 0, 9).await.unwrap().is_empty());
}

async fn long_ranges_come_in_pieces(db: TestDb) {
    let node = db.node().await;
    let mut dice = fastrand::Rng::with_seed(6);
    let (job, lines) = printed(&node, &mut dice, 1_500).await;
    for stream in STREAMS {
        let whole = bytes_of(&lines, stream);
        for _ in 0..10 {
            let (a, b) = (dice.usize(..whole.len()), dice.usize(..=whole.len()));
            let (mut from, to) = (a.min(b), a.max(b));
            let expected = &whole[from..to];
            let mut got = Vec::new();
            while from < to {
                let (low, high) = (i64::try_from(from).unwrap(), i64::try_from(to).unwrap());
                let piece = node
                    .reader()
                    .log_bytes(job.id, 1, stream, low, high)
                    .await
                    .unwrap();
                assert!(!piece.is_empty(), "{stream:?} {from}..{to}");
                from += piece.len();
                got.extend(piece);
            }
            assert_eq!(got, expected, "{stream:?}");
        }
        if let Some(stream) = stream {
            let tail = node
                .reader()
                .log_tail(job.id, 1, stream, 1_000_000)
                .await
                .unwrap();
            assert_eq!(tail, whole);
        }
    }
}

fn text(line: &Line) -> String {
    String::from_utf8_lossy(&line.bytes)
        .trim_end_matches(['\r', '\n'])
        .to_owned()
}

fn random_filter(dice: &mut fastrand::Rng) -> LogFilter {
    LogFilter {
        streams: (dice.u8(..3) == 0)
            .then(|| LogStream::ALL.iter().copied().filter(|_| dice.bool()).collect()),
        min_level: (dice.u8(..3) == 0).then(|| LogLevel::ALL[dice.usize(..5)]),
        search: (dice.u8(..3) == 0)
            .then(|| ["o", "TWO", "grö", "zzz", "\u{fffd}"][dice.usize(..5)].to_owned()),
    }
}

/// The numbers and texts of the lines that match.
fn matching(lines: &[Line], filter: &LogFilter) -> Vec<(i64, String)> {
    let search = filter.search.as_ref().map(|text| text.to_lowercase());
    (1..)
        .zip(lines)
        .filter(|(_, line)| {
            filter
                .streams
                .as_ref()
                .is_none_or(|all| all.contains(&line.stream))
                && filter.min_level.is_none_or(|least| line.level >= least)
                && search
                    .as_ref()
                    .is_none_or(|search| text(line).to_lowercase().contains(search))
        })
        .map(|(number, line)| (number, text(line)))
        .collect()
}

/// What a listener does: it reads some pieces, takes some lines, and goes on from there, or from what it looked at last.
async fn pieces_from_any_line_on(db: TestDb) {
    let node = db.node().await;
    let mut dice = fastrand::Rng::with_seed(11);
    let (job, lines) = printed(&node, &mut dice, 1_200).await;
    for _ in 0..60 {
        let filter = random_filter(&mut dice);
        let begin = dice.i64(0..1_200);
        let mut expected = matching(&lines, &filter);
        expected.retain(|(number, _)| *number > begin);
        let (mut place, mut got) = (begin, Vec::new());
        loop {
            let limit = dice.u64(1..5);
            let pieces = node
                .reader()
                .log_pieces(job.id, 1, &filter, place, limit)
                .await
                .unwrap();
            assert!(pieces.len() as u64 <= limit);
            if pieces.is_empty() {
                break;
            }
            // Sometimes it comes back before it has taken all.
            let mut room = dice.usize(1..500);
            for mut piece in pieces {
                for line in piece.by_ref().take(room) {
                    assert_eq!(line.at, lines[usize::try_from(line.number - 1).unwrap()].at);
                    got.push((line.number, line.message));
                    room -= 1;
                }
                place = piece.looked_to();
                let seen = expected.iter().filter(|(number, _)| *number <= place).count();
                assert_eq!(
                    seen,
                    got.len(),
                    "{filter:?}: what matches was looked at and left out"
                );
                if room == 0 {
                    break;
                }
            }
        }
        assert_eq!(got, expected, "{filter:?} from {begin}");
    }
}

async fn pages_forwards_and_backwards(db: TestDb) {
    let node = db.node().await;
    let mut dice = fastrand::Rng::with_seed(8);
    let (job, lines) = printed(&node, &mut dice, 1_200).await;
    for round in 0..60 {
        let filter = if round < 4 {
            LogFilter::default()
        } else {
            random_filter(&mut dice)
        };
        let expected = matching(&lines, &filter);
        let (from_end, limit) = (dice.bool(), dice.u64(1..400));
        let mut got: Vec<(i64, String)> = Vec::new();
        loop {
            let edge = if from_end { got.first() } else { got.last() }.map(|(number, _)| *number);
            let request = PageRequest {
                limit,
                after: edge.filter(|_| !from_end),
                before: edge.filter(|_| from_end),
                from_end,
            };
            let page = node.reader().log_page(job.id, 1, &filter, request).await.unwrap();
            for line in &page.lines {
                let known = &lines[usize::try_from(line.number - 1).unwrap()];
                assert_eq!(
                    (line.stream, line.level, line.at),
                    (known.stream, known.level, known.at)
                );
            }
            let found: Vec<(i64, String)> = page
                .lines
                .into_iter()
                .map(|line| (line.number, line.message))
                .collect();
            let more = if from_end {
                page.has_previous
            } else {
                page.has_next
            };
            got = if from_end {
                [found, got].concat()
            } else {
                [got, found].concat()
            };
            assert_eq!(more, got.len() < expected.len(), "{filter:?} {request:?}");
            if !more {
                break;
            }
        }
        assert_eq!(got, expected, "{filter:?} from_end={from_end} limit={limit}");

        let (a, b) = (dice.i64(0..122), dice.i64(0..122));
        let request = PageRequest {
            limit,
            after: Some(a.min(b)),
            before: Some(a.max(b)),
            from_end,
        };
        let page = node.reader().log_page(job.id, 1, &filter, request).await.unwrap();
        let between: Vec<i64> = expected
            .iter()
            .map(|(number, _)| *number)
            .filter(|&n| n > a.min(b) && n < a.max(b))
            .collect();
        let limit = usize::try_from(limit).unwrap();
        let wanted = if from_end {
            &between[between.len().saturating_sub(limit)..]
        } else {
            &between[..between.len().min(limit)]
        };
        assert_eq!(
            page.lines.iter().map(|line| line.number).collect::<Vec<_>>(),
            wanted,
            "{filter:?} {request:?}"
        );
    }
}

async fn attempts_have_logs_of_their_own(db: TestDb) {
    let node = db.node().await;
    let job = running(
        &node,
        super::fixture::retried_job(0, 2, std::time::Duration::ZERO),
        1,
    )
    .await;
    let mut dice = fastrand::Rng::with_seed(10);
    for attempt in 1..=2_u32 {
        let mut encoder = LogEncoder::default();
        let lines = random_lines(&mut dice, 5);
        for line in &lines {
            encoder.push(line.stream, line.level, line.at, &line.bytes);
        }
        let append = AppendLog {
            job: job.id,
            attempt,
            chunks: [encoder.take().unwrap()].into(),
        };
        node.take_commits();
        assert!(node.write(append).await);
        assert!(node.take_commits()[0].logs.contains(&job.id));
        let whole = node
            .reader()
            .log_bytes(job.id, attempt, None, 0, 1_000)
            .await
            .unwrap();
        assert_eq!(whole, bytes_of(&lines, None));
        let _ = super::fixture::end(&node, &job, JobStatus::Failed, 2).await;
        super::fixture::claim(&node, 1, 3).await;
    }
}
