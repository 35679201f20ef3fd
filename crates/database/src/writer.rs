//! The one connection of a process that writes, for whoever puts changes in order itself.
//!
//! On a file a commit is there for all others and survives the end of this process; that it
//! survives a power cut too is asked apart, since the disk takes as long for one as for a hundred.
//! A server is told with each transaction.

mod file;
mod server;

use crate::address::DatabaseAddress;
use crate::connection::{Connection, EngineTransaction, Transaction};
use crate::database::{Durability, Rules};
use crate::error::{DatabaseError, Failure};
use crate::opening::Opening;
use crate::query::{Query, Value};
use crate::row::Row;
use crate::statements::Statements;

use self::file::FileWriter;
use self::server::ServerWriter;

/// A connection that is opened anew after it has failed.
#[derive(Debug)]
pub struct Writer(Engine);

#[derive(Debug)]
enum Engine {
    File(FileWriter),
    Server(ServerWriter),
}

impl Writer {
    /// Opens the database, makes it when there is none, and brings its tables up to date.
    pub async fn open(opening: &Opening, rules: &Rules) -> Result<Self, DatabaseError> {
        Ok(Self(match opening.address() {
            DatabaseAddress::File(path) => Engine::File(FileWriter::open(path, rules).await?),
            DatabaseAddress::Server(server) => {
                Engine::Server(ServerWriter::open(server, rules).await?)
            }
        }))
    }

    /// A transaction that no other writer is beside, from its first statement to its end. After an
    /// error of it or its end the writer is to be [closed](Self::close).
    pub async fn begin(
        &mut self,
        durability: Durability,
    ) -> Result<Transaction<'_>, DatabaseError> {
        Ok(Transaction(match &mut self.0 {
            Engine::File(writer) => EngineTransaction::Sqlite(writer.begin().await?),
            Engine::Server(writer) => EngineTransaction::Postgres(writer.begin(durability).await?),
        }))
    }

    /// Runs statements as a transaction; answers their rows.
    pub async fn run(
        &mut self,
        statements: &'static Statements,
        values: Vec<Value>,
        durability: Durability,
    ) -> Result<Vec<Row>, DatabaseError> {
        let rows = match &mut self.0 {
            Engine::File(writer) => return writer.run(Query::new(statements.alone, values)).await,
            Engine::Server(writer) => writer.run(statements, &values, durability).await,
        };
        if rows
            .as_ref()
            .is_err_and(|error| error.failure() == Failure::Unreachable)
        {
            self.close().await;
        }
        rows
    }

    /// Whether what was committed survives a power cut only when it was [synced](Self::sync),
    /// however durable its transaction was to be.
    pub fn syncs_apart(&self) -> bool {
        matches!(self.0, Engine::File(_))
    }

    /// Has what was committed survive a power cut.
    pub async fn sync(&mut self) -> Result<(), DatabaseError> {
        match &mut self.0 {
            Engine::File(writer) => writer.sync().await?,
            Engine::Server(writer) => writer.sync().await?,
        }
        Ok(())
    }

    /// Lets the connection go, and with it a transaction that it did not end; the next one that is
    /// begun opens another.
    pub async fn close(&mut self) {
        match &mut self.0 {
            Engine::File(writer) => writer.close().await,
            Engine::Server(writer) => writer.close().await,
        }
    }
}

/// A file's connection, for its statements.
fn on_file(connection: &mut sqlx::SqliteConnection) -> Connection<'_> {
    Connection::Sqlite(connection)
}
