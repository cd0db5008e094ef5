//! The scalars of the schema beyond GraphQL's own: instants, JSON values and whole numbers above 32 bits.

use async_graphql::{InputValueError, InputValueResult, Number, Scalar, ScalarType, Value};
use chrono::{DateTime as Chrono, SecondsFormat, Utc};

use crate::domain::Timestamp;

/// The largest whole number that JavaScript tells from its neighbours.
const MAX_SAFE: i64 = (1 << 53) - 1;

/// An instant. Answers are in UTC with milliseconds, as RFC 3339 writes them: `2026-01-14T10:30:00.000Z`.
/// Inputs may carry any offset, such as `2026-01-14T11:30:00+01:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DateTime(pub(super) Timestamp);

/// An instant in UTC. Answers are written as RFC 3339 writes them, with milliseconds: `2026-01-14T10:30:00.000Z`.
/// Inputs may have any offset: `2026-01-14T11:30:00+01:00` is the same instant.
#[Scalar(specified_by_url = "https://scalars.graphql.org/chillicream/date-time.html")]
impl ScalarType for DateTime {
    fn parse(value: Value) -> InputValueResult<Self> {
        let Value::String(text) = &value else {
            return Err(InputValueError::expected_type(value));
        };
        let instant = Chrono::parse_from_rfc3339(text).map_err(|error| {
            let example = "2026-01-14T10:30:00.000Z";
            InputValueError::custom(format!("`{text}` is no instant of the form {example}: {error}"))
        })?;
        Ok(Self(Timestamp::from_micros(instant.timestamp_micros())))
    }

    fn to_value(&self) -> Value {
        let instant = Chrono::from_timestamp_micros(self.0.micros()).unwrap_or(if self.0.micros() < 0 {
            Chrono::<Utc>::MIN_UTC
        } else {
            Chrono::<Utc>::MAX_UTC
        });
        Value::String(instant.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl From<Timestamp> for DateTime {
    fn from(moment: Timestamp) -> Self {
        Self(moment)
    }
}

/// A JSON value as clients hand it over and get it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Json(pub(super) serde_json::Value);

impl Json {
    /// An object without members, the default of arguments that take one.
    pub(super) fn empty_object() -> Self {
        Self(serde_json::Value::Object(serde_json::Map::new()))
    }
}

/// Any JSON value: an object, a list, a string, a number, true, false or null. Give it as a variable, or written out
/// as GraphQL: `{name: "x", retries: 3}`.
#[Scalar(name = "JSON", specified_by_url = "https://www.rfc-editor.org/rfc/rfc8259")]
impl ScalarType for Json {
    fn parse(value: Value) -> InputValueResult<Self> {
        value.into_json().map(Self).map_err(InputValueError::custom)
    }

    fn to_value(&self) -> Value {
        // Every JSON value is a GraphQL value; the conversion fails for other formats only.
        Value::from_json(self.0.clone()).unwrap_or_default()
    }
}

/// A whole number that every client reads exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SafeInt(pub(super) i64);

/// A whole number from −(2^53 − 1) to 2^53 − 1, which every JSON reader keeps exactly. `Int` ends at 2^31 − 1, too
/// early for bytes and milliseconds.
#[Scalar]
impl ScalarType for SafeInt {
    fn parse(value: Value) -> InputValueResult<Self> {
        let Value::Number(number) = &value else {
            return Err(InputValueError::expected_type(value));
        };
        number
            .as_i64()
            .or_else(|| whole(number))
            .filter(|number| (-MAX_SAFE..=MAX_SAFE).contains(number))
            .map(Self)
            .ok_or_else(|| InputValueError::custom(format!("{number} is no whole number within ±{MAX_SAFE}")))
    }

    fn to_value(&self) -> Value {
        Value::Number(self.0.clamp(-MAX_SAFE, MAX_SAFE).into())
    }
}

/// What a client wrote with a fraction of zero: variables travel as JSON, which has one kind of number.
fn whole(number: &Number) -> Option<i64> {
    let float = number.as_f64()?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "without a fraction and below 2^53 the conversion is exact"
    )]
    (float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_991.0).then_some(float as i64)
}

impl SafeInt {
    /// A count or size of ours; none comes near the bound.
    pub(super) fn of(number: impl TryInto<i64>) -> Self {
        Self(number.try_into().map_or(MAX_SAFE, |number| number.min(MAX_SAFE)))
    }

    /// A duration in milliseconds, rounded down.
    pub(super) fn millis(duration: std::time::Duration) -> Self {
        Self::of(duration.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn instant(text: &str) -> InputValueResult<DateTime> {
        DateTime::parse(Value::from(text))
    }

    #[test]
    fn an_instant_is_answered_in_utc_with_milliseconds() {
        let moment = DateTime(Timestamp::from_micros(1_768_386_600_000_000));
        assert_eq!(moment.to_value(), Value::from("2026-01-14T10:30:00.000Z"));
        let moment = DateTime(Timestamp::from_micros(1_768_386_600_001_999));
        assert_eq!(moment.to_value(), Value::from("2026-01-14T10:30:00.001Z"));
        let before_1970 = DateTime(Timestamp::from_micros(-1));
        assert_eq!(before_1970.to_value(), Value::from("1969-12-31T23:59:59.999Z"));
        assert!(matches!(
            DateTime(Timestamp::from_micros(i64::MAX)).to_value(),
            Value::String(_)
        ));
    }

    #[test]
    fn an_instant_is_read_with_any_offset() {
        let utc = instant("2026-01-14T10:30:00Z").ok().unwrap();
        for same in [
            "2026-01-14T11:30:00+01:00",
            "2026-01-14T05:00:00.000-05:30",
            "2026-01-14T10:30:00.000000Z",
        ] {
            assert_eq!(instant(same).ok(), Some(utc), "{same}");
        }
        for wrong in [
            "",
            "2026-01-14",
            "2026-01-14T10:30:00",
            "2026-13-14T10:30:00Z",
            "tomorrow",
        ] {
            assert!(instant(wrong).is_err(), "{wrong}");
        }
        assert!(DateTime::parse(Value::from(1_768_386_600)).is_err());
    }

    #[test]
    fn a_safe_integer_has_its_bounds() {
        for good in [0, 1, -1, MAX_SAFE, -MAX_SAFE] {
            assert_eq!(SafeInt::parse(Value::from(good)).ok(), Some(SafeInt(good)));
        }
        assert_eq!(SafeInt::parse(Value::from(5.0)).ok(), Some(SafeInt(5)));
        for bad in [MAX_SAFE + 1, -MAX_SAFE - 1, i64::MAX] {
            assert!(SafeInt::parse(Value::from(bad)).is_err(), "{bad}");
        }
        assert!(SafeInt::parse(Value::from(1.5)).is_err());
        assert!(SafeInt::parse(Value::from("5")).is_err());
        assert!(SafeInt::parse(Value::from(u64::MAX)).is_err());
        assert_eq!(SafeInt::of(u64::MAX), SafeInt(MAX_SAFE));
        assert_eq!(
            SafeInt::millis(std::time::Duration::from_micros(1_999)),
            SafeInt(1)
        );
    }

    #[test]
    fn json_goes_in_and_out_unchanged() {
        let value = json!({"a": [1, 2.5, null, true], "b c": {"": "x"}});
        let read = Json::parse(Value::from_json(value.clone()).unwrap())
            .ok()
            .unwrap();
        assert_eq!(read.0, value);
        assert_eq!(read.to_value().into_json().unwrap(), value);
    }
}
