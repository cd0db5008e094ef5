//! Closed sets of words: the same word in the schema, in the store and in Rust.

/// A word from the store that this version does not know, which a newer version may have written.
#[derive(Debug, Clone, thiserror::Error)]
#[error("`{word}` is not a known {set}")]
pub struct UnknownWord {
    /// The set in which it was looked for.
    pub set: &'static str,
    /// The word as it was found.
    pub word: String,
}

/// Declares an enum together with the word of each variant, its list of all and its way back from the word.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident, $set:literal { $($(#[$vmeta:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$vmeta])* $variant),+ }

        impl $name {
            /// All of them, in the order of the schema.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word that the schema and the store use.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::domain::UnknownWord;

            fn from_str(word: &str) -> Result<Self, Self::Err> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    _ => Err($crate::domain::UnknownWord { set: $set, word: word.to_owned() }),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use words;
