//! A transaction over one connection. What nobody waits for yet goes with the next statement that somebody waits for,
//! in one message; the beginning goes with the first, and the end with the last, which is another one.

use std::collections::BTreeMap;

use sea_orm::{DbErr, QueryResult, Statement};
use tokio::sync::Mutex;

use super::script::{Answer, Failed, Script};
use super::{Connections, Lent, failed, over};
use crate::store::bounded::within;

/// The place of a statement whose answer is awaited later.
#[derive(Debug)]
pub(in crate::store) struct Asked(usize);

/// A transaction. Dropped before its end it is rolled back with its connection, which is closed.
#[derive(Debug)]
pub(in crate::store) struct PgTransaction {
    connections: Connections,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// None once it is over.
    lent: Option<Lent>,
    /// Whether the server knows of it.
    begun: bool,
    /// What was not sent yet, each with its place where its answer is wanted.
    ahead: Vec<(Statement, Option<usize>)>,
    /// The place of the next one.
    next: usize,
    /// Answers that nobody has awaited yet.
    answers: BTreeMap<usize, Answer>,
}

impl PgTransaction {
    pub(super) fn new(connections: Connections, lent: Lent) -> Self {
        Self {
            connections,
            state: Mutex::new(State {
                lent: Some(lent),
                begun: false,
                ahead: Vec::new(),
                next: 0,
                answers: BTreeMap::new(),
            }),
        }
    }

    /// Leaves a statement to go with the next one. Where it fails, that one does.
    pub(in crate::store) async fn later(&self, statement: Statement) {
        self.state.lock().await.ahead.push((statement, None));
    }

    /// The same, for one whose answer will be wanted.
    pub(in crate::store) async fn ask(&self, statement: Statement) -> Asked {
        self.state.lock().await.ask(statement)
    }

    /// The rows that a statement has answered with.
    pub(in crate::store) async fn answer(&self, asked: Asked) -> Result<Vec<QueryResult>, DbErr> {
        Ok(self.awaited(asked).await?.rows)
    }

    /// All that a statement answers.
    pub(in crate::store) async fn rows(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let asked = self.ask(statement).await;
        self.answer(asked).await
    }

    /// Writes; gives how many rows it changed.
    pub(in crate::store) async fn execute(&self, statement: Statement) -> Result<u64, DbErr> {
        let asked = self.ask(statement).await;
        Ok(self.awaited(asked).await?.changed)
    }

    /// Runs statements that have no values, one after the other.
    pub(in crate::store) async fn batch(&self, sql: &str) -> Result<(), DbErr> {
        self.send(Some(sql), false).await.map_err(|failed| failed.error)
    }

    /// Commits, and gives the rows of a statement that nobody has awaited yet.
    pub(in crate::store) async fn commit(self, last: Option<Asked>) -> Result<Vec<QueryResult>, Failed> {
        // Never by the first message: that one finds out whether the connection was lost since it was used last, and
        // then it must be sure that nothing was done.
        if !self.state.lock().await.begun {
            self.send(None, false).await?;
        }
        self.send(Some("COMMIT"), true).await?;
        let mut state = self.state.lock().await;
        let answer = last.and_then(|Asked(place)| state.answers.remove(&place));
        if let Some(lent) = state.lent.take() {
            self.connections.keep(lent);
        }
        Ok(answer.unwrap_or_default().rows)
    }

    /// Rolls back, which keeps the connection.
    pub(in crate::store) async fn roll_back(self) -> Result<(), DbErr> {
        let begun = {
            let mut state = self.state.lock().await;
            state.ahead.clear();
            state.begun
        };
        if begun {
            self.batch("ROLLBACK").await?;
        }
        if let Some(lent) = self.state.lock().await.lent.take() {
            self.connections.keep(lent);
        }
        Ok(())
    }

    async fn awaited(&self, Asked(place): Asked) -> Result<Answer, DbErr> {
        if let Some(answer) = self.state.lock().await.answers.remove(&place) {
            return Ok(answer);
        }
        self.send(None, false).await.map_err(|failed| failed.error)?;
        let answer = self.state.lock().await.answers.remove(&place);
        answer.ok_or_else(over)
    }

    /// Sends what was not sent yet, and these words.
    async fn send(&self, words: Option<&str>, ends: bool) -> Result<(), Failed> {
        let Connections(shared) = &self.connections;
        let sent = async { Ok(self.state.lock().await.send(words, ends).await) };
        // Boxed, since all who await this would be as large as it.
        let answered = within(shared.bound, &shared.distrust, Box::pin(sent)).await;
        answered.unwrap_or_else(|error| Err(Failed { error, is_open: ends }))
    }
}

impl State {
    fn ask(&mut self, statement: Statement) -> Asked {
        let place = self.next;
        self.next += 1;
        self.ahead.push((statement, Some(place)));
        Asked(place)
    }

    async fn send(&mut self, words: Option<&str>, ends: bool) -> Result<(), Failed> {
        let ahead = std::mem::take(&mut self.ahead);
        let Lent {
            connection, ready, ..
        } = self.lent.as_mut().ok_or_else(|| before(over()))?;
        let mut script = Script::new(ready);
        if !self.begun {
            script.say("BEGIN");
        }
        // Whatever becomes of the message.
        self.begun = true;
        for (statement, place) in ahead {
            if Script::can_hold(&statement) {
                script.add(&statement, place);
                continue;
            }
            self.answers.extend(script.send(connection, false).await?);
            let answer = Answer::to(statement, connection).await;
            let answer = answer.map_err(|error| before(failed(error)))?;
            self.answers.extend(place.map(|place| (place, answer)));
            script = Script::new(ready);
        }
        if let Some(words) = words {
            script.say(words);
        }
        self.answers.extend(script.send(connection, ends).await?);
        Ok(())
    }
}

impl Drop for PgTransaction {
    fn drop(&mut self) {
        if let Some(lent) = &mut self.state.get_mut().lent {
            lent.connection.close_on_drop();
        }
    }
}

/// A failure that comes before anything lasting was sent.
const fn before(error: DbErr) -> Failed {
    Failed {
        error,
        is_open: false,
    }
}
