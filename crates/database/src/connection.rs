//! What statements are run on: a connection that is lent, a transaction, or whichever reader is
//! free.

use std::future::Future;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgConnection, PgPool};
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqlitePool};
use sqlx::{Connection as _, Executor as _, Postgres, SqlSafeStr as _, Sqlite};

use crate::database::Database;
use crate::error::DatabaseError;
use crate::query::{Query, Value};
use crate::readers::{EngineReaders, Readers};
use crate::row::{EngineRow, Row};
use crate::statements::{Statements, TAKE_BACK};

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

impl Connection<'_> {
    /// Runs statements one by one; answers their rows.
    pub(crate) async fn run_each(
        &mut self,
        statements: &'static Statements,
        values: &[Value],
    ) -> Result<Vec<Row>, DatabaseError> {
        let mut rows = Vec::new();
        for part in statements.parts() {
            let query = Query::new(&*part.text, part.values(values));
            rows.append(&mut query.fetch_all(&mut *self).await?);
        }
        Ok(rows)
    }
}

/// A transaction, which is undone when it is dropped.
#[derive(Debug)]
pub struct Transaction<'c>(pub(crate) EngineTransaction<'c>);

#[derive(Debug)]
pub(crate) enum EngineTransaction<'c> {
    Sqlite(sqlx::Transaction<'c, Sqlite>),
    Postgres(sqlx::Transaction<'c, Postgres>),
}

impl Transaction<'_> {
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

    /// A part of the transaction, which is undone alone when it is dropped.
    pub async fn savepoint(&mut self) -> Result<Transaction<'_>, DatabaseError> {
        Ok(Transaction(match &mut self.0 {
            EngineTransaction::Sqlite(transaction) => {
                EngineTransaction::Sqlite(transaction.begin().await?)
            }
            EngineTransaction::Postgres(transaction) => {
                EngineTransaction::Postgres(in_time(transaction.begin()).await?)
            }
        }))
    }

    /// Runs statements as a part of the transaction, which they leave as it was when one of them
    /// fails; answers their rows. The outer error is of the transaction itself.
    pub async fn run(
        &mut self,
        statements: &'static Statements,
        values: Vec<Value>,
    ) -> Result<Result<Vec<Row>, DatabaseError>, DatabaseError> {
        if let EngineTransaction::Sqlite(transaction) = &mut self.0 {
            let run = Query::new(statements.among, values);
            let rows = run.fetch_all(&mut Connection::Sqlite(transaction)).await;
            if rows.is_err() {
                transaction.execute(TAKE_BACK).await?;
            }
            return Ok(rows);
        }
        let mut part = self.savepoint().await?;
        match part.connection().run_each(statements, &values).await {
            Ok(rows) => {
                part.commit().await?;
                Ok(Ok(rows))
            }
            Err(error) => {
                part.rollback().await?;
                Ok(Err(error))
            }
        }
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

impl<'t> From<&'t mut Transaction<'_>> for Target<'t> {
    fn from(transaction: &'t mut Transaction<'_>) -> Self {
        Self(match &mut transaction.0 {
            EngineTransaction::Sqlite(transaction) => Place::Sqlite(transaction),
            EngineTransaction::Postgres(transaction) => Place::Postgres(transaction),
        })
    }
}

/// One statement that reads, on whichever reader is free.
impl<'t> From<&'t Readers> for Target<'t> {
    fn from(readers: &'t Readers) -> Self {
        Self(match &readers.0 {
            EngineReaders::Sqlite { pool, .. } => Place::SqliteReaders(pool),
            EngineReaders::Postgres(pool) => Place::PostgresReaders(pool),
        })
    }
}

/// The same.
impl<'t> From<&'t Database> for Target<'t> {
    fn from(database: &'t Database) -> Self {
        database.readers().into()
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
                let mut reader = acquire(pool).await?;
                let done = in_time(postgres(query)?.execute(&mut *reader)).await?;
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
            Place::PostgresReaders(pool) => {
                let mut reader = acquire(pool).await?;
                rows(in_time(postgres(query)?.fetch_all(&mut *reader)).await?)
            }
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
            Place::PostgresReaders(pool) => {
                let mut reader = acquire(pool).await?;
                let row = in_time(postgres(query)?.fetch_optional(&mut *reader)).await?;
                row.map(Row::from)
            }
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

/// A transaction on whichever connection of a pool is free.
pub(crate) async fn begin(
    pool: &PgPool,
    text: &'static str,
) -> Result<sqlx::Transaction<'static, Postgres>, sqlx::Error> {
    let connection = acquire(pool).await?;
    let begun = sqlx::Transaction::begin(connection, Some(text.into_sql_str()));
    in_time(begun).await
}

/// A connection of a pool, which tries a port that refuses for as long as it waits for one.
async fn acquire(pool: &PgPool) -> Result<PoolConnection<Postgres>, sqlx::Error> {
    tokio::select! {
        acquired = in_time(pool.acquire()) => acquired,
        refused = crate::postgres::refusal(pool) => Err(refused),
    }
}

/// The answer of a server, which may be gone without saying so.
pub(crate) async fn in_time<T>(
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
        // There was no connection in time: those that are not there wait for the server.
        Ok(Err(sqlx::Error::PoolTimedOut)) | Err(_) => {
            Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()))
        }
        Ok(answer) => answer,
    }
}
