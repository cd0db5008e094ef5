//! Reads durations as people write them: `90s`, `10m`, `1h30m`, `250ms`, or a bare number of seconds.

use std::time::Duration;

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// It does not have the form.
    #[error("a duration is a number of seconds or a text such as \"90s\", \"10m\" or \"1h30m\"")]
    Malformed,
    /// No time at all.
    #[error("a duration must be longer than zero")]
    Zero,
    /// More than can be counted.
    #[error("a duration must be shorter than a thousand years")]
    TooLong,
}

const LONGEST_SECONDS: f64 = 1000.0 * 366.0 * 86_400.0;

/// The duration that `text` names: numbers with the units `ms`, `s`, `m`, `h` and `d`, one after the other, or one
/// bare number, which counts seconds.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let mut rest = text.trim();
    if let Some(seconds) = number(rest) {
        return from_seconds(seconds);
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or(DurationError::Malformed)?;
        let (amount, after) = rest.split_at(digits);
        let letters = after
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let unit_seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return Err(DurationError::Malformed),
        };
        seconds += number(amount).ok_or(DurationError::Malformed)? * unit_seconds;
        rest = after.trim_start();
    }
    if text.trim().is_empty() {
        Err(DurationError::Malformed)
    } else {
        from_seconds(seconds)
    }
}

/// The duration of that many seconds, to the millisecond.
pub(super) fn from_seconds(seconds: f64) -> Result<Duration, DurationError> {
    if seconds.is_nan() || seconds <= 0.0 {
        return Err(DurationError::Zero);
    }
    if seconds > LONGEST_SECONDS {
        return Err(DurationError::TooLong);
    }
    let exact = Duration::try_from_secs_f64(seconds).map_err(|_| DurationError::TooLong)?;
    // Rounded, as 0.1 has no exact form; up, as a millisecond is the shortest that clients can name.
    let millis = u64::try_from((exact.as_micros() + 500) / 1_000).map_err(|_| DurationError::TooLong)?;
    Ok(Duration::from_millis(millis.max(1)))
}

/// A plain decimal number: no sign, no exponent, no words such as `inf`.
fn number(text: &str) -> Option<f64> {
    let plain = text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_people_write_them() {
        for (text, millis) in [
            ("90s", 90_000),
            ("10m", 600_000),
            ("10min", 600_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("1.5h", 5_400_000),
            ("250ms", 250),
            ("2d", 172_800_000),
            ("45", 45_000),
            ("0.1", 100),
            (" 3s ", 3_000),
            ("0.0001", 1),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "",
            " ",
            "s",
            "10 parsecs",
            "-5s",
            "1e3s",
            "inf",
            "nan",
            "1..2s",
            "5s5",
            "10M",
            "١s",
        ] {
            assert_eq!(parse_duration(text), Err(DurationError::Malformed), "{text}");
        }
        for text in ["0", "0s", "0h0m"] {
            assert_eq!(parse_duration(text), Err(DurationError::Zero), "{text}");
        }
        let long = "9".repeat(400);
        for text in ["9999999999999999999d", "400000d", long.as_str()] {
            assert_eq!(parse_duration(text), Err(DurationError::TooLong), "{text}");
        }
    }
}
