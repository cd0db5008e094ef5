//! What the writer's transactions run on: the one connection to a SQLite file, or those to Postgres.

use sea_orm::sea_query::Expr;
use sea_orm::{
    DbBackend, DbErr, EntityTrait, QueryResult, QuerySelect, QueryTrait, Select, Statement, TryGetable, Value,
};

pub(super) use super::cells::Stored;
use super::cells::{FromCell, SqliteRow, model, model_of};
use super::error::StoreError;
use super::postgres::{Connections, PgAsked, PgTransaction};
use super::sqlite::{SqliteTransaction, SqliteWriter};
use super::tx::Tx;

/// What the writer writes with.
#[derive(Debug, Clone)]
pub(super) enum WriteAccess {
    /// One connection to a SQLite file.
    File(SqliteWriter),
    /// Connections to Postgres.
    Server(Connections),
}

impl WriteAccess {
    /// Begins a transaction. One on a file runs on the caller's thread, and holds it up.
    pub(super) async fn begin(&self) -> Result<Transaction, DbErr> {
        match self {
            Self::File(file) => file.begin().map(Transaction::File),
            Self::Server(server) => server
                .begin()
                .await
                .map(|begun| Transaction::Server(Box::new(begun))),
        }
    }

    /// Closes every connection.
    pub(super) async fn close(&self) -> Result<(), DbErr> {
        match self {
            Self::File(file) => file.close(),
            Self::Server(server) => {
                server.close().await;
                Ok(())
            }
        }
    }
}

/// A transaction, rolled back where it is dropped before its commit.
#[derive(Debug)]
pub(super) enum Transaction {
    File(SqliteTransaction),
    Server(Box<PgTransaction>),
}

impl Transaction {
    pub(super) fn backend(&self) -> DbBackend {
        match self {
            Self::File(_) => DbBackend::Sqlite,
            Self::Server(_) => DbBackend::Postgres,
        }
    }

    /// Writes; gives how many rows it changed.
    pub(super) async fn execute(&self, statement: Statement) -> Result<u64, DbErr> {
        match self {
            Self::File(transaction) => transaction.execute(&statement),
            Self::Server(transaction) => transaction.execute(statement).await,
        }
    }

    /// All that a statement answers.
    pub(super) async fn rows(&self, statement: Statement) -> Result<Vec<Row>, DbErr> {
        Ok(match self {
            Self::File(transaction) => {
                let rows = transaction.rows(&statement)?;
                rows.into_iter().map(Row::File).collect()
            }
            Self::Server(transaction) => of_server(transaction.rows(statement).await?),
        })
    }

    /// Writes, at the latest with the next statement whose answer is awaited.
    pub(super) async fn later(&self, statement: Statement) -> Result<(), DbErr> {
        match self {
            Self::File(transaction) => transaction.execute(&statement).map(|_| ()),
            Self::Server(transaction) => {
                transaction.later(statement).await;
                Ok(())
            }
        }
    }

    /// Asks for what [`answer`](Self::answer) gives. On Postgres all that was asked by then is asked in one message.
    pub(super) async fn ask(&self, statement: Statement) -> Result<Asked, DbErr> {
        Ok(match self {
            Self::File(_) => Asked::Answered(self.rows(statement).await?),
            Self::Server(transaction) => Asked::Server(transaction.ask(statement).await),
        })
    }

    /// The rows that a statement answers.
    pub(super) async fn answer(&self, asked: Asked) -> Result<Vec<Row>, DbErr> {
        match (self, asked) {
            (_, Asked::Answered(rows)) => Ok(rows),
            (Self::Server(transaction), Asked::Server(asked)) => {
                Ok(of_server(transaction.answer(asked).await?))
            }
            (Self::File(_), Asked::Server(_)) => Ok(Vec::new()),
        }
    }

    /// Runs a statement once for each row of values. Gives the number of the row that was inserted last where a file
    /// numbers them.
    pub(super) async fn each(&self, sql: &str, rows: Vec<Vec<Value>>) -> Result<Option<i64>, DbErr> {
        match self {
            Self::File(transaction) => transaction.each(sql, &rows).map(Some),
            Self::Server(transaction) => {
                for row in rows {
                    let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, row);
                    transaction.execute(statement).await?;
                }
                Ok(None)
            }
        }
    }

    /// Runs statements that have no values, one after the other.
    pub(super) async fn batch(&self, sql: &str) -> Result<(), DbErr> {
        match self {
            Self::File(transaction) => transaction.batch(sql),
            Self::Server(transaction) => transaction.batch(sql).await,
        }
    }

    /// Commits, and gives the rows of what was asked last, on Postgres by the same message. The error tells whether it may
    /// have been done all the same.
    pub(super) async fn commit(self, last: Option<Asked>) -> Result<Vec<Row>, CommitError> {
        match self {
            Self::File(transaction) => {
                transaction
                    .commit()
                    .map_err(|error| CommitError::of(error.into()))?;
                Ok(match last {
                    Some(Asked::Answered(rows)) => rows,
                    _ => Vec::new(),
                })
            }
            Self::Server(transaction) => {
                let last = last.and_then(|last| match last {
                    Asked::Server(asked) => Some(asked),
                    Asked::Answered(_) => None,
                });
                match transaction.commit(last).await {
                    Ok(rows) => Ok(of_server(rows)),
                    Err(failed) if failed.is_open => Err(CommitError::of(failed.error.into())),
                    Err(failed) => Err(CommitError::Before(failed.error.into())),
                }
            }
        }
    }

    /// Rolls back, as it is rolled back where it is dropped; on Postgres this keeps the connection.
    pub(super) async fn roll_back(self) -> Result<(), DbErr> {
        match self {
            Self::File(_) => Ok(()),
            Self::Server(transaction) => transaction.roll_back().await,
        }
    }
}

/// A statement whose answer is awaited later.
#[derive(Debug)]
pub(super) enum Asked {
    /// A file answers at once.
    Answered(Vec<Row>),
    Server(PgAsked),
}

/// A row of either.
#[derive(Debug)]
pub(super) enum Row {
    File(SqliteRow),
    Server(QueryResult),
}

impl Row {
    /// The value of a column.
    pub(super) fn get<T: FromCell + TryGetable>(&self, column: &str) -> Result<T, DbErr> {
        match self {
            Self::File(row) => row.get(column),
            Self::Server(row) => row.try_get("", column),
        }
    }

    /// The row of a table.
    pub(super) fn model<M: Stored>(&self) -> Result<M, DbErr> {
        match self {
            Self::File(row) => model(row),
            Self::Server(row) => model_of(row),
        }
    }
}

fn of_server(rows: Vec<QueryResult>) -> Vec<Row> {
    rows.into_iter().map(Row::Server).collect()
}

/// What the ORM builds, run in a transaction of the writer.
pub(super) trait InTx: QueryTrait + Sized {
    /// Writes; gives how many rows it changed.
    fn run_in(self, tx: &Tx) -> impl Future<Output = Result<u64, StoreError>> + Send {
        tx.execute(self.build(tx.backend()))
    }

    /// All that it answers.
    fn rows_in(self, tx: &Tx) -> impl Future<Output = Result<Vec<Row>, StoreError>> + Send {
        tx.rows(self.build(tx.backend()))
    }
}

impl<Q: QueryTrait> InTx for Q {}

/// What the ORM selects, in a transaction of the writer.
pub(super) trait SelectInTx<M>: Sized {
    /// All of it.
    fn all_in(self, tx: &Tx) -> impl Future<Output = Result<Vec<M>, StoreError>> + Send;
    /// The one row, or the first.
    fn one_in(self, tx: &Tx) -> impl Future<Output = Result<Option<M>, StoreError>> + Send;
    /// How many rows.
    fn count_in(self, tx: &Tx) -> impl Future<Output = Result<u64, StoreError>> + Send;
}

impl<E, M> SelectInTx<M> for Select<E>
where
    E: EntityTrait<Model = M>,
    M: Stored,
{
    async fn all_in(self, tx: &Tx) -> Result<Vec<M>, StoreError> {
        let rows = self.rows_in(tx).await?;
        Ok(rows.iter().map(Row::model).collect::<Result<_, _>>()?)
    }

    async fn one_in(self, tx: &Tx) -> Result<Option<M>, StoreError> {
        Ok(self.limit(1).all_in(tx).await?.pop())
    }

    async fn count_in(self, tx: &Tx) -> Result<u64, StoreError> {
        let counted = self.select_only().column_as(Expr::cust("COUNT(*)"), "counted");
        let row = counted.rows_in(tx).await?.pop();
        let counted: i64 = row.map_or(Ok(0), |row| row.get("counted"))?;
        Ok(u64::try_from(counted).unwrap_or(0))
    }
}

/// Where a commit failed decides what may be done about it.
pub(super) enum CommitError {
    /// Nothing was written: it can be tried again.
    Before(StoreError),
    /// It may have been written: trying again could do it twice.
    During(StoreError),
}

impl CommitError {
    /// What the error of the commit itself means.
    pub(super) fn of(error: StoreError) -> Self {
        if error.leaves_commit_open() {
            Self::During(error)
        } else {
            Self::Before(error)
        }
    }
}
