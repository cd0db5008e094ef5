//! Rows in statements whose text does not tell how many they are.
//!
//! A connection keeps a bounded number of statements ready, by their text, and how many rows wait for a commit differs
//! each time. SQLite, which is at hand, gets a statement for each row. For Postgres each statement is a way there and
//! back, so it gets all rows as one value: a JSON array that it reads as a table.

use sea_orm::sea_query::ColumnType;
use sea_orm::{
    ActiveModelTrait, ActiveValue, ColumnTrait, DbBackend, EntityName, EntityTrait, IdenStatic, Iterable,
    Value,
};
use serde_json::{Map, Value as Json};

use super::error::StoreError;
use super::postgres::hex;
use super::tx::Tx;

/// Rows with bytes in one statement.
const ROWS_OF_BYTES: usize = 64;

/// Rows of a table, and bytes, that go into one statement with other tables' rows. It is run under the lock that orders
/// commits, which other nodes wait for.
const FEW: usize = 64;
const FEW_BYTES: usize = 32 * 1024;

/// Rows that are to be inserted into one table.
#[derive(Debug)]
pub(super) struct Rows {
    table: &'static str,
    columns: Vec<Column>,
    rows: Vec<Vec<Value>>,
}

#[derive(Debug)]
struct Column {
    name: &'static str,
    /// Its type in Postgres.
    kind: &'static str,
}

impl Rows {
    /// What these are. `unset` is the column that the database fills in, all others are set in each of them.
    pub(super) fn of<A: ActiveModelTrait>(
        rows: Vec<A>,
        unset: Option<<A::Entity as EntityTrait>::Column>,
    ) -> Result<Self, StoreError> {
        let unset = unset.map(|column| column.as_str());
        let columns: Vec<_> = <A::Entity as EntityTrait>::Column::iter()
            .filter(|column| Some(column.as_str()) != unset)
            .collect();
        let value = |row: &A, column| match row.get(column) {
            ActiveValue::Set(value) | ActiveValue::Unchanged(value) => Ok(value),
            ActiveValue::NotSet => Err(StoreError::Unreadable(format!("{} is not set", column.as_str()))),
        };
        Ok(Self {
            table: <A::Entity as Default>::default().table_name(),
            columns: columns
                .iter()
                .map(|column| Column {
                    name: column.as_str(),
                    kind: kind(column.def().get_column_type()),
                })
                .collect(),
            rows: rows
                .iter()
                .map(|row| columns.iter().map(|&column| value(row, column)).collect())
                .collect::<Result<_, _>>()?,
        })
    }

    /// Inserts them, in their order. `end` is the end of the statement: what becomes of a row that is there already. Gives
    /// the number of the last row where SQLite numbers them.
    pub(super) async fn insert(self, tx: &Tx, end: &str) -> Result<Option<i64>, StoreError> {
        if self.rows.is_empty() {
            return Ok(None);
        }
        let into = format!("INSERT INTO {} ({}) VALUES", self.table, self.names());
        let marks = format!("({})", vec!["?"; self.columns.len()].join(", "));
        if tx.backend() != DbBackend::Postgres {
            return tx.each(&format!("{into} {marks}{end}"), self.rows).await;
        }
        // Bytes would be twice as long in JSON.
        if self.columns.iter().any(|column| column.kind == "bytea") {
            for rows in self.rows.chunks(ROWS_OF_BYTES) {
                let marks = vec![marks.as_str(); rows.len()].join(", ");
                let values = rows.iter().flatten().cloned();
                tx.later(tx.statement(&format!("{into} {marks}{end}"), values))
                    .await?;
            }
        } else {
            let (sql, rows) = self.into_one("", end)?;
            tx.later(tx.statement(&sql, [rows])).await?;
        }
        Ok(None)
    }

    /// Whether it is worth while to write them together with other tables' rows.
    pub(super) fn are_few(&self) -> bool {
        let length = |value: &Value| match value {
            Value::String(Some(text)) => text.len(),
            // Bytes are twice as long in JSON.
            Value::Bytes(Some(bytes)) => bytes.len() * 2,
            _ => 8,
        };
        self.rows.len() <= FEW && self.rows.iter().flatten().map(length).sum::<usize>() <= FEW_BYTES
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The statement for Postgres, and its one value. `before` is what the statement reads first, with a comma.
    pub(super) fn into_one(self, before: &str, end: &str) -> Result<(String, Value), StoreError> {
        let names = self.names();
        let kinds: Vec<String> = self
            .columns
            .iter()
            .map(|column| format!("{} {}", column.name, column.kind))
            .collect();
        // In their order, since some get numbers.
        let sql = format!(
            "INSERT INTO {table} ({names}) SELECT {names}
             FROM {before}ROWS FROM (json_to_recordset(CAST(? AS json)) AS ({kinds})) WITH ORDINALITY
             ORDER BY ordinality{end}",
            table = self.table,
            kinds = kinds.join(", "),
        );
        let rows = self.rows.into_iter().map(|row| {
            let values = self.columns.iter().zip(row);
            values
                .map(|(column, value)| Ok((column.name.to_owned(), json(column, value)?)))
                .collect::<Result<Map<_, _>, StoreError>>()
        });
        let rows = rows.map(|row| row.map(Json::Object)).collect::<Result<_, _>>()?;
        Ok((sql, Json::Array(rows).to_string().into()))
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self.columns.iter().map(|column| column.name).collect();
        names.join(", ")
    }
}

fn kind(column: &ColumnType) -> &'static str {
    match column {
        ColumnType::Boolean => "boolean",
        ColumnType::Integer => "integer",
        ColumnType::BigInteger => "bigint",
        ColumnType::Uuid => "uuid",
        ColumnType::Blob | ColumnType::VarBinary(_) => "bytea",
        _ => "text",
    }
}

fn json(column: &Column, value: Value) -> Result<Json, StoreError> {
    Ok(match value {
        Value::Bool(value) => value.into(),
        Value::Int(value) => value.into(),
        Value::BigInt(value) => value.into(),
        Value::String(value) => value.into(),
        Value::Uuid(value) => value.map(|id| id.to_string()).into(),
        Value::Bytes(value) => value.map(|bytes| hex(&bytes)).into(),
        _ => {
            return Err(StoreError::Unreadable(format!(
                "{} has no form in JSON",
                column.name
            )));
        }
    })
}
