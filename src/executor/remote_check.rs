//! What of a registered worker's call can be known to be wrong before the store is asked.

use std::time::Duration;

use serde_json::{Map, Value};

use super::remote::{LONGEST_WAIT, TaskLine, TaskReport, WorkerRegistration};
use super::request::{Refusal, RefusalCode};
use crate::domain::{
    LONGEST_STRUCTURED_LINE, LONGEST_WORKER_NAME, LogLevel, LogStream, Pattern, is_worker_name, parse_line,
};
use crate::store::{RemoteFault, ReportedLine};

/// Jobs that one worker may run at once; its heartbeat names them all.
const MOST_AT_ONCE: i32 = 1_000;

/// Patterns that one worker may have; each job in line is compared with all of them.
const MOST_PATTERNS: usize = 100;

/// Bytes of a worker's kind of backend.
const LONGEST_BACKEND: usize = 64;

/// Lines in one report; a worker that has more to tell reports again.
const MOST_LINES: usize = 10_000;

/// Bytes of the name of a step.
const LONGEST_STEP: usize = 1_024;

/// Bytes of what went wrong.
const LONGEST_ERROR: usize = 16 * 1024;

/// Bytes of what a job hands back, as JSON; as for a job that this server runs itself.
const LONGEST_OUTPUT: usize = 1 << 20;

/// The registration in the store's words.
pub(super) struct Registration {
    pub(super) max_parallel_tasks: u32,
    pub(super) supported_problems: Vec<Pattern>,
}

/// Checks a registration.
pub(super) fn registration(asked: &WorkerRegistration) -> Result<Registration, Vec<Refusal>> {
    let mut refusals = Vec::new();
    let mut refuse = |path: &[&str], code, message: String| refusals.push(Refusal::new(code, path, message));
    if !is_worker_name(&asked.name) {
        let message = format!(
            "a worker's name is `worker-`, a number of three digits or more, and its kind in lower case, as in \
             worker-001-gpu, with at most {LONGEST_WORKER_NAME} bytes"
        );
        refuse(&["name"], RefusalCode::Invalid, message);
    }
    let fits = (1..=LONGEST_BACKEND).contains(&asked.backend_type.len())
        && !asked.backend_type.chars().any(char::is_control);
    if !fits {
        let message = format!("takes 1 to {LONGEST_BACKEND} bytes without control characters");
        refuse(&["backendType"], RefusalCode::Invalid, message);
    }
    if !(1..=MOST_AT_ONCE).contains(&asked.max_parallel_tasks) {
        let message = format!("maxParallelTasks lies between 1 and {MOST_AT_ONCE}");
        refuse(
            &["capabilities", "maxParallelTasks"],
            RefusalCode::Invalid,
            message,
        );
    }
    if !(1..=MOST_PATTERNS).contains(&asked.supported_problems.len()) {
        let message = format!("takes 1 to {MOST_PATTERNS} patterns; `*` supports everything");
        refuse(
            &["capabilities", "supportedProblems"],
            RefusalCode::Invalid,
            message,
        );
    }
    let mut supported_problems = Vec::new();
    for (index, text) in asked.supported_problems.iter().take(MOST_PATTERNS).enumerate() {
        match text.parse::<Pattern>() {
            Ok(pattern) => supported_problems.push(pattern),
            Err(fault) => refuse(
                &["capabilities", "supportedProblems", &index.to_string()],
                RefusalCode::Invalid,
                fault.to_string(),
            ),
        }
    }
    if !refusals.is_empty() {
        return Err(refusals);
    }
    Ok(Registration {
        max_parallel_tasks: u32::try_from(asked.max_parallel_tasks).unwrap_or(1),
        supported_problems,
    })
}

/// Checks the jobs that a heartbeat names.
pub(super) fn heartbeat_jobs(count: usize) -> Result<(), Vec<Refusal>> {
    if count <= usize::try_from(MOST_AT_ONCE).unwrap_or(0) {
        return Ok(());
    }
    let message = format!("a worker runs at most {MOST_AT_ONCE} jobs, and this names {count}");
    Err(vec![Refusal::new(
        RefusalCode::LimitExceeded,
        &["jobIds"],
        message,
    )])
}

/// Checks how many jobs are claimed.
pub(super) fn max(max: i32) -> Result<u32, Vec<Refusal>> {
    u32::try_from(max).ok().filter(|&max| max > 0).ok_or_else(|| {
        let message = format!("{max} jobs cannot be claimed: give 1 or more");
        vec![Refusal::new(RefusalCode::Invalid, &["max"], message)]
    })
}

/// Checks how long an answer may take.
pub(super) fn wait(wait: Duration) -> Result<Duration, Vec<Refusal>> {
    if wait <= LONGEST_WAIT {
        return Ok(wait);
    }
    let message = format!(
        "an answer is waited for at most {} ms: ask again after it",
        LONGEST_WAIT.as_millis()
    );
    Err(vec![Refusal::new(RefusalCode::Invalid, &["waitMs"], message)])
}

/// Checks a report, and gives its attempt and its lines in the store's words.
pub(super) fn report(report: &TaskReport) -> Result<(u32, Vec<ReportedLine>), Vec<Refusal>> {
    let mut refusals = Vec::new();
    let attempt = u32::try_from(report.attempt).ok().filter(|&attempt| attempt > 0);
    let mut refuse = |path: &[&str], code, message: String| refusals.push(Refusal::new(code, path, message));
    if attempt.is_none() {
        let message = format!("attempts are counted from 1, and {} is none", report.attempt);
        refuse(&["attempt"], RefusalCode::Invalid, message);
    }
    let mut lines = Vec::new();
    if report.lines.len() > MOST_LINES {
        let message = format!("a report takes at most {MOST_LINES} lines: report the rest in another");
        refuse(&["logs"], RefusalCode::LimitExceeded, message);
    } else {
        for (index, line) in report.lines.iter().enumerate() {
            if let Err((field, message)) = add_line(line, &mut lines) {
                refuse(
                    &["logs", &index.to_string(), field],
                    RefusalCode::Invalid,
                    message,
                );
            }
        }
    }
    if let Some(progress) = &report.progress {
        for (field, number) in [("current", Some(progress.current)), ("total", progress.total)] {
            if number.is_some_and(|number| number < 0) {
                let message = "steps are counted from 0".to_owned();
                refuse(&["progress", field], RefusalCode::Invalid, message);
            }
        }
        if progress
            .step
            .as_ref()
            .is_some_and(|step| step.len() > LONGEST_STEP)
        {
            let message = format!("a step's name has at most {LONGEST_STEP} bytes");
            refuse(&["progress", "step"], RefusalCode::Invalid, message);
        }
    }
    if let Some(result) = &report.result {
        if result.success && result.error.is_some() {
            let message = "a job that completed has no error: leave one of the two out".to_owned();
            refuse(&["result", "error"], RefusalCode::Invalid, message);
        }
        if result
            .error
            .as_ref()
            .is_some_and(|error| error.len() > LONGEST_ERROR)
        {
            let message = format!("takes at most {LONGEST_ERROR} bytes: the log takes more");
            refuse(&["result", "error"], RefusalCode::LimitExceeded, message);
        }
        let bytes = result
            .output
            .as_ref()
            .map_or(0, |output| output.to_string().len());
        if bytes > LONGEST_OUTPUT {
            let message =
                format!("an output takes at most {LONGEST_OUTPUT} bytes as JSON, and this has {bytes}");
            refuse(&["result", "output"], RefusalCode::LimitExceeded, message);
        }
    }
    match attempt {
        Some(attempt) if refusals.is_empty() => Ok((attempt, lines)),
        _ => Err(refusals),
    }
}

/// Adds a line as it is stored: what the reader of the log shows as its message and context again. A message with line
/// feeds is several lines, as it would be on a terminal.
fn add_line(line: &TaskLine, lines: &mut Vec<ReportedLine>) -> Result<(), (&'static str, String)> {
    if line.stream == LogStream::System {
        let message = "the server alone writes to SYSTEM: report STDOUT or STDERR";
        return Err(("stream", message.to_owned()));
    }
    let mut push = |level: LogLevel, bytes: Vec<u8>| {
        lines.push(ReportedLine {
            at: line.at,
            stream: line.stream,
            level,
            bytes,
        });
    };
    let context = match &line.context {
        None | Some(Value::Null) => None,
        Some(Value::Object(fields)) if fields.is_empty() => None,
        Some(Value::Object(fields)) => Some(fields),
        Some(_) => return Err(("context", "the fields of a line are a JSON object".to_owned())),
    };
    if let Some(fields) = context {
        push(line.level, structured(line, fields)?);
        return Ok(());
    }
    let text = line.message.strip_suffix('\n').unwrap_or(&line.message);
    for part in text.split('\n') {
        // A plain line may say its own level, as one that a server's own job prints.
        let own = Some(part)
            .filter(|part| line.level == LogLevel::Info && part.starts_with(['{', ':']))
            .and_then(|part| parse_line(part.trim_end().as_bytes()).level);
        let level = own.unwrap_or(line.level);
        let mut rest = part;
        while rest.len() >= LONGEST_STRUCTURED_LINE {
            let (piece, after) = rest.split_at(rest.floor_char_boundary(LONGEST_STRUCTURED_LINE - 1));
            push(level, piece.as_bytes().to_vec());
            rest = after;
        }
        push(level, format!("{rest}\n").into_bytes());
    }
    Ok(())
}

/// A line with fields, as a program would print it.
fn structured(line: &TaskLine, fields: &Map<String, Value>) -> Result<Vec<u8>, (&'static str, String)> {
    if let Some(name) = ["level", "message"]
        .iter()
        .find(|name| fields.contains_key(**name))
    {
        let message = format!("`{name}` stands beside the context, not in it");
        return Err(("context", message));
    }
    let mut whole = Map::new();
    whole.insert("level".to_owned(), line.level.as_str().into());
    whole.insert("message".to_owned(), line.message.as_str().into());
    whole.extend(fields.iter().map(|(name, value)| (name.clone(), value.clone())));
    let mut text = Value::Object(whole).to_string();
    if text.len() > LONGEST_STRUCTURED_LINE {
        let message =
            format!("a line with its context takes at most {LONGEST_STRUCTURED_LINE} bytes as JSON");
        return Err(("context", message));
    }
    text.push('\n');
    Ok(text.into_bytes())
}

/// What the store refused, with the input at fault.
pub(super) fn refusal(fault: &RemoteFault) -> Vec<Refusal> {
    let (code, path) = match fault {
        RemoteFault::UnknownWorker(_) => (RefusalCode::NotFound, "workerId"),
        RemoteFault::ServersOwn(_) => (RefusalCode::NotAllowed, "workerId"),
        RemoteFault::NameTaken(_) => (RefusalCode::Conflict, "name"),
        RemoteFault::TooMany => (RefusalCode::LimitExceeded, "name"),
        RemoteFault::NoRoom { .. } => (RefusalCode::LimitExceeded, "max"),
        RemoteFault::UnknownJob(_) => (RefusalCode::NotFound, "jobId"),
        RemoteFault::OtherAttempt { .. } => (RefusalCode::Conflict, "attempt"),
        RemoteFault::Ended(_) | RemoteFault::NotRunning(_) | RemoteFault::NotHeld => {
            (RefusalCode::Conflict, "jobId")
        }
    };
    vec![Refusal::new(code, &[path], fault.to_string())]
}
