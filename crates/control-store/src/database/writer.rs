//! The one connection that writes.

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};

use super::group::Durability;

/// A connection that is opened anew after it has failed.
#[derive(Debug)]
pub(super) struct Writer {
    options: SqliteConnectOptions,
    connection: Option<SqliteConnection>,
    /// What the connection was told last.
    told: Option<Durability>,
}

impl Writer {
    pub(super) fn new(options: SqliteConnectOptions, connection: SqliteConnection) -> Self {
        Self {
            options,
            connection: Some(connection),
            told: None,
        }
    }

    /// The connection, whose commits are as durable as asked from now on.
    pub(super) async fn connection(
        &mut self,
        asked: Durability,
    ) -> Result<&mut SqliteConnection, sqlx::Error> {
        let mut connection = if let Some(connection) = self.connection.take() {
            connection
        } else {
            self.told = None;
            self.options.connect().await?
        };
        if self.told != Some(asked) {
            let pragma = match asked {
                Durability::Disk => "PRAGMA synchronous = FULL",
                Durability::Process => "PRAGMA synchronous = NORMAL",
            };
            // On an error the connection is let go, and with it what it was told.
            sqlx::query(pragma).execute(&mut connection).await?;
            self.told = Some(asked);
        }
        Ok(self.connection.insert(connection))
    }

    /// Lets the connection go, and with it a transaction that it did not end.
    pub(super) async fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            // Its thread ends in any case.
            let _ = connection.close().await;
        }
    }
}
