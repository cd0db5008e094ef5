//! Lines of logs, and the ends of streams as text.

use std::borrow::Cow;

use async_graphql::parser::types::Field;
use async_graphql::registry::Registry;
use async_graphql::resolver_utils::resolve_list;
use async_graphql::{
    Context, ContextSelectionSet, OutputType, Positioned, ServerResult, SimpleObject, Value,
};

use crate::domain::{self, JobId};
use crate::executor::{self, LogPlace};
use crate::graphql::context::ContextExt as _;
use crate::graphql::cursor::Cursor;
use crate::graphql::error::{ApiError, ApiResult};
use crate::graphql::input::LogFilter;
use crate::graphql::page::{PageArgs, connection};
use crate::graphql::resolve::{self, AtHand};
use crate::graphql::scalar::{DateTime, Json};
use crate::graphql::words::{LogLevel, LogStream};
use crate::store::PageRequest;

/// The most bytes of a stream that are answered as one text.
const LONGEST_TAIL: i32 = 1 << 20;

/// A line of a job's log.
#[derive(SimpleObject)]
pub(in crate::graphql) struct LogLine {
    /// 1 for the first line of the attempt; streams count together.
    number: i32,
    /// When the server read it.
    timestamp: DateTime,
    /// Where it came from.
    stream: LogStream,
    /// How grave it is, as the line itself says; INFO for plain text.
    level: LogLevel,
    /// Its text, without the line's end.
    message: String,
    /// What else a structured line holds besides its level and its message; null for plain text.
    context: Option<Json>,
}

impl AtHand for LogLine {
    type AtHand = Self;

    fn at_hand(&self) -> &Self {
        self
    }
}

impl From<domain::LogLine> for LogLine {
    fn from(line: domain::LogLine) -> Self {
        Self {
            // A log would have to be many times its default limit to come near the bound.
            number: i32::try_from(line.number).unwrap_or(i32::MAX),
            timestamp: line.at.into(),
            stream: line.stream.into(),
            level: line.level.into(),
            message: line.message,
            context: line.context.map(Json),
        }
    }
}

connection! {
    /// A page of log lines.
    LogConnection,
    /// A line and its place in the log. The `jobLogs` subscription takes the same cursors.
    LogEdge of LogLine,
    {}
}

/// Lines, of which there may be hundreds of thousands in a second.
struct LogLines(Vec<LogLine>);

impl OutputType for LogLines {
    fn type_name() -> Cow<'static, str> {
        <Vec<LogLine> as OutputType>::type_name()
    }

    fn qualified_type_name() -> String {
        Vec::<LogLine>::qualified_type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        Vec::<LogLine>::create_type_info(registry)
    }

    async fn resolve(&self, ctx: &ContextSelectionSet<'_>, field: &Positioned<Field>) -> ServerResult<Value> {
        match resolve::list(ctx, &self.0).await? {
            Some(lines) => Ok(lines),
            None => resolve_list(ctx, field, &self.0, Some(self.0.len())).await,
        }
    }
}

/// Lines that were written together.
#[derive(SimpleObject)]
pub(in crate::graphql) struct LogBatch {
    /// The lines, in order.
    lines: LogLines,
    /// The place after the last of them, for `after` when the listener comes back.
    cursor: String,
}

impl LogBatch {
    /// A batch of the log of this job.
    pub(in crate::graphql) fn of(job: JobId, batch: executor::LogBatch) -> Self {
        Self {
            lines: LogLines(batch.lines.into_iter().map(Into::into).collect()),
            cursor: Cursor::Log {
                job,
                place: batch.place,
            }
            .encode(),
        }
    }
}

/// A page of a job's log.
pub(super) async fn page(
    ctx: &Context<'_>,
    job: &domain::Job,
    filter: LogFilter,
    args: &PageArgs,
) -> ApiResult<LogConnection> {
    let wanted = filter.attempt()?;
    let places = args.request(ctx.limits().max_page_size, |cursor| Cursor::log(cursor, job.id))?;
    // Who pages on stays in the attempt in which the listing began, also where a new one has started since.
    let attempt = attempt_of(wanted, [places.after, places.before])?.unwrap_or(job.attempt);
    let request = PageRequest {
        limit: places.limit,
        after: places.after.map(|place| place.line),
        before: places.before.map(|place| place.line),
        from_end: places.from_end,
    };
    let found = ctx
        .reader()
        .log_page(job.id, attempt, &filter.into(), request)
        .await?;
    let entries = found.lines.into_iter().map(|line| {
        let place = LogPlace {
            attempt,
            line: line.number,
        };
        (Cursor::Log { job: job.id, place }.encode(), LogLine::from(line))
    });
    Ok(LogConnection::new(entries, found.has_previous, found.has_next))
}

/// The one attempt that the filter and all cursors speak of; none where none of them names one.
pub(in crate::graphql) fn attempt_of<const N: usize>(
    wanted: Option<u32>,
    places: [Option<LogPlace>; N],
) -> ApiResult<Option<u32>> {
    let mut attempt = wanted;
    for place in places.into_iter().flatten() {
        if attempt.is_some_and(|attempt| attempt != place.attempt) {
            let message = format!(
                "This cursor is of attempt {}, and attempt {} is asked for.",
                place.attempt,
                attempt.unwrap_or_default()
            );
            return Err(ApiError::input(message));
        }
        attempt = Some(place.attempt);
    }
    Ok(attempt)
}

/// The end of one stream of a job's latest attempt.
pub(super) async fn tail(
    ctx: &Context<'_>,
    job: &domain::Job,
    stream: domain::LogStream,
    last_bytes: Option<i32>,
) -> ApiResult<String> {
    let wanted = last_bytes.unwrap_or(65_536);
    if wanted < 0 {
        return Err(ApiError::input(format!(
            "`lastBytes` is {wanted}, and cannot be negative."
        )));
    }
    let wanted = wanted.min(LONGEST_TAIL);
    let bytes = ctx
        .reader()
        .log_tail(job.id, job.attempt, stream, i64::from(wanted))
        .await?;
    let cut = i64::from(wanted) <= i64::try_from(bytes.len()).unwrap_or(i64::MAX);
    Ok(readable(&bytes, cut, job.status.is_final()))
}

/// Bytes as text. Where they were `cut` from more, the rest of a character at their beginning is left out; unless the
/// stream is `complete`, so is a character at their end of which only a part has been printed yet.
fn readable(bytes: &[u8], cut: bool, complete: bool) -> String {
    let mut bytes = bytes;
    if cut {
        let rest = bytes
            .iter()
            .take(3)
            .take_while(|&&byte| byte & 0b1100_0000 == 0b1000_0000)
            .count();
        bytes = &bytes[rest..];
    }
    if !complete {
        // A character has at most four bytes, so a part of one at the end has at most three.
        let parts = (1..=3.min(bytes.len())).rev();
        let part = parts.into_iter().find(|&length| {
            let end = &bytes[bytes.len() - length..];
            std::str::from_utf8(end)
                .is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
        });
        bytes = &bytes[..bytes.len() - part.unwrap_or(0)];
    }
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_not_cut_inside_a_character() {
        let euro = "€uro".as_bytes();
        assert_eq!(readable(euro, true, true), "€uro");
        assert_eq!(readable(&euro[1..], true, true), "uro");
        assert_eq!(readable(&euro[2..], true, true), "uro");
        // What begins like that by itself is no cut.
        assert_eq!(readable(&euro[2..], false, true), "\u{fffd}uro");
        let grin = "x😀".as_bytes();
        for end in 2..grin.len() {
            assert_eq!(readable(&grin[..end], false, false), "x", "{end}");
            assert_eq!(readable(&grin[..end], false, true), "x\u{fffd}", "{end}");
        }
        assert_eq!(readable(grin, true, false), "x😀");
        assert_eq!(readable(b"", true, false), "");
    }

    #[test]
    fn what_is_no_utf8_stays_readable() {
        assert_eq!(readable(b"a\xffb", true, true), "a\u{fffd}b");
        assert_eq!(readable(b"\x80\x80\x80\x80\x80", true, true), "\u{fffd}\u{fffd}");
    }

    #[test]
    fn one_attempt_is_spoken_of() {
        let place = |attempt| Some(LogPlace { attempt, line: 1 });
        assert_eq!(attempt_of(None, [None, None]).unwrap(), None);
        assert_eq!(attempt_of(Some(2), [None]).unwrap(), Some(2));
        assert_eq!(attempt_of(None, [place(1), None]).unwrap(), Some(1));
        assert_eq!(attempt_of(Some(1), [place(1), place(1)]).unwrap(), Some(1));
        assert!(attempt_of(Some(2), [place(1)]).is_err());
        assert!(attempt_of(None, [place(1), place(2)]).is_err());
    }
}
