//! Every difference between SQLite and Postgres that a statement has to know.

use entity::job;
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ColumnTrait, DbBackend, Statement, Value};
use uuid::Uuid;

/// The lock under which one node at a time numbers its events and keeps the counters. Any constant would do; this
/// one is "runql" in ASCII.
pub(super) const COMMIT_ORDER_LOCK: i64 = 0x72_75_6e_71_6c;

/// The statement that takes it: see [`commit_order_lock`].
pub(super) const COMMIT_ORDER: &str = "SELECT pg_advisory_xact_lock(?)";

/// A statement written with `?` for each value, in the database's own form.
pub(super) fn statement(backend: DbBackend, sql: &str, values: impl IntoIterator<Item = Value>) -> Statement {
    if backend != DbBackend::Postgres {
        return Statement::from_sql_and_values(backend, sql, values);
    }
    let mut numbered = String::with_capacity(sql.len() + 16);
    let mut number = 0;
    for c in sql.chars() {
        if c == '?' {
            number += 1;
            numbered.push('$');
            numbered.push_str(&number.to_string());
        } else {
            numbered.push(c);
        }
    }
    Statement::from_sql_and_values(backend, numbered, values)
}

/// What ends a SELECT whose rows are about to be written: other nodes skip them. SQLite has one writer and needs none.
pub(super) const fn for_update_skip_locked(backend: DbBackend) -> &'static str {
    match backend {
        DbBackend::Postgres => " FOR UPDATE SKIP LOCKED",
        _ => "",
    }
}

/// That a job runs, spelled out: SQLite takes a partial index only where the statement itself says what the index asks
/// for, and looks at no value that is bound to it.
pub(super) fn is_running() -> Expr {
    Expr::col((job::Entity, job::Column::Status)).eq(Expr::cust("'RUNNING'"))
}

/// Makes a statement on jobs use this partial index. The planner of SQLite has no statistics, prefers the index on the
/// status, and would look at every PENDING job; Postgres has no such words, and finds the index by itself.
pub(super) fn indexed_by(backend: DbBackend, index: &str) -> String {
    match backend {
        DbBackend::Postgres => String::new(),
        _ => format!(" INDEXED BY {index}"),
    }
}

/// What ends a SELECT of rows that must not change before the commit.
pub(super) const fn for_share(backend: DbBackend) -> &'static str {
    match backend {
        DbBackend::Postgres => " FOR SHARE",
        _ => "",
    }
}

/// What ends a SELECT of one row that is about to be written and must not be skipped.
pub(super) const fn for_update(backend: DbBackend) -> &'static str {
    match backend {
        DbBackend::Postgres => " FOR UPDATE",
        _ => "",
    }
}

/// The type of an id, for a CAST.
pub(super) const fn uuid_type(backend: DbBackend) -> &'static str {
    match backend {
        DbBackend::Postgres => "UUID",
        _ => "BLOB",
    }
}

/// The condition that a column matches a pattern whose value is written by [`pattern_value`].
pub(super) fn matches(backend: DbBackend, column: &str) -> String {
    match backend {
        DbBackend::Postgres => format!("{column} LIKE ? ESCAPE '!'"),
        _ => format!("{column} GLOB ?"),
    }
}

/// A pattern in which `*` stands for any characters and all else for itself, in the database's own form.
pub(super) fn pattern_value(backend: DbBackend, pattern: &str) -> String {
    let mut value = String::with_capacity(pattern.len() + 8);
    for c in pattern.chars() {
        match (backend, c) {
            (DbBackend::Postgres, '*') => value.push('%'),
            (DbBackend::Postgres, '%' | '_' | '!') => value.extend(['!', c]),
            (DbBackend::Postgres, _) => value.push(c),
            (_, '?' | '[') => value.extend(['[', c, ']']),
            (_, _) => value.push(c),
        }
    }
    value
}

/// Taken as the last act before the events get their numbers and held to the commit, so that numbers become visible
/// in their order: a sequence alone hands them out before the commit, and a listener that has seen 8 would miss a 7
/// that commits later. It also orders the writes of counters, which could deadlock otherwise.
pub(super) fn commit_order_lock(backend: DbBackend) -> Option<Statement> {
    (backend == DbBackend::Postgres).then(|| statement(backend, COMMIT_ORDER, [COMMIT_ORDER_LOCK.into()]))
}

/// Makes Postgres walk from row to row by indexes for the rest of the transaction: it expects the tables to be as small
/// as they were before, and would read them from end to end for each link of a chain. What is off costs so much on paper
/// that it would compile the statement first, which takes longer than to run it.
pub(super) fn walk_by_indexes(backend: DbBackend) -> Option<&'static str> {
    (backend == DbBackend::Postgres).then_some(
        "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off;
         SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL jit = off",
    )
}

/// The size of the database in bytes.
pub(super) fn size_query(backend: DbBackend) -> Statement {
    let sql = match backend {
        DbBackend::Postgres => "SELECT pg_database_size(current_database()) AS bytes",
        _ => "SELECT page_count * page_size AS bytes FROM pragma_page_count(), pragma_page_size()",
    };
    Statement::from_string(backend, sql)
}

/// Held to the commit, so that jobs with one idempotency key are stored one after the other, whichever node is asked.
pub(super) fn key_lock(backend: DbBackend, key: &str) -> Option<Statement> {
    (backend == DbBackend::Postgres).then(|| {
        statement(
            backend,
            "SELECT pg_advisory_xact_lock(hashtextextended(?, 0))",
            [key.into()],
        )
    })
}

/// What follows a column of ids that is to be one of many, with one `?` for the list: see [`id_list`]. Its text is the
/// same for any number of ids, since connections keep each text that they have run, ready and in memory.
pub(super) const fn among_ids(backend: DbBackend) -> &'static str {
    match backend {
        DbBackend::Postgres => "= ANY(ARRAY(SELECT CAST(json_array_elements_text(CAST(? AS json)) AS uuid)))",
        _ => "IN (SELECT unhex(value, '-') FROM json_each(?))",
    }
}

/// What follows a column of ids that is to be one of those that a query gives. Postgres fetches the array first, and then
/// each row by its id: it knows too little of a query's length to join by anything but a guess.
pub(super) fn among_rows(backend: DbBackend, query: &str) -> String {
    match backend {
        DbBackend::Postgres => format!("= ANY(ARRAY({query}))"),
        _ => format!("IN ({query})"),
    }
}

/// The value of [`among_ids`].
pub(super) fn id_list(ids: impl IntoIterator<Item = Uuid>) -> Value {
    serde_json::Value::from_iter(ids.into_iter().map(|id| id.to_string()))
        .to_string()
        .into()
}

/// That a column is one of these ids.
pub(super) fn is_among(
    backend: DbBackend,
    column: impl ColumnTrait,
    ids: impl IntoIterator<Item = Uuid>,
) -> Expr {
    condition(backend, column, among_ids(backend), id_list(ids))
}

/// That a column is one of these texts. As with ids, the text of the condition is always the same.
pub(super) fn is_one_of<'t>(
    backend: DbBackend,
    column: impl ColumnTrait,
    texts: impl IntoIterator<Item = &'t str>,
) -> Expr {
    let among = match backend {
        DbBackend::Postgres => "= ANY(ARRAY(SELECT json_array_elements_text(CAST(? AS json))))",
        _ => "IN (SELECT value FROM json_each(?))",
    };
    let list = serde_json::Value::from_iter(texts).to_string();
    condition(backend, column, among, list.into())
}

fn condition(backend: DbBackend, column: impl ColumnTrait, among: &str, list: Value) -> Expr {
    let column = Expr::col(column.as_column_ref());
    // The builder has marks of its own for what it puts in: numbered ones for Postgres.
    let sql = match backend {
        DbBackend::Postgres => format!("$1 {}", among.replace('?', "$2")),
        _ => format!("? {among}"),
    };
    Expr::cust_with_exprs(sql, [column, Expr::val(list)])
}
