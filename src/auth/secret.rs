//! The text of a token.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::domain::{SecretHash, TokenId};

/// What every token begins with, so that scanners for leaked secrets find it.
pub const PREFIX: &str = "runql_";

/// Bytes of the id, and of the secret after it.
const ID: usize = 16;
const SECRET: usize = 32;

/// A token's text: whoever has it is let in. `Debug` does not show it.
#[derive(Clone)]
pub struct Secret {
    id: TokenId,
    bytes: [u8; SECRET],
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Secret {
    /// A new secret for this token, from the system's own randomness.
    ///
    /// # Errors
    ///
    /// Where the system has none to give.
    pub fn generate(id: TokenId) -> Result<Self, std::io::Error> {
        let mut bytes = [0; SECRET];
        getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
        Ok(Self { id, bytes })
    }

    /// Reads the text of a token; none where it is no such text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let encoded = text.strip_prefix(PREFIX)?;
        // 48 bytes are 64 characters; the buffer takes what a shorter or longer text would fill.
        let mut buffer = [0; ID + SECRET + 3];
        let length = URL_SAFE_NO_PAD.decode_slice(encoded, &mut buffer).ok()?;
        let (id, secret) = buffer.get(..length)?.split_at_checked(ID)?;
        Some(Self {
            id: TokenId::from_uuid(Uuid::from_bytes(id.try_into().ok()?)),
            bytes: secret.try_into().ok()?,
        })
    }

    /// The token's id.
    #[must_use]
    pub const fn id(&self) -> TokenId {
        self.id
    }

    /// The text, for the one who is given it and for nobody else.
    #[must_use]
    pub fn reveal(&self) -> String {
        let mut whole = [0; ID + SECRET];
        let (id, secret) = whole.split_at_mut(ID);
        id.copy_from_slice(self.id.uuid().as_bytes());
        secret.copy_from_slice(&self.bytes);
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(whole))
    }

    /// Whether this is the secret of that hash; takes the same time whatever the answer.
    #[must_use]
    pub fn fits(&self, known: &SecretHash) -> bool {
        hash(self).0.ct_eq(&known.0).into()
    }
}

/// What the store keeps of a secret.
#[must_use]
pub fn hash(secret: &Secret) -> SecretHash {
    SecretHash(Sha256::digest(secret.bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_back_and_fits_only_its_own_hash() {
        let id = TokenId::from_uuid(Uuid::now_v7());
        let one = Secret::generate(id).unwrap();
        let other = Secret::generate(id).unwrap();
        let text = one.reveal();
        assert_eq!(text.len(), PREFIX.len() + 64);
        let read = Secret::parse(&text).unwrap();
        assert_eq!(read.id(), id);
        assert!(read.fits(&hash(&one)));
        assert!(!other.fits(&hash(&one)));
        assert!(!format!("{one:?}").contains(&text[PREFIX.len() + 22..]));
    }

    #[test]
    fn nothing_else_is_a_token() {
        let whole = Secret::generate(TokenId::from_uuid(Uuid::nil()))
            .unwrap()
            .reveal();
        for text in [
            "",
            PREFIX,
            "runql",
            &whole[1..],
            &whole[..whole.len() - 1],
            &format!("{whole}A"),
            &format!("{whole}AAAAAAAA"),
            &format!("{}!", &whole[..whole.len() - 1]),
            &whole.replace(PREFIX, "other_"),
            &format!("{PREFIX}{}", "A".repeat(1_000_000)),
        ] {
            assert!(Secret::parse(text).is_none(), "{text}");
        }
    }
}
