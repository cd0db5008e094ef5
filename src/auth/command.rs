//! `runql token`: tokens from the command line, beside a server that runs or without one.

use std::io::{self, Write};

use super::file::entry;
use super::secret::hash;
use super::tokens::{NewToken, Tokens};
use crate::clock::now;
use crate::config::TokenCommand;
use crate::domain::{Actor, RunLimits, Scope, Timestamp, Token, TokenId};
use crate::store::{Store, StoreOptions};

/// Why a command on tokens was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum TokenCommandError {
    /// No token is called so.
    #[error("there is no token `{0}`; `runql token list` shows them")]
    NoSuchToken(String),
    /// The store could not be opened.
    #[error("the store cannot be opened")]
    Open(#[source] crate::store::OpenError),
    /// The token was not made or changed.
    #[error(transparent)]
    Token(#[from] super::tokens::NewTokenError),
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] crate::store::StoreError),
    /// Nothing could be printed.
    #[error("standard output cannot be written")]
    Output(#[from] io::Error),
}

/// Carries out a command, and prints what came of it to `out`. A secret is all that goes to its line, so that a shell can
/// take it.
///
/// # Errors
///
/// [`TokenCommandError`]; nothing was changed then.
pub async fn carry_out(
    command: TokenCommand,
    database_url: &str,
    out: &mut (dyn Write + Send),
) -> Result<(), TokenCommandError> {
    let actor = Actor {
        name: operator(),
        token: None,
        address: None,
    };
    if let TokenCommand::Create {
        name,
        scopes,
        limits,
        lasts,
        entry: true,
    } = command
    {
        let new = NewToken {
            name,
            scopes,
            limits,
            expires_at: lasts.map(|lasts| now().after(lasts)),
        };
        let issued = new.issue(&actor.name)?;
        writeln!(
            out,
            "# The token, which is shown this once: {}",
            issued.secret.reveal()
        )?;
        write!(out, "{}", entry(&issued.token, &hash(&issued.secret)))?;
        return Ok(());
    }
    let options = StoreOptions::new(database_url);
    let (store, writer) = Store::open_beside(&options)
        .await
        .map_err(TokenCommandError::Open)?;
    let done = async {
        let tokens = Tokens::load(store.writer().clone(), store.reader().clone(), None, true).await?;
        on_store(command, &tokens, &actor, out).await
    };
    let done = tokio::select! {
        done = done => done,
        () = writer => Err(crate::store::StoreError::Closed.into()),
    };
    store.close().await;
    done
}

async fn on_store(
    command: TokenCommand,
    tokens: &Tokens,
    actor: &Actor,
    out: &mut (dyn Write + Send),
) -> Result<(), TokenCommandError> {
    match command {
        TokenCommand::Create {
            name,
            scopes,
            limits,
            lasts,
            ..
        } => {
            let new = NewToken {
                name,
                scopes,
                limits,
                expires_at: lasts.map(|lasts| now().after(lasts)),
            };
            let issued = tokens.create(new, actor).await?;
            writeln!(out, "{}", issued.secret.reveal())?;
        }
        TokenCommand::List { all } => {
            let listed = tokens.list().into_iter();
            print(
                &listed
                    .filter(|token| all || token.revoked_at.is_none())
                    .collect::<Vec<_>>(),
                out,
            )?;
        }
        TokenCommand::Rotate { token, keep } => {
            let id = find(tokens, &token)?;
            let issued = tokens.rotate(id, keep, actor).await?;
            writeln!(out, "{}", issued.secret.reveal())?;
        }
        TokenCommand::Revoke { token } => {
            let revoked = tokens.revoke(find(tokens, &token)?, actor).await?;
            writeln!(out, "revoked {} ({})", revoked.name, revoked.id)?;
        }
    }
    Ok(())
}

/// The token of this name that is not revoked, or of this id.
fn find(tokens: &Tokens, text: &str) -> Result<TokenId, TokenCommandError> {
    let listed = tokens.list();
    let named = listed
        .iter()
        .find(|token| token.name == text && token.revoked_at.is_none());
    let by_id = || {
        let id: TokenId = text.parse().ok()?;
        listed.iter().find(|token| token.id == id)
    };
    let found = named.or_else(by_id).map(|token| token.id);
    found.ok_or_else(|| TokenCommandError::NoSuchToken(text.to_owned()))
}

fn print(tokens: &[Token], out: &mut (dyn Write + Send)) -> io::Result<()> {
    let heads = [
        "NAME",
        "SCOPES",
        "LIMITED TO",
        "EXPIRES",
        "LAST USED",
        "STATE",
        "ID",
    ]
    .map(str::to_owned);
    let at = now();
    let rows: Vec<[String; 7]> = tokens
        .iter()
        .map(|token| {
            let scopes: Vec<_> = token
                .scopes
                .iter()
                .map(|scope| Scope::as_str(scope).to_lowercase())
                .collect();
            let state = match token {
                Token {
                    revoked_at: Some(_), ..
                } => "revoked",
                token if token.is_valid(at) => "valid",
                _ => "expired",
            };
            [
                token.name.clone(),
                scopes.join(","),
                limits(&token.limits),
                moment(token.expires_at, "never"),
                moment(token.last_used_at, "never"),
                state.to_owned(),
                token.id.to_string(),
            ]
        })
        .collect();
    let width = |column: usize| {
        let cells = rows.iter().chain([&heads]).map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    for row in [&heads].into_iter().chain(&rows) {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

fn limits(limits: &RunLimits) -> String {
    let kinds = limits
        .kinds
        .iter()
        .map(|kind| format!("kind:{}", kind.as_str().to_lowercase()));
    let names = limits.names.iter().map(|name| format!("name:{name}"));
    let queues = limits.queues.iter().map(|queue| format!("queue:{queue}"));
    let all: Vec<String> = kinds.chain(names).chain(queues).collect();
    if all.is_empty() {
        "-".to_owned()
    } else {
        all.join(",")
    }
}

fn moment(moment: Option<Timestamp>, none: &str) -> String {
    let text = moment.and_then(|moment| chrono::DateTime::from_timestamp_micros(moment.micros()));
    text.map_or_else(
        || none.to_owned(),
        |moment| moment.format("%Y-%m-%d %H:%M").to_string(),
    )
}

/// Who called the command line, for the audit log.
fn operator() -> String {
    let user = std::env::var("SUDO_USER").or_else(|_| std::env::var("USER")).ok();
    match user.filter(|user| !user.is_empty() && !user.chars().any(char::is_control)) {
        Some(user) => format!("command line ({user})"),
        None => "command line".to_owned(),
    }
}
