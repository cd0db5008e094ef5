//! Rows of both databases as values of the store, and as the rows of tables that the ORM knows.
//!
//! The ORM looks for each column by its name, and writes an error for each that is NULL; for a page of jobs that would be a
//! quarter of all that the server does. So the structs that the ORM declares are filled by serde, each field from the
//! column of its name, which is where the table has it.

use std::borrow::Cow;
use std::sync::Arc;

use rusqlite::types::{Value as Cell, ValueRef};
use sea_orm::sqlx::postgres::{PgRow, PgValueFormat, Postgres};
use sea_orm::sqlx::{Column as _, Decode, Row as _, ValueRef as _};
use sea_orm::{DbErr, FromQueryResult, QueryResult};
use serde::de::value::Error as Fault;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;
use uuid::Uuid;

/// What has a cell for each column. What a cell holds may be somebody's secret, so no error tells it.
pub(super) trait Cells {
    /// The number of a column, which is likely to be this one.
    fn index(&self, likely: usize, column: &str) -> Option<usize>;
    fn is_null(&self, index: usize) -> bool;
    fn integer(&self, index: usize) -> Option<i64>;
    fn flag(&self, index: usize) -> Option<bool>;
    fn text(&self, index: usize) -> Option<&str>;
    /// Bytes, or an id as its bytes.
    fn bytes(&self, index: usize) -> Option<Cow<'_, [u8]>>;
}

impl Cells for rusqlite::Row<'_> {
    fn index(&self, likely: usize, column: &str) -> Option<usize> {
        let statement: &rusqlite::Statement<'_> = self.as_ref();
        if statement.column_name(likely).is_ok_and(|name| name == column) {
            return Some(likely);
        }
        statement.column_index(column).ok()
    }

    fn is_null(&self, index: usize) -> bool {
        matches!(self.get_ref(index), Ok(ValueRef::Null))
    }

    fn integer(&self, index: usize) -> Option<i64> {
        self.get_ref(index).ok()?.as_i64().ok()
    }

    fn flag(&self, index: usize) -> Option<bool> {
        self.integer(index).map(|value| value != 0)
    }

    fn text(&self, index: usize) -> Option<&str> {
        self.get_ref(index).ok()?.as_str().ok()
    }

    fn bytes(&self, index: usize) -> Option<Cow<'_, [u8]>> {
        self.get_ref(index).ok()?.as_blob().ok().map(Cow::Borrowed)
    }
}

impl Cells for SqliteRow {
    fn index(&self, likely: usize, column: &str) -> Option<usize> {
        if self.columns.get(likely).is_some_and(|name| name == column) {
            return Some(likely);
        }
        self.columns.iter().position(|name| name == column)
    }

    fn is_null(&self, index: usize) -> bool {
        matches!(self.cells.get(index), Some(Cell::Null))
    }

    fn integer(&self, index: usize) -> Option<i64> {
        i64::from_cell(self.cells.get(index)?.into())
    }

    fn flag(&self, index: usize) -> Option<bool> {
        bool::from_cell(self.cells.get(index)?.into())
    }

    fn text(&self, index: usize) -> Option<&str> {
        ValueRef::from(self.cells.get(index)?).as_str().ok()
    }

    fn bytes(&self, index: usize) -> Option<Cow<'_, [u8]>> {
        let bytes = ValueRef::from(self.cells.get(index)?).as_blob().ok();
        bytes.map(Cow::Borrowed)
    }
}

impl Cells for PgRow {
    fn index(&self, likely: usize, column: &str) -> Option<usize> {
        let columns = self.columns();
        if columns.get(likely).is_some_and(|there| there.name() == column) {
            return Some(likely);
        }
        columns.iter().position(|there| there.name() == column)
    }

    fn is_null(&self, index: usize) -> bool {
        self.try_get_raw(index).is_ok_and(|cell| cell.is_null())
    }

    fn integer(&self, index: usize) -> Option<i64> {
        of_postgres(self, index)
    }

    fn flag(&self, index: usize) -> Option<bool> {
        of_postgres(self, index)
    }

    fn text(&self, index: usize) -> Option<&str> {
        of_postgres(self, index)
    }

    fn bytes(&self, index: usize) -> Option<Cow<'_, [u8]>> {
        let cell = self.try_get_raw(index).ok()?;
        match cell.format() {
            PgValueFormat::Binary => of_postgres(self, index).map(Cow::Borrowed),
            PgValueFormat::Text => match of_postgres::<Uuid>(self, index) {
                Some(id) => Some(Cow::Owned(id.as_bytes().to_vec())),
                None => of_postgres(self, index).map(Cow::Owned),
            },
        }
    }
}

/// A cell of Postgres. Its type is not asked for: the tables are this server's own, and all integers are read alike.
fn of_postgres<'r, T: Decode<'r, Postgres>>(row: &'r PgRow, index: usize) -> Option<T> {
    let cell = row.try_get_raw(index).ok().filter(|cell| !cell.is_null())?;
    T::decode(cell).ok()
}

/// The row of a table.
pub(super) fn model<M: DeserializeOwned>(cells: &impl Cells) -> Result<M, DbErr> {
    M::deserialize(Whole(cells)).map_err(|fault| DbErr::Type(fault.to_string()))
}

/// The row of a table, as a connection of the ORM gives it.
pub(super) fn model_of<M: Stored>(row: &QueryResult) -> Result<M, DbErr> {
    match row.try_as_pg_row() {
        Some(row) => model(row),
        None => M::from_query_result(row, ""),
    }
}

/// A row of a table as the ORM knows it.
pub(super) trait Stored: FromQueryResult + DeserializeOwned + Send {}

impl<M: FromQueryResult + DeserializeOwned + Send> Stored for M {}

/// A row, which is read as a struct that has a field for each column.
struct Whole<'c, C>(&'c C);

impl<'de, C: Cells> Deserializer<'de> for Whole<'_, C> {
    type Error = Fault;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_seq(Fields {
            cells: self.0,
            fields: fields.iter().enumerate(),
        })
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Fault> {
        Err(Fault::custom("a row is read as a struct"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// The fields that are still to be read.
struct Fields<'c, C> {
    cells: &'c C,
    fields: std::iter::Enumerate<std::slice::Iter<'static, &'static str>>,
}

impl<'de, C: Cells> SeqAccess<'de> for Fields<'_, C> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some((likely, column)) = self.fields.next() else {
            return Ok(None);
        };
        let Some(index) = self.cells.index(likely, column) else {
            return Err(Fault::custom(format_args!("there is no column {column}")));
        };
        let field = Field {
            cells: self.cells,
            index,
            column,
        };
        seed.deserialize(field).map(Some)
    }
}

/// A field, and where its value is.
struct Field<'c, C> {
    cells: &'c C,
    index: usize,
    column: &'static str,
}

impl<C: Cells> Field<'_, C> {
    /// What was found, which must be there.
    fn found<T>(&self, value: Option<T>) -> Result<T, Fault> {
        value.ok_or_else(|| {
            let column = self.column;
            let held = if self.cells.is_null(self.index) {
                "nothing"
            } else {
                "a value of another type"
            };
            Fault::custom(format_args!("the column {column} holds {held}"))
        })
    }
}

impl<'de, C: Cells> Deserializer<'de> for Field<'_, C> {
    type Error = Fault;

    /// So that ids are read as their bytes.
    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.cells.is_null(self.index) {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_bool(self.found(self.cells.flag(self.index))?)
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let value = self.cells.integer(self.index);
        visitor.visit_i32(self.found(value.and_then(|value| value.try_into().ok()))?)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_i64(self.found(self.cells.integer(self.index))?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_str(self.found(self.cells.text(self.index))?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_bytes(&self.found(self.cells.bytes(self.index))?)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Fault> {
        let column = self.column;
        Err(Fault::custom(format_args!(
            "the column {column} is of a type that no table has"
        )))
    }

    forward_to_deserialize_any! {
        i8 i16 i128 u8 u16 u32 u64 u128 f32 f64 char unit unit_struct newtype_struct seq tuple tuple_struct map struct
        enum identifier ignored_any
    }
}

/// A row. The names of its columns are shared with all others of one answer.
#[derive(Debug)]
pub(super) struct SqliteRow {
    pub(super) columns: Arc<[String]>,
    pub(super) cells: Vec<Cell>,
}

impl SqliteRow {
    /// The value of a column.
    pub(super) fn get<T: FromCell>(&self, column: &str) -> Result<T, DbErr> {
        let cell = self.index(0, column).and_then(|index| self.cells.get(index));
        let value = cell.and_then(|cell| T::from_cell(cell.into()));
        // What it holds may be somebody's secret.
        value.ok_or_else(|| {
            let held = cell.map(Cell::data_type);
            DbErr::Type(format!("the column {column} holds {held:?}"))
        })
    }
}

/// What a column of SQLite can be read as. What does not fit is no value: nothing is made to fit.
pub(super) trait FromCell: Sized {
    fn from_cell(cell: ValueRef<'_>) -> Option<Self>;
}

impl FromCell for i64 {
    fn from_cell(cell: ValueRef<'_>) -> Option<Self> {
        cell.as_i64().ok()
    }
}

impl FromCell for i32 {
    fn from_cell(cell: ValueRef<'_>) -> Option<Self> {
        i64::from_cell(cell)?.try_into().ok()
    }
}

impl FromCell for bool {
    fn from_cell(cell: ValueRef<'_>) -> Option<Self> {
        i64::from_cell(cell).map(|value| value != 0)
    }
}

impl FromCell for String {
    fn from_cell(cell: ValueRef<'_>) -> Option<Self> {
        cell.as_str().ok().map(str::to_owned)
    }
}

impl FromCell for Vec<u8> {
    fn from_cell(cell: ValueRef<'_>) -> Option<Self> {
        cell.as_blob().ok().map(<[u8]>::to_vec)
    }
}

impl FromCell for Uuid {
    fn from_cell(cell: ValueRef<'_>) -> Option<Self> {
        Self::from_slice(cell.as_blob().ok()?).ok()
    }
}

impl<T: FromCell> FromCell for Option<T> {
    fn from_cell(cell: ValueRef<'_>) -> Option<Self> {
        match cell {
            ValueRef::Null => Some(None),
            cell => T::from_cell(cell).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use entity::{log_chunk, token};
    use rusqlite::Connection;
    use sea_orm::{DbBackend, Statement};

    use super::super::sqlite::{models, rows};
    use super::*;

    /// What a statement answers, read both ways.
    fn read<M: Stored + PartialEq + std::fmt::Debug>(sql: &str) -> Result<M, DbErr> {
        let connection = Connection::open_in_memory().unwrap();
        let statement = Statement::from_string(DbBackend::Sqlite, sql);
        let kept: Result<M, _> = model(&rows(&connection, &statement).unwrap()[0]);
        let at_once = models(&connection, &statement).unwrap();
        let at_once = at_once.map(|mut found: Vec<M>| found.remove(0));
        assert_eq!(kept, at_once);
        at_once
    }

    const CHUNK: &str = "SELECT x'00112233445566778899aabbccddeeff' AS job_id, 1 AS attempt, 2 AS first_line,
        3 AS line_count, 4 AS total_offset, 5 AS stdout_offset, 6 AS stderr_offset, 7 AS streams, 8 AS levels,
        9 AS at, x'0a0b' AS heads, x'' AS bytes, 1 AS compressed";

    #[test]
    fn each_field_is_the_column_of_its_name() {
        let chunk: log_chunk::Model = read(CHUNK).unwrap();
        assert_eq!(chunk.job_id.as_u128(), 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);
        assert_eq!((chunk.attempt, chunk.first_line, chunk.levels), (1, 2, 8));
        assert_eq!((&*chunk.heads, &*chunk.bytes), (&[10, 11][..], &[][..]));
        assert!(chunk.compressed);
        // Wherever it is, and whatever else there is.
        let moved = CHUNK.replace("SELECT ", "SELECT 'more' AS more, ");
        assert_eq!(read::<log_chunk::Model>(&moved).unwrap(), chunk);
    }

    #[test]
    fn what_does_not_fit_is_refused_and_not_told() {
        for (sql, told) in [
            (CHUNK.replace("1 AS attempt, ", ""), "there is no column attempt"),
            (
                CHUNK.replace("1 AS attempt", "NULL AS attempt"),
                "the column attempt holds nothing",
            ),
            (
                CHUNK.replace("1 AS attempt", "4294967296 AS attempt"),
                "attempt holds a value of another type",
            ),
            (
                CHUNK.replace("1 AS attempt", "'4711' AS attempt"),
                "attempt holds a value of another type",
            ),
            (
                CHUNK.replace("x'0a0b'", "'4711'"),
                "heads holds a value of another type",
            ),
            (CHUNK.replace("x'0011", "x'"), "invalid"),
        ] {
            let error = read::<log_chunk::Model>(&sql).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
            assert!(
                !error.contains("4711") && !error.contains("4294967296"),
                "{error}"
            );
        }
    }

    #[test]
    fn nothing_is_none_where_there_may_be_nothing() {
        let sql = "SELECT zeroblob(16) AS id, 'a' AS name, x'01' AS hash, PREVIOUS AS previous_hash,
            NULL AS previous_until, '' AS scopes, NULL AS limits, 1 AS created_at, '' AS created_by,
            NULL AS expires_at, 2 AS revoked_at, NULL AS rotated_at, NULL AS last_used_at";
        let token: token::Model = read(&sql.replace("PREVIOUS", "NULL")).unwrap();
        assert_eq!(
            (token.previous_hash, token.limits, token.expires_at),
            (None, None, None)
        );
        assert_eq!((token.hash, token.revoked_at), (vec![1], Some(2)));
        let token: token::Model = read(&sql.replace("PREVIOUS", "x'02'")).unwrap();
        assert_eq!(token.previous_hash, Some(vec![2]));
    }
}
