//! A statement, what is bound to it, and running it on either engine.

use sqlx::Arguments as _;
use sqlx::postgres::PgArguments;
use sqlx::sqlite::SqliteArguments;
use sqlx::{SqlSafeStr, SqlStr};

use crate::connection::Target;
use crate::error::DatabaseError;
use crate::row::{FromRow, Row};

/// What a statement is told. Nothing has a type too, so that a statement is of the same types
/// whenever it is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Text(Option<String>),
    Integer(Option<i64>),
    Bytes(Option<Vec<u8>>),
}

macro_rules! value_from {
    ($($from:ty => $kind:ident($convert:expr)),+ $(,)?) => {
        $(
            impl From<$from> for Value {
                fn from(value: $from) -> Self {
                    Self::$kind(Some($convert(value)))
                }
            }

            impl From<Option<$from>> for Value {
                fn from(value: Option<$from>) -> Self {
                    Self::$kind(value.map($convert))
                }
            }
        )+
    };
}

value_from! {
    String => Text(std::convert::identity),
    &String => Text(String::clone),
    &str => Text(str::to_owned),
    i64 => Integer(std::convert::identity),
    i32 => Integer(i64::from),
    u32 => Integer(i64::from),
    u8 => Integer(i64::from),
    bool => Integer(i64::from),
    Vec<u8> => Bytes(std::convert::identity),
    &Vec<u8> => Bytes(Vec::clone),
    &[u8] => Bytes(<[u8]>::to_vec),
}

impl<const N: usize> From<[u8; N]> for Value {
    fn from(value: [u8; N]) -> Self {
        Self::Bytes(Some(value.to_vec()))
    }
}

impl<const N: usize> From<&[u8; N]> for Value {
    fn from(value: &[u8; N]) -> Self {
        Self::Bytes(Some(value.to_vec()))
    }
}

impl<const N: usize> From<Option<[u8; N]>> for Value {
    fn from(value: Option<[u8; N]>) -> Self {
        Self::Bytes(value.map(|bytes| bytes.to_vec()))
    }
}

/// A statement of `$1`, `$2`, … which are bound in this order, each as often used as it likes.
#[derive(Debug)]
#[must_use = "a query does nothing until it is run"]
pub struct Query {
    text: SqlStr,
    values: Vec<Value>,
}

pub fn query(text: &'static str) -> Query {
    Query::new(text, Vec::new())
}

impl Query {
    pub(crate) fn new(text: impl SqlSafeStr, values: Vec<Value>) -> Self {
        let text = text.into_sql_str();
        Self { text, values }
    }

    pub fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Runs the statement; answers how many rows it changed.
    pub async fn execute<'t>(self, target: impl Into<Target<'t>>) -> Result<u64, DatabaseError> {
        target.into().execute(self).await
    }

    pub async fn fetch_all<'t, R: FromRow>(
        self,
        target: impl Into<Target<'t>>,
    ) -> Result<Vec<R>, DatabaseError> {
        let rows = target.into().fetch_all(self).await?;
        rows.into_iter().map(R::from_row).collect()
    }

    pub async fn fetch_optional<'t, R: FromRow>(
        self,
        target: impl Into<Target<'t>>,
    ) -> Result<Option<R>, DatabaseError> {
        let row: Option<Row> = target.into().fetch_optional(self).await?;
        row.map(R::from_row).transpose()
    }

    /// The row of a statement that always has one.
    pub async fn fetch_one<'t, R: FromRow>(
        self,
        target: impl Into<Target<'t>>,
    ) -> Result<R, DatabaseError> {
        let row = self.fetch_optional(target).await?;
        row.ok_or(DatabaseError::NoRow)
    }

    pub(crate) fn for_sqlite(self) -> Result<(SqlStr, SqliteArguments), sqlx::Error> {
        let mut arguments = SqliteArguments::default();
        for value in self.values {
            match value {
                Value::Text(text) => arguments.add(text),
                Value::Integer(integer) => arguments.add(integer),
                Value::Bytes(bytes) => arguments.add(bytes),
            }
            .map_err(sqlx::Error::Encode)?;
        }
        Ok((self.text, arguments))
    }

    pub(crate) fn for_postgres(self) -> Result<(SqlStr, PgArguments), sqlx::Error> {
        let mut arguments = PgArguments::default();
        for value in self.values {
            match value {
                Value::Text(text) => arguments.add(text),
                Value::Integer(integer) => arguments.add(integer),
                Value::Bytes(bytes) => arguments.add(bytes),
            }
            .map_err(sqlx::Error::Encode)?;
        }
        Ok((self.text, arguments))
    }
}
