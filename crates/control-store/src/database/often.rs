//! The connection for what every request asks.
//!
//! A pool asks each connection that comes back whether it lives, which is as much work for its
//! thread as a question that finds one row. This one stays with whoever asks next.

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, FromRow, SqliteConnection};
use tokio::sync::Mutex;

use super::statements::Bound;

/// A connection that is opened with the first question, and anew after one that failed.
#[derive(Debug)]
pub(crate) struct OftenAsked {
    options: SqliteConnectOptions,
    connection: Mutex<Option<SqliteConnection>>,
}

impl OftenAsked {
    pub(super) fn new(options: SqliteConnectOptions) -> Self {
        Self {
            options,
            connection: Mutex::default(),
        }
    }

    /// The row that this finds. Questions are answered one after the other.
    pub(crate) async fn row<R>(&self, query: Bound) -> Result<Option<R>, sqlx::Error>
    where
        R: for<'r> FromRow<'r, sqlx::sqlite::SqliteRow>,
    {
        let mut held = self.connection.lock().await;
        // Put back when it has answered: not after an error, nor by somebody who went away.
        let mut connection = match held.take() {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        let row = query.fetch_optional(&mut connection).await?;
        *held = Some(connection);
        row.as_ref().map(R::from_row).transpose()
    }

    pub(super) async fn close(&self) {
        if let Some(connection) = self.connection.lock().await.take() {
            // Its thread ends in any case.
            let _ = connection.close().await;
        }
    }
}
