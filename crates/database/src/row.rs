//! Rows, and what their columns are read as.

use sqlx::postgres::{PgRow, PgTypeInfo};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, TypeInfo as _, ValueRef as _};

use crate::error::DatabaseError;

/// A row of either engine.
#[derive(Debug)]
pub struct Row(pub(crate) EngineRow);

pub(crate) enum EngineRow {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl std::fmt::Debug for EngineRow {
    /// What is in a row is nobody's to print.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Sqlite(_) => "Sqlite(..)",
            Self::Postgres(_) => "Postgres(..)",
        })
    }
}

impl Row {
    /// The value of a column, counted from 0.
    pub fn get<T: Column>(&self, column: usize) -> Result<T, DatabaseError> {
        T::column(self, column)
    }

    fn read<T>(&self, column: usize) -> Result<T, DatabaseError>
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        // SQLite would make of nothing what is least of its type.
        if self.is_null(column)? {
            let problem = "holds nothing".to_owned();
            return Err(DatabaseError::Row { column, problem });
        }
        let read = match &self.0 {
            EngineRow::Sqlite(row) => row.try_get(column),
            EngineRow::Postgres(row) => row.try_get(column),
        };
        read.map_err(|error| unreadable(column, &error))
    }

    fn is_null(&self, column: usize) -> Result<bool, DatabaseError> {
        let is_null = match &self.0 {
            EngineRow::Sqlite(row) => row.try_get_raw(column).map(|value| value.is_null()),
            EngineRow::Postgres(row) => row.try_get_raw(column).map(|value| value.is_null()),
        };
        is_null.map_err(|error| unreadable(column, &error))
    }

    /// The name of a column's type, where the engine has more than one of integers.
    fn postgres_type(&self, column: usize) -> Option<String> {
        let EngineRow::Postgres(row) = &self.0 else {
            return None;
        };
        let value = row.try_get_raw(column).ok()?;
        let info: &PgTypeInfo = &value.type_info();
        Some(info.name().to_owned())
    }

    fn integer(&self, column: usize) -> Result<i64, DatabaseError> {
        match self.postgres_type(column).as_deref() {
            Some("BOOL") => self.read::<bool>(column).map(i64::from),
            Some("INT2") => self.read::<i16>(column).map(i64::from),
            Some("INT4") => self.read::<i32>(column).map(i64::from),
            _ => self.read(column),
        }
    }
}

fn unreadable(column: usize, error: &sqlx::Error) -> DatabaseError {
    DatabaseError::Row {
        column,
        problem: format!("does not read: {error}"),
    }
}

fn out_of_range(column: usize, value: i64) -> DatabaseError {
    DatabaseError::Row {
        column,
        problem: format!("is {value}, which is out of range"),
    }
}

/// What a column can be read as.
pub trait Column: Sized {
    fn column(row: &Row, column: usize) -> Result<Self, DatabaseError>;
}

impl Column for String {
    fn column(row: &Row, column: usize) -> Result<Self, DatabaseError> {
        row.read(column)
    }
}

impl Column for Vec<u8> {
    fn column(row: &Row, column: usize) -> Result<Self, DatabaseError> {
        row.read(column)
    }
}

impl Column for i64 {
    fn column(row: &Row, column: usize) -> Result<Self, DatabaseError> {
        row.integer(column)
    }
}

impl Column for u32 {
    fn column(row: &Row, column: usize) -> Result<Self, DatabaseError> {
        let value = row.integer(column)?;
        Self::try_from(value).map_err(|_| out_of_range(column, value))
    }
}

impl Column for u64 {
    fn column(row: &Row, column: usize) -> Result<Self, DatabaseError> {
        let value = row.integer(column)?;
        Self::try_from(value).map_err(|_| out_of_range(column, value))
    }
}

impl Column for bool {
    fn column(row: &Row, column: usize) -> Result<Self, DatabaseError> {
        match row.integer(column)? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(out_of_range(column, value)),
        }
    }
}

impl<T: Column> Column for Option<T> {
    fn column(row: &Row, column: usize) -> Result<Self, DatabaseError> {
        if row.is_null(column)? {
            return Ok(None);
        }
        T::column(row, column).map(Some)
    }
}

/// What a row can be read as: its columns in their order.
pub trait FromRow: Sized {
    fn from_row(row: Row) -> Result<Self, DatabaseError>;
}

macro_rules! from_row {
    ($($column:ident $index:literal),+) => {
        impl<$($column: Column),+> FromRow for ($($column,)+) {
            fn from_row(row: Row) -> Result<Self, DatabaseError> {
                Ok(($(row.get::<$column>($index)?,)+))
            }
        }
    };
}

impl FromRow for Row {
    fn from_row(row: Row) -> Result<Self, DatabaseError> {
        Ok(row)
    }
}

from_row!(A 0);
from_row!(A 0, B 1);
from_row!(A 0, B 1, C 2);
from_row!(A 0, B 1, C 2, D 3);
from_row!(A 0, B 1, C 2, D 3, E 4);
from_row!(A 0, B 1, C 2, D 3, E 4, F 5);
from_row!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
from_row!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
from_row!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8);
from_row!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9);
from_row!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10);
from_row!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11);
from_row!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12);
from_row!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13);
from_row!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14);
from_row!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15);
