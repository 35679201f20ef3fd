//! All rows of one database in another, as they are.
//!
//! Which tables there are is asked of the migrations, made in memory: never of what is copied,
//! which a stranger may have written. Rows go table by table, in the order in which they refer to
//! each other, and within a table by its key, a bounded stretch at a time.

use std::collections::HashSet;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, SqliteConnection};

use crate::connection::{Connection, Transaction};
use crate::database::Rules;
use crate::error::DatabaseError;
use crate::query::{Query, Value, query};
use crate::row::Row;
use crate::sqlite;

/// Rows that are asked for at a time.
const PAGE_ROWS: i64 = 100;
/// Bytes of rows in memory at a time, but for one row that alone is longer.
const PAGE_BYTES: u64 = 4 << 20;
/// The longest row that any of ours is: a call's input has 32 MiB, and what stands beside is small.
const ROW_MAX_BYTES: u64 = 64 << 20;

/// The tables that migrations make.
#[derive(Debug)]
pub struct Tables(Vec<Table>);

#[derive(Debug)]
struct Table {
    name: String,
    columns: Vec<Column>,
    /// Of `columns`, in the order of the key.
    key: Vec<usize>,
    refers_to: HashSet<String>,
}

#[derive(Debug)]
struct Column {
    name: String,
    holds: Holds,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    Text,
    Integer,
    Bytes,
}

impl Tables {
    pub async fn of(rules: &Rules) -> Result<Self, DatabaseError> {
        let mut made = make_in_memory(rules).await?;
        let mut made = Connection::Sqlite(&mut made);
        let asked = query(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> '_sqlx_migrations'
             ORDER BY name",
        );
        let names: Vec<(String,)> = asked.fetch_all(&mut made).await?;
        let mut tables = Vec::with_capacity(names.len());
        for (name,) in names {
            tables.push(Table::read(&mut made, name).await?);
        }
        Ok(Self(by_reference(tables)))
    }

    /// Copies everything into a database that has nothing; answers how many rows there were.
    pub async fn copy(
        &self,
        source: &mut Transaction<'_>,
        target: &mut Transaction<'_>,
    ) -> Result<u64, DatabaseError> {
        let mut copied = 0;
        for table in &self.0 {
            let rows = table.copy(source, target).await;
            copied += rows.map_err(|error| DatabaseError::Copying {
                table: table.name.clone(),
                source: Box::new(error),
            })?;
        }
        Ok(copied)
    }

    pub async fn are_empty(&self, within: &mut Transaction<'_>) -> Result<bool, DatabaseError> {
        for table in &self.0 {
            let text = format!("SELECT 1 FROM \"{}\" LIMIT 1", table.name);
            let row: Option<Row> = made(text, Vec::new()).fetch_optional(&mut *within).await?;
            if row.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes all rows.
    pub async fn clear(&self, within: &mut Transaction<'_>) -> Result<(), DatabaseError> {
        for table in self.0.iter().rev() {
            let text = format!("DELETE FROM \"{}\"", table.name);
            made(text, Vec::new()).execute(&mut *within).await?;
        }
        Ok(())
    }
}

impl Table {
    async fn read(made: &mut Connection<'_>, name: String) -> Result<Self, DatabaseError> {
        let asked = query("SELECT name, type, pk FROM pragma_table_info($1) ORDER BY cid");
        let rows: Vec<(String, String, u32)> = asked.bind(&name).fetch_all(&mut *made).await?;
        let mut key: Vec<_> = rows
            .iter()
            .enumerate()
            .filter(|(_, (.., place))| *place > 0)
            .map(|(at, (.., place))| (*place, at))
            .collect();
        key.sort_unstable();
        let columns = rows.into_iter().map(|(name, kind, _)| Column {
            name,
            holds: Holds::of(&kind),
        });
        let columns = columns.collect();
        let asked = query("SELECT \"table\" FROM pragma_foreign_key_list($1)");
        let refers_to: Vec<(String,)> = asked.bind(&name).fetch_all(made).await?;
        assert!(!key.is_empty(), "table {name} has no key to be copied by");
        Ok(Self {
            name,
            columns,
            key: key.into_iter().map(|(_, at)| at).collect(),
            refers_to: refers_to.into_iter().map(|(table,)| table).collect(),
        })
    }

    async fn copy(
        &self,
        source: &mut Transaction<'_>,
        target: &mut Transaction<'_>,
    ) -> Result<u64, DatabaseError> {
        let insert = self.insert();
        let mut copied = 0;
        let mut after = None;
        while let Some(last) = self.end_of_page(source, after.clone()).await? {
            let page = self.page(after.is_some());
            let bound = after.into_iter().flatten().chain(last.iter().cloned());
            let rows: Vec<Row> = made(page, bound.collect()).fetch_all(&mut *source).await?;
            for row in &rows {
                let values = read(self.columns.iter(), row)?;
                made(insert.clone(), values).execute(&mut *target).await?;
            }
            copied += rows.len() as u64;
            after = Some(last);
        }
        Ok(copied)
    }

    /// The key of the last row that is copied with those after a key, if there are any.
    async fn end_of_page(
        &self,
        source: &mut Transaction<'_>,
        after: Option<Vec<Value>>,
    ) -> Result<Option<Vec<Value>>, DatabaseError> {
        let lengths = self.lengths(after.is_some());
        let values = after.unwrap_or_default();
        let rows: Vec<Row> = made(lengths, values).fetch_all(source).await?;
        let (mut last, mut total) = (None, 0_u64);
        for row in &rows {
            let length: u64 = row.get(self.key.len())?;
            if length > ROW_MAX_BYTES {
                let limit = ROW_MAX_BYTES;
                return Err(DatabaseError::RowTooLong { length, limit });
            }
            total += length;
            if last.is_some() && total > PAGE_BYTES {
                break;
            }
            last = Some(read(self.key.iter().map(|at| &self.columns[*at]), row)?);
        }
        Ok(last)
    }

    /// The keys of rows, and how long each is.
    fn lengths(&self, is_after: bool) -> String {
        let (name, key, length) = (&self.name, self.key_names(), self.length());
        let mut after = String::new();
        if is_after {
            after = format!("WHERE ({key}) > ({})", numbers(1, self.key.len()));
        }
        format!("SELECT {key}, {length} FROM \"{name}\" {after} ORDER BY {key} LIMIT {PAGE_ROWS}")
    }

    /// Rows up to one, and after another.
    fn page(&self, is_after: bool) -> String {
        let (name, key, count) = (&self.name, self.key_names(), self.key.len());
        let columns = list(self.columns.iter());
        let limits = if is_after {
            let (first, last) = (numbers(1, count), numbers(count + 1, count));
            format!("({key}) > ({first}) AND ({key}) <= ({last})")
        } else {
            format!("({key}) <= ({})", numbers(1, count))
        };
        format!("SELECT {columns} FROM \"{name}\" WHERE {limits} ORDER BY {key}")
    }

    fn insert(&self) -> String {
        let (name, columns) = (&self.name, list(self.columns.iter()));
        let values = numbers(1, self.columns.len());
        format!("INSERT INTO \"{name}\" ({columns}) VALUES ({values})")
    }

    fn key_names(&self) -> String {
        list(self.key.iter().map(|at| &self.columns[*at]))
    }

    /// Of what has a length of its own.
    fn length(&self) -> String {
        let long = self.columns.iter().filter(|it| it.holds != Holds::Integer);
        long.fold("CAST(0 AS BIGINT)".to_owned(), |sum, column| {
            format!("{sum} + coalesce(octet_length(\"{}\"), 0)", column.name)
        })
    }
}

impl Holds {
    /// By the words of tables that are STRICT.
    fn of(kind: &str) -> Self {
        match kind {
            "TEXT" => Self::Text,
            "BLOB" => Self::Bytes,
            _ => Self::Integer,
        }
    }

    fn read(self, row: &Row, column: usize) -> Result<Value, DatabaseError> {
        Ok(match self {
            Self::Text => Value::Text(row.get(column)?),
            Self::Integer => Value::Integer(row.get(column)?),
            Self::Bytes => Value::Bytes(row.get(column)?),
        })
    }
}

/// A database of these migrations and no rows but theirs.
pub(crate) async fn make_in_memory(rules: &Rules) -> Result<SqliteConnection, DatabaseError> {
    let options = SqliteConnectOptions::new()
        .filename(":memory:")
        .disable_statement_logging();
    let mut connection = options.connect().await?;
    sqlite::migrate(&mut connection, rules).await?;
    Ok(connection)
}

/// Tables after those that they refer to.
fn by_reference(mut tables: Vec<Table>) -> Vec<Table> {
    let mut sorted: Vec<Table> = Vec::with_capacity(tables.len());
    while !tables.is_empty() {
        let next = tables.iter().position(|table| {
            let mut others = table.refers_to.iter().filter(|it| **it != table.name);
            others.all(|other| sorted.iter().any(|before| before.name == *other))
        });
        let next = next.expect("tables of ours do not refer to each other in a circle");
        sorted.push(tables.remove(next));
    }
    sorted
}

/// A statement of names that stand in migrations of ours.
fn made(text: String, values: Vec<Value>) -> Query {
    Query::new(AssertSqlSafe(text), values)
}

fn read<'c>(
    columns: impl Iterator<Item = &'c Column>,
    row: &Row,
) -> Result<Vec<Value>, DatabaseError> {
    let columns = columns.enumerate();
    columns
        .map(|(at, column)| column.holds.read(row, at))
        .collect()
}

fn list<'c>(columns: impl Iterator<Item = &'c Column>) -> String {
    let names: Vec<_> = columns.map(|it| format!("\"{}\"", it.name)).collect();
    names.join(", ")
}

/// `$first` and so many more.
fn numbers(first: usize, count: usize) -> String {
    let numbers: Vec<_> = (first..first + count).map(|it| format!("${it}")).collect();
    numbers.join(", ")
}
