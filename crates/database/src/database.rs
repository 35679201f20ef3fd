//! An open database: who writes, and who reads beside.

use sqlx::postgres::PgPool;
use sqlx::sqlite::SqlitePool;

use crate::connection::{EngineTransaction, Transaction, in_time};
use crate::error::DatabaseError;
use crate::location::Location;
use crate::migration::Migration;
use crate::opening::Opening;
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
    engine: Engine,
}

#[derive(Debug)]
pub(crate) enum Engine {
    Sqlite {
        writer: SqlitePool,
        readers: SqlitePool,
    },
    Postgres {
        writer: PgPool,
        readers: PgPool,
        /// What a write transaction says first, by its durability.
        taking_the_write_lock: postgres::WriteLock,
    },
}

impl Database {
    /// Opens the database, makes it when there is none, and brings its tables up to date.
    pub async fn open(opening: &Opening, rules: &Rules) -> Result<Self, DatabaseError> {
        let engine = match opening.location() {
            Location::File(path) => {
                let writer = sqlite::writer(path, rules).await?;
                let readers = sqlite::readers(path, rules);
                Engine::Sqlite { writer, readers }
            }
            Location::Server(server) => {
                postgres::prepare(server, rules).await?;
                Engine::Postgres {
                    writer: postgres::writer(server, rules)?,
                    readers: postgres::readers(server, rules)?,
                    taking_the_write_lock: postgres::WriteLock::new(rules.schema),
                }
            }
        };
        Ok(Self { engine })
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// A transaction that no other writer is beside, from its first statement to its end.
    pub async fn begin(&self) -> Result<Transaction, DatabaseError> {
        self.begin_as(None).await
    }

    /// The same, its commit as durable as this where the engine can be told so for each: a file
    /// has [`Rules::durability`].
    pub async fn begin_as(
        &self,
        durability: Option<Durability>,
    ) -> Result<Transaction, DatabaseError> {
        let transaction = match &self.engine {
            Engine::Sqlite { writer, .. } => {
                EngineTransaction::Sqlite(writer.begin_with("BEGIN IMMEDIATE").await?)
            }
            Engine::Postgres {
                writer,
                taking_the_write_lock,
                ..
            } => {
                // Each statement sees what was committed before it: a snapshot that lasts would be
                // taken with the question for the lock, and know nothing of whoever had it.
                let begun = writer.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED");
                let mut transaction = in_time(begun).await?;
                taking_the_write_lock
                    .take(&mut transaction, durability)
                    .await?;
                EngineTransaction::Postgres(transaction)
            }
        };
        Ok(Transaction(transaction))
    }

    /// A transaction that only reads, and sees the database as it is now until it ends.
    pub async fn snapshot(&self) -> Result<Transaction, DatabaseError> {
        let transaction = match &self.engine {
            Engine::Sqlite { readers, .. } => EngineTransaction::Sqlite(readers.begin().await?),
            Engine::Postgres { readers, .. } => {
                let begun = readers.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY");
                EngineTransaction::Postgres(in_time(begun).await?)
            }
        };
        Ok(Transaction(transaction))
    }

    /// Whether this is a file: what only a file has to be told is asked by who knows why.
    pub fn is_file(&self) -> bool {
        matches!(self.engine, Engine::Sqlite { .. })
    }

    /// Writes a copy of a file, as it is now, to another one that is not there yet.
    pub async fn copy_to(&self, path: &std::path::Path) -> Result<(), DatabaseError> {
        match &self.engine {
            Engine::Sqlite { writer, .. } => sqlite::copy(writer, path).await,
            Engine::Postgres { .. } => Err(DatabaseError::Unsuitable {
                database: "on a server".to_owned(),
                problem: "is copied by its server's own tools".to_owned(),
            }),
        }
    }

    /// Moves the log of a file into it and empties it, so that erased pages do not linger there.
    /// Who reads for long holds this up, and this the writer, so not for long; the next one catches
    /// up. A server has no log of ours.
    pub async fn truncate_log(&self) {
        if let Engine::Sqlite { writer, .. } = &self.engine {
            sqlite::truncate_log(writer).await;
        }
    }

    pub async fn close(&self) {
        match &self.engine {
            Engine::Sqlite { writer, readers } => {
                readers.close().await;
                writer.close().await;
            }
            Engine::Postgres {
                writer, readers, ..
            } => {
                readers.close().await;
                writer.close().await;
            }
        }
    }
}
