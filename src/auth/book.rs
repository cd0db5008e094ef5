//! All tokens, in memory: who is let in is decided without the store.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Denied, Lifetime};
use crate::auth::Secret;
use crate::domain::{SecretHash, Timestamp, Token, TokenId, TokenSecrets};

/// How often each node asks whether tokens changed.
pub const REFRESH: Duration = Duration::from_secs(1);

/// The tokens of one moment.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) version: i64,
    entries: HashMap<TokenId, Entry>,
}

/// One token, with what is open in its name.
#[derive(Debug)]
struct Entry {
    secrets: TokenSecrets,
    /// By each secret that counts or did: cancelled once it does not any more.
    open: Vec<(SecretHash, CancellationToken)>,
    used: AtomicI64,
}

impl Book {
    /// The next book, which takes over what is open. What may not stay open is cut off.
    pub(super) fn next(
        &self,
        version: i64,
        tokens: impl IntoIterator<Item = TokenSecrets>,
        now: Timestamp,
    ) -> Self {
        let entries: HashMap<TokenId, Entry> = tokens
            .into_iter()
            .map(|secrets| {
                let before = self.entries.get(&secrets.token.id);
                let used = before.map_or(0, |entry| entry.used.load(Ordering::Relaxed));
                let known = |hash: SecretHash| {
                    let open = before.and_then(|entry| entry.open.iter().find(|(other, _)| *other == hash));
                    open.map_or_else(CancellationToken::new, |(_, open)| open.clone())
                };
                let mut open = vec![(secrets.hash, known(secrets.hash))];
                if let Some((hash, _)) = secrets.previous {
                    open.push((hash, known(hash)));
                }
                if !secrets.token.is_valid(now) {
                    open.iter().for_each(|(_, open)| open.cancel());
                }
                let entry = Entry {
                    used: used.into(),
                    open,
                    secrets,
                };
                (entry.secrets.token.id, entry)
            })
            .collect();
        // Whatever was open by a secret that is in no entry any more was replaced, or its token is gone.
        for (id, entry) in &self.entries {
            let stays = entries.get(id).map_or(&[][..], |entry| &entry.open[..]);
            for (hash, open) in &entry.open {
                if stays.iter().all(|(other, _)| other != hash) {
                    open.cancel();
                }
            }
        }
        Self { version, entries }
    }

    /// Whether there was ever a token: from then on everybody is asked for one, also when the last is revoked.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Every token, in no order.
    pub(super) fn tokens(&self) -> impl Iterator<Item = Token> {
        self.entries.values().map(|entry| {
            let mut token = entry.secrets.token.clone();
            let used = entry.used.load(Ordering::Relaxed);
            token.last_used_at = token
                .last_used_at
                .max((used > 0).then(|| Timestamp::from_micros(used)));
            token
        })
    }

    /// The token that this is the secret of; none where the book does not know its id.
    pub(super) fn find(&self, secret: &Secret, now: Timestamp) -> Option<Result<(&Token, Lifetime), Denied>> {
        let entry = self.entries.get(&secret.id())?;
        let secrets = &entry.secrets;
        let token = &secrets.token;
        let (hash, own_end) = match secrets.previous {
            _ if secret.fits(&secrets.hash) => (secrets.hash, None),
            Some((previous, until)) if secret.fits(&previous) => (previous, Some(until)),
            _ => return Some(Err(Denied::Unknown)),
        };
        if token.revoked_at.is_some() {
            return Some(Err(Denied::Revoked));
        }
        let until = [token.expires_at, own_end].into_iter().flatten().min();
        if until.is_some_and(|until| until <= now) {
            return Some(Err(Denied::Expired));
        }
        entry.used.fetch_max(now.micros(), Ordering::Relaxed);
        let open = entry.open.iter().find(|(other, _)| *other == hash);
        let ended = open.map(|(_, open)| open.clone()).unwrap_or_default();
        Some(Ok((token, Lifetime { ended, until })))
    }

    /// Which tokens were used since this moment, and when.
    pub(super) fn used_since(&self, since: Timestamp) -> Vec<(TokenId, Timestamp)> {
        let used = self.entries.iter().map(|(id, entry)| {
            let at = Timestamp::from_micros(entry.used.load(Ordering::Relaxed));
            (*id, at)
        });
        used.filter(|(_, at)| *at > since).collect()
    }
}
