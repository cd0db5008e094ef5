//! Tokens: made, replaced, ended, and read by those who let people in.

use entity::{meta, token};
use futures_util::future::BoxFuture;
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder};

use super::dialect;
use super::error::StoreError;
use super::read::Reader;
use super::transaction::{InTx, SelectInTx};
use super::tx::Tx;
use super::writer::Operation;
use crate::domain::{RunLimits, Scope, Scopes, SecretHash, Timestamp, Token, TokenId, TokenSecrets};

/// Tokens that are not revoked: each node keeps all of them in memory.
pub const MOST_TOKENS: u64 = 10_000;

/// Where the store counts the changes of tokens, so that nodes learn of each other's.
const VERSION: &str = "token_version";

/// Why a token was not made or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// There is none.
    #[error("there is no token {0}")]
    Unknown(TokenId),
    /// It has ended.
    #[error("the token `{0}` is revoked already")]
    Revoked(String),
    /// Another one is called so.
    #[error("there is a token `{0}` already: choose another name, rotate that one, or revoke it first")]
    NameTaken(String),
    /// There are as many as there may be.
    #[error("{MOST_TOKENS} tokens are not revoked, which is the limit: revoke those that nobody uses")]
    TooMany,
}

async fn count_change(tx: &Tx) -> Result<(), StoreError> {
    let value = || Expr::col((meta::Entity, meta::Column::Value));
    meta::Entity::insert(meta::ActiveModel {
        key: Set(VERSION.to_owned()),
        value: Set(1),
    })
    .on_conflict(
        OnConflict::column(meta::Column::Key)
            .value(meta::Column::Value, value().add(1))
            .to_owned(),
    )
    .run_in(tx)
    .await?;
    Ok(())
}

/// The row of a token that is not revoked, which is about to be written.
async fn live(tx: &Tx, id: TokenId) -> Result<Result<token::Model, TokenFault>, StoreError> {
    let lock = dialect::for_update(tx.backend());
    let statement = tx.statement(
        &format!("SELECT * FROM token WHERE id = ?{lock}"),
        [id.uuid().into()],
    );
    let row = tx.row(statement).await?;
    let row = row.map(|row| row.model::<token::Model>()).transpose()?;
    Ok(match row {
        None => Err(TokenFault::Unknown(id)),
        Some(row) if row.revoked_at.is_some() => Err(TokenFault::Revoked(row.name)),
        Some(row) => Ok(row),
    })
}

/// Changes a token that is not revoked, and counts the change.
async fn change(
    tx: &Tx,
    id: TokenId,
    alter: impl FnOnce(&mut token::Model),
) -> Result<Result<Token, TokenFault>, StoreError> {
    let mut row = match live(tx, id).await? {
        Ok(row) => row,
        Err(fault) => return Ok(Err(fault)),
    };
    alter(&mut row);
    token::Entity::update_many()
        .col_expr(token::Column::Hash, Expr::value(row.hash.clone()))
        .col_expr(
            token::Column::PreviousHash,
            Expr::value(row.previous_hash.clone()),
        )
        .col_expr(token::Column::PreviousUntil, Expr::value(row.previous_until))
        .col_expr(token::Column::RotatedAt, Expr::value(row.rotated_at))
        .col_expr(token::Column::RevokedAt, Expr::value(row.revoked_at))
        .filter(token::Column::Id.eq(row.id))
        .run_in(tx)
        .await?;
    count_change(tx).await?;
    Ok(Ok(secrets(row)?.token))
}

/// Makes a token.
#[derive(Debug)]
pub struct CreateToken {
    /// All but its secret.
    pub token: Token,
    /// The hash of its secret.
    pub hash: SecretHash,
}

impl Operation for CreateToken {
    type Output = Result<(), TokenFault>;

    fn apply<'t>(&'t self, tx: &'t mut Tx) -> BoxFuture<'t, Result<Self::Output, StoreError>> {
        Box::pin(async move {
            // Two nodes that make a token of one name at once are told by the index, as a fault; in order they see
            // each other.
            tx.order().await?;
            let token = &self.token;
            let unrevoked = token::Entity::find().filter(token::Column::RevokedAt.is_null());
            let same = unrevoked.clone().filter(token::Column::Name.eq(&token.name));
            if same.one_in(tx).await?.is_some() {
                return Ok(Err(TokenFault::NameTaken(token.name.clone())));
            }
            if unrevoked.count_in(tx).await? >= MOST_TOKENS {
                return Ok(Err(TokenFault::TooMany));
            }
            let limits = (!token.limits.is_open())
                .then(|| serde_json::to_string(&token.limits))
                .transpose()?;
            let scopes: Vec<&str> = token.scopes.iter().map(Scope::as_str).collect();
            token::Entity::insert(token::ActiveModel {
                id: Set(token.id.uuid()),
                name: Set(token.name.clone()),
                hash: Set(self.hash.0.to_vec()),
                previous_hash: Set(None),
                previous_until: Set(None),
                scopes: Set(scopes.join(",")),
                limits: Set(limits),
                created_at: Set(token.created_at.micros()),
                created_by: Set(token.created_by.clone()),
                expires_at: Set(token.expires_at.map(Timestamp::micros)),
                revoked_at: Set(None),
                rotated_at: Set(None),
                last_used_at: Set(None),
            })
            .run_in(tx)
            .await?;
            count_change(tx).await?;
            Ok(Ok(()))
        })
    }
}

/// Replaces a token's secret.
#[derive(Debug)]
pub struct RotateToken {
    /// The token.
    pub id: TokenId,
    /// The hash of its new secret.
    pub hash: SecretHash,
    /// Until when the secret before still counts; none ends it at once.
    pub keep_until: Option<Timestamp>,
    /// When.
    pub now: Timestamp,
}

impl Operation for RotateToken {
    type Output = Result<Token, TokenFault>;

    fn apply<'t>(&'t self, tx: &'t mut Tx) -> BoxFuture<'t, Result<Self::Output, StoreError>> {
        Box::pin(async move {
            change(tx, self.id, |row| {
                let before = std::mem::replace(&mut row.hash, self.hash.0.to_vec());
                row.previous_hash = self.keep_until.map(|_| before);
                row.previous_until = self.keep_until.map(Timestamp::micros);
                row.rotated_at = Some(self.now.micros());
            })
            .await
        })
    }
}

/// Ends a token for good.
#[derive(Debug)]
pub struct RevokeToken {
    /// The token.
    pub id: TokenId,
    /// When.
    pub now: Timestamp,
}

impl Operation for RevokeToken {
    type Output = Result<Token, TokenFault>;

    fn apply<'t>(&'t self, tx: &'t mut Tx) -> BoxFuture<'t, Result<Self::Output, StoreError>> {
        Box::pin(async move { change(tx, self.id, |row| row.revoked_at = Some(self.now.micros())).await })
    }
}

/// Notes when tokens were used last.
#[derive(Debug)]
pub struct TouchTokens {
    /// The tokens, each with its moment.
    pub used: Vec<(TokenId, Timestamp)>,
}

impl Operation for TouchTokens {
    type Output = ();

    fn apply<'t>(&'t self, tx: &'t mut Tx) -> BoxFuture<'t, Result<(), StoreError>> {
        Box::pin(async move {
            for (id, at) in &self.used {
                token::Entity::update_many()
                    .col_expr(token::Column::LastUsedAt, Expr::value(at.micros()))
                    .filter(token::Column::Id.eq(id.uuid()))
                    .filter(
                        token::Column::LastUsedAt
                            .is_null()
                            .or(token::Column::LastUsedAt.lt(at.micros())),
                    )
                    .run_in(tx)
                    .await?;
            }
            Ok(())
        })
    }
}

impl Reader {
    /// Counts up with each token that is made, rotated or revoked; 0 before the first.
    ///
    /// # Errors
    ///
    /// See [`Reader::job`].
    pub async fn token_version(&self) -> Result<i64, StoreError> {
        let row = meta::Entity::find_by_id(VERSION).one(&self.db).await?;
        Ok(row.map_or(0, |row| row.value))
    }

    /// Every token there ever was, by name and then by age.
    ///
    /// # Errors
    ///
    /// See [`Reader::job`].
    pub async fn tokens(&self) -> Result<Vec<TokenSecrets>, StoreError> {
        all(&self.db).await
    }
}

async fn all(db: &impl ConnectionTrait) -> Result<Vec<TokenSecrets>, StoreError> {
    let rows = token::Entity::find()
        .order_by_asc(token::Column::Name)
        .order_by_asc(token::Column::Id)
        .all(db)
        .await?;
    rows.into_iter().map(secrets).collect()
}

fn secrets(row: token::Model) -> Result<TokenSecrets, StoreError> {
    let hash = |bytes: Vec<u8>| {
        <[u8; 32]>::try_from(bytes)
            .map(SecretHash)
            .map_err(|_| StoreError::Unreadable("the hash of a token".to_owned()))
    };
    let scopes: Scopes = row
        .scopes
        .split(',')
        .filter(|word| !word.is_empty())
        .map(str::parse::<Scope>)
        .collect::<Result<_, _>>()?;
    let limits: Option<RunLimits> = row.limits.as_deref().map(serde_json::from_str).transpose()?;
    let previous = row.previous_hash.map(hash).transpose()?;
    Ok(TokenSecrets {
        hash: hash(row.hash)?,
        previous: previous.zip(row.previous_until.map(Timestamp::from_micros)),
        token: Token {
            id: TokenId::from_uuid(row.id),
            name: row.name,
            scopes,
            limits: limits.unwrap_or_default(),
            created_at: Timestamp::from_micros(row.created_at),
            created_by: row.created_by,
            expires_at: row.expires_at.map(Timestamp::from_micros),
            revoked_at: row.revoked_at.map(Timestamp::from_micros),
            rotated_at: row.rotated_at.map(Timestamp::from_micros),
            last_used_at: row.last_used_at.map(Timestamp::from_micros),
        },
    })
}
