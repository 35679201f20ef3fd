//! The connection that writes to a server.

use std::time::Instant;

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection, Postgres};

use crate::address::Server;
use crate::connection::{Connection, in_time};
use crate::database::{Durability, Rules};
use crate::error::DatabaseError;
use crate::postgres::{self, WriteLock};
use crate::query::Value;
use crate::row::Row;
use crate::statements::Statements;

/// Writes a message to the server's log that nobody reads, and waits for the disk: what was
/// committed before stands before it.
const SYNC: &str = "BEGIN; SET LOCAL synchronous_commit = on;
                    SELECT pg_logical_emit_message(true, 'holdfast', ''); COMMIT";

pub(super) struct ServerWriter {
    options: PgConnectOptions,
    lock: WriteLock,
    connection: Option<PgConnection>,
    used_at: Instant,
}

impl std::fmt::Debug for ServerWriter {
    /// The options hold a password.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ServerWriter")
            .finish_non_exhaustive()
    }
}

impl ServerWriter {
    pub(super) async fn open(server: &Server, rules: &Rules) -> Result<Self, DatabaseError> {
        postgres::prepare(server, rules).await?;
        Ok(Self {
            options: postgres::options(server, rules.schema, rules.durability)?,
            lock: WriteLock::new(rules.schema),
            connection: None,
            used_at: Instant::now(),
        })
    }

    pub(super) async fn begin(
        &mut self,
        durability: Durability,
    ) -> Result<sqlx::Transaction<'_, Postgres>, DatabaseError> {
        let lock = self.lock;
        let connection = self.connection().await?;
        let mut transaction = in_time(connection.begin_with(postgres::BEGIN)).await?;
        lock.take(&mut transaction, Some(durability)).await?;
        Ok(transaction)
    }

    pub(super) async fn run(
        &mut self,
        statements: &'static Statements,
        values: &[Value],
        durability: Durability,
    ) -> Result<Vec<Row>, DatabaseError> {
        // Held again when the transaction has ended: somebody who goes away meanwhile leaves no
        // connection behind that has the lock.
        self.connection().await?;
        let mut connection = self.connection.take().expect("it was just made");
        let run = run(&mut connection, self.lock, statements, values, durability).await;
        let has_ended = run.is_ok() || postgres::has_no_transaction(&mut connection).await;
        self.connection = has_ended.then_some(connection);
        run
    }

    pub(super) async fn sync(&mut self) -> Result<(), DatabaseError> {
        let connection = self.connection().await?;
        let synced = in_time(sqlx::raw_sql(SYNC).execute(connection)).await;
        if synced.is_err() {
            self.close().await;
        }
        Ok(synced.map(drop)?)
    }

    async fn connection(&mut self) -> Result<&mut PgConnection, DatabaseError> {
        let used_at = std::mem::replace(&mut self.used_at, Instant::now());
        let mut held = self.connection.take();
        if let Some(connection) = &mut held
            && !postgres::is_fresh(connection, used_at).await
        {
            held = None;
        }
        let connection = match held {
            Some(connection) => connection,
            None => postgres::connect(&self.options).await?,
        };
        Ok(self.connection.insert(connection))
    }

    pub(super) async fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            // It may be that nobody is at the other end to be told.
            let _ = connection.close_hard().await;
        }
    }
}

/// Runs statements as a transaction. One that fails is dropped, and undone with whatever the
/// connection is asked next.
async fn run(
    connection: &mut PgConnection,
    lock: WriteLock,
    statements: &'static Statements,
    values: &[Value],
    durability: Durability,
) -> Result<Vec<Row>, DatabaseError> {
    let mut transaction = in_time(connection.begin_with(postgres::BEGIN)).await?;
    lock.take(&mut transaction, Some(durability)).await?;
    let mut connection = Connection::Postgres(&mut transaction);
    let rows = connection.run_each(statements, values).await?;
    in_time(transaction.commit()).await?;
    Ok(rows)
}
