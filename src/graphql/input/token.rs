//! The inputs of the mutations on tokens, and the filter of the audit log.

use async_graphql::{ID, InputObject};

use super::millis;
use crate::auth::NewToken;
use crate::domain::{Pattern, RunLimits, TokenId};
use crate::executor::{Refusal, RefusalCode};
use crate::graphql::error::{ApiError, ApiResult};
use crate::graphql::scalar::{DateTime, SafeInt};
use crate::graphql::words::{AuditAction, JobKind, Scope};
use crate::store::AuditFilter;

/// A token to be made.
#[derive(Debug, Clone, InputObject)]
pub(in crate::graphql) struct CreateTokenInput {
    /// What people call it, in 1 to 255 bytes.
    name: String,
    /// What it allows; one at least. No scope includes another.
    scopes: Vec<Scope>,
    /// When it ends; where left out, it does not end by itself.
    expires_at: Option<DateTime>,
    /// The kinds of jobs that it may run; where empty, all of them.
    #[graphql(default_with = "Some(Vec::new())")]
    kinds: Option<Vec<JobKind>>,
    /// The names of jobs that it may run, with * for any characters: of a script its path, of an agent or pipeline its
    /// target. Where empty, all of them.
    #[graphql(default_with = "Some(Vec::new())")]
    names: Option<Vec<String>>,
    /// The queues that it may use, with * for any characters; where empty, all of them.
    #[graphql(default_with = "Some(Vec::new())")]
    queues: Option<Vec<String>>,
}

impl CreateTokenInput {
    pub(in crate::graphql) fn into_new(self) -> Result<NewToken, Refusal> {
        Ok(NewToken {
            name: self.name,
            scopes: self.scopes.into_iter().map(Into::into).collect(),
            limits: RunLimits {
                kinds: self.kinds.into_iter().flatten().map(Into::into).collect(),
                names: patterns(self.names, "names")?,
                queues: patterns(self.queues, "queues")?,
            },
            expires_at: self.expires_at.map(|moment| moment.0),
        })
    }
}

fn patterns(texts: Option<Vec<String>>, path: &str) -> Result<Vec<Pattern>, Refusal> {
    let texts = texts.into_iter().flatten().enumerate();
    texts
        .map(|(index, text)| {
            text.parse().map_err(|error: crate::domain::NoPattern| {
                Refusal::new(
                    RefusalCode::Invalid,
                    &[path, &index.to_string()],
                    error.to_string(),
                )
            })
        })
        .collect()
}

/// The id of a token, as an input names it.
fn token_id(id: &ID) -> Result<TokenId, Refusal> {
    id.parse().map_err(|_| {
        let message = format!("`{}` is not the id of a token: ids are UUIDs", id.as_str());
        Refusal::new(RefusalCode::Invalid, &["id"], message)
    })
}

/// A token whose secret is to be replaced.
#[derive(Debug, Clone, InputObject)]
pub(in crate::graphql) struct RotateTokenInput {
    /// The token.
    id: ID,
    /// How long the secret before still counts, so that clients have time to change; 0 ends it at once.
    #[graphql(default_with = "Some(SafeInt(0))")]
    keep_ms: Option<SafeInt>,
}

impl RotateTokenInput {
    pub(in crate::graphql) fn id(&self) -> Result<TokenId, Refusal> {
        token_id(&self.id)
    }

    pub(in crate::graphql) fn keep(&self) -> Result<std::time::Duration, Refusal> {
        millis(self.keep_ms.unwrap_or(SafeInt(0)), &["keepMs"])
    }
}

/// A token that is to be ended for good.
#[derive(Debug, Clone, InputObject)]
pub(in crate::graphql) struct RevokeTokenInput {
    /// The token.
    id: ID,
}

impl RevokeTokenInput {
    pub(in crate::graphql) fn id(&self) -> Result<TokenId, Refusal> {
        token_id(&self.id)
    }
}

/// Which lines of the audit log are wanted; each part narrows it further.
#[derive(Debug, Clone, Default, InputObject)]
pub(in crate::graphql) struct AuditLogFilter {
    /// Those of this actor: the name of a token.
    actor: Option<String>,
    /// Those with one of these actions.
    actions: Option<Vec<AuditAction>>,
    /// Those about this job, worker or token.
    target_id: Option<ID>,
}

impl AuditLogFilter {
    pub(in crate::graphql) fn into_filter(self) -> ApiResult<AuditFilter> {
        let target = self.target_id.as_ref().map(|id| {
            id.parse()
                .map_err(|_| ApiError::input(format!("`{}` is no id: ids are UUIDs.", id.as_str())))
        });
        Ok(AuditFilter {
            actor: self.actor,
            actions: self.actions.into_iter().flatten().map(Into::into).collect(),
            target: target.transpose()?,
        })
    }
}
