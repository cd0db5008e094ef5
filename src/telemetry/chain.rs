//! An error together with everything that it was caused by, on one line.

use std::error::Error;
use std::fmt::{self, Display};

/// Shows an error and its sources, joined by `: `.
///
/// The `Display` of an error of ours never includes its source, so this is the one place where a chain becomes text:
/// `tracing::warn!(error = %chain(&error), "the heartbeat failed")`.
pub fn chain<E: Error + ?Sized>(error: &E) -> impl Display {
    Chain(error)
}

/// A length of time for a field whose name ends in `_ms`; log readers take no more than 64 bits for a number.
#[must_use]
pub fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

struct Chain<'a, E: ?Sized>(&'a E);

impl<E: Error + ?Sized> Display for Chain<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", &self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] Middle);

    #[derive(Debug, thiserror::Error)]
    #[error("middle")]
    struct Middle(#[source] std::io::Error);

    #[test]
    fn every_source_is_shown_once_and_in_order() {
        let error = Outer(Middle(std::io::Error::other("inner")));
        assert_eq!(chain(&error).to_string(), "outer: middle: inner");
        let unsized_error: &(dyn Error + Send + Sync) = &error;
        assert_eq!(chain(unsized_error).to_string(), "outer: middle: inner");
    }
}
