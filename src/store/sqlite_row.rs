//! Rows of SQLite as values of the store, and as the rows of tables that the ORM knows.

use std::sync::Arc;

use rusqlite::types::{Value as Cell, ValueRef};
use sea_orm::sea_query::ColumnType;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, DbErr, EntityTrait, FromQueryResult, IdenStatic, Iterable, ModelTrait,
    TryIntoModel, Value,
};
use uuid::Uuid;

/// What has a cell for each column.
pub(super) trait Cells {
    /// The cell of a column, which is likely to be the one of this number.
    fn cell(&self, likely: usize, column: &str) -> Option<ValueRef<'_>>;

    /// The value of a column.
    fn value<T: FromCell>(&self, likely: usize, column: &str) -> Result<T, DbErr> {
        let cell = self.cell(likely, column);
        cell.and_then(T::from_cell)
            // What it holds may be somebody's secret.
            .ok_or_else(|| {
                let held = cell.map(|cell| cell.data_type());
                DbErr::Type(format!("the column {column} holds {held:?}"))
            })
    }
}

impl Cells for rusqlite::Row<'_> {
    fn cell(&self, likely: usize, column: &str) -> Option<ValueRef<'_>> {
        let statement: &rusqlite::Statement<'_> = self.as_ref();
        let is_there = statement.column_name(likely).is_ok_and(|name| name == column);
        let index = if is_there {
            likely
        } else {
            statement.column_index(column).ok()?
        };
        self.get_ref(index).ok()
    }
}

impl Cells for SqliteRow {
    fn cell(&self, likely: usize, column: &str) -> Option<ValueRef<'_>> {
        let is_there = self.columns.get(likely).is_some_and(|name| name == column);
        let index = if is_there {
            likely
        } else {
            self.columns.iter().position(|name| name == column)?
        };
        self.cells.get(index).map(ValueRef::from)
    }
}

/// The row of a table.
pub(super) fn model<M: Stored>(cells: &impl Cells) -> Result<M, DbErr> {
    let mut row = <M::Row as ActiveModelTrait>::default();
    // A whole row is selected in the order in which its table declares it.
    for (place, column) in <M::Entity as EntityTrait>::Column::iter().enumerate() {
        let name = column.as_str();
        let value = match column.def().get_column_type() {
            ColumnType::Boolean => Value::Bool(cells.value(place, name)?),
            ColumnType::Integer => Value::Int(cells.value(place, name)?),
            ColumnType::BigInteger => Value::BigInt(cells.value(place, name)?),
            ColumnType::Uuid => Value::Uuid(cells.value(place, name)?),
            ColumnType::Blob | ColumnType::VarBinary(_) => Value::Bytes(cells.value(place, name)?),
            _ => Value::String(cells.value(place, name)?),
        };
        row.try_set(column, value)?;
    }
    row.try_into_model()
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
        self.value(0, column)
    }

    /// The row of a table.
    pub(super) fn model<M: Stored>(&self) -> Result<M, DbErr> {
        model(self)
    }
}

/// A row of a table as the ORM knows it.
pub(super) trait Stored: FromQueryResult + ModelTrait + Send {
    /// The row while it is put together.
    type Row: ActiveModelTrait<Entity = Self::Entity> + TryIntoModel<Self>;
}

impl<M> Stored for M
where
    M: FromQueryResult + ModelTrait + Send,
    <M::Entity as EntityTrait>::ActiveModel: ActiveModelTrait<Entity = M::Entity> + TryIntoModel<M>,
{
    type Row = <M::Entity as EntityTrait>::ActiveModel;
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
