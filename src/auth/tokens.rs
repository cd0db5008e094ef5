//! The service: makes, replaces, ends and lists tokens, and keeps the book up to date.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::book::{Book, REFRESH};
use super::file::TokenFile;
use super::secret::{Secret, hash};
use super::{Admitted, Denied, Lifetime};
use crate::clock::now;
use crate::domain::{
    Actor, AuditAction, AuditEntry, Caller, RunLimits, Scopes, Timestamp, Token, TokenId, TokenSecrets,
};
use crate::store::{
    Audited, CreateToken, Operation, Reader, RevokeToken, RotateToken, StoreError, TokenFault, TouchTokens,
    Writer,
};
use crate::telemetry::chain;

/// How often the moments of the last use are written.
const TOUCHED: Duration = Duration::from_secs(10);

/// The longest name, in bytes.
const LONGEST_NAME: usize = 255;

/// A token to be made.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// What people call it; no other token that is not revoked has this name.
    pub name: String,
    /// What it allows.
    pub scopes: Scopes,
    /// What RUN is narrowed to.
    pub limits: RunLimits,
    /// When it ends; none is never.
    pub expires_at: Option<Timestamp>,
}

/// Why a token was not made or changed.
#[derive(Debug, thiserror::Error)]
pub enum NewTokenError {
    /// Its name cannot be one.
    #[error("a token's name has 1 to {LONGEST_NAME} bytes without control characters")]
    Name,
    /// It would allow nothing.
    #[error("a token needs a scope at least: read, run, worker or admin")]
    NoScope,
    /// It would be over before it begins.
    #[error("a token cannot end in the past")]
    Past,
    /// It is narrowed in what it may not do at all.
    #[error("kinds, names and queues narrow the scope run, which this token does not have")]
    NothingToNarrow,
    /// The store says no.
    #[error(transparent)]
    Refused(TokenFault),
    /// The system gives no randomness.
    #[error("no secret could be made")]
    Random(#[source] std::io::Error),
    /// The store failed.
    #[error("the token could not be stored")]
    Store(#[from] StoreError),
}

/// A token that was made or replaced, with its secret, which nobody is told again.
#[derive(Debug)]
pub struct Issued {
    /// The token.
    pub token: Token,
    /// Its secret.
    pub secret: Secret,
}

impl NewToken {
    /// The token of this order, and its secret; nothing is stored.
    ///
    /// # Errors
    ///
    /// [`NewTokenError`], but for the store's.
    pub fn issue(self, created_by: &str) -> Result<Issued, NewTokenError> {
        let name_fits =
            (1..=LONGEST_NAME).contains(&self.name.len()) && !self.name.chars().any(char::is_control);
        if !name_fits {
            return Err(NewTokenError::Name);
        }
        if self.scopes.is_empty() {
            return Err(NewTokenError::NoScope);
        }
        if !self.limits.is_open() && !self.scopes.has(crate::domain::Scope::Run) {
            return Err(NewTokenError::NothingToNarrow);
        }
        let created_at = now();
        if self.expires_at.is_some_and(|end| end <= created_at) {
            return Err(NewTokenError::Past);
        }
        let id = TokenId::from_uuid(Uuid::now_v7());
        let secret = Secret::generate(id).map_err(NewTokenError::Random)?;
        let token = Token {
            id,
            name: self.name,
            scopes: self.scopes,
            limits: self.limits,
            created_at,
            created_by: created_by.to_owned(),
            expires_at: self.expires_at,
            revoked_at: None,
            rotated_at: None,
            last_used_at: None,
        };
        Ok(Issued { token, secret })
    }
}

/// All tokens. Cheap to clone; every clone is the same.
#[derive(Debug, Clone)]
pub struct Tokens(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    writer: Writer,
    reader: Reader,
    book: RwLock<Arc<Book>>,
    file: Mutex<Option<TokenFile>>,
    /// Whether everybody is asked for a token even where there was never one.
    always: bool,
    /// Cancelled once everybody is asked for a token.
    closed: CancellationToken,
    /// One refresh at a time.
    refreshing: tokio::sync::Mutex<()>,
}

impl Tokens {
    /// Reads the tokens that there are. With `always`, everybody is asked for one.
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the store failed.
    pub async fn load(
        writer: Writer,
        reader: Reader,
        file: Option<TokenFile>,
        always: bool,
    ) -> Result<Self, StoreError> {
        let tokens = Self(Arc::new(Shared {
            writer,
            reader,
            book: RwLock::default(),
            always: always || file.is_some(),
            file: Mutex::new(file),
            closed: CancellationToken::new(),
            refreshing: tokio::sync::Mutex::default(),
        }));
        tokens.refresh(true).await?;
        Ok(tokens)
    }

    fn book(&self) -> Arc<Book> {
        Arc::clone(&self.0.book.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether anybody is asked for a token.
    #[must_use]
    pub fn is_required(&self) -> bool {
        self.0.always || !self.book().is_empty()
    }

    /// How long whoever showed no token may stay: until the first token is made.
    pub(super) fn while_open(&self) -> Lifetime {
        Lifetime {
            ended: self.0.closed.clone(),
            until: None,
        }
    }

    /// Whether there is a token that lets somebody in now.
    #[must_use]
    pub fn any_valid(&self) -> bool {
        let now = now();
        self.book().tokens().any(|token| token.is_valid(now))
    }

    /// Every token there ever was, by name and then by age.
    #[must_use]
    pub fn list(&self) -> Vec<Token> {
        let mut tokens: Vec<Token> = self.book().tokens().collect();
        tokens.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        tokens
    }

    /// Makes a token.
    ///
    /// # Errors
    ///
    /// [`NewTokenError`]; nothing was stored then.
    pub async fn create(&self, new: NewToken, actor: &Actor) -> Result<Issued, NewTokenError> {
        let issued = new.issue(&actor.name)?;
        let operation = CreateToken {
            token: issued.token.clone(),
            hash: hash(&issued.secret),
        };
        let entry = entry(AuditAction::CreateToken, actor, &issued.token);
        self.write(operation, move |done: &Result<(), TokenFault>| {
            done.is_ok().then(|| entry.clone())
        })
        .await?
        .map_err(NewTokenError::Refused)?;
        Ok(issued)
    }

    /// Replaces a token's secret. The one before still counts for as long as `keep` says.
    ///
    /// # Errors
    ///
    /// [`NewTokenError`]; nothing was changed then.
    pub async fn rotate(
        &self,
        id: TokenId,
        keep: Option<Duration>,
        actor: &Actor,
    ) -> Result<Issued, NewTokenError> {
        let secret = Secret::generate(id).map_err(NewTokenError::Random)?;
        let now = now();
        let operation = RotateToken {
            id,
            hash: hash(&secret),
            keep_until: keep.filter(|keep| !keep.is_zero()).map(|keep| now.after(keep)),
            now,
        };
        let token = self.change(operation, AuditAction::RotateToken, actor).await?;
        Ok(Issued { token, secret })
    }

    /// Ends a token for good. What was opened with it is cut off: here at once, on other nodes within [`REFRESH`].
    ///
    /// # Errors
    ///
    /// [`NewTokenError`]; nothing was changed then.
    pub async fn revoke(&self, id: TokenId, actor: &Actor) -> Result<Token, NewTokenError> {
        let operation = RevokeToken { id, now: now() };
        self.change(operation, AuditAction::RevokeToken, actor).await
    }

    async fn change<O>(
        &self,
        operation: O,
        action: AuditAction,
        actor: &Actor,
    ) -> Result<Token, NewTokenError>
    where
        O: Operation<Output = Result<Token, TokenFault>>,
    {
        let actor = actor.clone();
        let note = move |done: &Result<Token, TokenFault>| {
            done.as_ref().ok().map(|token| entry(action, &actor, token))
        };
        self.write(operation, note).await?.map_err(NewTokenError::Refused)
    }

    /// Writes with a line in the audit log, and makes it count here at once.
    async fn write<O: Operation>(
        &self,
        operation: O,
        note: impl Fn(&O::Output) -> Option<AuditEntry> + Send + Sync + 'static,
    ) -> Result<O::Output, StoreError> {
        let note = Box::new(move |done: &O::Output| note(done).into_iter().collect());
        let done = self.0.writer.write(Audited { operation, note }).await?;
        if let Err(error) = self.refresh(false).await {
            tracing::warn!(error = %chain(&error), "the tokens could not be read again; it is tried each second");
        }
        Ok(done)
    }

    /// Finds out whose secret this is.
    pub(super) async fn admit(&self, bearer: &str, address: Option<IpAddr>) -> Result<Admitted, Denied> {
        let secret = Secret::parse(bearer).ok_or(Denied::Unknown)?;
        if let Some(Ok(admitted)) = self.look_up(&secret, address) {
            return Ok(admitted);
        }
        // It may have been made or rotated within the last second, by another process.
        self.refresh(false).await?;
        self.look_up(&secret, address).unwrap_or(Err(Denied::Unknown))
    }

    fn look_up(&self, secret: &Secret, address: Option<IpAddr>) -> Option<Result<Admitted, Denied>> {
        let book = self.book();
        let found = book.find(secret, now())?;
        Some(found.map(|(token, lifetime)| Admitted {
            caller: Arc::new(Caller {
                actor: Actor {
                    name: token.name.clone(),
                    token: Some(token.id),
                    address,
                },
                scopes: token.scopes,
                limits: token.limits.clone(),
                authenticated: true,
            }),
            lifetime,
        }))
    }

    /// Reads the tokens again where they have changed, or with `all` in any case.
    async fn refresh(&self, all: bool) -> Result<(), StoreError> {
        let _one = self.0.refreshing.lock().await;
        let file_changed = self.reread_file();
        // The version is read first: what changes in between is seen as a change the next time.
        let version = self.0.reader.token_version().await?;
        if !all && !file_changed && version == self.book().version {
            return Ok(());
        }
        let mut tokens = self.0.reader.tokens().await?;
        tokens.extend(self.of_file());
        let next = self.book().next(version, tokens, now());
        *self.0.book.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        if self.is_required() {
            self.0.closed.cancel();
        }
        Ok(())
    }

    fn of_file(&self) -> Vec<TokenSecrets> {
        let file = self.0.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.as_ref().map(|file| file.tokens.clone()).unwrap_or_default()
    }

    /// Whether the file has changed.
    fn reread_file(&self) -> bool {
        let mut file = self.0.file.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = &mut *file else { return false };
        let changed = file.read_again();
        match &changed {
            Ok(false) => {}
            Ok(true) => tracing::info!(tokens = file.tokens.len(), "the tokens file was read again"),
            Err(error) => {
                tracing::error!(error = %chain(error), "what the tokens file said before still counts");
            }
        }
        changed.unwrap_or(false)
    }

    /// Keeps the book up to date, and writes when tokens were used, until `stop`.
    pub async fn keep(self, stop: CancellationToken) {
        let mut noted = now();
        let mut asked = tokio::time::Instant::now();
        while stop
            .run_until_cancelled(tokio::time::sleep(REFRESH))
            .await
            .is_some()
        {
            if let Err(error) = self.refresh(false).await {
                tracing::debug!(error = %chain(&error), "the tokens could not be read again");
            }
            if asked.elapsed() >= TOUCHED {
                asked = tokio::time::Instant::now();
                noted = self.touch(noted).await;
            }
        }
        self.touch(noted).await;
    }

    async fn touch(&self, since: Timestamp) -> Timestamp {
        let used = self.book().used_since(since);
        let Some(latest) = used.iter().map(|(_, at)| *at).max() else {
            return since;
        };
        match self.0.writer.write(TouchTokens { used }).await {
            Ok(()) => latest,
            Err(error) => {
                tracing::debug!(error = %chain(&error), "the last use of tokens could not be noted");
                since
            }
        }
    }
}

fn entry(action: AuditAction, actor: &Actor, token: &Token) -> AuditEntry {
    let mut detail = serde_json::Map::new();
    detail.insert("name".to_owned(), token.name.clone().into());
    if action == AuditAction::CreateToken {
        let scopes: Vec<&str> = token.scopes.iter().map(crate::domain::Scope::as_str).collect();
        detail.insert("scopes".to_owned(), scopes.into());
    }
    AuditEntry {
        id: Uuid::now_v7(),
        at: now(),
        action,
        actor: actor.clone(),
        target: Some(token.id.uuid()),
        detail,
    }
}
