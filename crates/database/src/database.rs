//! An open database: who writes, and who reads beside.

use std::path::Path;

use sqlx::postgres::PgPool;
use sqlx::sqlite::SqlitePool;

use crate::address::DatabaseAddress;
use crate::connection::{self, EngineTransaction, Transaction};
use crate::error::DatabaseError;
use crate::migration::Migration;
use crate::opening::Opening;
use crate::postgres::WriteLock;
use crate::readers::Readers;
use crate::{postgres, sqlite};

/// What must be true when a commit is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// It survives the end of this process.
    Process,
    /// It survives a power cut.
    Disk,
}

/// How one crate wants its database to be.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// The schema of its tables where a server keeps them, so that several share one database. It
    /// names the locks of its writers too.
    pub schema: &'static str,
    /// In the order of their versions.
    pub migrations: &'static [Migration],
    /// Of commits that do not say.
    pub durability: Durability,
    /// Whether a file overwrites what is deleted from it. A server cannot be told to.
    pub overwrites_deleted: bool,
}

/// The writer and the readers of one database.
#[derive(Debug)]
pub struct Database {
    writer: EngineWriter,
    readers: Readers,
}

#[derive(Debug)]
enum EngineWriter {
    Sqlite(SqlitePool),
    Postgres { pool: PgPool, lock: WriteLock },
}

impl Database {
    /// Opens the database, makes it when there is none, and brings its tables up to date.
    pub async fn open(opening: &Opening, rules: &Rules) -> Result<Self, DatabaseError> {
        let address = opening.address();
        let writer = match address {
            DatabaseAddress::File(path) => {
                EngineWriter::Sqlite(sqlite::writer_pool(path, rules).await?)
            }
            DatabaseAddress::Server(server) => {
                postgres::prepare(server, rules).await?;
                EngineWriter::Postgres {
                    pool: postgres::writer_pool(server, rules)?,
                    lock: WriteLock::new(rules.schema),
                }
            }
        };
        let readers = Readers::new(address, rules)?;
        Ok(Self { writer, readers })
    }

    pub fn readers(&self) -> &Readers {
        &self.readers
    }

    /// A transaction that no other writer is beside, from its first statement to its end.
    pub async fn begin(&self) -> Result<Transaction<'static>, DatabaseError> {
        Ok(Transaction(match &self.writer {
            EngineWriter::Sqlite(pool) => {
                EngineTransaction::Sqlite(pool.begin_with(sqlite::BEGIN).await?)
            }
            EngineWriter::Postgres { pool, lock } => {
                let mut transaction = connection::begin(pool, postgres::BEGIN).await?;
                lock.take(&mut transaction, None).await?;
                EngineTransaction::Postgres(transaction)
            }
        }))
    }

    /// A transaction that only reads, and sees the database as it is now until it ends.
    pub async fn snapshot(&self) -> Result<Transaction<'static>, DatabaseError> {
        self.readers.snapshot().await
    }

    /// Whether this is a file: what only a file has to be told is asked by who knows why.
    pub fn is_file(&self) -> bool {
        matches!(self.writer, EngineWriter::Sqlite(_))
    }

    /// Writes a copy of a file, as it is now, to another one that is empty or not there.
    pub async fn copy_to(&self, path: &Path) -> Result<(), DatabaseError> {
        match &self.writer {
            EngineWriter::Sqlite(pool) => sqlite::copy(pool, path).await,
            EngineWriter::Postgres { .. } => Err(DatabaseError::Unsuitable {
                database: "on a server".to_owned(),
                problem: "is copied by its server's own tools".to_owned(),
            }),
        }
    }

    /// Moves the log of a file into it and empties it, so that erased pages do not linger there.
    /// Who reads for long holds this up, and this the writer, so not for long; the next one catches
    /// up. A server has no log of ours: see [`Self::clear_deleted`].
    pub async fn truncate_log(&self) {
        if let EngineWriter::Sqlite(pool) = &self.writer {
            sqlite::truncate_log(pool).await;
        }
    }

    /// Does what the engine lets do so that rows which were deleted or overwritten do not linger:
    /// for a file [`Self::truncate_log`]; of these tables on a server, what nobody can see any more
    /// is given up, unless somebody sees it still or does the same. What was in the server's own
    /// log is in its operator's hands. A failure is of no other consequence.
    pub async fn clear_deleted(&self, tables: &[&'static str]) {
        match &self.writer {
            EngineWriter::Sqlite(pool) => sqlite::truncate_log(pool).await,
            EngineWriter::Postgres { pool, .. } => postgres::vacuum(pool, tables).await,
        }
    }

    pub async fn close(&self) {
        self.readers.close().await;
        match &self.writer {
            EngineWriter::Sqlite(pool) => pool.close().await,
            EngineWriter::Postgres { pool, .. } => pool.close().await,
        }
    }
}
