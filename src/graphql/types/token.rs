//! Tokens, and who did what.

use async_graphql::{ID, Object, SimpleObject};

use super::payload::UserError;
use crate::auth::Issued;
use crate::domain;
use crate::executor::Refusal;
use crate::graphql::page::connection;
use crate::graphql::scalar::{DateTime, Json};
use crate::graphql::words::{AuditAction, JobKind, Scope};

/// A token, as it was when it was asked for.
#[derive(Debug, Clone)]
pub(in crate::graphql) struct Token(pub(in crate::graphql) domain::Token);

/// What a client signs its requests with. Its secret is told once, when it is made.
#[Object]
impl Token {
    /// A UUID, with which the token's text begins.
    async fn id(&self) -> ID {
        ID(self.0.id.to_string())
    }

    /// What people call it. No two tokens have one name, but for those that are revoked.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// What it allows. No scope includes another.
    async fn scopes(&self) -> Vec<Scope> {
        self.0.scopes.iter().map(Into::into).collect()
    }

    /// The kinds of jobs that it may run; empty where it may run all of them.
    async fn kinds(&self) -> Vec<JobKind> {
        self.0.limits.kinds.iter().copied().map(Into::into).collect()
    }

    /// The names of jobs that it may run, with * for any characters; empty where it may run all of them.
    async fn names(&self) -> Vec<&str> {
        self.0.limits.names.iter().map(domain::Pattern::as_str).collect()
    }

    /// The queues that it may use, with * for any characters; empty where it may use all of them.
    async fn queues(&self) -> Vec<&str> {
        self.0.limits.queues.iter().map(domain::Pattern::as_str).collect()
    }

    /// When it was made.
    async fn created_at(&self) -> DateTime {
        self.0.created_at.into()
    }

    /// Who made it: the name of another token, or who called the command line.
    async fn created_by(&self) -> &str {
        &self.0.created_by
    }

    /// When it ends; null where it does not end by itself.
    async fn expires_at(&self) -> Option<DateTime> {
        self.0.expires_at.map(Into::into)
    }

    /// When it was revoked.
    async fn revoked_at(&self) -> Option<DateTime> {
        self.0.revoked_at.map(Into::into)
    }

    /// When its secret was last replaced.
    async fn rotated_at(&self) -> Option<DateTime> {
        self.0.rotated_at.map(Into::into)
    }

    /// When it last let somebody in, give or take some seconds.
    async fn last_used_at(&self) -> Option<DateTime> {
        self.0.last_used_at.map(Into::into)
    }
}

/// What `createToken`, `rotateToken` and `revokeToken` did.
#[derive(Default, SimpleObject)]
pub(in crate::graphql) struct TokenPayload {
    /// The token; null where `errors` says why there is none.
    token: Option<Token>,
    /// The token's text, with which requests are signed. It is told this once, and kept nowhere; null where none was
    /// made.
    secret: Option<String>,
    /// What was refused; then nothing was changed.
    errors: Vec<UserError>,
}

impl TokenPayload {
    pub(in crate::graphql) fn issued(issued: &Issued) -> Self {
        Self {
            token: Some(Token(issued.token.clone())),
            secret: Some(issued.secret.reveal()),
            errors: Vec::new(),
        }
    }

    pub(in crate::graphql) fn done(token: domain::Token) -> Self {
        Self {
            token: Some(Token(token)),
            ..Self::default()
        }
    }

    pub(in crate::graphql) fn refused(refusal: Refusal) -> Self {
        Self {
            errors: vec![UserError::of_input(refusal)],
            ..Self::default()
        }
    }
}

/// A line of the audit log.
#[derive(Debug, Clone)]
pub(in crate::graphql) struct AuditEntry(pub(in crate::graphql) domain::AuditEntry);

/// Something that was done through this server. What a job runs with is not told here: arguments and variables may be
/// secret.
#[Object]
impl AuditEntry {
    /// A UUID; ids sort by the moment.
    async fn id(&self) -> ID {
        ID(self.0.id.to_string())
    }

    /// When it was done.
    async fn at(&self) -> DateTime {
        self.0.at.into()
    }

    /// What was done.
    async fn action(&self) -> AuditAction {
        self.0.action.into()
    }

    /// Who did it: the name of a token, the subject of an identity provider, who called the command line, or
    /// `anonymous` where the server asks nobody who they are.
    async fn actor(&self) -> &str {
        &self.0.actor.name
    }

    /// The id of the token; null where it was none.
    async fn token_id(&self) -> Option<ID> {
        self.0.actor.token.map(|id| ID(id.to_string()))
    }

    /// The address that the request came from; null for the command line.
    async fn address(&self) -> Option<String> {
        self.0.actor.address.map(|address| address.to_string())
    }

    /// The id of the job, worker or token that it was done to; null where it was none of them.
    async fn target_id(&self) -> Option<ID> {
        self.0.target.map(|id| ID(id.to_string()))
    }

    /// What else there is to say, as an object: of a job its kind, name and queue.
    async fn detail(&self) -> Json {
        Json(serde_json::Value::Object(self.0.detail.clone()))
    }
}

connection! {
    /// A page of the audit log, the latest first.
    AuditEntryConnection,
    /// A line of the audit log with its place.
    AuditEntryEdge of AuditEntry,
    {}
}
