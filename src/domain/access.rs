//! Who asks, what they may do, and what is noted of it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::command::JobKind;
use super::id::TokenId;
use super::pattern::Pattern;
use super::time::Timestamp;
use super::word::words;

words! {
    /// A right that a token gives. None of them includes another.
    Scope, "scope" {
        /// Queries and subscriptions.
        Read = "READ",
        /// Run, cancel and rerun jobs.
        Run = "RUN",
        /// Register as a worker, claim and report.
        Worker = "WORKER",
        /// All else.
        Admin = "ADMIN",
    }
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u8);

impl Scopes {
    /// Every scope there is.
    #[must_use]
    pub fn all() -> Self {
        Scope::ALL.iter().copied().collect()
    }

    /// Whether it holds this one.
    #[must_use]
    pub const fn has(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u8) != 0
    }

    /// Whether it holds none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Its scopes, in the order of the schema.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.iter().copied().filter(move |scope| self.has(*scope))
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |all, scope| all | 1 << scope as u8))
    }
}

/// What RUN is narrowed to. Each list that has entries must have one that fits; an empty one allows everything.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunLimits {
    /// Kinds of jobs. The steps of a plan count one by one, and so does the plan.
    #[serde(with = "kinds", skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<JobKind>,
    /// Names of jobs, with `*` for any characters: of a script its path, of an agent or pipeline its target.
    #[serde(with = "patterns", skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<Pattern>,
    /// Queues, with `*` for any characters.
    #[serde(with = "patterns", skip_serializing_if = "Vec::is_empty")]
    pub queues: Vec<Pattern>,
}

impl RunLimits {
    /// Whether nothing is narrowed.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.kinds.is_empty() && self.names.is_empty() && self.queues.is_empty()
    }

    /// What stands against a job of this kind, name and queue, in words for the caller; none where it is allowed.
    /// A plan has no name of its own to be allowed by; its steps have theirs.
    #[must_use]
    pub fn against(&self, kind: JobKind, name: &str, queue: &str) -> Option<String> {
        let fits = |patterns: &[Pattern], text: &str| {
            patterns.is_empty() || patterns.iter().any(|p| p.matches(text))
        };
        if !self.kinds.is_empty() && !self.kinds.contains(&kind) {
            return Some(format!("this token may not run jobs of the kind {kind}"));
        }
        if kind != JobKind::Plan && !fits(&self.names, name) {
            return Some(format!("this token may not run `{name}`"));
        }
        if !fits(&self.queues, queue) {
            return Some(format!("this token may not use the queue `{queue}`"));
        }
        None
    }
}

/// Lists of words, as a store and a file keep them.
mod words_of {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn write<T: Display, S: Serializer>(list: &[T], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(list.iter().map(ToString::to_string))
    }

    pub(super) fn read<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<T>, D::Error> {
        let list = Vec::<String>::deserialize(deserializer)?;
        list.iter()
            .map(|word| {
                word.parse()
                    .map_err(|error| D::Error::custom(format!("`{word}`: {error}")))
            })
            .collect()
    }
}
mod kinds {
    pub(super) use super::words_of::{read as deserialize, write as serialize};
}
mod patterns {
    pub(super) use super::words_of::{read as deserialize, write as serialize};
}

/// A token as the server knows it: all but the secret, of which only a hash is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its id, which is part of the token's text.
    pub id: TokenId,
    /// What people call it.
    pub name: String,
    /// What it allows.
    pub scopes: Scopes,
    /// What RUN is narrowed to.
    pub limits: RunLimits,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// When it ends; none is never.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// When its secret was last replaced.
    pub rotated_at: Option<Timestamp>,
    /// When it last let somebody in, give or take some seconds.
    pub last_used_at: Option<Timestamp>,
}

impl Token {
    /// Whether it lets anybody in at this moment.
    #[must_use]
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }
}

/// SHA-256 of a token's secret. The secret is 256 random bits, so no slower hash is needed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretHash(pub [u8; 32]);

impl std::fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretHash")
    }
}

/// What a presented secret is compared with.
#[derive(Debug, Clone)]
pub struct TokenSecrets {
    /// The token.
    pub token: Token,
    /// The hash of its secret.
    pub hash: SecretHash,
    /// The secret before the last rotation, with the moment until which it still counts.
    pub previous: Option<(SecretHash, Timestamp)>,
}

/// Somebody who asks for something: for the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The token's name, the subject of an identity provider, or who they are without either.
    pub name: String,
    /// The token.
    pub token: Option<TokenId>,
    /// Where the request came from.
    pub address: Option<IpAddr>,
}

/// Who asks, and what they may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Who.
    pub actor: Actor,
    /// What they may do.
    pub scopes: Scopes,
    /// What RUN is narrowed to.
    pub limits: RunLimits,
    /// Whether they signed the request; false where the server asks nobody to.
    pub authenticated: bool,
}

impl Caller {
    /// Somebody whom the server does not ask who they are, and who may do everything.
    #[must_use]
    pub fn anybody(name: &str, address: Option<IpAddr>) -> Self {
        Self {
            actor: Actor {
                name: name.to_owned(),
                token: None,
                address,
            },
            scopes: Scopes::all(),
            limits: RunLimits::default(),
            authenticated: false,
        }
    }

    /// What they may do, as text: equal for all who may do the same, whoever they are and wherever they ask from.
    #[must_use]
    pub fn rights(&self) -> String {
        format!("{:?} {:?} {}", self.scopes, self.limits, self.authenticated)
    }
}

words! {
    /// What was done, in the audit log.
    AuditAction, "audit action" {
        /// A job was asked for.
        Run = "RUN",
        /// An ended job was asked for once more.
        Rerun = "RERUN",
        /// A job was to be stopped.
        Cancel = "CANCEL",
        /// Ended jobs were deleted.
        Cleanup = "CLEANUP",
        /// The number of a server's workers was changed.
        ScaleWorkers = "SCALE_WORKERS",
        /// A server's workers were let take jobs.
        StartWorkers = "START_WORKERS",
        /// A server's workers were told to take no jobs.
        StopWorkers = "STOP_WORKERS",
        /// A remote worker was made known.
        RegisterWorker = "REGISTER_WORKER",
        /// A token was made.
        CreateToken = "CREATE_TOKEN",
        /// A token's secret was replaced.
        RotateToken = "ROTATE_TOKEN",
        /// A token was ended.
        RevokeToken = "REVOKE_TOKEN",
    }
}

/// One line of the audit log.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEntry {
    /// Its id: a UUID of version 7, so that ids sort by the moment.
    pub id: uuid::Uuid,
    /// When.
    pub at: Timestamp,
    /// What.
    pub action: AuditAction,
    /// Who, and from where.
    pub actor: Actor,
    /// The job, worker or token that it was done to.
    pub target: Option<uuid::Uuid>,
    /// What else there is to say, as a JSON object; never an argument, a variable or a secret.
    pub detail: serde_json::Map<String, serde_json::Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_a_set() {
        let some: Scopes = [Scope::Read, Scope::Worker, Scope::Read].into_iter().collect();
        assert_eq!(some.iter().collect::<Vec<_>>(), [Scope::Read, Scope::Worker]);
        assert!(!some.has(Scope::Admin) && !some.is_empty());
        assert_eq!(Scopes::all().iter().count(), Scope::ALL.len());
        assert!(Scopes::default().is_empty());
    }

    #[test]
    fn limits_narrow_each_by_itself() {
        let limits: RunLimits =
            serde_json::from_str(r#"{"kinds":["SCRIPT","PLAN"],"names":["deploy/*"],"queues":["default"]}"#)
                .unwrap();
        assert_eq!(limits.against(JobKind::Script, "deploy/web.sh", "default"), None);
        assert_eq!(limits.against(JobKind::Plan, "plan", "default"), None);
        for (kind, name, queue, part) in [
            (JobKind::Shell, "deploy/x", "default", "kind SHELL"),
            (JobKind::Script, "other.sh", "default", "`other.sh`"),
            (JobKind::Script, "deploy/web.sh", "fast", "queue `fast`"),
        ] {
            let refused = limits.against(kind, name, queue).unwrap();
            assert!(refused.contains(part), "{refused}");
        }
        assert!(RunLimits::default().is_open());
        let text = serde_json::to_string(&limits).unwrap();
        assert_eq!(serde_json::from_str::<RunLimits>(&text).unwrap(), limits);
        assert!(serde_json::from_str::<RunLimits>(r#"{"kinds":["NONE"]}"#).is_err());
    }

    #[test]
    fn a_token_counts_until_its_end() {
        let token = |expires_at, revoked_at| Token {
            id: TokenId::from_uuid(uuid::Uuid::nil()),
            name: "ci".to_owned(),
            scopes: Scopes::all(),
            limits: RunLimits::default(),
            created_at: Timestamp::from_micros(0),
            created_by: "test".to_owned(),
            expires_at,
            revoked_at,
            rotated_at: None,
            last_used_at: None,
        };
        let (early, late) = (Timestamp::from_micros(10), Timestamp::from_micros(20));
        assert!(token(None, None).is_valid(early));
        assert!(token(Some(late), None).is_valid(early));
        assert!(!token(Some(late), None).is_valid(late));
        assert!(!token(None, Some(early)).is_valid(early));
    }
}
