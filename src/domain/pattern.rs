//! Patterns of problem ids and targets.

/// The longest pattern, in bytes: as long as the longest id.
const LONGEST: usize = 255;

/// A text in which `*` stands for any characters, none included. All else stands for itself, in its own case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(String);

/// A text that is no pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a pattern has 1 to {LONGEST} bytes without control characters, with * for any characters")]
pub struct NoPattern;

impl std::str::FromStr for Pattern {
    type Err = NoPattern;

    fn from_str(text: &str) -> Result<Self, NoPattern> {
        let fits = (1..=LONGEST).contains(&text.len()) && !text.chars().any(char::is_control);
        fits.then(|| Self(text.to_owned())).ok_or(NoPattern)
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Pattern {
    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How much it says: of two patterns that stand for a text, the one of the higher rank is meant. One without `*`
    /// is above all others, and then counts how many bytes stand beside the `*`.
    #[must_use]
    pub fn rank(&self) -> (bool, usize) {
        let stars = self.0.bytes().filter(|&byte| byte == b'*').count();
        (stars == 0, self.0.len() - stars)
    }

    /// Whether it stands for this text. Takes time for each piece of the pattern at most once through the text.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else {
            return self.0 == text;
        };
        let Some(mut text) = text.strip_prefix(first) else {
            return false;
        };
        let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
        // The leftmost place of each piece leaves the most for those that follow.
        for piece in middle.split('*').filter(|piece| !piece.is_empty()) {
            match text.find(piece) {
                Some(place) => text = &text[place + piece.len()..],
                None => return false,
            }
        }
        text.ends_with(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        let matches = |pattern: &str, text: &str| pattern.parse::<Pattern>().unwrap().matches(text);
        for (pattern, text) in [
            ("*", ""),
            ("*", "anything at all"),
            ("bench-*", "bench-"),
            ("bench-*", "bench-7"),
            ("*-gpu", "a-gpu"),
            ("a*b*c", "abc"),
            ("a*b*c", "a-b-b-c"),
            ("a**c", "axc"),
            ("*é*", "café noir"),
            ("exact", "exact"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("bench-*", "bench"),
            ("bench-*", "Bench-7"),
            ("a*b*c", "acb"),
            ("a*a", "a"),
            ("ab*bc", "abc"),
            ("exact", "exactly"),
            ("ex?ct", "exact"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn a_pattern_that_says_more_is_above_one_that_says_less() {
        let rank = |pattern: &str| pattern.parse::<Pattern>().unwrap().rank();
        let rising = ["*", "**", "a*", "*bc", "a*b*c", "bench-*", "x"];
        for pair in rising.windows(2) {
            assert!(rank(pair[0]) <= rank(pair[1]), "{pair:?}");
        }
        assert_eq!(rank("*"), rank("**"));
        assert!(rank("x") > rank("a very long text with *"));
    }

    #[test]
    fn what_cannot_be_a_pattern_is_refused() {
        for text in [String::new(), "a\nb".to_owned(), "x".repeat(256)] {
            assert_eq!(text.parse::<Pattern>(), Err(NoPattern));
        }
    }
}
