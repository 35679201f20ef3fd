//! What statements are run on: a connection that is lent, a transaction, or whichever reader is
//! free.

use std::future::Future;
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnection, PgPool};
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqlitePool};
use sqlx::{Postgres, Sqlite};

use crate::database::Database;
use crate::error::DatabaseError;
use crate::query::Query;
use crate::row::{EngineRow, Row};

/// How long a statement is waited for: what the server is told, and what its answer may take on the
/// way. After that the server, or the network before it, is gone.
const ANSWER_TIMEOUT: Duration =
    crate::postgres::STATEMENT_TIMEOUT.saturating_add(Duration::from_secs(5));

/// A connection of either engine, lent for a while.
#[derive(Debug)]
pub enum Connection<'c> {
    Sqlite(&'c mut SqliteConnection),
    Postgres(&'c mut PgConnection),
}

/// A transaction, which is undone when it is dropped.
#[derive(Debug)]
pub struct Transaction(pub(crate) EngineTransaction);

#[derive(Debug)]
pub(crate) enum EngineTransaction {
    Sqlite(sqlx::Transaction<'static, Sqlite>),
    Postgres(sqlx::Transaction<'static, Postgres>),
}

impl Transaction {
    /// Ends the transaction. After an error that says [`Unreachable`](crate::Failure::Unreachable)
    /// nobody knows whether it was committed.
    pub async fn commit(self) -> Result<(), DatabaseError> {
        match self.0 {
            EngineTransaction::Sqlite(transaction) => transaction.commit().await?,
            EngineTransaction::Postgres(transaction) => in_time(transaction.commit()).await?,
        }
        Ok(())
    }

    pub async fn rollback(self) -> Result<(), DatabaseError> {
        match self.0 {
            EngineTransaction::Sqlite(transaction) => transaction.rollback().await?,
            EngineTransaction::Postgres(transaction) => in_time(transaction.rollback()).await?,
        }
        Ok(())
    }

    /// The connection of this transaction, for what takes one of either kind.
    pub fn connection(&mut self) -> Connection<'_> {
        match &mut self.0 {
            EngineTransaction::Sqlite(transaction) => Connection::Sqlite(transaction),
            EngineTransaction::Postgres(transaction) => Connection::Postgres(transaction),
        }
    }
}

/// Where a statement runs.
#[derive(Debug)]
pub struct Target<'t>(Place<'t>);

#[derive(Debug)]
enum Place<'t> {
    Sqlite(&'t mut SqliteConnection),
    SqliteReaders(&'t SqlitePool),
    Postgres(&'t mut PgConnection),
    PostgresReaders(&'t PgPool),
}

impl<'t> From<&'t mut Connection<'_>> for Target<'t> {
    fn from(connection: &'t mut Connection<'_>) -> Self {
        Self(match connection {
            Connection::Sqlite(connection) => Place::Sqlite(connection),
            Connection::Postgres(connection) => Place::Postgres(connection),
        })
    }
}

impl<'t> From<&'t mut Transaction> for Target<'t> {
    fn from(transaction: &'t mut Transaction) -> Self {
        Self(match &mut transaction.0 {
            EngineTransaction::Sqlite(transaction) => Place::Sqlite(transaction),
            EngineTransaction::Postgres(transaction) => Place::Postgres(transaction),
        })
    }
}

/// One statement that reads, on whichever reader is free.
impl<'t> From<&'t Database> for Target<'t> {
    fn from(database: &'t Database) -> Self {
        Self(match database.engine() {
            crate::database::Engine::Sqlite { readers, .. } => Place::SqliteReaders(readers),
            crate::database::Engine::Postgres { readers, .. } => Place::PostgresReaders(readers),
        })
    }
}

impl Target<'_> {
    pub(crate) async fn execute(self, query: Query) -> Result<u64, DatabaseError> {
        Ok(match self.0 {
            Place::Sqlite(connection) => sqlite(query)?.execute(connection).await?.rows_affected(),
            Place::SqliteReaders(pool) => sqlite(query)?.execute(pool).await?.rows_affected(),
            Place::Postgres(connection) => {
                let done = in_time(postgres(query)?.execute(connection)).await?;
                done.rows_affected()
            }
            Place::PostgresReaders(pool) => {
                let done = in_time(postgres(query)?.execute(pool)).await?;
                done.rows_affected()
            }
        })
    }

    pub(crate) async fn fetch_all(self, query: Query) -> Result<Vec<Row>, DatabaseError> {
        Ok(match self.0 {
            Place::Sqlite(connection) => rows(sqlite(query)?.fetch_all(connection).await?),
            Place::SqliteReaders(pool) => rows(sqlite(query)?.fetch_all(pool).await?),
            Place::Postgres(connection) => {
                rows(in_time(postgres(query)?.fetch_all(connection)).await?)
            }
            Place::PostgresReaders(pool) => rows(in_time(postgres(query)?.fetch_all(pool)).await?),
        })
    }

    pub(crate) async fn fetch_optional(self, query: Query) -> Result<Option<Row>, DatabaseError> {
        Ok(match self.0 {
            Place::Sqlite(connection) => sqlite(query)?
                .fetch_optional(connection)
                .await?
                .map(Row::from),
            Place::SqliteReaders(pool) => sqlite(query)?.fetch_optional(pool).await?.map(Row::from),
            Place::Postgres(connection) => {
                let row = in_time(postgres(query)?.fetch_optional(connection)).await?;
                row.map(Row::from)
            }
            Place::PostgresReaders(pool) => in_time(postgres(query)?.fetch_optional(pool))
                .await?
                .map(Row::from),
        })
    }
}

fn sqlite(
    query: Query,
) -> Result<sqlx::query::Query<'static, Sqlite, SqliteArguments>, sqlx::Error> {
    let (text, arguments) = query.for_sqlite()?;
    Ok(sqlx::query_with(text, arguments))
}

fn postgres(
    query: Query,
) -> Result<sqlx::query::Query<'static, Postgres, PgArguments>, sqlx::Error> {
    let (text, arguments) = query.for_postgres()?;
    Ok(sqlx::query_with(text, arguments))
}

fn rows<R>(rows: Vec<R>) -> Vec<Row>
where
    Row: From<R>,
{
    rows.into_iter().map(Row::from).collect()
}

impl From<sqlx::sqlite::SqliteRow> for Row {
    fn from(row: sqlx::sqlite::SqliteRow) -> Self {
        Self(EngineRow::Sqlite(row))
    }
}

impl From<sqlx::postgres::PgRow> for Row {
    fn from(row: sqlx::postgres::PgRow) -> Self {
        Self(EngineRow::Postgres(row))
    }
}

/// The answer of a server, which may be gone without saying so.
pub(crate) async fn in_time<T>(
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
        Ok(answer) => answer,
        Err(_elapsed) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
    }
}
