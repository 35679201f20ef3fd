//! The connections that read.

use std::path::Path;

use sqlx::postgres::PgPool;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use sqlx::{ConnectOptions, Connection as _, SqliteConnection};
use tokio::sync::Mutex;

use crate::address::DatabaseAddress;
use crate::connection::{self, Connection, EngineTransaction, Transaction};
use crate::database::Rules;
use crate::error::DatabaseError;
use crate::query::Query;
use crate::row::FromRow;
use crate::{postgres, sqlite};

/// A few connections of one process that only read.
#[derive(Debug, Clone)]
pub struct Readers(pub(crate) EngineReaders);

#[derive(Debug, Clone)]
pub(crate) enum EngineReaders {
    Sqlite {
        pool: SqlitePool,
        options: Box<SqliteConnectOptions>,
    },
    Postgres(PgPool),
}

impl Readers {
    /// They connect when they are asked.
    pub fn new(address: &DatabaseAddress, rules: &Rules) -> Result<Self, DatabaseError> {
        Ok(Self(match address {
            DatabaseAddress::File(path) => {
                let options = Box::new(sqlite::reader_options(path, rules));
                let pool = sqlite::readers((*options).clone());
                EngineReaders::Sqlite { pool, options }
            }
            DatabaseAddress::Server(server) => {
                EngineReaders::Postgres(postgres::readers(server, rules)?)
            }
        }))
    }

    /// Of a file that nobody changes meanwhile: a copy that is to be looked at. They make neither
    /// the file nor anything beside it.
    pub fn of_unchanged(path: &Path) -> Self {
        let options = Box::new(sqlite::unchanged(path));
        let pool = sqlite::readers((*options).clone());
        Self(EngineReaders::Sqlite { pool, options })
    }

    /// A transaction that sees the database as it is now until it ends.
    pub async fn snapshot(&self) -> Result<Transaction<'static>, DatabaseError> {
        Ok(Transaction(match &self.0 {
            EngineReaders::Sqlite { pool, .. } => EngineTransaction::Sqlite(pool.begin().await?),
            EngineReaders::Postgres(pool) => {
                let text = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";
                EngineTransaction::Postgres(connection::begin(pool, text).await?)
            }
        }))
    }

    pub async fn close(&self) {
        match &self.0 {
            EngineReaders::Sqlite { pool, .. } => pool.close().await,
            EngineReaders::Postgres(pool) => pool.close().await,
        }
    }
}

/// The way for what every request asks.
///
/// A pool asks each connection that comes back whether it lives, which for a file is as much work
/// for its thread as a question that finds one row. Here a connection stays with whoever asks next;
/// of a server the readers are asked.
#[derive(Debug)]
pub struct OftenAsked(Way);

#[derive(Debug)]
enum Way {
    /// Opened with the first question, and anew after one that failed.
    File {
        options: Box<SqliteConnectOptions>,
        connection: Mutex<Option<SqliteConnection>>,
    },
    Server(Readers),
}

impl OftenAsked {
    pub fn beside(readers: &Readers) -> Self {
        Self(match &readers.0 {
            EngineReaders::Sqlite { options, .. } => Way::File {
                options: options.clone(),
                connection: Mutex::default(),
            },
            EngineReaders::Postgres(_) => Way::Server(readers.clone()),
        })
    }

    /// The row that this finds. Questions to a file are answered one after the other.
    pub async fn row<R: FromRow>(&self, query: Query) -> Result<Option<R>, DatabaseError> {
        let (options, connection) = match &self.0 {
            Way::File {
                options,
                connection,
            } => (options, connection),
            Way::Server(readers) => return query.fetch_optional(readers).await,
        };
        let mut held = connection.lock().await;
        // Put back when it has answered: not after an error, nor by somebody who went away.
        let mut connection = match held.take() {
            Some(connection) => connection,
            None => options.connect().await?,
        };
        let row = query
            .fetch_optional(&mut Connection::Sqlite(&mut connection))
            .await?;
        *held = Some(connection);
        Ok(row)
    }

    /// Closes what it does not share with the readers.
    pub async fn close(&self) {
        let Way::File { connection, .. } = &self.0 else {
            return;
        };
        if let Some(connection) = connection.lock().await.take() {
            // Its thread ends in any case.
            let _ = connection.close().await;
        }
    }
}
