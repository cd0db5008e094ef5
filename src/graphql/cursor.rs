//! Cursors: places in listings and streams, as opaque text.
//!
//! A cursor is base64url of a version, the kind of listing, the place itself and a check sum. The check sum keeps no
//! secret; it tells a cursor that was mangled on its way from one that points elsewhere. A cursor is only taken where
//! its kind is given out, so that no page begins at the wrong place without anybody noticing.

#[cfg(any(test, fuzzing))]
pub(crate) mod invariants;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::error::{ApiError, ApiResult};
use crate::domain::{EventSeq, JobId};
use crate::executor::LogPlace;
use crate::store::{JobOrder, JobOrderField, Keyset};

const VERSION: u8 = 1;
const CHECK_SUM: usize = 4;

/// A place, in one of the listings that there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cursor {
    /// Among jobs in this order.
    Job { order: JobOrder, place: Keyset },
    /// Among events; listings and subscriptions share it, so that one goes on where the other ended.
    Event(EventSeq),
    /// In the log of a job; listings and subscriptions share it.
    Log { job: JobId, place: LogPlace },
    /// Among files, by name.
    File(Files, String),
    /// In the audit log.
    Audit(Uuid),
}

/// The listings of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Files {
    Scripts,
    Pipelines,
}

impl Files {
    const fn byte(self) -> u8 {
        match self {
            Self::Scripts => b's',
            Self::Pipelines => b'p',
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Scripts => "scripts",
            Self::Pipelines => "pipelines",
        }
    }
}

impl Cursor {
    /// The text that clients keep.
    pub(super) fn encode(&self) -> String {
        let mut bytes = vec![VERSION];
        match self {
            Self::Job { order, place } => {
                bytes.extend([b'j', order_byte(*order)]);
                bytes.extend(place.id.uuid().as_bytes());
                bytes.extend(place.key.into_iter().flat_map(i64::to_be_bytes));
            }
            Self::Event(seq) => {
                bytes.push(b'e');
                bytes.extend(seq.0.to_be_bytes());
            }
            Self::Log { job, place } => {
                bytes.push(b'l');
                bytes.extend(job.uuid().as_bytes());
                bytes.extend(place.attempt.to_be_bytes());
                bytes.extend(place.line.to_be_bytes());
            }
            Self::File(files, name) => {
                bytes.push(files.byte());
                bytes.extend(name.as_bytes());
            }
            Self::Audit(id) => {
                bytes.push(b'a');
                bytes.extend(id.as_bytes());
            }
        }
        let sum = check_sum(&bytes);
        bytes.extend(sum);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The place that a client hands over.
    pub(super) fn decode(text: &str) -> ApiResult<Self> {
        read(text).ok_or_else(|| {
            ApiError::input(format!(
                "`{}` is no cursor of this server: hand over one that it gave out, unchanged.",
                shortened(text)
            ))
        })
    }

    /// A place among jobs in this order.
    pub(super) fn job(text: &str, wanted: JobOrder) -> ApiResult<Keyset> {
        match Self::decode(text)? {
            Self::Job { order, place } if order == wanted => Ok(place),
            Self::Job { .. } => Err(ApiError::input(
                "This cursor is of a listing in another order: page on in the order in which it was given out.",
            )),
            other => Err(other.misplaced("jobs")),
        }
    }

    /// A place among events.
    pub(super) fn event(text: &str) -> ApiResult<EventSeq> {
        match Self::decode(text)? {
            Self::Event(seq) => Ok(seq),
            other => Err(other.misplaced("events")),
        }
    }

    /// A place in the log of this job.
    pub(super) fn log(text: &str, of: JobId) -> ApiResult<LogPlace> {
        match Self::decode(text)? {
            Self::Log { job, place } if job == of => Ok(place),
            Self::Log { .. } => Err(ApiError::input("This cursor is of the log of another job.")),
            other => Err(other.misplaced("log lines")),
        }
    }

    /// A place among these files.
    pub(super) fn file(text: &str, wanted: Files) -> ApiResult<String> {
        match Self::decode(text)? {
            Self::File(files, name) if files == wanted => Ok(name),
            other => Err(other.misplaced(wanted.name())),
        }
    }

    /// A place in the audit log.
    pub(super) fn audit(text: &str) -> ApiResult<Uuid> {
        match Self::decode(text)? {
            Self::Audit(id) => Ok(id),
            other => Err(other.misplaced("the audit log")),
        }
    }

    fn misplaced(&self, wanted: &str) -> ApiError {
        let own = match self {
            Self::Job { .. } => "jobs",
            Self::Event(_) => "events",
            Self::Log { .. } => "log lines",
            Self::File(files, _) => files.name(),
            Self::Audit(_) => "the audit log",
        };
        ApiError::input(format!(
            "This cursor is of a listing of {own}, and this is a listing of {wanted}."
        ))
    }
}

fn read(text: &str) -> Option<Cursor> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(CHECK_SUM)?)?;
    if sum != check_sum(body) {
        return None;
    }
    let (&[VERSION, kind], place) = body.split_first_chunk::<2>()? else {
        return None;
    };
    match kind {
        b'j' => {
            let (&[order], place) = place.split_first_chunk::<1>()?;
            let (&id, key) = place.split_first_chunk::<16>()?;
            let order = order_of(order)?;
            let key = match (order.field, key) {
                (JobOrderField::CreatedAt, []) => None,
                (JobOrderField::CreatedAt, _) => return None,
                (_, key) => Some(i64::from_be_bytes(key.try_into().ok()?)),
            };
            let id = JobId::from_uuid(Uuid::from_bytes(id));
            Some(Cursor::Job {
                order,
                place: Keyset { key, id },
            })
        }
        b'e' => {
            let seq = i64::from_be_bytes(place.try_into().ok()?);
            (seq >= 0).then_some(Cursor::Event(EventSeq(seq)))
        }
        b'l' => {
            let (&id, place) = place.split_first_chunk::<16>()?;
            let (&attempt, line) = place.split_first_chunk::<4>()?;
            let place = LogPlace {
                attempt: u32::from_be_bytes(attempt),
                line: i64::from_be_bytes(line.try_into().ok()?),
            };
            let job = JobId::from_uuid(Uuid::from_bytes(id));
            (place.line >= 0).then_some(Cursor::Log { job, place })
        }
        b'a' => Some(Cursor::Audit(Uuid::from_bytes(place.try_into().ok()?))),
        kind => {
            let files = [Files::Scripts, Files::Pipelines];
            let files = files.into_iter().find(|files| files.byte() == kind)?;
            let name = String::from_utf8(place.to_vec()).ok()?;
            Some(Cursor::File(files, name))
        }
    }
}

fn check_sum(bytes: &[u8]) -> [u8; CHECK_SUM] {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    let [a, b, c, d, ..] = digest;
    [a, b, c, d]
}

const fn order_byte(order: JobOrder) -> u8 {
    let field = match order.field {
        JobOrderField::CreatedAt => 0,
        JobOrderField::StartedAt => 1,
        JobOrderField::FinishedAt => 2,
        JobOrderField::StepIndex => 3,
    };
    field << 1 | order.descending as u8
}

const fn order_of(byte: u8) -> Option<JobOrder> {
    let field = match byte >> 1 {
        0 => JobOrderField::CreatedAt,
        1 => JobOrderField::StartedAt,
        2 => JobOrderField::FinishedAt,
        3 => JobOrderField::StepIndex,
        _ => return None,
    };
    Some(JobOrder {
        field,
        descending: byte & 1 == 1,
    })
}

/// Enough of a text to recognise it by.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 40;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: JobId = JobId::from_uuid(Uuid::from_u128(0x0198_0000_0000_7000_8000_0000_0000_0001));
    const CREATED: JobOrder = JobOrder {
        field: JobOrderField::CreatedAt,
        descending: true,
    };
    const FINISHED: JobOrder = JobOrder {
        field: JobOrderField::FinishedAt,
        descending: false,
    };

    fn all() -> Vec<Cursor> {
        let place = |key| Keyset { key, id: ID };
        vec![
            Cursor::Job {
                order: CREATED,
                place: place(None),
            },
            Cursor::Job {
                order: FINISHED,
                place: place(Some(-5)),
            },
            Cursor::Event(EventSeq(0)),
            Cursor::Event(EventSeq(i64::MAX)),
            Cursor::Log {
                job: ID,
                place: LogPlace {
                    attempt: 3,
                    line: 1 << 40,
                },
            },
            Cursor::File(Files::Scripts, "tools/größe.sh".to_owned()),
            Cursor::File(Files::Scripts, String::new()),
            Cursor::File(Files::Pipelines, "deploy/web".to_owned()),
        ]
    }

    #[test]
    fn every_cursor_is_read_back() {
        for cursor in all() {
            assert_eq!(Cursor::decode(&cursor.encode()).unwrap(), cursor);
        }
    }

    #[test]
    fn a_mangled_cursor_is_refused() {
        for cursor in all() {
            let text = cursor.encode();
            for at in 0..text.len() {
                let mut mangled = text.clone().into_bytes();
                mangled[at] = if mangled[at] == b'A' { b'B' } else { b'A' };
                let mangled = String::from_utf8(mangled).unwrap();
                assert!(Cursor::decode(&mangled).is_err(), "{mangled}");
            }
            assert!(Cursor::decode(&text[1..]).is_err());
            assert!(Cursor::decode(&format!("{text}AAAA")).is_err());
        }
        for made_up in ["", "1", "abc", "MTIzNDU2Nzg5MA", "not a cursor", "ä"] {
            assert!(Cursor::decode(made_up).is_err(), "{made_up}");
        }
    }

    #[test]
    fn a_cursor_is_only_taken_where_it_belongs() {
        let cursors = all();
        let job = cursors[0].encode();
        let event = cursors[2].encode();
        let log = cursors[4].encode();
        let script = cursors[5].encode();
        assert!(Cursor::job(&job, CREATED).is_ok());
        assert!(Cursor::job(&job, FINISHED).is_err());
        assert!(Cursor::job(&event, CREATED).is_err());
        assert!(Cursor::event(&event).is_ok());
        assert!(Cursor::event(&log).is_err());
        assert!(Cursor::log(&log, ID).is_ok());
        assert!(Cursor::log(&log, JobId::from_uuid(Uuid::nil())).is_err());
        assert!(Cursor::log(&script, ID).is_err());
        assert_eq!(Cursor::file(&script, Files::Scripts).unwrap(), "tools/größe.sh");
        assert!(Cursor::file(&script, Files::Pipelines).is_err());
        assert!(Cursor::file(&job, Files::Scripts).is_err());
    }

    #[test]
    fn a_future_version_is_refused() {
        let mut bytes = vec![VERSION + 1, b'e'];
        bytes.extend(7_i64.to_be_bytes());
        let sum = check_sum(&bytes);
        bytes.extend(sum);
        assert!(Cursor::decode(&URL_SAFE_NO_PAD.encode(bytes)).is_err());
    }
}
